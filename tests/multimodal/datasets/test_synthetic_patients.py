"""Synthetic patients: what image, tracing and text of a case show is the same, and is there."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from multimodal.datasets import DATASETS
from multimodal.datasets.pairing import Cases
from multimodal.datasets.synthetic.patients import (
    APART,
    FINDINGS,
    SyntheticPatientsConfig,
    findings_of,
    trace,
)
from multimodal.modalities.ecg import EcgConfig
from multimodal.recordings import Recording

NOWHERE = Path("nowhere")
NAMES = tuple(FINDINGS)
V5 = 10
GOLDEN = (0.5523735, 0.116217144)  # of the fourth image its mean, of the fourth ECG its deviation
IMAGE_WORDS = {
    "cardiomegaly": "cardiomegaly",
    "pleural_effusion": "(left|right) pleural effusion",
    "pacemaker": "pacemaker with (one|two) leads?",
    "interstitial_pattern": "interstitial pattern",
    "hilar_enlargement": "enlargement of the (left|right) hilum",
}
SIZES = {"train_patients": 120, "validation_patients": 12, "test_patients": 36}


def build(**fields: Any) -> Cases:
    return SyntheticPatientsConfig.parse({**SIZES, **fields}).build_cases(NOWHERE)


@pytest.fixture(scope="module")
def cases() -> Cases:
    return build()


def made(r: Recording) -> np.ndarray:
    assert r.make is not None
    return r.make()


def labels(cases: Cases, number: int) -> set[tuple[str, ...]]:
    """What the recordings of a case are labelled with."""
    return {
        tuple(NAMES[c] for c in cases.manifests[m].recordings[rows[number]].labels)
        for m, rows in cases.rows.items()
        if rows[number] >= 0
    }


def test_is_registered_synthetic_and_made_of_nothing(cases: Cases) -> None:
    assert DATASETS.config("synthetic_patients") is SyntheticPatientsConfig
    assert SyntheticPatientsConfig.synthetic
    assert cases.synthetic
    assert cases.modalities == ("xray", "ecg")
    assert not NOWHERE.exists()
    again, other = build(), build(seed=1)
    assert again.content_hash == cases.content_hash != other.content_hash
    for m, manifest in cases.manifests.items():
        assert manifest.synthetic
        assert manifest.multi_label
        for number in (0, 57):
            same = made(again.manifests[m].recordings[number])
            np.testing.assert_array_equal(made(manifest.recordings[number]), same)


def test_golden_values(cases: Cases) -> None:
    image, signal = (made(manifest.recordings[3]) for manifest in cases.manifests.values())
    assert (image.shape, image.dtype) == ((1, 64, 64), np.float32)
    assert (signal.shape, signal.dtype) == ((12, 500), np.float32)
    assert image.mean() == pytest.approx(GOLDEN[0], rel=1e-4)
    assert signal.std() == pytest.approx(GOLDEN[1], rel=1e-4)


def test_every_case_is_of_one_patient_whose_findings_all_show(cases: Cases) -> None:
    assert len({(g, s) for g, s in zip(cases.groups, cases.splits, strict=True)}) == 168
    for number, text in enumerate(cases.texts):
        (found,) = labels(cases, number)
        image, ecg = (rows[number] >= 0 for rows in cases.rows.values())
        for name in NAMES:
            assert bool(re.search(IMAGE_WORDS[name], text)) == (image and name in found), text
            said = any(words in text for words in FINDINGS[name].words)
            assert said == (ecg and name in found), text
        assert ("no abnormality of heart and lungs" in text) == (image and not found)
        assert ("a normal sinus rhythm" in text) == (ecg and not found)


def test_some_patients_lack_a_modality_and_most_have_several_visits(cases: Cases) -> None:
    seen: dict[str, set[str]] = {}
    for m, rows in cases.rows.items():
        for number in np.flatnonzero(rows >= 0):
            seen.setdefault(cases.groups[number], set()).add(m)
    kinds = [frozenset(having) for having in seen.values()]
    lacking = [kind for kind in kinds if len(kind) == 1]
    assert 0.1 < len(lacking) / len(kinds) < 0.3
    assert len(set(lacking)) == 2
    assert set(cases.pairs_per_patient.values()) == {1, 2, 3}
    assert build(lacking=0.0).presence.all()
    days = build(pairing={"days": None, "absent": False}).counts
    assert days["complete cases"] > cases.counts["complete cases"]


def test_classes_are_balanced_and_signs_that_one_heart_cannot_show_never_meet() -> None:
    rng = np.random.default_rng(0)
    found = [findings_of(number, rng) for number in range(1200)]
    assert sum(not each for each in found) == 200
    counts = [sum(name in each for each in found) for name in NAMES]
    assert min(counts) >= 200
    assert max(counts) < 400
    assert all(not pair <= set(each) for pair in APART for each in found)
    assert sum(len(each) == 2 for each in found) > 150


def seeds_of(r: Recording) -> tuple[tuple[str, ...], tuple[int, int, int, int]]:
    assert isinstance(r.make, partial)
    return r.make.args  # type: ignore[return-value]


def test_ecgs_show_what_the_patient_has(cases: Cases) -> None:
    """Voltages and spikes are measured in the signal, rates in the plan that reports quote."""
    heights: dict[str, list[float]] = {"": [], "cardiomegaly": [], "pleural_effusion": []}
    spikes: dict[bool, list[float]] = {True: [], False: []}
    for r in cases.manifests["ecg"].recordings:
        found, seeds = seeds_of(r)
        tracing = trace(found, seeds)
        signal = made(r)
        onset = round(100 * float(tracing.onsets[tracing.onsets > 0.3][0]))
        if not set(found) & {"pacemaker", "hilar_enlargement"}:
            kind = next((name for name in heights if name in found), "")
            heights[kind].append(float(np.ptp(signal[V5, onset - 3 : onset + 12])))
        before = signal[1, onset - 8 : onset]
        spikes["pacemaker" in found].append(float(np.abs(np.diff(before, 2)).max()))
        assert ("interstitial_pattern" in found) == (tracing.rate > 105)
        assert f"about {round(tracing.rate, -1):.0f} per minute" in r.text
    assert max(heights["pleural_effusion"]) < min(heights[""])
    assert max(heights[""]) < min(heights["cardiomegaly"])
    assert np.quantile(spikes[True], 0.05) > np.quantile(spikes[False], 0.95)


def test_one_modality_of_it_is_a_dataset_like_others() -> None:
    xray = SyntheticPatientsConfig.parse(SIZES).build(NOWHERE)
    assert (xray.modality, xray.class_names, xray.made_rate) == ("xray", NAMES, None)
    ecg = SyntheticPatientsConfig.parse({**SIZES, "modality": "ecg"}).build(NOWHERE)
    assert ecg.made_rate == 100
    signal = EcgConfig(sample_rate=100).build().load(ecg.recordings[0])
    np.testing.assert_array_equal(signal.numpy(), made(ecg.recordings[0]))
    with pytest.raises(ValidationError, match="lacking"):
        SyntheticPatientsConfig(lacking=1.0)


def test_no_validation_patients() -> None:
    assert len(build(validation_patients=0).indices("validation")) == 0
