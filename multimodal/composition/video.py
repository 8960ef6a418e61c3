"""Video of scenes: clips that follow each other, or play side by side on a split screen.

An extension of ours (specs/compa.md 7); no published protocol is behind it. "A+B" is a hard cut or
a cross-fade from A to B. "A*B" splits the part of the screen that it has into equal columns, the
first letter's on the left; each clip is seen whole, smaller, with black around it, and black where
it does not play. Captions say when (before, while), not where. Nothing is played backwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from multimodal.composition import COMPOSERS
from multimodal.composition.expressions import Sequence, Slot, Tree, slots
from multimodal.composition.letterbox import letterboxed
from multimodal.composition.plan import ComposerConfig, NotNegative, Pool, Positive
from multimodal.composition.recorded import (
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


@COMPOSERS.register("video")
class VideoComposerConfig(ComposerConfig):
    """``ComposerConfig`` with the defaults of video: no gap, clips from half a second on.

    fade: seconds of a cross-fade on either side of a cut, while which the other clip's frame at the
    cut stands still; 0.1 is one of 0.2 s, 0, the default, a hard cut. It takes at most a tenth of
    the shortest clip, as everywhere, so nothing of 8 frames.
    """

    gap: tuple[NotNegative, NotNegative] = (0.0, 0.0)
    fade: NotNegative = 0.0
    level_db: Zero = 0.0
    snippet_seconds: tuple[Positive, Positive] = (0.5, 9.5)

    def open(self, signals: SignalCache, rows: ArrayLike, *, phrases: Phrases) -> Videos:
        """Pool and clips of clips of one event each; errors as of ``videos``."""
        refuse_modality(signals.manifest, self.registered_name, ("video",))
        rate = round(signals.adapter.config.fps)  # pyright: ignore[reportAttributeAccessIssue]
        return videos(signals, rows, rate, self, phrases=phrases)

    def render(self, scenes: Plan, rows: ArrayLike, clips: Films) -> Rendered:
        """With as many frames as the longest clip has, which is what encoders know."""
        return render(scenes, rows, clips, frames=int(np.diff(clips.offsets).max()))


class Films(NamedTuple):
    """The frames of a pool's snippets. values: (T, 3, H, W) uint8, back to back; offsets: (S + 1,)
    int64, snippet i is values[offsets[i] : offsets[i + 1]].
    """

    values: Tensor
    offsets: np.ndarray


class Videos(NamedTuple):
    pool: Pool
    clips: Films


def videos(
    signals: SignalCache,
    rows: ArrayLike,
    rate: int,
    config: ComposerConfig,
    *,
    phrases: Phrases,
    categories: Mapping[str, str] | None = None,
) -> Videos:
    """The pool of clips of one event each, as the cache has them; of longer ones than
    ``config.snippet_seconds`` the middle, shorter ones are left out.

    Arguments as of ``audio.sounds``. rate: frames a second of the cache's clips, which "dense"
    sampling makes the same for all; clips sampled "uniform" have rates of their own, and times are
    then in frames of ``rate`` to a nominal second. UserError: a class without phrase; nothing left.
    """
    manifest, (shortest, longest) = signals.manifest, config.snippet_seconds
    words = phrase_of(manifest, phrases)
    kept, parts, starts = list[int](), list[Tensor](), list[int]()
    for row in np.asarray(rows, dtype=np.int64).tolist():
        frames = signals.gather([row]).inputs[0]
        start = max(0, len(frames) - int(longest * rate)) // 2
        frames = frames[start : start + int(longest * rate)]
        if len(frames) >= shortest * rate:
            kept.append(row)
            parts.append(frames)
            starts.append(start)
    if not kept:
        raise UserError(
            f"snippet_seconds: from {shortest:g}; no clip of {manifest.name!r} lasts that long at "
            f"{rate} frames a second."
        )
    sizes = [len(part) for part in parts]
    pool = pool_of(manifest, kept, sizes, rate, phrases=words, categories=categories, starts=starts)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Videos(pool, Films(torch.cat(parts), offsets))


def render(plan: Plan, rows: ArrayLike, clips: Films, *, frames: int | None = None) -> Rendered:
    """(n, F, 3, H, W) uint8 of n scenes (numbers in ``rows``), padded with zeros to the longest.

    frames: give this many of each instead, the middle ones of as many equal segments, for encoders
    that know one length only.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    totals = torch.from_numpy(plan.totals[chosen])
    most = frames or int(plan.totals[chosen].max(initial=0))
    values = torch.zeros(len(chosen), most, *clips.values.shape[1:], dtype=torch.uint8)
    for out, row in zip(values, chosen.tolist(), strict=True):
        scene = _scene(plan, row, clips)
        if frames is not None:
            scene = scene[((torch.arange(frames) + 0.5) * len(scene) / frames).long()]
        out[: len(scene)] = scene
    return Rendered(values, totals if frames is None else torch.full_like(totals, frames))


class Part(NamedTuple):
    """A part of the tree and of the screen: columns [left, right)."""

    tree: Tree
    left: int
    right: int


def screen(tree: Tree, left: int, right: int) -> Iterator[Part]:
    """Every part of a tree with its columns, itself first."""
    yield Part(tree, left, right)
    if isinstance(tree, Slot):
        return
    count, width = len(tree.parts), right - left
    for i, part in enumerate(tree.parts):
        if isinstance(tree, Sequence):
            yield from screen(part, left, right)
        else:
            yield from screen(part, left + width * i // count, left + width * (i + 1) // count)


def _scene(plan: Plan, row: int, clips: Films) -> Tensor:
    """(F, 3, H, W) of one scene."""
    height, width = clips.values.shape[2:]
    out = torch.zeros(int(plan.totals[row]), *clips.values.shape[1:], dtype=torch.uint8)
    parts = list(screen(plan.trees[plan.expression[row]], 0, width))
    for tree, left, right in parts:
        if isinstance(tree, Slot):
            snippet = plan.snippets[row, tree.number]
            film = clips.values[clips.offsets[snippet] : clips.offsets[snippet + 1]]
            assert len(film) == plan.lengths[row, tree.number], "other clips than the pool's"
            small = letterboxed(film, height, right - left)
            on, off = plan.onsets[row, tree.number], plan.offsets[row, tree.number]
            out[on:off, :, :, left:right] = small.repeat(int(plan.loops[row, tree.number]), 1, 1, 1)
    for tree, left, right in parts:
        if isinstance(tree, Sequence) and plan.gap[row] == 0:
            for part in tree.parts[1:]:
                cut = int(plan.onsets[row, list(slots(part))].min())
                _cross_fade(out[..., left:right], cut, int(plan.fade[row]))
    return out


def _cross_fade(frames: Tensor, cut: int, fade: int) -> None:
    """In place: from one clip to the next, over ``fade`` frames on either side of frame ``cut``."""
    share = ((torch.arange(2 * fade) + 0.5) / (2 * fade)).view(-1, 1, 1, 1)
    last, first = frames[cut - 1].float(), frames[cut].float()
    before, after = frames[cut - fade : cut].float(), frames[cut : cut + fade].float()
    mixed = torch.cat(
        [
            before + share[:fade] * (first - before),
            last + share[fade:] * (after - last),
        ]
    )
    frames[cut - fade : cut + fade] = mixed.round().to(frames.dtype)
