"""What every objective does with its embeddings first: unit length, scale, rows of all processes.

The batch may be that of all processes: each keeps its own rows and sees everybody's columns. A loss
that averages over its own rows and compares them with gathered columns has this property: the
average over the processes (what data parallelism does with gradients) is the gradient of the mean
over the whole batch. For that, a column's gradient must return from every process to the one that
made it; gathering without gradient trains on a different, wrong, loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from multimodal.objectives.tools.tiled import Block, Choice, Targets, choose, own_pairs


def unit(x: Float[Tensor, "..."], name: str) -> Float[Tensor, "batch dim"]:
    """Rows of length 1, (N, D): float64 stays, everything else becomes float32.

    The length is taken to be at least 1e-8, so a row of zeros stays zeros. ValueError, with
    ``name``, unless x is (N, D) with N > 0.
    """
    if x.dim() != 2 or len(x) == 0:
        raise ValueError(f"{name}: shape {tuple(x.shape)}; give N > 0 embeddings, (N, D).")
    x = x if x.dtype == torch.float64 else x.float()
    # A product, because the gradient of a division needs twice the memory.
    return x * torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-8).reciprocal()


def unit_pair(
    a: Float[Tensor, "..."], b: Float[Tensor, "..."], names: tuple[str, str] = ("a", "b")
) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
    """``unit`` of the embeddings of N pairs, both (N, D); ValueError if their shapes differ."""
    if a.shape != b.shape:
        raise ValueError(
            f"{names[0]}: shape {tuple(a.shape)}, {names[1]}: shape {tuple(b.shape)}; give the "
            "embeddings of N pairs, both (N, D)."
        )
    a, b = unit(a, names[0]), unit(b, names[1])
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def scalar(x: Float[Tensor, "..."], name: str, dtype: torch.dtype) -> Float[Tensor, ""]:
    """x without dimensions, in ``dtype``; ValueError if it has more than one element."""
    if x.numel() != 1:
        raise ValueError(f"{name}: shape {tuple(x.shape)}; give a tensor of one number.")
    return x.reshape(()).to(dtype)


def scaled(
    rows: Float[Tensor, "rows dim"],
    columns: Float[Tensor, "*columns dim"],
    scale: Float[Tensor, "..."],
) -> tuple[Float[Tensor, "rows dim"], Float[Tensor, "*columns dim"]]:
    """Both, the scale on a side that has a gradient anyway: a frozen one then needs no product."""
    scale = scalar(scale, "scale", rows.dtype)
    return (scale * rows, columns) if rows.requires_grad else (rows, scale * columns)


def world_size() -> int:
    """Processes of the default group; 1 where torch.distributed is not in use."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number in the default group; 0 where torch.distributed is not in use."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_rows(
    x: Shaped[Tensor, "batch ..."], *, grad: bool = True
) -> Shaped[Tensor, "all_rows ..."]:
    """The rows of every process, in the order of their ranks: (N, ...) -> (world_size * N, ...).

    Backward sums what all processes send back to these rows; with ``grad=False`` (labels, a
    frozen tower) nothing is sent. Every process must call it, with the same ``grad``. x itself
    where there is one process. Raises ValueError, on every process, if their shapes differ.
    """
    if world_size() == 1:
        return x if grad else x.detach()
    _check_equal_shapes(x)
    return _GatherRows.apply(x) if grad else _all_gather(x.detach())


def mean_over_processes(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The mean of a tensor over the processes, without gradient."""
    x = x.detach().clone()
    if world_size() > 1:
        dist.all_reduce(x)  # a sum: not every backend has a mean
    return x / world_size()


def first_row(x: Shaped[Tensor, "batch ..."], gather: bool) -> int:
    """Where the rows of this process begin among the gathered ones; 0 without ``gather``."""
    return rank() * len(x) if gather else 0


class Rows:
    """Which of this process's N rows take part: those of ``present`` (N,) bool; None: all.

    A row that does not chooses nothing, is no candidate, and no mean counts it. Processes may hold
    different numbers of rows that do: what they exchange are all rows, so shapes agree, and the
    mask; only then are rows left out.

    gather: the batch is that of all processes, which give either all a mask or none. ``count``:
    rows that take part, of all of them; ``first``: where this process's begin among these.
    ValueError if the mask does not fit x (N, D).
    """

    def __init__(
        self, x: Float[Tensor, "..."], present: Shaped[Tensor, "..."] | None, *, gather: bool
    ) -> None:
        if present is not None and (present.shape != x.shape[:1] or present.dtype != torch.bool):
            raise ValueError(
                f"present: shape {tuple(present.shape)} of {present.dtype}; give a bool of each "
                f"row of {tuple(x.shape)}."
            )
        self.gather, self._own, self._all = gather, present, None
        size = len(x) if x.dim() else 0
        self.first, self.count = (rank() * size, world_size() * size) if gather else (0, size)
        if present is not None:
            self._all = gather_rows(present, grad=False) if gather else present
            self.first, self.count = int(self._all[: self.first].sum()), int(self._all.sum())

    def clean(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """x with zeros where a row takes no part: what stands there is nothing, not even NaN."""
        if self._own is None:
            return x
        return x.masked_fill(~self._own.view(-1, *[1] * (x.dim() - 1)), 0)

    def own(self, x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "own ..."]:
        """This process's rows that take part."""
        return x if self._own is None else x[self._own]

    def everyone(
        self, x: Shaped[Tensor, "batch ..."], *, grad: bool = True
    ) -> Shaped[Tensor, "all ..."]:
        """Those of all processes, if the batch is theirs."""
        if self.gather:
            x = gather_rows(x, grad=grad)
        return x if self._all is None else x[self._all]

    def mean(self, values: Float[Tensor, " own"]) -> Float[Tensor, ""]:
        """Averaged over the processes, the mean over all rows that take part; 0 without any."""
        if self._own is None:
            return values.mean()
        count = values.new_tensor(len(values))
        if self.gather:
            count = mean_over_processes(count)
        return values.sum() / count.masked_fill(count == 0, 1.0)

    def own_mean(self, values: Float[Tensor, " own"]) -> Float[Tensor, ""]:
        """Over this process's rows alone, for a log; 0 without any."""
        return values.mean() if len(values) else values.sum()


def same_ids(
    ids: Shaped[Tensor, "..."], x: Float[Tensor, "batch dim"], rows: Rows, *, name: str, own: bool
) -> Block:
    """Blocks that are True where a row of this process and a column have equal ids.

    ids: (N,) integers, of this process's rows x (N, D). own: what to say of a row and its own pair.
    ValueError, with ``name``, if ids do not fit the rows.
    """
    if ids.shape != x.shape[:1] or ids.is_floating_point() or ids.is_complex():
        raise ValueError(
            f"{name}: shape {tuple(ids.shape)} of {ids.dtype}; give {len(x)} integers, one a row."
        )
    mine, columns = rows.own(ids), rows.everyone(ids, grad=False)

    def block(r: slice, c: slice) -> Tensor:
        same = mine[r, None] == columns[None, c]
        own_pairs(same, r, c, rows.first)[1].fill_(own)
        return same

    return block


def two_way(
    a: Float[Tensor, "batch dim"],
    b: Float[Tensor, "batch dim"],
    scale: Float[Tensor, "..."],
    targets: tuple[Targets, Targets],
    rows: Rows,
    *,
    tile: int | None,
) -> tuple[Choice, Choice]:
    """a (N, D) chooses among b (N, D) by scale * a @ b.T and b among a, each with its targets.

    The candidates are ``rows.everyone``, and each target's ``first`` is ``rows.first``.
    """
    if rows.gather and world_size() > 1:
        all_a, all_b = rows.everyone(a), rows.everyone(b)
        (forth,) = choose(*scaled(rows.own(a), all_b, scale), targets[:1], tile=tile)
        (back,) = choose(*scaled(rows.own(b), all_a, scale), targets[1:], tile=tile)
    else:  # one matrix serves both directions
        forth, back = choose(*scaled(rows.own(a), rows.own(b), scale), targets, tile=tile)
    return forth, back


def _all_gather(x: Tensor) -> Tensor:
    gathered = x.new_empty(world_size(), *x.shape)
    dist.all_gather(list(gathered.unbind()), x.contiguous())
    return gathered.flatten(0, 1)


def _check_equal_shapes(x: Tensor) -> None:
    """Asked first, because a collective over unequal shapes hangs or mixes rows silently."""
    own = torch.tensor([x.dim(), len(x), x.numel()], device=x.device)
    shapes = _all_gather(own[None]).tolist()
    if any(shape != shapes[0] for shape in shapes):
        sizes = ", ".join(f"{rows} on rank {n}" for n, (_, rows, _) in enumerate(shapes))
        raise ValueError(
            f"gather: the processes hold unequal batches (rows: {sizes}; here "
            f"{tuple(x.shape)}); give every process batches of one size, for example by dropping "
            "the last incomplete batch."
        )


class _GatherRows(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _all_gather(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        pieces = grads[0].contiguous().unflatten(0, (world_size(), -1)).unbind()
        own = torch.empty_like(pieces[0])
        dist.reduce_scatter(own, list(pieces))
        return own
