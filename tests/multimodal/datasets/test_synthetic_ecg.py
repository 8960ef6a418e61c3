"""The synthetic ECGs: deterministic, canonical, honest splits, and reports that are true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from multimodal.datasets import DATASETS
from multimodal.datasets.synthetic.ecg import (
    FINDINGS,
    PATIENTS,
    SyntheticEcgConfig,
    plan,
    render,
    report,
)
from multimodal.datasets.synthetic.ecg_model import (
    CONDITIONS,
    DOWER,
    EDGE,
    SECONDS,
    Tracing,
    dipole,
)
from multimodal.modalities.ecg import LEADS, EcgConfig
from multimodal.recordings import Manifest

NOWHERE = Path("nowhere")
NAMES = tuple(CONDITIONS)
TIME = np.arange(-0.4, 0.8, 0.001)
# Of one recording: samples 0, 100, ... 400 of leads II and V2, in mV.
GOLDEN = {
    1: (0.0051, -0.0867, -0.0553, 0.0482, 0.0347),
    7: (-0.0339, 0.0229, 0.0586, 0.0523, 0.0334),
}
REPORT = re.compile(
    r"(?P<finding>.+)\. Ventricular rate (?P<rate>\d+)/min, (PR (?P<pr>\d+) ms|no PR interval), "
    r"QRS (?P<qrs>\d+) ms, QT/QTc (?P<qt>\d+)/(?P<qtc>\d+) ms, QRS axis (?P<axis>-?\d+) degrees, "
    r"(?P<side>normal axis|left axis deviation|right axis deviation)\."
)
SPOKEN = ("finding", "side")


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return SyntheticEcgConfig(train_per_class=10, test_per_class=5).build(NOWHERE)


def signals(manifest: Manifest, split: str) -> np.ndarray:
    made = [manifest.recordings[i].make for i in manifest.indices(split)]
    return np.stack([make() for make in made if make is not None])


def tracings(name: str, count: int = 20) -> list[Tracing]:
    label = NAMES.index(name)
    return [plan(name, (3, n % 2, label, n))[1] for n in range(count)]


def test_is_registered_and_called_synthetic(manifest: Manifest) -> None:
    assert DATASETS.config("synthetic_ecg") is SyntheticEcgConfig
    assert SyntheticEcgConfig.synthetic
    assert (manifest.synthetic, manifest.modality) == (True, "ecg")
    assert not NOWHERE.exists()


def test_counts_classes_and_patients(manifest: Manifest) -> None:
    assert manifest.class_names == NAMES == tuple(FINDINGS)
    assert len(NAMES) == 15
    for split, count in (("train", 10), ("test", 5)):
        labels = manifest.labels[manifest.indices(split)]
        assert np.bincount(labels).tolist() == [count] * 15
    whole = SyntheticEcgConfig().build(NOWHERE)
    groups = {s: set(whole.groups[whole.indices(s)]) for s in PATIENTS}
    assert {s: len(g) for s, g in groups.items()} == PATIENTS
    assert not groups["train"] & groups["test"]


def test_signals_are_in_the_canonical_form_of_the_adapter(manifest: Manifest) -> None:
    adapter = EcgConfig(sample_rate=100).build()
    for r in manifest.recordings[::41]:
        assert r.make is not None
        signal = r.make()
        assert (signal.shape, signal.dtype) == ((12, 500), np.float32)
        assert 0.2 < np.abs(signal).max() < 10
        np.testing.assert_array_equal(adapter.load(r).numpy(), signal)


def test_same_config_same_signals_and_another_seed_others(manifest: Manifest) -> None:
    again = SyntheticEcgConfig(train_per_class=10, test_per_class=5).build(NOWHERE)
    assert again.content_hash == manifest.content_hash
    test = signals(manifest, "test")
    np.testing.assert_array_equal(signals(again, "test"), test)
    assert len({signal.tobytes() for signal in test}) == len(test)
    other = SyntheticEcgConfig(seed=1, train_per_class=1, test_per_class=5).build(NOWHERE)
    assert other.content_hash != manifest.content_hash
    assert (signals(other, "test") != test).mean() > 0.99


def test_more_recordings_leave_the_first_ones_as_they_are(manifest: Manifest) -> None:
    small = SyntheticEcgConfig(train_per_class=2, test_per_class=1).build(NOWHERE)
    known = {r.uid: r for r in manifest}
    for r in small:
        same = known[r.uid]
        assert (same.text, same.group, same.labels) == (r.text, r.group, r.labels)
        assert r.make is not None
        assert same.make is not None
        np.testing.assert_array_equal(r.make(), same.make())


def test_samples_of_one_recording_do_not_change_with_the_version() -> None:
    signal = render("normal_sinus_rhythm", (0, 0, 0, 0))
    for lead, samples in GOLDEN.items():
        found = signal[lead, ::100]
        words = "raise GENERATOR_VERSION and the golden samples together"
        assert found == pytest.approx(samples, abs=2e-4), words


@pytest.mark.parametrize("name", NAMES)
def test_limb_leads_are_those_of_two_voltages(name: str) -> None:
    ecg = dict(zip(LEADS, render(name, (0, 0, NAMES.index(name), 0)), strict=True))
    one, two = ecg["I"], ecg["II"]
    np.testing.assert_array_equal(ecg["III"], two - one)
    np.testing.assert_array_equal(ecg["aVR"], -(one + two) / 2)
    np.testing.assert_array_equal(ecg["aVL"], one - two / 2)
    np.testing.assert_array_equal(ecg["aVF"], two - one / 2)


@pytest.mark.parametrize("name", NAMES)
def test_reports_are_true_of_the_signal_before_noise(name: str) -> None:
    for tracing in tracings(name):
        match = REPORT.fullmatch(report(FINDINGS[name][0], tracing))
        assert match is not None
        said = {k: float(v) for k, v in match.groupdict().items() if v and k not in SPOKEN}
        both = np.sort(np.concatenate([tracing.onsets, tracing.premature]))
        seen = both[(both >= 0) & (both < SECONDS)]
        assert said["rate"] == pytest.approx(60 * (len(seen) - 1) / (seen[-1] - seen[0]), abs=0.51)
        assert said["qtc"] == pytest.approx(said["qt"] * (said["rate"] / 60) ** 0.5, abs=4)
        heart = dipole(TIME, np.zeros(1), tracing.beat)  # one beat, which starts at 0
        signal, strength = DOWER @ heart, np.linalg.norm(heart, axis=0)
        edge = np.exp(-(EDGE**2) / 2)
        before, after = TIME < -0.02, 0.6 * tracing.qt < TIME
        if tracing.pr is None:
            assert match["pr"] is None
            assert strength[before].max() < 0.01
        else:
            p = np.flatnonzero(strength > edge * strength[before].max())[0]
            assert said["pr"] == pytest.approx(-1000 * TIME[p], abs=4)
        t = np.flatnonzero(strength > edge * strength[after].max())[-1]
        assert said["qt"] == pytest.approx(1000 * TIME[t], abs=6)
        within = (TIME >= 0) & (tracing.qrs >= TIME)
        area = signal[:2, within].sum(1)
        angle = np.degrees(np.arctan2((area[1] - area[0] / 2) * 2 / 3**0.5, area[0]))
        assert said["axis"] == pytest.approx(angle, abs=6)
        normal = -30 <= said["axis"] <= 90
        assert (match["side"] == "normal axis") == normal
        assert normal or match["side"].startswith("left" if said["axis"] < 0 else "right")


def test_a_linear_probe_on_raw_samples_stays_below_60_percent() -> None:
    manifest = SyntheticEcgConfig(train_per_class=50, test_per_class=20).build(NOWHERE)
    train, test = (signals(manifest, s).reshape(-1, 12 * 500) for s in PATIENTS)
    labels = [manifest.labels[manifest.indices(s)] for s in PATIENTS]
    # Ridge regression on one-hot labels, in its dual form: 750 recordings are fewer than samples.
    kernel = train @ train.T + 100 * np.eye(len(train), dtype=np.float32)
    weights = np.linalg.solve(kernel, np.eye(15, dtype=np.float32)[labels[0]] - 1 / 15)
    accuracy = ((test @ train.T @ weights).argmax(1) == labels[1]).mean()
    assert 1 / 15 < accuracy < 0.6


@pytest.mark.parametrize("fields", [{"num_classes": 1}, {"num_classes": 16}, {"seed": -1}])
def test_config_refuses(fields: dict) -> None:
    with pytest.raises(ValidationError):
        SyntheticEcgConfig.parse(fields)
