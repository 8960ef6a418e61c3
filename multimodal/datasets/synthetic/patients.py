"""Synthetic patients: chest X-ray, ECG and report of one patient show the same findings.

Nobody was examined: the images are those of ``xray.py``, the signals those of ``ecg_model.py``, and
which sign of the heart goes with which shadow is simplified and always there, unlike in people.
A patient has findings, an anatomy and a heart that stay, and visits with an X-ray, an ECG or both.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from multimodal.datasets import DATASETS, CasesConfig
from multimodal.datasets.matching import Pairing, pair
from multimodal.datasets.moments import Written
from multimodal.datasets.pairing import Cases
from multimodal.datasets.synthetic.ecg import recorded
from multimodal.datasets.synthetic.ecg_model import (
    CONDITIONS,
    RATE,
    Condition,
    Tracing,
    Waves,
    draw_patient,
    draw_tracing,
)
from multimodal.datasets.synthetic.xray import KINDS, draw
from multimodal.datasets.synthetic.xray import Finding as Shadow
from multimodal.datasets.synthetic.xray import render as render_xray
from multimodal.recordings import SPLITS, Manifest, Recording

GENERATOR_VERSION = "1"  # raise it whenever the same config would give other signals
BLOCK = ("qrs", "qtc", "shape", "t")
LBBB, RBBB = CONDITIONS["left_bundle_branch_block"], CONDITIONS["right_bundle_branch_block"]
# A stimulus: a spike of one or two samples, so long before the QRS complex (s), in mV.
SPIKE, BEFORE = np.array([[0.5, 1.2, -0.6]]), 0.03
VISITS, YEAR = 3, 365
IMAGE_FRAMES = ("Chest X-ray: {}.", "The chest film shows {}.", "Radiograph with {}.")
ECG_FRAMES = ("ECG: {}.", "The electrocardiogram shows {}.", "Tracing with {}.")
Findings = tuple[str, ...]


class Sign(NamedTuple):
    """How a finding looks in an ECG, and what a report says of it."""

    changes: dict[str, object]
    words: tuple[str, ...]


# Name of the finding in X-rays (and of the class) -> its sign in the ECG.
FINDINGS = {
    "cardiomegaly": Sign(
        {"voltage": (2.8, 3.2)},
        ("high voltages of left ventricular hypertrophy", "left ventricular hypertrophy"),
    ),
    "pleural_effusion": Sign(
        {"voltage": (0.25, 0.4)},
        ("low QRS voltages, as with an effusion", "low voltage in all leads"),
    ),
    "pacemaker": Sign(
        {name: getattr(LBBB, name) for name in BLOCK} | {"rate": (60.0, 72.0), "pr": None},
        ("a paced ventricular rhythm", "ventricular pacemaker stimuli with capture"),
    ),
    "interstitial_pattern": Sign(
        {"rate": (110.0, 145.0)}, ("sinus tachycardia", "a fast sinus rhythm")
    ),
    "hilar_enlargement": Sign(
        {name: getattr(RBBB, name) for name in BLOCK},
        ("right bundle branch block", "a wide QRS complex of right bundle branch block type"),
    ),
}
# One heart cannot show both signs.
APART = (
    {"cardiomegaly", "pleural_effusion"},
    {"pacemaker", "interstitial_pattern"},
    {"pacemaker", "hilar_enlargement"},
)


@DATASETS.register("synthetic_patients")
class SyntheticPatientsConfig(CasesConfig):
    """Patients with chest phantoms (1, 64, 64), ECGs of 5 s at 100 Hz (12, 500) mV, and reports.

    The same config gives the same signals. A sixth of the patients has none of the five findings,
    the others one, or two where both can be. Each patient has one to three visits about a year
    apart, each with an X-ray, an ECG some days before or after it, and what is said of either.
    lacking: the share of patients who never had the one or the other, half of them each.
    pairing: see ``paired``; as it stands, visits are the cases. Splits share no patient. Labels are
    those of the patient, several or none (multi-label). Set modality.sample_rate=100 for ECGs.
    """

    synthetic: ClassVar[bool] = True
    modalities: ClassVar[tuple[str, ...]] = ("xray", "ecg")
    summary: ClassVar[str] = (
        "synthetic patients: X-ray, ECG and report share findings; some lack one of them"
    )
    licence: ClassVar[str] = "generated signals, nobody examined (Apache-2.0)"
    how_to_get: ClassVar[str] = "made in memory on use"

    seed: int = Field(default=0, ge=0, lt=2**32)
    train_patients: int = Field(default=600, ge=1, le=100_000)
    validation_patients: int = Field(default=60, ge=0, le=100_000)
    test_patients: int = Field(default=150, ge=1, le=100_000)
    lacking: float = Field(default=0.2, ge=0, lt=1)
    pairing: Pairing = Pairing(how="nearest", days=30, absent=True)

    def build_cases(self, root: Path) -> Cases:
        """The cases; ``root`` is not touched."""
        rows: dict[str, list[Recording]] = {"xray": [], "ecg": []}
        dates: dict[str, dict[str, Written]] = {"xray": {}, "ecg": {}}
        sizes = (self.train_patients, self.validation_patients, self.test_patients)
        for side, (split, count) in enumerate(zip(SPLITS, sizes, strict=True)):
            for number in range(count):
                for modality, recording, day in _visits(self, split, (side, number)):
                    rows[modality].append(recording)
                    date = str(np.datetime64("2100-01-01") + day)
                    dates[modality][recording.uid] = Written(date, recording.uid)
        manifests = {
            m: self._manifest(m, recordings) for m, recordings in rows.items() if recordings
        }
        return pair(manifests, dates, self.pairing, name="synthetic_patients")

    def _manifest(self, modality: str, recordings: list[Recording]) -> Manifest:
        return Manifest(
            name="synthetic_patients",
            modality=modality,
            class_names=tuple(FINDINGS),
            recordings=tuple(recordings),
            version=f"{GENERATOR_VERSION}, seed {self.seed}",
            licence=self.licence,
            citation="generated by Medley; ECGs after P. E. McSharry et al., IEEE TBME 50(3), 2003",
            split_rule="synthetic: splits share no patient",
            synthetic=True,
            made_rate=RATE if modality == "ecg" else None,
        )


def findings_of(number: int, rng: np.random.Generator) -> Findings:
    """What a patient has, in the order of ``FINDINGS``: the first by turns, or none."""
    names = (None, *FINDINGS)
    first, also = names[number % len(names)], str(rng.choice(tuple(FINDINGS)))
    if first is None:
        return ()
    both = {first, also} if rng.random() < 0.5 and {first, also} not in APART else {first}
    return tuple(name for name in FINDINGS if name in both)


def _visits(
    config: SyntheticPatientsConfig, split: str, who: tuple[int, int]
) -> list[tuple[str, Recording, int]]:
    """(modality, recording, day) of a patient. who: number of the split, and within it."""
    rng = np.random.default_rng((config.seed, *who))
    found = findings_of(who[1], rng)
    lacks = str(rng.choice(["xray", "ecg"])) if rng.random() < config.lacking else ""
    rows = []
    for visit in range(1 + int(rng.integers(VISITS))):
        seeds = (config.seed, *who, visit)
        shadows = tuple(draw(name, rng) for name in found)
        said = {
            "xray": image_report(shadows, rng),
            "ecg": ecg_report(found, trace(found, seeds), rng),
        }
        makers = {
            "xray": partial(render_xray, shadows, who[1] + who[0] * 10**6, seeds),
            "ecg": partial(render_ecg, found, seeds),
        }
        days = {"xray": visit * YEAR, "ecg": visit * YEAR + int(rng.integers(11))}
        for modality in makers:
            if modality != lacks:
                recording = Recording(
                    uid=f"{split}/patient_{who[1]:04d}_{visit}",
                    labels=tuple(map(tuple(FINDINGS).index, found)),
                    split=split,
                    group=f"{split} patient {who[1]:04d}",
                    text=said[modality],
                    make=makers[modality],
                )
                rows.append((modality, recording, days[modality]))
    return rows


def trace(found: Findings, seeds: tuple[int, int, int, int]) -> Tracing:
    """What the ECG of a visit shows. seeds: of the dataset, split, patient and visit."""
    heart = draw_patient(np.random.default_rng((*seeds[:3], 10**6)))
    condition = Condition()
    for name in found:
        condition = condition._replace(**FINDINGS[name].changes)
    rng = np.random.default_rng((*seeds, 2))
    tracing = draw_tracing("normal_sinus_rhythm", heart, rng, other=condition)
    return paced(tracing) if "pacemaker" in found else tracing


def paced(tracing: Tracing) -> Tracing:
    """The same with a stimulus before each beat."""
    spike = Waves(np.array([-BEFORE]), np.array([0.006]), SPIKE)
    pairs = zip(tracing.beat, spike, strict=True)
    return tracing._replace(beat=Waves(*(np.concatenate(pair) for pair in pairs)))


def render_ecg(found: Findings, seeds: tuple[int, int, int, int]) -> np.ndarray:
    """(12, 500) float32 mV."""
    return recorded(trace(found, seeds), np.random.default_rng((*seeds, 3)))


def image_report(shadows: tuple[Shadow, ...], rng: np.random.Generator) -> str:
    """Sentences that name the shadows, with their sides and sizes."""
    frame = IMAGE_FRAMES[int(rng.integers(len(IMAGE_FRAMES)))]
    words = []
    for shadow in shadows:
        count, many = ("one", "two", "three")[shadow.number - 1], shadow.number > 1
        fields = {**shadow._asdict(), "count": count, "s": "s" if many else ""}
        words.append(KINDS[shadow.name].phrase.format(**fields))
    return frame.format(" and ".join(words) or "no abnormality of heart and lungs")


def ecg_report(found: Findings, tracing: Tracing, rng: np.random.Generator) -> str:
    """Sentences that name the signs and the rate, to the nearest ten."""
    frame = ECG_FRAMES[int(rng.integers(len(ECG_FRAMES)))]
    words = [str(rng.choice(FINDINGS[name].words)) for name in found]
    signs = " and ".join(words) or "a normal sinus rhythm"
    return f"{frame.format(signs)} Rate about {round(tracing.rate, -1):.0f} per minute."
