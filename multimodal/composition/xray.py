"""X-rays of scenes: images side by side. For research, not for clinical use.

An extension of ours (specs/compa.md 7); no published protocol is behind it. "A+B" is A on the left
and B on the right of one picture. CAPTIONS NAME THE IMAGE'S PLACE, NOT AN ANATOMICAL SIDE: on a
frontal film the patient's right is on the viewer's left, and nothing here says which lung is meant.
So give phrases that speak of images, "an image that shows cardiomegaly". A twin has the same images
in exchanged places and nothing else: none is flipped, mixed with another or rescaled in its values.
Only "+": two chests in one place are no image. Halves of two studies are not joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import field_validator
from torch import Tensor

from multimodal.composition import COMPOSERS
from multimodal.composition.expressions import parse, refuse_overlay, slots
from multimodal.composition.letterbox import letterboxed
from multimodal.composition.lexicons import LexiconName
from multimodal.composition.plan import ComposerConfig, NotNegative, Pool, Positive
from multimodal.composition.recorded import (
    RESEARCH_ONLY,
    Phrases,
    Rendered,
    Zero,
    phrase_of,
    pool_of,
    refuse_modality,
)
from multimodal.composition.scenes import Plan
from multimodal.errors import UserError
from multimodal.signals import SignalCache

NEUTRAL = 0.5  # grey between images; 0 after the front end
SEPARATOR = 8 / 224
SIDE_BY_SIDE = "two images do not lie in one place"
EXPRESSIONS = {"A+B": 1.0}


@COMPOSERS.register("xray")
class XrayComposerConfig(ComposerConfig):
    """``ComposerConfig`` with the defaults of X-rays. What are seconds there are widths of the
    picture here: a scene is at most one wide, gap is the grey separator (8 of 224 pixels).

    expressions: sequences of equally many images each, which all get an equal part of the width.
    sources: "any"; with "voices" both images are of one patient.
    """

    notice: ClassVar[str] = RESEARCH_ONLY
    expressions: dict[str, Positive] = EXPRESSIONS
    max_seconds: Positive = 1.0
    gap: tuple[NotNegative, NotNegative] = (SEPARATOR, SEPARATOR)
    fade: Zero = 0.0
    level_db: Zero = 0.0
    snippet_seconds: tuple[Positive, Positive] = (0.01, 1.0)
    loop: bool = False
    lexicon: LexiconName = "space"

    @field_validator("expressions")
    @classmethod
    def _side_by_side(cls, expressions: dict[str, float]) -> dict[str, float]:
        counts = {text: len(slots(parse(text))) for text in expressions}
        for text in expressions:
            refuse_overlay(parse(text), SIDE_BY_SIDE)
        if len(set(counts.values())) > 1:
            raise UserError(f"expressions {', '.join(counts)}: give all the same number of images.")
        return expressions

    @property
    def images(self) -> int:
        """Of a scene."""
        return len(slots(parse(next(iter(self.expressions)))))

    def open(self, signals: SignalCache, rows: ArrayLike, *, phrases: Phrases) -> Images:
        """Pool and clips of images of one finding each; errors as of ``images``."""
        refuse_modality(signals.manifest, self.registered_name, ("xray",))
        rate = signals.adapter.config.size  # pyright: ignore[reportAttributeAccessIssue]
        return images(signals, rows, rate, self, phrases=phrases)

    def render(self, scenes: Plan, rows: ArrayLike, clips: Panels) -> Rendered:
        return render(scenes, rows, clips)


class Panels(NamedTuple):
    """The images of a pool's snippets, fitted into their part of the width: (S, 1, H, W_part)
    float32 in [0, 1].
    """

    values: Tensor


class Images(NamedTuple):
    pool: Pool
    clips: Panels


def images(
    signals: SignalCache,
    rows: ArrayLike,
    rate: int,
    config: XrayComposerConfig,
    *,
    phrases: Phrases,
    categories: Mapping[str, str] | None = None,
) -> Images:
    """The pool of images of one finding each, their aspect kept, zeros around them.

    Arguments as of ``audio.sounds``. rate: the width of the cache's images in pixels, also that of
    scenes. UserError: another width; a class without phrase; separators that leave no room.
    """
    kept = np.asarray(rows, dtype=np.int64).tolist()
    words = phrase_of(signals.manifest, phrases)
    values = signals.gather(kept).inputs
    if values.shape[3] != rate:
        raise UserError(f"rate: {rate}; the images are {values.shape[3]} pixels wide, give that.")
    count = config.images
    part = (rate - (count - 1) * round(config.gap[1] * rate)) // count
    if part < 1:
        raise UserError(
            f"gap: {config.gap[1]:g} of the width; {count} images have no room in {rate} pixels."
        )
    panels = letterboxed(values, values.shape[2], part)
    pool = pool_of(
        signals.manifest, kept, [part] * len(kept), rate, phrases=words, categories=categories
    )
    return Images(pool, Panels(panels))


def render(plan: Plan, rows: ArrayLike, clips: Panels) -> Rendered:
    """(n, 1, H, W) of n scenes (numbers in ``rows``), W the width of the images that the pool was
    made of: an event's pixels are [onset, offset), those left over are zeros on the right.

    UserError for a plan that is not of ``XrayComposerConfig``: overlays, fades, levels.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    for tree in plan.trees:
        refuse_overlay(tree, SIDE_BY_SIDE)
    for name in ("fade", "gain_db"):
        if np.any(getattr(plan, name)[chosen]):
            raise UserError(f"{name}: not 0; images are put side by side as they are.")
    assert plan.totals[chosen].max(initial=0) <= plan.rate, "wider than the picture"
    values = torch.zeros(len(chosen), 1, clips.values.shape[2], plan.rate)
    for out, row in zip(values, chosen.tolist(), strict=True):
        out[..., : plan.totals[row]] = NEUTRAL
        for slot, snippet in enumerate(plan.snippets[row].tolist()):
            if snippet >= 0:
                image, on = clips.values[snippet], plan.onsets[row, slot]
                assert image.shape[2] == plan.lengths[row, slot], "other clips than the pool's"
                out[..., on : plan.offsets[row, slot]] = image
    return Rendered(values, torch.ones(len(chosen), dtype=torch.int64))
