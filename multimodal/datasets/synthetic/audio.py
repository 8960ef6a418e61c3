"""Synthetic everyday sounds: the embedded audio dataset.

Nothing in it was recorded and its numbers are not those of any real dataset. A clip is one event
somewhere in a scene: steady background noise, heard through a device with resonances of its own.
Place, length, pitch, tempo and level of an event are random, so that a fixed weight for each
sample says nothing. Given several names, ``events``, ``caption`` and ``clip`` make clips of events
that follow each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
import soxr
from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

GENERATOR_VERSION = "1"  # raise it whenever the same config would give other clips
RATE = 16_000  # Hz, at which everything is made
SECONDS = 1.25  # of a clip, for each event
FADE = 0.005  # seconds, at both ends of an event
SCENES = {"train": range(24), "test": range(24, 32)}
# Scene n has background n modulo 4: its name and the slope of its spectrum, dB an octave.
BACKGROUNDS = (
    ("a deep rumble", (-9.0, -7.0)),
    ("soft noise", (-5.0, -3.0)),
    ("a plain hiss", (-1.0, 1.0)),
    ("a bright hiss", (3.0, 5.0)),
)
PITCHES, TEMPOS, RAIN = ("low", "medium", "high"), ("slow", "fast"), ("light", "heavy")
# Class -> captions, "{}" for the word for the tempo; the position of a name is its class id.
CAPTIONS = {
    "rising_sweep": ("a rising sweep", "a tone that glides up"),
    "falling_sweep": ("a falling sweep", "a tone that glides down"),
    "siren": ("a {} siren", "a {} tone that wails up and down"),
    "warble": ("a {} warble", "a {} trembling tone"),
    "chirps": ("{} chirps", "a bird with {} chirps"),
    "bell": ("a bell", "a bell that rings once"),
    "hum": ("a steady hum", "a machine that hums"),
    "knocks": ("{} knocks", "{} knocks on wood"),
    "engine": ("a {} engine", "a motor with {} strokes"),
    "rain": ("{} rain", "the patter of {} rain"),
}
Array: TypeAlias = np.ndarray
Rng: TypeAlias = np.random.Generator


class Event(NamedTuple):
    """One sound within a clip, silent outside [onset, offset].

    onset, offset: seconds. pitch: Hz, of the fundamental or of the middle of a glide or band.
    rate: repetitions or swings a second, 1 for kinds without. level: dB, its RMS over that of the
    background. seed: of everything else in it.
    """

    name: str
    onset: float
    offset: float
    pitch: float
    rate: float
    level: float
    seed: int


class Kind(NamedTuple):
    """Ranges that events of a kind are drawn from, and the words for both halves of ``rate``."""

    sound: Callable[[Event, Array, Rng], Array]
    pitch: tuple[float, float]
    seconds: tuple[float, float]
    rate: tuple[float, float] = (1, 1)
    tempos: tuple[str, ...] = ()


@DATASETS.register("synthetic_audio")
class SyntheticAudioConfig(DatasetConfig):
    """Sound events in noisy scenes, made when they are needed: (1, 1.25 x sample_rate) a clip.

    The same config gives the same clips. num_classes: the first so many of ``CAPTIONS``. The group
    is the scene (32 of them); the 8 scenes of the test split never occur in training. sample_rate:
    Hz; it must be that of the audio adapter (``modality.sample_rate``), which cannot tell at which
    rate an array was made. Sounds end at 8 kHz whatever it is.
    """

    synthetic: ClassVar[bool] = True
    modalities: ClassVar[tuple[str, ...]] = ("audio",)
    summary: ClassVar[str] = (
        f"{len(CAPTIONS)} kinds of synthetic sound events with captions; train and test differ in "
        "the scenes"
    )
    licence: ClassVar[str] = "generated sound, nothing recorded (Apache-2.0)"
    how_to_get: ClassVar[str] = (
        "made in memory on use; set modality.sample_rate=16000, or dataset.sample_rate to match"
    )

    seed: int = Field(default=0, ge=0, lt=2**32)
    num_classes: int = Field(default=len(CAPTIONS), ge=2, le=len(CAPTIONS))
    train_per_class: int = Field(default=100, ge=1, le=10_000)
    test_per_class: int = Field(default=30, ge=1, le=10_000)
    sample_rate: int = Field(default=RATE, ge=8_000, le=192_000)

    def build(self, root: Path) -> Manifest:
        """The manifest; ``root`` is not touched."""
        names = tuple(CAPTIONS)[: self.num_classes]
        rows = []
        for name in names:
            rows += [self._recording("train", name, n) for n in range(self.train_per_class)]
            rows += [self._recording("test", name, n) for n in range(self.test_per_class)]
        return Manifest(
            name="synthetic_audio",
            modality="audio",
            class_names=names,
            recordings=tuple(rows),
            version=f"{GENERATOR_VERSION}, seed {self.seed}, {self.sample_rate} Hz",
            licence=self.licence,
            citation="generated by Medley",
            split_rule="synthetic: scenes (background with device) of train and test are disjoint",
            synthetic=True,
        )

    def events(self, uid: str) -> tuple[Event, ...]:
        """What is heard in the recording ``uid``, and when; UserError for an impossible uid."""
        match = re.fullmatch(r"(train|test)/([a-z_]+)_([0-9]{4})", uid)
        if match is None or match[2] not in CAPTIONS:
            raise UserError(
                f"synthetic_audio: no recording {uid!r}; names look like train/bell_0007."
            )
        return events((match[2],), self._seeds(match[1], match[2], int(match[3])))

    def _seeds(self, split: str, name: str, number: int) -> tuple[int, ...]:
        return (self.seed, tuple(CAPTIONS).index(name), tuple(SCENES).index(split), number)

    def _recording(self, split: str, name: str, number: int) -> Recording:
        seeds = self._seeds(split, name, number)
        rng = np.random.default_rng(seeds)
        scene = int(rng.choice(SCENES[split]))
        return Recording(
            uid=f"{split}/{name}_{number:04d}",
            labels=(seeds[1],),
            split=split,
            group=f"scene {scene:02d}",
            text=caption(events((name,), seeds), scene, rng),
            make=partial(clip, (name,), scene, seeds, self.sample_rate),
        )


def events(names: Sequence[str], seeds: tuple[int, ...]) -> tuple[Event, ...]:
    """One event for each name, in this order, each within its own ``SECONDS`` of the clip."""
    found = []
    for place, name in enumerate(names):
        rng, kind = np.random.default_rng((*seeds, 1, place)), KINDS[name]
        length = rng.uniform(*kind.seconds)
        onset = SECONDS * place + rng.uniform(0, SECONDS - length)
        pitch, rate = (a * (b / a) ** rng.uniform() for a, b in (kind.pitch, kind.rate))
        level, seed = rng.uniform(12, 28), int(rng.integers(2**32))
        found.append(Event(name, onset, onset + length, pitch, rate, level, seed))
    return tuple(found)


def caption(heard: Sequence[Event], scene: int, rng: Rng) -> str:
    """E.g. "a rising sweep, low pitch, over soft noise"; events are joined by "then".

    low, medium and high are thirds of the kind's own range of pitches, the words for the tempo
    halves of that of its rates, both on a logarithmic scale.
    """
    said = []
    for event in heard:
        kind, phrases = KINDS[event.name], CAPTIONS[event.name]
        tempo = _word(kind.tempos, kind.rate, event.rate) if kind.tempos else ""
        phrase = phrases[rng.integers(len(phrases))].format(tempo)
        said.append(f"{phrase}, {_word(PITCHES, kind.pitch, event.pitch)} pitch")
    return f"{', then '.join(said)}, over {BACKGROUNDS[scene % len(BACKGROUNDS)][0]}"


def _word(words: Sequence[str], limits: tuple[float, float], value: float) -> str:
    share = np.log(value / limits[0]) / np.log(limits[1] / limits[0])
    return words[min(int(share * len(words)), len(words) - 1)]


def clip(names: Sequence[str], scene: int, seeds: tuple[int, ...], sample_rate: int) -> Array:
    """(1, T) float32 in [-1, 1]: ``events(names, seeds)`` in the scene, 1.25 s for each name.

    seeds: the first is that of the dataset, which the scenes follow.
    """
    dry = render(events(names, seeds), SECONDS * len(names))
    background, device = _curves(scene, seeds[0], len(dry))
    rng = np.random.default_rng((*seeds, 2))
    # Real and imaginary parts of the spectrum that white noise of RMS 1 has.
    noise = rng.standard_normal(2 * len(background), dtype=np.float32).view(np.complex64)
    noise *= np.float32(np.sqrt(len(dry) / 2))
    wet = np.fft.irfft((np.fft.rfft(dry) + noise * background) * device, len(dry))
    wet *= 10 ** rng.uniform(-1.0, -0.3) / np.abs(wet).max()
    if sample_rate != RATE:
        wet = soxr.resample(wet, RATE, sample_rate)
    return np.clip(wet, -1, 1).astype(np.float32)[None]


@lru_cache(maxsize=64)
def _curves(scene: int, seed: int, samples: int) -> tuple[Array, Array]:
    """(samples // 2 + 1,) gains of the background, with a mean square of 1, and of the device."""
    rng = np.random.default_rng((seed, 0, 0, scene, 1))
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    octaves = np.log2(np.maximum(frequency, 50) / 1000)
    slope = rng.uniform(*BACKGROUNDS[scene % len(BACKGROUNDS)][1])
    # Nothing lies below 50 Hz, where a rumble would take up the whole range.
    background = 10 ** (slope * octaves / 20) * (frequency >= 50)
    background /= np.sqrt(np.mean(background**2))
    decibels = np.zeros(len(octaves))
    for centre in rng.uniform(-2.3, 2.6, 3):  # resonances, octaves from 1 kHz
        width = rng.uniform(0.3, 1)
        decibels += rng.uniform(-7, 7) * np.exp(-(((octaves - centre) / width) ** 2))
    return background.astype(np.float32), (10 ** (decibels / 20)).astype(np.float32)


def render(heard: Sequence[Event], seconds: float) -> Array:
    """(seconds x 16,000,) float32: the events alone, for a background of RMS 1."""
    out = np.zeros(round(seconds * RATE), np.float32)
    for event in heard:
        first, last = round(event.onset * RATE), round(event.offset * RATE)
        t = np.arange(last - first, dtype=np.float32) / RATE
        sound = KINDS[event.name].sound(event, t, np.random.default_rng(event.seed))
        sound *= np.clip(np.minimum(t, t[-1] - t) / FADE, 0, 1)
        out[first:last] += sound * (10 ** (event.level / 20) / np.sqrt(np.mean(sound**2)))
    return out


def _cos(cycles: Array) -> Array:
    """cos(2 pi x) in single precision: five times as fast as in double, errors below -60 dB."""
    return np.cos(np.float32(2 * np.pi) * (cycles - np.floor(cycles)).astype(np.float32))


def _tone(pitch: Array, overtones: Sequence[float], rng: Rng) -> Array:
    """pitch: (T,) Hz; a fundamental of strength 1 and overtones of the strengths given.

    cos(n x) is the Chebyshev polynomial T_n of cos(x), so one cosine serves all of them.
    """
    cycles = np.cumsum(pitch, dtype=np.float64) / RATE + rng.uniform()
    return np.polynomial.chebyshev.chebval(_cos(cycles), (0.0, 1.0, *overtones))


def _glide(pitch: Array, rng: Rng) -> Array:
    """pitch: (T,) Hz, below 2.6 kHz so that the overtones stay below 8 kHz."""
    return _tone(pitch, (rng.uniform(0, 0.6), rng.uniform(0, 0.4)), rng)


def _sweep(way: int, event: Event, t: Array, rng: Rng) -> Array:
    octaves = way * rng.uniform(0.8, 1.6)
    return _glide(event.pitch * 2 ** (octaves * (t / t[-1] - 0.5)), rng)


def _swing(octaves: float, event: Event, t: Array, rng: Rng) -> Array:
    swing = _cos(event.rate * t + rng.uniform())
    return _glide(event.pitch * 2 ** (octaves * rng.uniform(0.7, 1.3) * swing), rng)


def _chirps(event: Event, t: Array, rng: Rng) -> Array:
    part = np.minimum((event.rate * t) % 1 / 0.6, 1)  # the rest of each period is silent
    return (1 - _cos(part)) * _glide(event.pitch * 2 ** (part - 0.5), rng)


def _bell(event: Event, t: Array, rng: Rng) -> Array:
    out = np.zeros_like(t)
    for ratio in (1.0, 2.0, 2.76, 4.07, 5.4):
        tone = _cos(event.pitch * ratio * t + rng.uniform())
        out += rng.uniform(0.3, 1) * np.exp(-t * ratio**0.5 / rng.uniform(0.2, 0.35)) * tone
    return out


def _hum(event: Event, t: Array, rng: Rng) -> Array:
    overtones = rng.uniform(0.2, 1, 6) / np.arange(2, 8)
    return _tone(np.full(len(t), event.pitch), tuple(overtones), rng)


def _struck(decay: float, event: Event, t: Array, rng: Rng) -> Array:
    """Strokes at ``rate``, nearly regular, each a damped oscillation of ``decay`` seconds."""
    gaps = rng.uniform(0.9, 1.1, int(t[-1] * event.rate / 0.9) + 1) / event.rate
    times, decay = np.cumsum(gaps) - gaps[0], decay * rng.uniform(0.7, 1.3)
    return _grains(times, np.full(len(times), event.pitch), decay, t, rng)


def _rain(event: Event, t: Array, rng: Rng) -> Array:
    times = rng.uniform(0, t[-1], round(event.rate * t[-1]))
    return _grains(times, event.pitch * 2 ** rng.uniform(-0.7, 0.7, len(times)), 0.003, t, rng)


def _grains(times: Array, pitches: Array, decay: float, t: Array, rng: Rng) -> Array:
    out, s = np.zeros_like(t), t[: round(6 * decay * RATE)]
    damping = np.exp(-s / decay)
    for time, pitch in zip(times.tolist(), pitches.tolist(), strict=True):
        first = int(time * RATE)
        grain = rng.uniform(0.5, 1) * damping * _cos(pitch * s - 0.25)
        out[first : first + len(s)] += grain[: max(0, len(t) - first)]
    return out


KINDS = {
    "rising_sweep": Kind(partial(_sweep, 1), (500, 1300), (0.4, 1.0)),
    "falling_sweep": Kind(partial(_sweep, -1), (500, 1300), (0.4, 1.0)),
    "siren": Kind(partial(_swing, 0.5), (500, 1300), (0.8, 1.15), (1.4, 2.8), TEMPOS),
    "warble": Kind(partial(_swing, 0.25), (500, 1300), (0.4, 1.0), (5, 10), TEMPOS),
    "chirps": Kind(_chirps, (1000, 1800), (0.5, 1.1), (4, 9), TEMPOS),
    "bell": Kind(_bell, (400, 1200), (0.5, 1.1)),
    "hum": Kind(_hum, (120, 360), (0.4, 1.0)),
    "knocks": Kind(partial(_struck, 0.03), (200, 600), (0.6, 1.1), (3, 6), TEMPOS),
    "engine": Kind(partial(_struck, 0.01), (200, 600), (0.6, 1.1), (12, 24), TEMPOS),
    "rain": Kind(_rain, (2000, 4500), (0.6, 1.1), (40, 120), RAIN),
}
