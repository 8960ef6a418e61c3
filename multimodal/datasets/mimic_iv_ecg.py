"""MIMIC-IV-ECG 1.0: some 800,000 12-lead ECGs of 10 s with a machine's statements.

Gow et al., MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset, PhysioNet 2023. The
statements are those of the recorder's software, not of a cardiologist.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.csv_files import csv_rows
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.moments import Written
from multimodal.datasets.splits import hashed_split
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

RECORDS, MEASUREMENTS = "record_list.csv", "machine_measurements.csv"
EXPECTED = f"{RECORDS}, {MEASUREMENTS} and files/"
STATEMENTS = tuple(f"report_{number}" for number in range(18))
PLACE = re.compile(r"files/p[0-9]{4}/p([0-9]+)/s([0-9]+)/\2")
CXR_SPLITS = {"train": "train", "validate": "validation", "test": "test"}


@DATASETS.register("mimic_iv_ecg")
class MimicIvEcgConfig(DatasetConfig):
    """``files/p1000/p10000032/s40689238/40689238.{hea,dat}`` and two tables.

    The text is the machine's statements, joined by ". "; there are no classes, so recordings have
    no labels. Leads are stored with aVF before aVL: the adapter finds them by name. Group =
    subject.

    There is no official split: SHA-256 of ``seed`` and subject puts ``test_fraction`` of the
    subjects into test and ``validation_fraction`` into validation, whatever others are present.
    cxr_split: a file in the dataset's folder, such as mimic-cxr-2.0.0-split.csv.gz of MIMIC-CXR;
    subjects that it lists get their split from there, so that models of both never see a test
    patient. min_words: leave out recordings with fewer words of statements (MERL trains on 4).
    allow_missing: leave out listed records without files, for parts of the data set.
    """

    folder: ClassVar[str] = "mimic_iv_ecg"
    modalities: ClassVar[tuple[str, ...]] = ("ecg",)
    summary: ClassVar[str] = "MIMIC-IV-ECG: 800,000 12-lead ECGs of 10 s with machine statements"
    licence: ClassVar[str] = "ODbL 1.0 (see the release's LICENSE)"
    how_to_get: ClassVar[str] = (
        "Download https://physionet.org/content/mimic-iv-ecg/1.0/ (tens of gigabytes) and unpack "
        "it into the folder mimic_iv_ecg."
    )

    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    seed: int = 0
    cxr_split: str | None = None
    min_words: int = Field(default=1, ge=0)
    allow_missing: bool = False

    @model_validator(mode="after")
    def _some_are_left_to_train(self) -> Self:
        held = self.test_fraction + self.validation_fraction
        if held >= 1:
            raise ValueError(
                f"test_fraction + validation_fraction = {held:g} leaves no train split"
            )
        return self

    def build(self, root: Path) -> Manifest:
        """UserError for missing tables and records, and for paths that contradict their ids."""
        entries(root, EXPECTED)
        if not all((root / name).is_file() for name in (RECORDS, MEASUREMENTS)):
            raise wrong_folder(root, EXPECTED)
        known = self._cxr_subjects(root)
        statements = _statements(root / MEASUREMENTS)
        recordings, missing = [], []
        for line, row in csv_rows(root / RECORDS, ("subject_id", "study_id", "path"), others=True):
            match = PLACE.fullmatch(row["path"])
            if match is None or match.groups() != (row["subject_id"], row["study_id"]):
                raise UserError(
                    f"{root / RECORDS}, line {line}: path {row['path']!r} is not of the form "
                    "files/p1000/p10000032/s40689238/40689238 with the row's subject and study."
                )
            text = statements.get(row["study_id"], "")
            if len(text.split()) < self.min_words:
                continue
            path = root / f"{row['path']}.dat"
            if not os.path.isfile(path):
                missing.append(path)
                continue
            subject = row["subject_id"]
            shares = {"test": self.test_fraction, "validation": self.validation_fraction}
            split = known.get(subject) or hashed_split(subject, shares, seed=self.seed)
            recordings.append(
                Recording(row["path"], (), split, path=path, group=subject, text=text)
            )
        if missing and not self.allow_missing:
            raise UserError(
                f"{missing[0]}: listed in {RECORDS} but there is no such file ({len(missing)} "
                "missing in all); go on with the download, or set allow_missing=true."
            )
        return Manifest(
            name="mimic_iv_ecg",
            modality="ecg",
            class_names=(),
            recordings=tuple(recordings),
            version=f"1.0: {len(recordings)} records with {self.min_words} words or more",
            licence=self.licence,
            citation="B. Gow et al., MIMIC-IV-ECG, PhysioNet 2023, doi:10.13026/4nqg-sb35",
            split_rule=self._rule(),
            root=root,
        )

    def moments(self, root: Path, column: str | None = None) -> dict[str, Written]:
        """ecg_time of the table of records."""
        table, name = root / RECORDS, column or "ecg_time"
        return {
            row["path"]: Written(row[name], f"{table}, line {line}: {name}")
            for line, row in csv_rows(table, ("path", name), others=True)
        }

    def expected_counts(self) -> None:
        """None: there is no official split."""

    def _rule(self) -> str:
        shares = f"test {self.test_fraction:g}, validation {self.validation_fraction:g}"
        rule = f"seeded hash of the subject: {shares}, seed {self.seed} (Medley's rule)"
        return rule + (f"; subjects in {self.cxr_split} as there" if self.cxr_split else "")

    def _cxr_subjects(self, root: Path) -> dict[str, str]:
        """Subject -> split, as MIMIC-CXR has it."""
        if self.cxr_split is None:
            return {}
        table = root / self.cxr_split
        if not table.resolve().is_relative_to(root.resolve()) or not table.is_file():
            raise UserError(
                f"cxr_split {self.cxr_split!r}: no such file in {root}; copy "
                "mimic-cxr-2.0.0-split.csv.gz there and give its name."
            )
        subjects: dict[str, str] = {}
        for line, row in csv_rows(table, ("subject_id", "split"), others=True):
            split = CXR_SPLITS.get(row["split"])
            if split is None or subjects.setdefault(row["subject_id"], split) != split:
                raise UserError(
                    f"{table}, line {line}: split {row['split']!r} of a subject must be one of "
                    f"{', '.join(CXR_SPLITS)}, the same in all rows."
                )
        return subjects


def _statements(table: Path) -> dict[str, str]:
    """Study -> its statements that are not empty, in order."""
    texts = {}
    for _, row in csv_rows(table, ("study_id", *STATEMENTS), others=True):
        cells = (row[name].strip().rstrip(".") for name in STATEMENTS)
        texts[row["study_id"]] = ". ".join(filter(None, cells))
    return texts
