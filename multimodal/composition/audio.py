"""Sound of scenes: every event is one linear term, so its level and times are what the plan says.

    scene = c * sum over events e of gain_e * placed at onset_e (copies of fade * snippet_e)

gain_e brings the snippet to a common level (A-weighted for sounds, active for speech; made once a
snippet) and adds the drawn dB; the fade, linear, is at both ends of every copy of every event and
is as long for all of a scene, so neither joins nor edges tell an order; c makes the peak 0.5.
CompA's own generator, whose operators are not linear, is in ``tree``.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Columns
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from multimodal.composition import COMPOSERS
from multimodal.composition.levels import ACTIVE_DB, Level, a_weighted_level
from multimodal.composition.plan import ComposerConfig, Pool
from multimodal.composition.recorded import Phrases, Rendered, phrase_of, pool_of, refuse_modality
from multimodal.composition.scenes import Plan
from multimodal.composition.snippets import active_part
from multimodal.errors import UserError
from multimodal.signals import SignalCache

PEAK = 0.5


class Clips(NamedTuple):
    """The samples of a pool's snippets. values: (T,) float32, back to back; offsets: (S + 1,)
    int64, snippet i is values[offsets[i] : offsets[i + 1]]. levels: (S,) float64 dB.
    """

    values: np.ndarray
    offsets: np.ndarray
    levels: np.ndarray


class Sounds(NamedTuple):
    pool: Pool
    clips: Clips


@COMPOSERS.register("audio")
class AudioComposerConfig(ComposerConfig):
    """Sounds in sequence and overlaid, at levels that the ear hears as equal."""

    level: ClassVar[Level] = staticmethod(a_weighted_level)

    def open(self, signals: SignalCache, rows: ArrayLike, *, phrases: Mapping[str, str]) -> Sounds:
        """Pool and clips of single-event recordings; errors as of ``sounds``."""
        refuse_modality(signals.manifest, self.registered_name, ("audio", "speech"))
        rate = signals.adapter.config.sample_rate  # pyright: ignore[reportAttributeAccessIssue]
        return sounds(signals, rows, rate, self, phrases=phrases, level=type(self).level)

    def render(self, scenes: Plan, rows: ArrayLike, clips: Clips) -> Rendered:
        return render(scenes, rows, clips)


def clips_of(signals: Columns[np.ndarray], rate: int, level: Level = a_weighted_level) -> Clips:
    """Clips of the (T_i,) samples of each snippet, at ``rate`` Hz."""
    sizes = [len(signal) for signal in signals]
    return Clips(
        values=np.concatenate(signals).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        levels=np.array([level(signal, rate) for signal in signals]),
    )


def render(plan: Plan, rows: ArrayLike, clips: Clips) -> Rendered:
    """The sound of n scenes (numbers in ``rows``) at the plan's rate, padded to the longest.

    A loop over scenes, of a few long vector operations each: some 500 scenes of 7.4 s on average at
    16 kHz a second on one core of a busy two-core machine, ESC-10's sounds.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    totals = plan.totals[chosen]
    values = np.zeros((len(chosen), totals.max(initial=0)), dtype=np.float32)
    for out, row, fade in zip(values, chosen.tolist(), plan.fade[chosen].tolist(), strict=True):
        gains = 10 ** ((plan.gain_db[row] - clips.levels[plan.snippets[row]]) / 20)
        ramp = np.arange(fade, dtype=np.float32) / max(1, fade)
        for slot, snippet in enumerate(plan.snippets[row].tolist()):
            if snippet >= 0:
                sound = clips.values[clips.offsets[snippet] : clips.offsets[snippet + 1]]
                assert len(sound) == plan.lengths[row, slot], "other clips than the pool's"
                sound = sound * np.float32(gains[slot])
                sound[: len(ramp)] *= ramp
                sound[len(sound) - len(ramp) :] *= ramp[::-1]
                at = plan.onsets[row, slot]
                stretch = out[at : plan.offsets[row, slot]].reshape(-1, len(sound))
                stretch += sound
        out *= np.float32(PEAK / max(out.max(), -out.min()))
    return Rendered(torch.from_numpy(values[:, None]), torch.from_numpy(totals))


def sounds(
    signals: SignalCache,
    rows: ArrayLike,
    rate: int,
    config: ComposerConfig,
    *,
    phrases: Phrases,
    categories: Mapping[str, str] | None = None,
    level: Level = a_weighted_level,
    below_peak_db: float = ACTIVE_DB,
) -> Sounds:
    """The pool of single-event recordings (``rows`` of the cache's manifest), decoded and cut.

    rate: Hz of the cache's signals. phrases: the words of a recording in captions, or of each
    class; categories: of each class (``Pool``). Sources are the manifest's groups, where it has
    them. below_peak_db: as in ``active_part``. Events shorter than ``config.snippet_seconds`` are
    left out. UserError: silent recordings, all named; a class without phrase; nothing left.
    """
    manifest, longest = signals.manifest, config.snippet_seconds[1]
    words = phrase_of(manifest, phrases)
    kept, parts, starts, silent = [], [], [], []
    for row in np.asarray(rows, dtype=np.int64).tolist():
        batch = signals.gather([row])
        signal = batch.inputs[0].numpy()
        where = manifest.recordings[row].where
        try:
            start, stop = active_part(
                signal, rate, longest=longest, below_peak_db=below_peak_db, where=where
            )
        except UserError as error:
            silent.append(str(error))
            continue
        if stop - start >= config.snippet_seconds[0] * rate:
            kept.append(row)
            starts.append(start)
            parts.append(signal[0, start:stop].copy())
    if silent:
        raise UserError("\n".join(silent))
    if not kept:
        low = config.snippet_seconds[0]
        raise UserError(
            f"snippet_seconds: from {low:g}; no event of {manifest.name!r} lasts that long."
        )
    pool = pool_of(
        manifest,
        kept,
        [len(part) for part in parts],
        rate,
        phrases=words,
        categories=categories,
        starts=starts,
    )
    return Sounds(pool, clips_of(parts, rate, level))
