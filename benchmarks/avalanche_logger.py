"""The logger under the name that scripts import it by."""

from benchmarks.tracking.avalanche import MLflowLogger

__all__ = ["MLflowLogger"]
