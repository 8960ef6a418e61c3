"""CUA and CUAXU: InfoNCE that is told to close the contrastive gap, a reconstruction.

Fahim, Murphy, Fyshe, "It's Not a Modality Gap: Characterizing and Addressing the Contrastive Gap",
arXiv:2405.18570. The paper's body was not available to us, and its authors published no code; what
follows is from public notes on it. With unit rows x_j, y_j of N pairs, L_CLIP symmetric InfoNCE::

    L_A  = mean_j ||x_j - y_j||^2
    L_U  = 1/2 [ log mean_{j != k} exp(-2 ||x_j - x_k||^2) + the same of y ]
    L_XU = log mean_{j != k} exp(-2 ||x_j - y_k||^2)
    CUA  = L_CLIP + L_U + L_A;   CUAXU = CUA + L_XU

We deviate: the printed L_U and L_XU sum the kernel over 1/N, and L_U keeps the pairs of an item
with itself; ours are means over distinct pairs, as in ``evaluation/diagnostics.py``, so that values
of batches of any size compare. Of L_XU that is a constant, log(N - 1). The notes promise no better
retrieval, and neither do we.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float, Int, Shaped
from pydantic import Field
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.tools.gather import Rows, unit_pair
from multimodal.objectives.tools.kernels import log_mean_kernel
from multimodal.objectives.tools.words import changed


@OBJECTIVES.register("cua")
class CuaConfig(AlignmentConfig):
    """InfoNCE with alignment and uniformity (arXiv:2405.18570), a reconstruction; see ``cua.py``.

    alignment, uniformity: weights of L_A and L_U. The published temperature is fixed, 0.01.
    """

    masks: ClassVar[bool] = True

    scale: float = Field(default=100.0, ge=1, le=1000)
    learn_scale: bool = False
    alignment: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    uniformity: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    @property
    def weights(self) -> dict[str, float]:
        return {"alignment": self.alignment, "uniformity": self.uniformity}

    @property
    def row_name(self) -> str:
        changes = changed(self, tuple(self.weights))
        return f"{self.registered_name} (reconstruction){changes}{self.scale_words}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, *self.weights)

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        return cua(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            **self.weights,
            ids=pairs.ids if self.mask_duplicates else None,
            present=pairs.present,
            gather=gather,
            tile=self.tile,
        )


@OBJECTIVES.register("cuaxu")
class CuaxuConfig(CuaConfig):
    """CUA with uniformity across modalities, L_XU; see ``cua.py``. cross_uniformity: its weight."""

    cross_uniformity: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    @property
    def weights(self) -> dict[str, float]:
        return super().weights | {"cross_uniformity": self.cross_uniformity}


def cua(
    a: Float[Tensor, "..."],
    b: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    alignment: float = 1.0,
    uniformity: float = 1.0,
    cross_uniformity: float = 0.0,
    ids: Int[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """``L_CLIP + alignment L_A + uniformity L_U + cross_uniformity L_XU`` (module docstring).

    a, b: (N, D), pairs by row, of any length. scale: scalar tensor > 0. ids: (N,) integers; pairs
    of equal id are neither candidates in L_CLIP nor pairs of L_U and L_XU. present, gather, tile
    and errors: as in ``contrastive.py``. Of one pair, L_CLIP, L_U and L_XU are 0.

    L_A in [0, 4], L_U and L_XU in [-8, 0]. terms: those of ``info_nce``, contrastive (L_CLIP),
    alignment, uniformity_a, uniformity_b and cross_uniformity; the last three of the whole batch,
    also where it is that of several processes, and all without weights.
    """
    clip = info_nce(a, b, scale, ids=ids, present=present, gather=gather, tile=tile)
    rows = Rows(a, present, gather=gather)
    x, y = unit_pair(rows.clean(a), rows.clean(b))
    squared = (rows.own(x) - rows.own(y)).square().sum(1)
    options = {"ids": ids, "tile": tile}
    spread = (log_mean_kernel(x, x, rows, **options), log_mean_kernel(y, y, rows, **options))
    value = clip.value + alignment * rows.mean(squared) + uniformity * (spread[0] + spread[1]) / 2
    terms = {
        **clip.terms,
        "contrastive": (clip.terms["a_to_b"] + clip.terms["b_to_a"]) / 2,
        "alignment": rows.own_mean(squared.detach()),
        "uniformity_a": spread[0].detach(),
        "uniformity_b": spread[1].detach(),
    }
    if cross_uniformity:
        crossed = log_mean_kernel(x, y, rows, **options)
        value = value + cross_uniformity * crossed
        terms["cross_uniformity"] = crossed.detach()
    return Loss(value, terms)
