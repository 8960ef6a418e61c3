"""COVID-19 image data collection: chest X-rays with clinical notes (Cohen et al., 2020).

The findings come from different hospitals, journals and age groups, so a classifier may learn the
source instead of the disease: for pipelines and shortcut tests, not for claims.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import class_order, seeded_split
from multimodal.downloads import Download
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

EXPECTED = "metadata.csv and a folder images/"
COLUMNS = ("patientid", "finding", "view", "modality", "filename", "license", "clinical_notes")
NO_FINDING_YET = ("", "todo", "unknown")
Row = dict[str, str]


@DATASETS.register("covid_xray")
class CovidXrayConfig(DatasetConfig):
    """``metadata.csv`` and ``images/``. Class = finding, text = clinical notes.

    Kept are rows of modality X-ray whose view is in ``views``, whose finding is known, whose file
    exists and whose licence is allowed. A finding written as a path ("Pneumonia/Viral/COVID-19",
    as later editions have it) counts as its last part. One image in several rows is taken once, or
    not at all if the rows disagree on the finding.

    min_patients: findings of fewer patients are left out; at least 2, one a side.
    max_patients: findings of more patients keep the images of so many, drawn with ``seed``; without
    it three of four images are COVID-19. None: all.
    license_allow: licences as the column has them; None: every licence that is stated.
    allow_blank_license: also rows that state none, which is no permission to use them.
    Notes often name the finding: as a text they give the label away.

    There is no official split: a seeded one by patient. Patient ids that share an image are one
    patient (the collection lists some cases twice).
    """

    folder: ClassVar[str] = "covid_xray"
    modalities: ClassVar[tuple[str, ...]] = ("xray",)
    summary: ClassVar[str] = "COVID-19 image data collection: chest X-rays with clinical notes"
    licence: ClassVar[str] = "per image (column license of metadata.csv)"
    how_to_get: ClassVar[str] = (
        "git clone https://github.com/ieee8023/covid-chestxray-dataset covid_xray"
    )
    # There are no releases. GitHub makes archives on request and publishes no checksum of them.
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            "https://github.com/ieee8023/covid-chestxray-dataset/archive/refs/heads/master.zip"
        ),
    )

    views: tuple[str, ...] = ("PA", "AP", "AP Supine")
    min_patients: int = Field(default=4, ge=2)
    max_patients: int | None = Field(default=None, ge=2)
    license_allow: tuple[str, ...] | None = None
    allow_blank_license: bool = False
    test_fraction: float = Field(default=0.3, gt=0, lt=1)
    seed: int = 0

    def build(self, root: Path) -> Manifest:
        """UserError for missing columns, cut rows, and settings that leave nothing over."""
        table = root / "metadata.csv"
        entries(root, EXPECTED)
        if not table.is_file() or not (root / "images").is_dir():
            raise wrong_folder(root, EXPECTED)
        listed = _read(table)
        rows = _once_each([row for row in listed if self._wanted(row)], root)
        if not rows:
            raise UserError(
                f"{table}: none of {len(listed)} rows has a file in images/, a known finding, a "
                "view in views and an allowed licence; check the folder and these settings."
            )
        patients = _patients(listed)
        rows = self._right_size(rows, patients, table)
        findings = [_finding(row) for row in rows]
        names = class_order(findings)
        uids = [f"images/{row['filename']}" for row in rows]
        groups = [patients[row["patientid"]] for row in rows]
        splits = seeded_split(
            uids, findings, groups=groups, test_fraction=self.test_fraction, seed=self.seed
        )
        fields = zip(uids, rows, findings, splits, groups, strict=True)
        return Manifest(
            name="covid_xray",
            modality="xray",
            class_names=tuple(names),
            recordings=tuple(
                Recording(
                    uid=uid,
                    labels=(names.index(finding),),
                    split=split,
                    path=root / uid,
                    group=group,
                    text=row["clinical_notes"],
                )
                for uid, row, finding, split, group in fields
            ),
            version=f"unnamed edition: {len(listed)} rows, {len(rows)} images used",
            licence="per image: " + ", ".join(sorted({r["license"] or "(none)" for r in rows})),
            citation="J. P. Cohen et al., COVID-19 image data collection, arXiv:2006.11988, 2020",
            split_rule=f"seeded: whole patients, test_fraction {self.test_fraction:g}, "
            f"seed {self.seed}; findings of at least {self.min_patients} patients"
            + (f", {self.max_patients} of them at most" if self.max_patients else ""),
            root=root,
        )

    def expected_counts(self) -> None:
        """None: there is no official split, and the collection grew without releases."""

    def _wanted(self, row: Row) -> bool:
        allowed = row["license"] != "" or self.allow_blank_license
        if row["license"] and self.license_allow is not None:
            allowed = row["license"] in self.license_allow
        known = _finding(row).lower() not in NO_FINDING_YET
        return allowed and known and row["modality"] == "X-ray" and row["view"] in self.views

    def _right_size(self, rows: Sequence[Row], patients: dict[str, str], table: Path) -> list[Row]:
        """Rows of findings of at least ``min_patients``, of at most ``max_patients`` each."""
        seen: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            seen[_finding(row)].add(patients[row["patientid"]])
        most = max(seen, key=lambda name: len(seen[name]))
        if len(seen[most]) < self.min_patients:
            raise UserError(
                f"{table}: min_patients={self.min_patients} leaves no finding; the most frequent, "
                f"{most!r}, has {len(seen[most])} patients."
            )
        kept = {
            name: sorted(who, key=self._rank)[: self.max_patients]
            for name, who in seen.items()
            if len(who) >= self.min_patients
        }
        return [row for row in rows if patients[row["patientid"]] in kept.get(_finding(row), ())]

    def _rank(self, patient: str) -> bytes:
        return hashlib.sha256(repr((self.seed, patient)).encode()).digest()


def _finding(row: Row) -> str:
    return row["finding"].rsplit("/", 1)[-1].strip()


def _read(table: Path) -> list[Row]:
    """The rows with the columns that are used, without outer spaces."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            columns = reader.fieldnames or []
            missing = [name for name in COLUMNS if name not in columns]
            if missing:
                raise UserError(
                    f"{table}: no column {', '.join(missing)}; columns: {', '.join(columns)}."
                )
            rows = []
            for line in reader:
                where = f"{table}, line {reader.line_num}"
                if any(line[name] is None for name in COLUMNS):
                    raise UserError(f"{where}: fewer cells than columns; copy the table again.")
                row = {name: line[name].strip() for name in COLUMNS}
                if not row["patientid"]:
                    raise UserError(f"{where}: patientid is empty; fill it in or remove the row.")
                if Path(row["filename"]).name != row["filename"]:
                    raise UserError(
                        f"{where}: filename {row['filename']!r} is not the plain name of a file in "
                        "images/."
                    )
                rows.append(row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{table} cannot be read as a UTF-8 table: {error}.") from error
    return rows


def _once_each(rows: Sequence[Row], root: Path) -> list[Row]:
    """The first row of each existing file, unless its rows disagree on the finding."""
    present = {path.name for path in entries(root / "images", "images")}
    by_file: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["filename"] in present:
            by_file[row["filename"]].append(row)
    return [same[0] for same in by_file.values() if len({_finding(row) for row in same}) == 1]


def _patients(rows: Sequence[Row]) -> dict[str, str]:
    """patientid -> the first id of the same patient, linked over shared images."""
    parent = {row["patientid"]: row["patientid"] for row in rows}

    def root_of(patient: str) -> str:
        while parent[patient] != patient:
            patient = parent[patient]
        return patient

    first: dict[str, str] = {}
    for row in rows:
        if row["filename"]:
            other = first.setdefault(row["filename"], row["patientid"])
            parent[root_of(row["patientid"])] = root_of(other)
    return {patient: root_of(patient) for patient in parent}
