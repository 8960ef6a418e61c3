"""What the objectives of all views at once have in common: their settings, and cases with views.

They take the views of a case together, where those of pairs (``pairs.py``) are sums over pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import Field
from torch import Tensor

from multimodal.objectives.temperature import TemperatureConfig
from multimodal.objectives.tools.gather import Rows, first_row, unit
from multimodal.objectives.views import Views


class JointConfig(TemperatureConfig):
    """Base of the configs of objectives of all views at once.

    mask_duplicates: cases of equal text are no negatives of each other. tile:
    rows that are compared with all others at a time; None: all of them.
    """

    masks: ClassVar[bool] = True
    sparing: ClassVar[str] = "mask_duplicates: true"

    temperature: float = Field(default=0.1, gt=0, le=100)
    mask_duplicates: bool = False
    tile: int | None = Field(default=None, ge=1)

    @property
    def spares_equal_texts(self) -> bool:
        return self.mask_duplicates

    @property
    def row_name(self) -> str:
        return f"{self.registered_name}{self.temperature_words}"

    def options(self, views: Views) -> dict[str, Any]:
        """What all such objectives take, by the names of their arguments."""
        return {
            "ids": views.ids if self.mask_duplicates else None,
            "present": views.present,
            "tile": self.tile,
        }


class Cases:
    """N cases of this process with V views. units: name -> (N, D) of length 1, zeros where a case
    lacks the view. there: (N, V) bool; masked: some case may lack some. rows: of each view, which
    cases have it. numbers: (N,) of the cases among those of all processes.

    ValueError: fewer than two views, shapes that differ, masks that do not fit.
    """

    def __init__(
        self,
        views: Mapping[str, Float[Tensor, "..."]],
        present: Mapping[str, Shaped[Tensor, "..."]] | None,
        *,
        gather: bool,
    ) -> None:
        if len(views) < 2:
            raise ValueError(
                f"views: {', '.join(views) or 'none'}; give two views of the cases or more."
            )
        first = next(iter(views.values()))
        wrong = [name for name, x in views.items() if x.shape != first.shape]
        if wrong:
            raise ValueError(
                f"views: {wrong[0]} has shape {tuple(views[wrong[0]].shape)}, {next(iter(views))} "
                f"{tuple(first.shape)}; give embeddings of the same N cases, all (N, D)."
            )
        masks = dict(present or {})
        self.gather, self.masked = gather, bool(masks)
        self.rows = {n: Rows(x, masks.get(n), gather=gather) for n, x in views.items()}
        units = {name: unit(self.rows[name].clean(x), name) for name, x in views.items()}
        wide = any(x.dtype == torch.float64 for x in units.values())
        dtype = torch.float64 if wide else torch.float32
        self.units = {name: x.to(dtype) for name, x in units.items()}
        ones = torch.ones(len(first), dtype=torch.bool, device=first.device)
        self.there: Bool[Tensor, "batch views"] = torch.stack(
            [masks.get(name, ones) for name in views], 1
        )
        start = first_row(first, gather)
        self.numbers: Int[Tensor, " batch"] = torch.arange(
            start, start + len(first), device=first.device
        )

    def with_views(self, least: int) -> Rows:
        """Cases that have at least so many views."""
        first = next(iter(self.units.values()))
        enough = self.there.sum(1) >= least if self.masked else None
        return Rows(first, enough, gather=self.gather)

    def ids(self, ids: Shaped[Tensor, "..."]) -> Int[Tensor, " batch"]:
        """The same; ValueError unless they are integers, one a case."""
        if ids.shape != self.numbers.shape or ids.is_floating_point() or ids.is_complex():
            raise ValueError(
                f"ids: shape {tuple(ids.shape)} of {ids.dtype}; give {len(self.numbers)} integers, "
                "one a case."
            )
        return ids
