"""Embeddings as they enter an evaluation: checked, in float64, of length 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.loader import Loader

Embeddings = np.ndarray | Tensor
Labels = np.ndarray | Tensor | Sequence[int]
EmbedTexts = Callable[[Sequence[str]], Tensor]
"""n texts -> their embeddings (n, D), in order; it makes the batches that it needs."""

# Cosines of equal embeddings differ by rounding, up to about 1e-15 in float64, when a product is
# computed in blocks of another shape. Closer than this counts as equal, so no rank depends on it.
TIE = 1e-12


def finite_rows(
    embeddings: Embeddings, names: Sequence[str] | None = None, *, of: str = "recording"
) -> Tensor:
    """(N, D), N and D at least 1, NumPy or torch on any device -> the same on the CPU in float64.

    names: N names for the errors, else row numbers. of: what a row belongs to, for the errors.
    UserError names all the rows' owners at once that have NaN or infinity (the first five, and how
    many there are), and an array of another shape.
    """
    if isinstance(embeddings, Tensor):
        rows = embeddings.detach().to("cpu", torch.float64)
    else:
        rows = torch.from_numpy(np.array(embeddings, dtype=np.float64))
    if rows.ndim != 2 or 0 in rows.shape:
        raise UserError(
            f"embeddings of {of}s have shape {tuple(rows.shape)}; expected (N, D), N and D >= 1."
        )
    if names is not None and len(names) != len(rows):
        raise UserError(f"{len(rows)} embeddings of {of}s but {len(names)} names.")
    bad = (~rows.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if bad:
        listed = ", ".join(repr(names[i]) if names is not None else f"row {i}" for i in bad[:5])
        more = ", ..." if len(bad) > 5 else ""
        raise UserError(
            f"{len(bad)} of {len(rows)} {of} embeddings contain NaN or infinity: {listed}{more}; "
            f"leave these {of}s out, or look for a training that diverged."
        )
    return rows


def unit_rows(
    embeddings: Embeddings, names: Sequence[str] | None = None, *, of: str = "recording"
) -> Tensor:
    """``finite_rows`` scaled to length 1; a row of zeros stays zero: its cosines are all 0."""
    return normalize(finite_rows(embeddings, names, of=of), dim=1, eps=1e-300)


def unit_texts(texts: Sequence[str], embed_texts: EmbedTexts) -> Tensor:
    """(n, D) float64 unit embeddings of n texts; UserError names texts that come out as NaN."""
    vectors = unit_rows(embed_texts(texts), of="text")
    if len(vectors) != len(texts):
        raise ValueError(f"embed_texts gave {len(vectors)} embeddings of {len(texts)} texts.")
    return vectors


def check_width(signals: Tensor, texts: Tensor) -> None:
    """UserError unless both sides (.., D) have one width."""
    if signals.shape[1] != texts.shape[1]:
        raise UserError(
            f"recordings have {signals.shape[1]} embedding dimensions and texts {texts.shape[1]}; "
            "compare the outputs of both projections, not of the encoders."
        )


def class_ids(labels: Labels, count: int, num_classes: int) -> np.ndarray:
    """(N,) int64 ids in [0, C); UserError for another length, type or range."""
    ids = np.asarray(labels)
    if ids.shape != (count,) or ids.dtype.kind not in "iu":
        raise UserError(
            f"labels have shape {ids.shape} and type {ids.dtype}; expected {count} class ids, one "
            "a recording."
        )
    outside = ids[(ids < 0) | (ids >= num_classes)]
    if len(outside):
        raise UserError(
            f"label {outside[0]} is outside the {num_classes} classes; give every class a name."
        )
    return ids.astype(np.int64)


@torch.no_grad()
def embed_rows(
    embed: Callable[[Batch], Tensor],
    loader: Loader[Batch],
    rows: np.ndarray,
    *,
    batch_size: int,
) -> Tensor:
    """(N, D) float32 on the CPU, in the order of ``rows``; the model is in evaluation mode."""
    parts = [embed(batch).float().cpu() for batch in loader.batches(rows, batch_size)]
    return torch.cat(parts)
