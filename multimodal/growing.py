"""A block of memory that grows without being copied."""

from __future__ import annotations

import mmap

import numpy as np
import torch
from torch import Tensor

from multimodal.errors import UserError

LEAST = 2**20  # bytes


class Growing:
    """Steps (n, *rest) back to back, as a tensor in one mapping of memory.

    What is reserved ahead costs address space alone: pages are the process's once written. Where
    the system can move a mapping (Linux), growing moves page tables and copies nothing. The tensor
    ends in ``spare`` steps of zeros or more, so that windows may run over the end.

    A view of ``steps`` must not outlive the next ``append``: pages that it shows would be gone, so
    with one alive the block is copied instead.
    """

    def __init__(self, dtype: torch.dtype, rest: tuple[int, ...]) -> None:
        self._kind = torch.empty(0, dtype=dtype).numpy().dtype
        self._rest, self.used, self.spare = rest, 0, 0
        self._step = self._kind.itemsize * int(np.prod(rest, dtype=np.int64))
        self._memory = _mapping(LEAST)
        self._view: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Of the steps that hold signals."""
        return self.used * self._step

    @property
    def steps(self) -> Tensor:
        """(used + spare or more, *rest)."""
        if self._view is None:
            flat = np.frombuffer(self._memory, dtype=self._kind)
            width = self._step // self._kind.itemsize
            flat = flat[: len(flat) // width * width]
            self._view = torch.from_numpy(flat).view(-1, *self._rest)
        return self._view

    def append(self, signal: Tensor) -> int:
        """signal: (n, *rest). The number of its first step; ``spare`` is at least n afterwards."""
        start, self.spare = self.used, max(self.spare, len(signal))
        stop = start + len(signal)
        needed = (stop + self.spare) * self._step
        if needed > len(self._memory):
            self._grow(needed, max(needed, 2 * len(self._memory)))
        self.steps[start:stop] = signal
        self.used = stop
        return start

    def _grow(self, needed: int, wished: int) -> None:
        """To what is wished, or where addresses are limited (ulimit -v) to what is needed."""
        self._view = None
        for size in dict.fromkeys((wished, needed + (wished - needed) // 8, needed)):
            try:
                self._memory.resize(size)
            except (BufferError, OSError, SystemError, ValueError):  # a view lives, or no such call
                try:
                    larger = _mapping(size)
                except (OSError, MemoryError):
                    continue
                larger[: self.nbytes] = self._memory[: self.nbytes]
                self._memory = larger
            return
        raise UserError(
            f"cache=memory: {needed:,} bytes of decoded recordings do not fit into memory, or into "
            "the addresses that a limit leaves (ulimit -v); set cache=disk, or raise the limit."
        )


def _mapping(size: int) -> mmap.mmap:
    # Private: a shared one stays as large as it was made, whatever its addresses are moved to.
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
