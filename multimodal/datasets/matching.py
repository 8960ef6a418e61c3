"""Pairing of several data sets by patient and time, from MIMIC's tables or one's own.

After MoRE (Thapa et al., arXiv:2410.16239), which keeps every X-ray and ECG of a subject within 60
days; its authors' code leaves validation patients in the training set, here patients stand apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from multimodal.datasets.joins import Case, How, cases_of
from multimodal.datasets.moments import Moment, Written
from multimodal.datasets.pairing import Cases, refuse_shared_patients
from multimodal.datasets.splits import hashed_split
from multimodal.errors import UserError
from multimodal.recordings import Manifest
from multimodal.registry import Config


class Pairing(Config):
    """Which recordings of a patient stand in one case; the first modality leads.

    how: all_within_days: each of the leading modality with each combination of the others.
    nearest: each of the leading modality with the one of every other that is closest in time.
    one_per_patient: of all cases within days, that of the most modalities, then closest in time.
    days: whole days between the two dates, either way; None: any, and dates are only read where
    ``how`` asks which is closest. A date without a time of day counts as noon.
    absent: keep cases that lack modalities: recordings with no partner within ``days``. Without it
    a patient who lacks one has no case.
    reports: needed: recordings without a text are not paired. optional: they are.
    prefixes: by modality, what the case's text says before that recording's own.
    dates: refuse those that cannot be read, or leave their recordings out.
    splits: first: the patient's in the first modality that has him; seeded: by a hash of ``seed``
    and patient, with the two fractions.
    """

    how: How = "all_within_days"
    days: int | None = Field(default=60, ge=0)
    absent: bool = False
    reports: Literal["needed", "optional"] = "needed"
    prefixes: dict[str, str] = Field(default_factory=dict)
    dates: Literal["refuse", "leave_out"] = "refuse"
    splits: Literal["first", "seeded"] = "first"
    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _some_are_left_to_train(self) -> Self:
        held = self.test_fraction + self.validation_fraction
        if held >= 1:
            raise ValueError(
                f"test_fraction + validation_fraction = {held:g} leaves no train split"
            )
        return self

    @property
    def timed(self) -> bool:
        """Whether it asks when recordings were made."""
        return self.days is not None or self.how != "all_within_days"

    @property
    def words(self) -> str:
        window = "any time apart" if self.days is None else f"at most {self.days} days apart"
        return f"{self.how}, {window}" + (", modalities may be absent" if self.absent else "")


def pair(
    manifests: Mapping[str, Manifest],
    moments: Mapping[str, Mapping[str, Written]] | None = None,
    rule: Pairing | None = None,
    *,
    name: str = "paired",
) -> Cases:
    """Cases of manifests (by modality, two or more) whose groups are the patients.

    moments: by modality, when each recording (by uid) was made; not needed unless ``rule.timed``.
    Cases are ordered by patient, then by the rows of their recordings. The returned manifests have
    the given rows; their splits are those of the patients.

    UserError: dates that cannot be read; no recording with a patient, or with a report; no case.
    """
    rule = rule or Pairing()
    left_out: Counter[str] = Counter()
    members = {m: _members(m, manifests[m], rule, left_out) for m in manifests}
    times: dict[str, dict[int, Moment]] = {m: {} for m in manifests}
    if rule.timed:
        assert moments is not None, "pairing by time needs moments"
        for m in manifests:
            times[m] = _moments(m, manifests[m], moments[m], members[m], rule, left_out)
    cases: list[tuple[str, Case]] = []
    patients = sorted({patient for rows in members.values() for patient in rows})
    for patient in patients:
        rows = [members[m].get(patient, []) for m in manifests]
        found = cases_of(
            rows, list(times.values()), how=rule.how, days=rule.days, absent=rule.absent
        )
        cases += ((patient, case) for case in found)
        left_out["patients without a case"] += not found
        used = [set(column) for column in zip(*found, strict=True)] or [set() for _ in rows]
        for m, its, taken in zip(manifests, rows, used, strict=True):
            left_out[f"{m} recordings of no case"] += len(set(its) - taken)
    if not cases:
        raise _no_case(members, rule)
    split_of, manifests = _by_patient(manifests, members, rule, name)
    return Cases(
        manifests=manifests,
        rows={
            m: np.array([case[place] for _, case in cases], dtype=np.int64)
            for place, m in enumerate(manifests)
        },
        texts=tuple(_text(manifests, case, rule.prefixes) for _, case in cases),
        groups=tuple(patient for patient, _ in cases),
        splits=tuple(split_of[patient] for patient, _ in cases),
        name=name,
        rule=rule.words,
        left_out={what: count for what, count in left_out.items() if count},
    )


def _members(
    modality: str, manifest: Manifest, rule: Pairing, left_out: Counter[str]
) -> dict[str, list[int]]:
    """Patient -> the rows that may be paired."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, recording in enumerate(manifest):
        if not recording.group:
            left_out[f"{modality} recordings without a patient"] += 1
        elif rule.reports == "needed" and not recording.text.strip():
            left_out[f"{modality} recordings without a report"] += 1
        else:
            rows[recording.group].append(row)
    if not rows:
        nameless = left_out[f"{modality} recordings without a patient"]
        remedy = (
            "a table needs its group_column"
            if nameless
            else "let its reader take texts, or set pairing.reports=optional"
        )
        what = "a patient" if nameless else "a report"
        raise UserError(
            f"dataset {manifest.name!r}: none of {len(manifest)} {modality} recordings has {what}; "
            f"{remedy}."
        )
    return rows


def _moments(
    modality: str,
    manifest: Manifest,
    written: Mapping[str, Written],
    members: dict[str, list[int]],
    rule: Pairing,
    left_out: Counter[str],
) -> dict[int, Moment]:
    """Row -> when it was recorded. Rows of dates that are left out leave ``members`` too."""
    moments: dict[int, Moment] = {}
    for rows in members.values():
        for row in list(rows):
            uid = manifest.recordings[row].uid
            try:
                if uid not in written:
                    raise UserError(f"{uid}: no row of a table says when it was recorded.")
                moments[row] = written[uid].moment
            except UserError:
                if rule.dates == "refuse":
                    raise
                rows.remove(row)
                left_out[f"{modality} recordings without a date"] += 1
    return moments


def _by_patient(
    manifests: Mapping[str, Manifest],
    members: Mapping[str, Mapping[str, Sequence[int]]],
    rule: Pairing,
    name: str,
) -> tuple[dict[str, str], dict[str, Manifest]]:
    """Patient -> split, and the manifests with it; patients without members keep theirs."""
    split_of: dict[str, str] = {}
    shares = {"test": rule.test_fraction, "validation": rule.validation_fraction}
    for modality, manifest in manifests.items():
        for patient, rows in members[modality].items():
            own = [manifest.recordings[row].split for row in rows]
            if patient in split_of or not own:
                continue
            if rule.splits == "seeded":
                own = [hashed_split(patient, shares, seed=rule.seed)]
            refuse_shared_patients(f"{name}: {manifest.name}", [patient] * len(own), own)
            split_of[patient] = own[0]
    words = "seeded by patient" if rule.splits == "seeded" else f"as {next(iter(manifests))}"
    return split_of, {m: _resplit(manifest, split_of, words) for m, manifest in manifests.items()}


def _resplit(manifest: Manifest, split_of: Mapping[str, str], words: str) -> Manifest:
    splits = [split_of.get(r.group, r.split) for r in manifest]
    if splits == [r.split for r in manifest]:
        return manifest
    rows = (replace(r, split=s) for r, s in zip(manifest, splits, strict=True))
    rule = f"{manifest.split_rule}; patients of cases: {words}"
    return replace(manifest, recordings=tuple(rows), split_rule=rule)


def _text(manifests: Mapping[str, Manifest], case: Case, prefixes: Mapping[str, str]) -> str:
    """The recordings' texts, in the order of the modalities."""
    said = []
    for (modality, manifest), row in zip(manifests.items(), case, strict=True):
        text = manifest.recordings[row].text.strip() if row >= 0 else ""
        said += [f"{prefixes.get(modality, '')}{text}"] if text else []
    return " ".join(said)


def _no_case(members: Mapping[str, Mapping[str, object]], rule: Pairing) -> UserError:
    patients = {m: {p for p, rows in its.items() if rows} for m, its in members.items()}
    counts = ", ".join(f"{len(its)} of {m}" for m, its in patients.items())
    shared = set.intersection(*patients.values())
    remedy = (
        "raise pairing.days, or set pairing.absent=true"
        if shared
        else "check that all tables name patients alike, or set pairing.absent=true"
    )
    return UserError(
        f"no patient has a case ({rule.words}): patients {counts}, {len(shared)} of all; {remedy}."
    )
