"""The tuned CLIP of ``clip_rocket.py`` and what is added to it, as objectives by name.

Beside a recording as it is they take ``local_views`` augmented ones (the modality's ``augment``),
through heads of their own. Its text is the same in all views, through a separate head: the paper
augments texts too. A frozen text encoder says the same of a text each time anyway, and then only
that head learns of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.clip_rocket import (
    Pair,
    barlip,
    clip_rocket,
    over_views,
    siamlip,
    swalip,
)
from multimodal.objectives.clip_rocket_heads import Heads
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.tools.words import changed

LOCAL_WIDTH, SMOOTHING = 256, 0.1


@OBJECTIVES.register("clip_rocket")
class ClipRocketConfig(AlignmentConfig):
    """InfoNCE of recordings as they are, and of augmented ones with smoothed labels in a space of
    its own (arXiv:2305.08675), a reconstruction; see ``clip_rocket.py``. In ``medley align`` only.

    local_views: A, augmented views of each signal, by its modality's ``augment``; 0: ``clip``.
    local_width: of the space of these views, and of projectors and predictors. smoothing: of the
    labels of these views. Texts are the same in all views, through a head of their own. The scale
    of the local space is its own, and starts and ends as the other does.
    """

    masks: ClassVar[bool] = True
    own_settings: ClassVar[tuple[str, ...]] = ("local_views", "local_width", "smoothing")
    projectors: ClassVar[bool] = False
    predictors: ClassVar[bool] = False

    local_views: int = Field(default=2, ge=0, le=16)
    local_width: int = Field(default=LOCAL_WIDTH, ge=2, exclude_if=lambda w: w == LOCAL_WIDTH)
    smoothing: float = Field(default=SMOOTHING, ge=0, lt=1, exclude_if=lambda s: s == SMOOTHING)

    @property
    def row_name(self) -> str:
        changes = changed(self, self.own_settings)
        return f"{self.registered_name} (reconstruction){changes}{self.scale_words}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, *self.own_settings)

    @model_validator(mode="after")
    def _of_local_views(self) -> Self:
        own = changed(self, ("local_width", "smoothing"))
        if own and not self.local_views:
            raise ValueError(f"local_views=0: there is nothing to set{own.removeprefix(',')} for")
        return self

    @property
    def augmented(self) -> int:
        return self.local_views

    def own(self, widths: Mapping[str, int]) -> Heads | None:
        if not self.local_views:
            return None
        return Heads(
            widths,
            self.local_width,
            scale=self.scale,
            learn_scale=self.learn_scale,
            max_scale=self.max_scale,
            projectors=self.projectors,
            predictors=self.predictors,
            decay=self.averaged,
        )

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        """ValueError: views without features, or without heads for them."""
        heads = pairs.own
        local, scale = list[Pair](), pairs.scale
        if self.local_views:
            if pairs.features is None or not isinstance(heads, Heads):
                raise ValueError(
                    f"objective {self.registered_name!r}: give Views.features and Views.own (of "
                    "its config)."
                )
            local, scale = heads.local_pairs(pairs), heads.scale
        found = clip_rocket(
            (pairs.signals, pairs.texts),
            pairs.scale,
            local,
            scale,
            smoothing=self.smoothing,
            ids=pairs.ids if self.mask_duplicates else None,
            present=pairs.present,
            gather=gather,
            tile=self.tile,
        )
        return self.with_more(found, pairs, local, gather=gather)

    def with_more(self, clip: Loss, pairs: Pairs, local: list[Pair], *, gather: bool) -> Loss:
        """clip: of the recipe alone. local: pairs of augmented views in the local space."""
        return clip


@OBJECTIVES.register("barlip")
class BarlipConfig(ClipRocketConfig):
    """InfoNCE and redundancy reduction (arXiv:2305.08675), a reconstruction; see
    ``clip_rocket.py``. Without local views (as by default) it is on the pair that InfoNCE is on,
    and has no heads of its own; with them it is added to ``clip_rocket``, on projections of the
    recording as it is and of each augmented view.

    weight: of the second term. off_diagonal: within it, of what channels have in common.
    local_views, local_width, smoothing: as of ``clip_rocket``.
    """

    own_settings: ClassVar[tuple[str, ...]] = (
        *("weight", "off_diagonal"),
        *ClipRocketConfig.own_settings,
    )
    projectors: ClassVar[bool] = True

    local_views: int = Field(default=0, ge=0, le=16, exclude_if=lambda views: views == 0)
    weight: float = Field(default=0.025, ge=0, allow_inf_nan=False)
    off_diagonal: float = Field(default=5e-3, ge=0, allow_inf_nan=False)

    def with_more(self, clip: Loss, pairs: Pairs, local: list[Pair], *, gather: bool) -> Loss:
        terms = dict(clip.terms)

        def one(a, b) -> Loss:
            found = barlip(
                a, b, off_diagonal=self.off_diagonal, present=pairs.present, gather=gather
            )
            for name, value in found.terms.items():
                terms.setdefault(name, value)
            return found

        heads = pairs.own
        if isinstance(heads, Heads):
            first, *others = heads.projected_pairs(pairs)
        else:
            first, others = (pairs.signals, pairs.texts), []
        added = over_views(one, first, others)
        return Loss(clip.value + self.weight * added, terms | {"barlip": added.detach()})


@OBJECTIVES.register("siamlip")
class SiamlipConfig(ClipRocketConfig):
    """``clip_rocket``, and of each view a prediction of the other modality's projection, which gets
    no gradient from it (arXiv:2305.08675), a reconstruction; see ``clip_rocket.py``.

    weight: of the second term. local_views, local_width, smoothing: as of ``clip_rocket``.
    """

    own_settings: ClassVar[tuple[str, ...]] = ("weight", *ClipRocketConfig.own_settings)
    projectors: ClassVar[bool] = True
    predictors: ClassVar[bool] = True

    local_views: int = Field(default=2, ge=1, le=16)
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    def with_more(self, clip: Loss, pairs: Pairs, local: list[Pair], *, gather: bool) -> Loss:
        heads = pairs.own
        assert isinstance(heads, Heads)
        predicted = [heads.predicted(pairs, pair) for pair in heads.projected_pairs(pairs)]
        first, *others = (
            ((p, v), (q, w))
            for (p, q), (v, w) in zip(predicted, self.targets(pairs, heads), strict=True)
        )

        def one(a: Pair, b: Pair) -> Loss:
            return siamlip(a, b, present=pairs.present, gather=gather)

        added = over_views(one, first, others)
        terms = clip.terms | {self.registered_name: added.detach()}
        return Loss(clip.value + self.weight * added, terms)

    def targets(self, pairs: Pairs, heads: Heads) -> list[Pair]:
        """Of the recording as it is and of each augmented view, with the text."""
        return heads.projected_pairs(pairs)


@OBJECTIVES.register("byolip")
class ByolipConfig(SiamlipConfig):
    """``siamlip`` whose targets are of a running mean of encoders and projectors
    (arXiv:2305.08675), a reconstruction; see ``clip_rocket.py``.

    decay: the share of the mean that stays in a step. weight, local_views, local_width, smoothing:
    as of ``siamlip``.
    """

    own_settings: ClassVar[tuple[str, ...]] = ("decay", *SiamlipConfig.own_settings)

    decay: float = Field(default=0.99, ge=0, le=1)

    @property
    def averaged(self) -> float:
        return self.decay

    def targets(self, pairs: Pairs, heads: Heads) -> list[Pair]:
        return heads.averaged_pairs(pairs)


@OBJECTIVES.register("swalip")
class SwalipConfig(ClipRocketConfig):
    """``clip_rocket`` without smoothing, and the similarities of one augmented view towards
    balanced assignments of the other (arXiv:2305.08675), a reconstruction; see ``clip_rocket.py``.
    It holds the matrix of all pairs, so ``tile`` is refused, and takes complete cases only.

    weight: of the second term. epsilon, rounds: of the balance, Sinkhorn's. It has two local views.
    local_width, smoothing: as of ``clip_rocket``.
    """

    masks: ClassVar[bool] = False
    own_settings: ClassVar[tuple[str, ...]] = (
        *("weight", "epsilon", "rounds"),
        *("local_width", "smoothing"),
    )

    local_views: Literal[2] = 2  # pyright: ignore[reportIncompatibleVariableOverride]
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    weight: float = Field(default=0.2, ge=0, allow_inf_nan=False)
    epsilon: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    rounds: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _holds_the_matrix(self) -> Self:
        if self.tile is not None:
            raise ValueError(
                f"tile={self.tile}: balanced assignments need the matrix of all pairs; leave it out"
            )
        return self

    def with_more(self, clip: Loss, pairs: Pairs, local: list[Pair], *, gather: bool) -> Loss:
        heads = pairs.own
        assert isinstance(heads, Heads)
        options = {"epsilon": self.epsilon, "rounds": self.rounds, "gather": gather}
        added = swalip(local, heads.scale, **options)
        terms = clip.terms | added.terms | {"swalip": added.value.detach()}
        return Loss(clip.value + self.weight * added.value, terms)
