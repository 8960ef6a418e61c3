"""What the objectives of paired embeddings take, and what their configs have in common."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from multimodal.objectives import Loss
from multimodal.objectives.views import Pairs, Term, Views, ViewsConfig, total

__all__ = ["MAX_SCALE", "AlignmentConfig", "Pairs"]

MAX_SCALE = 100.0


class AlignmentConfig(ViewsConfig):
    """Base of the configs of objectives of pairs, each of which stands beside its function.

    Of several modalities the loss is the sum of those of the pairs (modality, text): each has
    weight 1, is a mean over the cases that have both, and the sum is not divided by their number.
    An objective whose ``loss`` leaves out what ``Pairs.present`` says is absent has ``masks``.

    scale: what cosines are multiplied with at the start, 1 / temperature. learn_scale: it is
    trained from there, up to max_scale; else it stays. bias: what is added to cosines at the start,
    where the objective has one (``uses_bias``). tile: None holds the similarity matrix; a number
    works it through in tiles of that side (large batches). mask_duplicates: pairs of equal text are
    no negatives of each other.

    Settings that an objective did not always have are left out of a record where they change
    nothing, so that earlier runs keep their identity.
    """

    uses_bias: ClassVar[bool] = False
    sparing: ClassVar[str] = "mask_duplicates: true"

    scale: float = Field(default=1 / 0.07, ge=1, le=1000)
    bias: float = 0.0
    tile: int | None = Field(default=None, ge=1)
    mask_duplicates: bool = False
    learn_scale: bool = Field(default=True, exclude_if=lambda learn: learn)
    max_scale: float = Field(default=MAX_SCALE, ge=1, le=1000, exclude_if=lambda m: m == MAX_SCALE)

    @property
    def start(self) -> dict[str, Any]:
        """What the aligned model takes of these settings."""
        return {
            "scale": self.scale,
            "bias": self.bias,
            "learn_scale": self.learn_scale,
            "max_scale": self.max_scale,
        }

    @property
    def scale_words(self) -> str:
        """For the name of a row: nothing where the scale starts, and is learned, as usual."""
        usual = type(self).model_fields["scale"].default == self.scale
        learned = type(self).model_fields["learn_scale"].default
        if not self.learn_scale:
            return "" if usual and not learned else f", scale fixed at {self.scale:g}"
        capped = f", scale at most {self.max_scale:g}" if self.max_scale != MAX_SCALE else ""
        words = "" if learned else ", learned scale"
        return f"{words}{'' if usual else f', scale from {self.scale:g}'}{capped}"

    @property
    def row_name(self) -> str:
        return f"{self.registered_name}{self.scale_words}"

    @property
    def named(self) -> tuple[str, ...]:
        return ("scale", "learn_scale", "max_scale")

    @model_validator(mode="after")
    def _scale_fits(self) -> Self:
        if self.scale > self.max_scale:
            raise ValueError(f"scale={self.scale} is above max_scale={self.max_scale}")
        if not self.learn_scale and self.max_scale != MAX_SCALE:
            raise ValueError("max_scale is of a scale that is learned; leave it out")
        return self

    @field_validator("bias")
    @classmethod
    def _bias_is_used(cls, bias: float) -> float:
        if bias and not cls.uses_bias:
            raise ValueError(f"objective {cls.registered_name!r} has no bias; leave it out")
        return bias

    @property
    def spares_equal_texts(self) -> bool:
        return self.mask_duplicates

    def of_views(self, views: Views, *, gather: bool) -> Loss:
        """ValueError: a case lacks a view, and the objective does not look at that."""
        pairs = {name: views.pairs(name) for name in views.signals}
        if not self.masks and any(p.present is not None for p in pairs.values()):
            raise ValueError(
                f"objective {self.registered_name!r}: cases that lack a modality are not its own; "
                "take clip, siglip, cwcl or more, or only cases that have all of them."
            )
        found = [
            Term(name, 1.0, self.loss(p, gather=gather), p.present) for name, p in pairs.items()
        ]
        return total(found)

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        """gather: the batch is that of all processes."""
        raise NotImplementedError
