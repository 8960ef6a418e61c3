"""The embedded default: one generator of learnable signals a modality."""
