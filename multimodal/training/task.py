"""What the fit loop trains."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from multimodal.objectives import Loss


class Task(Protocol):
    """What is trained.

    module: everything with parameters. smallest_batch: recordings that a process needs at least for
    a step that means something (a contrastive one has no negatives below two); smaller remainders
    of an epoch are left out. A task whose loss keeps numbers of each sample has them as ``tables``
    (``objectives/tools/samples.py``), which then are a part of the state of its training.
    """

    module: Any
    smallest_batch: int

    def load(self, rows: np.ndarray) -> Any:
        """A batch on the CPU, with ``to(device, non_blocking=...)`` and ``pin_memory()``."""
        ...

    def embed(self, batch: Any) -> tuple[Tensor, ...]:
        """(n, D) each, what the loss is of; those that are not trained have no gradient."""
        ...

    def loss(self, embeddings: tuple[Tensor, ...], rows: np.ndarray) -> Loss:
        """Of the batch of all processes, averaged over this process's ``rows``."""
        ...

    def after_step(self) -> None:
        """After every update, e.g. to clamp a scale."""
        ...
