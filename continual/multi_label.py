"""Multi-label metrics of streams: those of ``multimodal.evaluation.multi_label``."""

from multimodal.evaluation.multi_label import auroc, average_precision, macro

__all__ = ["auroc", "average_precision", "macro"]
