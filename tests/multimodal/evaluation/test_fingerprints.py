"""Fingerprints find a clip again that was cut, turned down, coded or mixed, and no other one."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from multimodal.errors import UserError
from multimodal.evaluation.fingerprints import FEWEST, HOP, RATE, fingerprint, overlap

HZ = 16_000


def sound(seed: int, seconds: float = 4.0, rate: int = HZ) -> np.ndarray:
    """Noise whose colour changes all the time, as no two sounds' does in one way."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=round(seconds * rate))
    steps = rng.normal(size=round(seconds * 10) + 1)
    swell = np.interp(np.arange(len(noise)) / rate * 10, np.arange(len(steps)), steps)
    return 0.1 * np.exp(0.5 * swell) * noise


def coded(samples: np.ndarray, rate: int, kind: str) -> np.ndarray:
    file = io.BytesIO()
    subtype = "VORBIS" if kind == "OGG" else "PCM_16"
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    file.seek(0)
    return soundfile.read(file)[0]


@pytest.mark.parametrize("kind", ["OGG", "WAV"])
@pytest.mark.parametrize("level", [0.1, 2.0])
def test_a_coded_cut_at_another_level_is_found(kind: str, level: float) -> None:
    pool = [sound(seed) for seed in range(5)]
    cut = coded(level * pool[3][round(1.234 * HZ) : round(3.5 * HZ)], HZ, kind)
    found = overlap([fingerprint(s, HZ) for s in pool], [fingerprint(cut, HZ)])
    assert found.pairs == ((3, 0),)
    assert found.count == 1
    assert found.errors[0] < 0.15
    assert found.offsets[0] == pytest.approx(1.234, abs=HOP / RATE)


def test_a_longer_clip_at_another_rate_is_found() -> None:
    """The training clip is a part of the test clip, of another sample rate, half as loud."""
    inner = sound(0, 2.0)
    whole = np.concatenate([sound(1, 1.5), inner, sound(2, 1.0)])
    resampled = soxr.resample(0.5 * whole, HZ, 44_100)
    found = overlap([fingerprint(inner, HZ)], [fingerprint(resampled, 44_100)])
    assert found.pairs == ((0, 0),)
    assert found.offsets[0] == pytest.approx(-1.5, abs=HOP / RATE)


def test_a_quiet_sound_on_top_does_not_hide_it() -> None:
    base = sound(0)
    found = overlap([fingerprint(base, HZ)], [fingerprint(base + 0.3 * sound(1), HZ)])
    assert found.pairs == ((0, 0),)
    assert overlap([fingerprint(base, HZ)], [fingerprint(sound(1), HZ)]).pairs == ()


def test_silence_matches_nothing() -> None:
    """Padding is in half of all clips, and it is the same in all of them."""
    padded = [np.concatenate([sound(seed, 1.6), np.zeros(5 * HZ)]) for seed in (0, 1)]
    prints = [fingerprint(s, HZ) for s in (*padded, np.zeros(5 * HZ), sound(2, 1.0))]
    found = overlap(prints, prints)
    assert found.pairs == ((0, 0), (1, 1))
    assert found.errors == (0, 0)
    assert found.unchecked == (2, 3)  # silent, and too short


def test_a_tone_is_no_evidence_of_another() -> None:
    time = np.arange(4 * HZ) / HZ
    tones = [np.sin(2 * np.pi * hz * time) + 1e-3 * sound(hz) for hz in (440, 444, 1_000)]
    prints = [fingerprint(s, HZ) for s in tones]
    assert overlap(prints, prints).pairs == ((0, 0), (1, 1), (2, 2))


def test_words_are_the_papers_by_hand() -> None:
    """Bits from energies of plain loops over frames, bands and differences."""
    samples = sound(5, 0.6, rate=5_500)  # needs no resampling
    found = fingerprint(samples, 5_500)
    edges = [int(300 * (2_000 / 300) ** (m / 33) / 5_500 * 2_048 + 1e-9) for m in range(34)]
    energies = []
    for first in range(0, len(samples) - 2_048 + 1, 64):
        power = np.abs(np.fft.rfft(samples[first : first + 2_048] * np.hanning(2_048))) ** 2
        energies.append([power[a:b].sum() for a, b in pairwise(edges)])
    assert len(found.words) == len(energies) - 1
    for n, word in enumerate(found.words, start=1):
        now, before = energies[n], energies[n - 1]
        for m in range(32):
            rise = (now[m] - now[m + 1]) - (before[m] - before[m + 1])
            assert bool(word >> m & 1) == (rise > 0)


def test_forms_of_a_signal() -> None:
    samples = sound(0, 1.0)
    plain = fingerprint(samples, HZ)
    for form in (samples[None], torch.from_numpy(samples)[None], torch.from_numpy(samples)):
        np.testing.assert_array_equal(fingerprint(form, HZ).words, plain.words)
    for few in (0, 1, 2_000):
        assert len(fingerprint(samples[:few], HZ).words) == 0
    with pytest.raises(UserError, match=r"shape \(2, 8\) has no fingerprint"):
        fingerprint(np.zeros((2, 8)), HZ)
    with pytest.raises(UserError, match="finite"):
        fingerprint(np.full(HZ, np.nan), HZ)
    with pytest.raises(UserError, match="sample_rate=3999"):
        fingerprint(samples, 3_999)
    nothing = overlap([], [plain])
    assert (nothing.pairs, nothing.count, nothing.unchecked) == (
        (),
        0,
        (0,),
    )  # one second is too short


# ---- real sounds ------------------------------------------------------------------------------

# Different sources by name, but the same sound: found by fingerprints, confirmed below by the
# waveforms. The first pair stands in two folds.
TWINS = {("3-151080-A", "5-151085-A"), ("2-28314-A", "2-30322-A"), ("2-28314-B", "2-30322-B")}


def clips(root: Path, *patterns: str) -> dict[str, np.ndarray]:
    files = [file for each in patterns for file in sorted(root.glob(f"esc10/{each}.ogg"))]
    if not files:
        pytest.skip("no ESC-10")
    return {file.stem: soundfile.read(file)[0] for file in files}


@pytest.mark.realdata
def test_no_two_recordings_of_a_class_but_true_twins_match(real_data: Path) -> None:
    """Cries and fires of the folds that hold all the twins of ESC-10."""
    sounds = clips(real_data, "004*/[35]-*", "010*/2-*")
    names = list(sounds)
    prints = [fingerprint(s, 44_100) for s in sounds.values()]
    found = overlap(prints, prints)
    matched = {(names[i], names[j]) for i, j in found.pairs if i < j}
    assert {pair for pair in matched if pair[0].split("-")[1] != pair[1].split("-")[1]} == TWINS
    heard = [i for i, clip in enumerate(prints) if clip.heard.sum() >= FEWEST]
    assert {(i, i) for i in heard} <= set(found.pairs)
    for one, two in TWINS:
        assert loudest_correlation(sounds[one], sounds[two]) > 0.3
    strangers = [loudest_correlation(sounds[names[i]], sounds[names[i + 3]]) for i in range(4)]
    assert max(strangers) < 0.15


def loudest_correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Of the waveforms, at any offset."""
    size = 1 << (len(one) + len(two)).bit_length()
    spectra = np.fft.rfft(one, size) * np.fft.rfft(two, size).conj()
    return np.abs(np.fft.irfft(spectra, size)).max() / np.sqrt((one**2).sum() * (two**2).sum())


@pytest.mark.realdata
def test_cuts_of_real_sounds_are_found_again(real_data: Path) -> None:
    """Two seconds out of each source of four classes in fold 1, a quarter as loud, as Ogg."""
    sounds = clips(real_data, "00[2579]*/1-*-A")
    pool = [fingerprint(s, 44_100) for s in sounds.values()]
    cuts = [coded(0.25 * s[13_000 : 13_000 + 2 * 44_100], 44_100, "OGG") for s in sounds.values()]
    found = overlap(pool, [fingerprint(cut, 44_100) for cut in cuts])
    checked = set(range(len(cuts))) - set(found.unchecked)
    own = {j for i, j in found.pairs if i == j}
    assert len(checked) > 0.7 * len(cuts)
    assert len(checked - own) <= 1  # a cut may be too quiet for the whole clip's loudest frame
    assert all(i == j for i, j in found.pairs)
