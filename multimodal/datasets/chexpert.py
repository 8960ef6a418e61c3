"""CheXpert v1.0 and v1.0-small: chest X-rays with mined, partly uncertain labels.

Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert
Comparison, AAAI 2019 (arXiv:1901.07031).
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.findings import (
    Found,
    Policy,
    chosen_findings,
    finding_classes,
    findings,
    missing_images,
    validation_rule,
    with_validation,
)
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording
from multimodal.registry import Distinct

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
RELEASES = ("CheXpert-v1.0-small", "CheXpert-v1.0")
TABLES = {"train": "train.csv", "test": "valid.csv"}
EXPECTED = "train.csv, valid.csv and folders train/ and valid/"
SHOTS = {"frontal": 191_027, "lateral": 32_387, "all": 223_414}
Row = dict[str, str]


@DATASETS.register("chexpert")
class ChexpertConfig(DatasetConfig):
    """``train.csv``, ``valid.csv``, ``train/patient00001/study1/view1_frontal.jpg``.

    The official validation images, labelled by radiologists, are the test split; group = patient.

    classes: ``competition`` (5), ``all`` (14, "No Finding" among them, as the table has it), or
    a list of the table's labels. Recordings hold the ids of their positive classes, or none.
    uncertain: what -1 means. ``u_zeros``: absent. ``u_ones``: present. ``u_map``: present for
    Atelectasis, Edema and Pleural Effusion, absent for Cardiomegaly and Consolidation.
    ``u_multi``: a class of its own, "Edema (uncertain)". ``u_drop``: images uncertain in any of
    the classes are left out. ``u_ignore``: unknown, so that the label is masked. Blank (not
    mentioned) always counts as absent.
    view: of the images that are kept. single_label: keep images with exactly one of the classes
    (and no unknown one), for class-incremental streams. validation_fraction: share of the training
    patients that become the validation split (Medley's rule, seeded). allow_missing: leave out
    rows without a file.
    """

    folder: ClassVar[str] = "chexpert"
    modalities: ClassVar[tuple[str, ...]] = ("xray",)
    summary: ClassVar[str] = "CheXpert: 224,316 chest X-rays, 14 labels, some of them uncertain"
    licence: ClassVar[str] = "Stanford University dataset research use agreement"
    how_to_get: ClassVar[str] = (
        "Sign Stanford's agreement at https://stanfordmlgroup.github.io/competitions/chexpert/ and "
        "unpack CheXpert-v1.0-small into the folder chexpert."
    )

    classes: Literal["competition", "all"] | Distinct = "competition"
    uncertain: Policy = "u_zeros"
    view: Literal["frontal", "lateral", "all"] = "frontal"
    single_label: bool = False
    validation_fraction: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0
    allow_missing: bool = False

    def build(self, root: Path) -> Manifest:
        """UserError for missing tables, columns and images, and for values no label can have."""
        names = chosen_findings(self.classes, LABELS, self.uncertain)
        base = _base(root)
        recordings, missing = [], []
        for split, name in TABLES.items():
            for uid, row in _read(base / name):
                found = findings(row, names, self.uncertain, f"{base / name}: {row['Path']}")
                if found is None or not self._kept(row, found):
                    continue
                if not (base / uid).is_file():
                    missing.append(base / uid)
                    continue
                recordings.append(
                    Recording(
                        uid,
                        found.labels,
                        split,
                        path=base / uid,
                        group=uid.split("/")[1],
                        unknown=found.unknown,
                    )
                )
        if missing and not self.allow_missing:
            raise missing_images(missing)
        return Manifest(
            name="chexpert",
            modality="xray",
            class_names=finding_classes(names, self.uncertain),
            recordings=with_validation(recordings, self.validation_fraction, self.seed),
            version=f"{_release(base)}; {self.uncertain}, blank = absent",
            licence=self.licence,
            citation="J. Irvin et al., CheXpert, AAAI 2019, arXiv:1901.07031",
            split_rule="official: valid.csv test, train.csv train"
            + validation_rule(self.validation_fraction, self.seed),
            root=base,
        )

    def expected_counts(self) -> dict[str, int] | None:
        """Images of train.csv; None where settings leave some of them out or move them."""
        reduced = self.uncertain == "u_drop" or self.single_label or self.allow_missing
        return None if reduced or self.validation_fraction else {"train": SHOTS[self.view]}

    def _kept(self, row: Row, found: Found) -> bool:
        shown = self.view == "all" or row["Frontal/Lateral"].strip().lower() == self.view
        return shown and (found.single or not self.single_label)


def _base(root: Path) -> Path:
    entries(root, EXPECTED)
    for base in (root, *(root / release for release in RELEASES)):
        if all((base / name).is_file() for name in TABLES.values()):
            return base
    raise wrong_folder(root, f"{EXPECTED} (here or in {' or '.join(RELEASES)}/)")


def _release(base: Path) -> str:
    """The release's name, which begins every path of the tables."""
    with (base / TABLES["train"]).open(newline="", encoding="utf-8") as file:
        return next(csv.DictReader(file))["Path"].split("/")[0]


def _read(table: Path) -> list[tuple[str, Row]]:
    """(uid, row); uid = path without the release's name, e.g. train/patient00001/study1/a.jpg."""
    rows = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True, restval="")
            columns = reader.fieldnames or []
            wanted = ("Path", "Frontal/Lateral", *LABELS)
            absent = [name for name in wanted if name not in columns]
            if absent:
                raise UserError(
                    f"{table}: no column {', '.join(absent)}; columns: {', '.join(columns)}."
                )
            for row in reader:
                parts = row["Path"].strip().split("/")[1:]
                if len(parts) != 4 or not parts[1].startswith("patient") or ".." in parts:
                    raise UserError(
                        f"{table}, line {reader.line_num}: Path {row['Path']!r} is not of the form "
                        "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg."
                    )
                rows.append(("/".join(parts), row))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{table} cannot be read as a UTF-8 table: {error}.") from error
    if not rows:
        raise UserError(f"{table} has no rows; copy it again.")
    return rows
