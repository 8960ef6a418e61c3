"""ECG of scenes: segments of rhythms that follow each other. For research, not for clinical use.

An extension of ours (specs/compa.md 7); no published protocol is behind it. Segments are joined in
millivolts: no normalisation, no change of polarity, no reversal, no gap. All leads are cut at the
same sample, where they are quietest together, and the step of each lead's offset across a join is
spread over a ramp of 40 ms; both are the same linear operations on all leads, so II = I + III and
the augmented leads stay what they are. Only "+": a heart has one rhythm at a time, so two of them
are never added. Overlays of what does add up (noise, baseline wander, pacing spikes) are not made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from pydantic import Field, field_validator

from multimodal.composition import COMPOSERS
from multimodal.composition.expressions import parse, refuse_overlay
from multimodal.composition.lexicons import LexiconName
from multimodal.composition.plan import ComposerConfig, Pool, Positive
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

QUIET = 0.03  # seconds on either side of a cut, in which the leads are to be quiet
REACH = 0.4  # seconds that a cut may be moved by, at most
RAMP = 0.02  # seconds on either side of a join
EXPRESSIONS = {"A+B": 0.7, "A+B+C": 0.3}
HalfASecond = Annotated[float, Field(ge=0.5, allow_inf_nan=False)]
ONE_RHYTHM = "two rhythms at the same time have no physiological meaning"


@COMPOSERS.register("ecg")
class EcgComposerConfig(ComposerConfig):
    """``ComposerConfig`` with the defaults of ECG: segments of 2 to 5 s, no gap, no fades, levels
    in mV as recorded, sequences only.

    sources: "voices", all segments of a scene are of one patient, else rate, amplitude and the
    electrodes' places give the join away; "any", they may be of different patients: say so of the
    set. Few data sets have three rhythms of a patient; drop "A+B+C" for others.
    """

    notice: ClassVar[str] = RESEARCH_ONLY
    expressions: dict[str, Positive] = EXPRESSIONS
    max_seconds: Positive = 15.0
    gap: tuple[Zero, Zero] = (0.0, 0.0)
    fade: Zero = 0.0
    level_db: Zero = 0.0
    snippet_seconds: tuple[HalfASecond, HalfASecond] = (2.0, 5.0)
    loop: bool = False
    sources: Literal["any", "voices"] = "voices"
    lexicon: LexiconName = "order"

    @field_validator("expressions")
    @classmethod
    def _of_one_rhythm(cls, expressions: dict[str, float]) -> dict[str, float]:
        for text in expressions:
            refuse_overlay(parse(text), ONE_RHYTHM)
        return expressions

    def open(self, signals: SignalCache, rows: ArrayLike, *, phrases: Phrases) -> Rhythms:
        """Pool and clips of recordings of one rhythm each; errors as of ``rhythms``."""
        refuse_modality(signals.manifest, self.registered_name, ("ecg",))
        rate = int(signals.adapter.config.sample_rate)  # pyright: ignore
        return rhythms(signals, rows, rate, self, phrases=phrases)

    def render(self, scenes: Plan, rows: ArrayLike, clips: Strips) -> Rendered:
        return render(scenes, rows, clips)


class Strips(NamedTuple):
    """The samples of a pool's snippets. values: (12, T) float32 mV, back to back; offsets: (S + 1,)
    int64, snippet i is values[:, offsets[i] : offsets[i + 1]].
    """

    values: np.ndarray
    offsets: np.ndarray


class Rhythms(NamedTuple):
    pool: Pool
    clips: Strips


def rhythms(
    signals: SignalCache,
    rows: ArrayLike,
    rate: int,
    config: EcgComposerConfig,
    *,
    phrases: Phrases,
    categories: Mapping[str, str] | None = None,
) -> Rhythms:
    """The pool of the segments that ``segment`` cuts out of recordings of one rhythm each.

    Arguments as of ``audio.sounds``; groups must be the patients. With sources "voices" only those
    of patients with two labels are kept. UserError: a class without phrase; no segment left.
    """
    manifest, (shortest, longest) = signals.manifest, config.snippet_seconds
    words = phrase_of(manifest, phrases)
    parts, starts = dict[int, np.ndarray](), dict[int, int]()
    for row in np.asarray(rows, dtype=np.int64).tolist():
        signal = signals.gather([row]).inputs[0].numpy()
        if signal.shape[1] >= shortest * rate:
            start, stop = segment(signal, rate, longest=longest)
            if stop - start >= shortest * rate:
                parts[row], starts[row] = signal[:, start:stop].copy(), start
    if not parts:
        raise UserError(
            f"snippet_seconds: from {shortest:g}; no segment of {manifest.name!r} lasts that long."
        )
    kept = list(parts)
    if config.sources == "voices":
        patients = {row: manifest.recordings[row].group for row in kept}
        labels = defaultdict[str, set[int]](set)
        for row, patient in patients.items():
            labels[patient].update(manifest.recordings[row].labels)
        kept = [row for row in kept if patients[row] and len(labels[patients[row]]) > 1]
        if not kept:
            raise UserError(
                f"sources: 'voices'; no patient of {manifest.name!r} has two rhythms here. "
                "Set sources: any, and say that scenes mix patients."
            )
    sizes = [parts[row].shape[1] for row in kept]
    pool = pool_of(
        manifest,
        kept,
        sizes,
        rate,
        phrases=words,
        categories=categories,
        starts=[starts[row] for row in kept],
    )
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Rhythms(pool, Strips(np.concatenate([parts[row] for row in kept], axis=1), offsets))


def segment(signal: np.ndarray, rate: int, *, longest: float) -> tuple[int, int]:
    """(start, stop) samples of at most ``longest`` seconds from the middle of (12, T) mV, each end
    cut 0.4 s inside, there moved by up to 0.4 s to the quietest place (or all over its half).
    """
    count = min(signal.shape[1], int(longest * rate))
    first = (signal.shape[1] - count) // 2
    room = min(round(2 * REACH * rate), count // 2)
    return (
        quietest(signal, first, first + room, rate),
        quietest(signal, first + count - room, first + count, rate),
    )


def quietest(signal: np.ndarray, low: int, high: int, rate: int) -> int:
    """The first sample c in [low, high] around which, from c - 30 ms to c + 30 ms, (12, T) mV vary
    least: by the sum of the leads' variances, which no offset of a lead changes.
    """
    half = max(1, round(QUIET * rate))
    assert signal.shape[1] >= 2 * half, "shorter than the window"
    low, high = max(low, half), min(high, signal.shape[1] - half)
    windows = sliding_window_view(signal[:, low - half : high + half], 2 * half, axis=1)
    return low + int(windows.astype(np.float64).var(axis=2).sum(axis=0).argmin())


def render(plan: Plan, rows: ArrayLike, clips: Strips) -> Rendered:
    """(n, 12, T) mV of n scenes (numbers in ``rows``), padded with zeros to the longest.

    UserError for a plan that is not of ``EcgComposerConfig``: overlays, gaps, fades, levels.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    for tree in plan.trees:
        refuse_overlay(tree, ONE_RHYTHM)
    for name in ("gap", "fade", "gain_db"):
        if np.any(getattr(plan, name)[chosen]):
            raise UserError(f"{name}: not 0; segments of an ECG are joined as they are, in mV.")
    totals = plan.totals[chosen]
    values = np.zeros((len(chosen), len(clips.values), totals.max(initial=0)), dtype=np.float32)
    for out, row in zip(values, chosen.tolist(), strict=True):
        for slot, snippet in enumerate(plan.snippets[row].tolist()):
            if snippet >= 0:
                part = clips.values[:, clips.offsets[snippet] : clips.offsets[snippet + 1]]
                assert part.shape[1] == plan.lengths[row, slot], "other clips than the pool's"
                out[:, plan.onsets[row, slot] : plan.offsets[row, slot]] = part
        ends = plan.offsets[row, plan.snippets[row] >= 0]
        _ramp(out, np.sort(ends)[:-1], plan.rate)
    return Rendered(torch.from_numpy(values), torch.from_numpy(totals))


def _ramp(values: np.ndarray, joins: np.ndarray, rate: int) -> None:
    """Spread the step of each lead's offset (mean of the 30 ms on either side) over each join.

    Over the 2h samples of 40 ms it is d (i + 1/2) / 2h above the offset before the join.
    """
    near, half = max(1, round(QUIET * rate)), max(1, int(RAMP * rate))
    rise = ((np.arange(2 * half) + 0.5) / (2 * half)).astype(np.float32)
    rise[half:] -= 1
    steps = [values[:, j : j + near].mean(1) - values[:, j - near : j].mean(1) for j in joins]
    for join, step in zip(joins.tolist(), steps, strict=True):
        values[:, join - half : join + half] += step[:, None] * rise
