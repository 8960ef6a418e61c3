from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.composition.draw import draw
from multimodal.composition.ecg import (
    EcgComposerConfig,
    Rhythms,
    Strips,
    quietest,
    render,
    rhythms,
    segment,
)
from multimodal.composition.plan import ComposerConfig, Pool
from multimodal.composition.scenes import Scenes
from multimodal.composition.twins import twins
from multimodal.errors import UserError
from multimodal.modalities.ecg import EcgConfig
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache
from tests.multimodal.composition.controls import assert_captions_true, check, turned_pair
from tests.multimodal.composition.pools import pool_of

RATE = 250
NAMES = ("sinus rhythm", "flutter", "tachycardia", "paced beats")
CONFIG = EcgComposerConfig()


def leads(independent: np.ndarray) -> np.ndarray:
    """(12, T) from (8, T): I, II, V1 to V6; the others by Einthoven and Goldberger."""
    one, two = independent[0], independent[1]
    derived = [two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.stack([one, two, *derived, *independent[2:]]).astype(np.float32)


def beating(seconds: float, seed: int) -> np.ndarray:
    """(12, T) mV: a beat now and then, baseline that wanders, some noise, an offset a lead."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    beats = np.arange(rng.uniform(0.2, 0.5), seconds, rng.uniform(0.4, 1.0))
    shape = np.exp(-(((t[None] - beats[:, None]) / 0.02) ** 2)).sum(0)
    slow = np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * t)
    size = rng.normal(0, 1, (8, 1))
    return leads(
        size * shape
        + 0.1 * rng.normal(size=(8, 1)) * slow
        + 0.01 * rng.normal(size=(8, len(t)))
        + rng.normal(0, 0.3, (8, 1))
    )


def cache(per_patient: int = 4, patients: int = 6, seconds: float = 6.0) -> SignalCache:
    recordings = []
    for patient in range(patients):
        for i in range(per_patient):
            seed = patient * 10 + i
            recordings.append(
                Recording(
                    uid=f"{patient}/{i}",
                    labels=((patient + i) % len(NAMES),),
                    split="train",
                    group=f"p{patient}",
                    make=lambda seed=seed: beating(seconds + seed % 3, seed),
                )
            )
    manifest = Manifest("toy", "ecg", NAMES, tuple(recordings), "1", made_rate=RATE)
    return SignalCache(manifest, EcgConfig(sample_rate=RATE).build(), progress=False)


@pytest.fixture(scope="module")
def found() -> Rhythms:
    return rhythms(cache(), range(24), RATE, CONFIG, phrases={name: name for name in NAMES})


def oracle(scenes: Scenes, row: int, clips: Strips) -> np.ndarray:
    """Lead by lead and sample by sample, in float64."""
    out = [[0.0] * int(scenes.totals[row]) for _ in range(12)]
    ends = []
    for slot, snippet in enumerate(scenes.snippets[row].tolist()):
        if snippet >= 0:
            first, last = clips.offsets[snippet : snippet + 2].tolist()
            for lead in range(12):
                for i in range(last - first):
                    out[lead][int(scenes.onsets[row, slot]) + i] = float(
                        clips.values[lead, first + i]
                    )
            ends.append(int(scenes.offsets[row, slot]))
    near, half = round(0.03 * RATE), int(0.02 * RATE)
    for join in sorted(ends)[:-1]:
        for lead in out:
            step = sum(lead[join : join + near]) / near - sum(lead[join - near : join]) / near
            for i in range(half):
                before = step * (i + 0.5) / (2 * half)
                lead[join - half + i] += before
                lead[join + half - 1 - i] -= before
    return np.array(out)


def test_leads_are_the_oracles_and_keep_einthovens_relation(found: Rhythms) -> None:
    scenes = draw(found.pool, CONFIG, 20, 0)
    rendered = render(scenes, range(20), found.clips)
    assert rendered.values.shape == (20, 12, scenes.totals.max())
    assert rendered.lengths.tolist() == scenes.totals.tolist()
    for row, length in enumerate(scenes.totals.tolist()):
        values = rendered.values[row].numpy()
        np.testing.assert_allclose(
            values[:, :length], oracle(scenes, row, found.clips), atol=1e-5, rtol=0
        )
        assert not values[:, length:].any()
        one, two, three, avr, avl, avf = values[:6]
        np.testing.assert_allclose(two, one + three, atol=1e-5)
        np.testing.assert_allclose(avr, -(one + two) / 2, atol=1e-5)
        np.testing.assert_allclose(avl, one - two / 2, atol=1e-5)
        np.testing.assert_allclose(avf, two - one / 2, atol=1e-5)


def flat(levels: list[float], seconds: float = 1.0) -> tuple[Pool, Strips]:
    """Snippets that are a constant each."""
    size = int(seconds * RATE)
    pool = Pool(np.arange(len(levels)), np.full(len(levels), size), RATE, NAMES[: len(levels)])
    values = np.repeat(np.array(levels, dtype=np.float32), size)[None] * np.ones((12, 1), "f4")
    return pool, Strips(values, size * np.arange(len(levels) + 1))


def test_a_step_becomes_a_ramp_of_40_ms_and_nothing_else_changes() -> None:
    pool, clips = flat([0.5, -1.5])
    config = EcgComposerConfig(expressions={"A+B": 1.0}, sources="any", snippet_seconds=(0.5, 5.0))
    scenes = draw(pool, config, 8, 0)
    for row, strip in enumerate(render(scenes, range(8), clips).values[:, 0].numpy()):
        first, last = (0.5, -1.5) if scenes.snippets[row, 0] == 0 else (-1.5, 0.5)
        join, half = RATE, 5
        assert (strip[: join - half] == first).all()
        assert (strip[join + half :] == last).all()
        steps = np.diff(strip[join - half : join + half]) / (last - first)
        np.testing.assert_allclose(steps, 0.1, atol=1e-6)


def test_amplitudes_stay(found: Rhythms) -> None:
    """Away from joins a scene has its segments' own samples: no scale, no sign, no order changed,
    and its twin the same ones.
    """
    scenes, others = turned_pair(found.pool, CONFIG, 20)
    pair = [render(s, range(20), found.clips).values.numpy() for s in (scenes, others)]
    np.testing.assert_array_equal(scenes.totals, others.totals)
    for row in range(20):
        for slot, snippet in enumerate(scenes.snippets[row].tolist()):
            first, last = found.clips.offsets[snippet : snippet + 2]
            inside = found.clips.values[:, first + 5 : last - 5]
            for values, s in zip(pair, (scenes, others), strict=True):
                on, off = s.onsets[row, slot], s.offsets[row, slot]
                np.testing.assert_array_equal(values[row][:, on + 5 : off - 5], inside)


def test_cuts_are_where_all_leads_are_quiet_together() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(0, 1, (12, 6 * RATE)).astype(np.float32) + 3.0
    signal[:, 480:520] = 3.0  # the middle 5 s are [125, 1375); their ends reach to 325, from 1175
    signal[:, 200:220] = 3.0
    signal[:, 1250:1266] = np.linspace(3, 3.01, 16)
    assert segment(signal, RATE, longest=5.0) == (208, 1258)
    # Of 4 s, all of which may be taken, the first is cut within its first 0.8 s.
    assert segment(signal[:, :1000], RATE, longest=5.0)[0] == 200


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 200), st.integers(0, 300))
def test_the_quietest_place_is_the_oracles(seed: int, low: int, more: int) -> None:
    signal = beating(2.5, seed)
    half, best = round(0.03 * RATE), {}
    high = min(low + more, signal.shape[1])
    for c in range(max(low, half), min(high, signal.shape[1] - half) + 1):
        window = signal[:, c - half : c + half].astype(np.float64)
        best[c] = sum(((lead - lead.mean()) ** 2).mean() for lead in window)
    if best:
        assert best[quietest(signal, low, high, RATE)] == pytest.approx(min(best.values()))


def test_segments_of_a_scene_are_of_one_patient_by_default(found: Rhythms) -> None:
    scenes = draw(found.pool, CONFIG, 60, 0)
    who = [{found.pool.sources[i] for i in row if i >= 0} for row in scenes.snippets.tolist()]
    assert {len(w) for w in who} == {1}
    assert (found.pool.lengths <= 5 * RATE).all()
    assert (found.pool.seconds >= 2).all()
    everyone = EcgComposerConfig(sources="any")
    mixed = draw(found.pool, everyone, 60, 0).snippets.tolist()
    assert max(len({found.pool.sources[i] for i in row if i >= 0}) for row in mixed) > 1


def test_patients_of_one_rhythm_are_left_out_or_refused() -> None:
    phrases = {name: name for name in NAMES}
    alone = cache(per_patient=1)
    with pytest.raises(UserError, match="'voices'; no patient of 'toy' has two rhythms"):
        rhythms(alone, range(6), RATE, CONFIG, phrases=phrases)
    some = rhythms(cache(), [0, 1, 4], RATE, CONFIG, phrases=phrases)
    assert set(some.pool.sources) == {"p0"}
    assert some.clips.values.shape == (12, some.pool.lengths.sum())
    anyone = EcgComposerConfig(sources="any")
    assert len(rhythms(alone, range(6), RATE, anyone, phrases=phrases).pool) == 6
    with pytest.raises(UserError, match="no segment of 'toy' lasts that long"):
        rhythms(cache(seconds=1.0, per_patient=1, patients=1), [0], RATE, CONFIG, phrases=phrases)


def test_refusals(found: Rhythms) -> None:
    with pytest.raises(ValidationError, match="two rhythms at the same time have no physiologic"):
        EcgComposerConfig(expressions={"A+B": 1.0, "A*B": 1.0})
    for setting in ({"level_db": 1.0}, {"fade": 0.05}, {"gap": (0.0, 0.1)}):
        with pytest.raises(ValidationError):
            EcgComposerConfig.parse(setting)
    scenes = draw(found.pool, EcgComposerConfig(paired=True), 3, 0)
    with pytest.raises(UserError, match="no words for what is at the same time"):
        twins(scenes, found.pool, CONFIG, kind="overlaid")
    sound = ComposerConfig(expressions={"A*B": 1.0})
    with pytest.raises(UserError, match="'A\\*B': two rhythms"):
        render(draw(found.pool, sound, 2, 0), [0], found.clips)
    for setting in ("gap", "fade", "level_db"):
        changed = {"gap": (0.1, 0.1), "fade": 0.1, "level_db": 3.0}[setting]
        still = {"gap": (0.0, 0.0), "fade": 0.0, "level_db": 0.0, setting: changed}
        plan = draw(found.pool, ComposerConfig(expressions={"A+B": 1.0}, **still), 2, 0)
        with pytest.raises(UserError, match="not 0; segments of an ECG are joined as they are"):
            render(plan, [0, 1], found.clips)
    with pytest.raises(AssertionError, match="other clips"):
        render(scenes, [0], Strips(found.clips.values, found.clips.offsets // 2))


def test_controls(found: Rhythms) -> None:
    items = check(found.pool, CONFIG, triplets=0.25)
    assert {len(item) for item in items.items} == {2}
    one, two = (render(items.scenes, range(9), found.clips).values for _ in range(2))
    assert one.numpy().tobytes() == two.numpy().tobytes()
    assert CONFIG.notice == "For research, not for clinical use."
    assert not any("while" in t for texts in items.scenes.negatives for t in texts)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_captions_are_what_the_times_say(seed: int) -> None:
    config = EcgComposerConfig(sources="any", snippet_seconds=(0.5, 5.0), max_seconds=12.0)
    assert_captions_true(draw(pool_of(60, seed=seed), config, 40, seed))


@pytest.mark.realdata
def test_real_leads_keep_einthovens_relation(real_data: Path) -> None:
    """As well as the records themselves do, which are rounded to 1 to 5 uV."""
    paths = sorted((real_data / "cinc2021").glob("E075*.hea"))
    recordings = tuple(
        Recording(uid=p.stem, labels=(i % 2,), split="train", path=p) for i, p in enumerate(paths)
    )
    manifest = Manifest("cinc2021", "ecg", ("one", "other"), recordings, "1")
    signals = SignalCache(manifest, EcgConfig(sample_rate=RATE).build(), progress=False)
    config = EcgComposerConfig(sources="any", expressions={"A+B": 1.0})
    words = {"one": "the one rhythm", "other": "another rhythm"}
    pool, clips = rhythms(signals, range(len(paths)), RATE, config, phrases=words)
    values = render(draw(pool, config, 20, 0), range(20), clips).values
    off = [np.abs(v[1] - v[0] - v[2]).max() for v in (clips.values, *values.numpy())]
    assert max(off[1:]) < 2 * float(off[0]) + 1e-4
    assert values.abs().max() > 0.1
