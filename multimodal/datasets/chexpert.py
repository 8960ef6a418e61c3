"""CheXpert v1.0 and v1.0-small: chest X-rays with mined, partly uncertain labels.

Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert
Comparison, AAAI 2019 (arXiv:1901.07031).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.errors import UserError, did_you_mean
from multimodal.recordings import Manifest, Recording

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
# The policy that GLoRIA's and MoRE's code use; it is defined for the competition's classes only.
MAPPED = {
    "Atelectasis": True,
    "Cardiomegaly": False,
    "Consolidation": False,
    "Edema": True,
    "Pleural Effusion": True,
}
COMPETITION = tuple(MAPPED)
VALUES = {"1.0": "1", "1": "1", "0.0": "0", "0": "0", "-1.0": "u", "-1": "u", "": ""}
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
    the classes are left out (U-Ignore, which masks single labels, needs more than a label list).
    Blank (not mentioned) always counts as absent.
    view: of the images that are kept. single_label: keep images with exactly one of the classes,
    for class-incremental streams. validation_fraction: share of the training patients that become
    the validation split (Medley's rule, seeded). allow_missing: leave out rows without a file.
    """

    folder: ClassVar[str] = "chexpert"
    modalities: ClassVar[tuple[str, ...]] = ("xray",)
    summary: ClassVar[str] = "CheXpert: 224,316 chest X-rays, 14 labels, some of them uncertain"
    licence: ClassVar[str] = "Stanford University dataset research use agreement"
    how_to_get: ClassVar[str] = (
        "Sign Stanford's agreement at https://stanfordmlgroup.github.io/competitions/chexpert/ and "
        "unpack CheXpert-v1.0-small into the folder chexpert."
    )

    classes: Literal["competition", "all"] | tuple[str, ...] = "competition"
    uncertain: Literal["u_zeros", "u_ones", "u_map", "u_multi", "u_drop"] = "u_zeros"
    view: Literal["frontal", "lateral", "all"] = "frontal"
    single_label: bool = False
    validation_fraction: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0
    allow_missing: bool = False

    def build(self, root: Path) -> Manifest:
        """UserError for missing tables, columns and images, and for values no label can have."""
        names = self._names()
        base = _base(root)
        recordings, missing = [], []
        for split, name in TABLES.items():
            for uid, row in _read(base / name):
                labels = self._labels(row, names, f"{base / name}: {row['Path']}")
                if labels is None or not self._shown(row):
                    continue
                if not (base / uid).is_file():
                    missing.append(base / uid)
                    continue
                recordings.append(
                    Recording(uid, labels, split, path=base / uid, group=uid.split("/")[1])
                )
        if missing and not self.allow_missing:
            raise missing_images(missing)
        return Manifest(
            name="chexpert",
            modality="xray",
            class_names=self._class_names(names),
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

    def _names(self) -> tuple[str, ...]:
        if isinstance(self.classes, str):
            names = LABELS if self.classes == "all" else COMPETITION
        else:
            names = tuple(dict.fromkeys(self.classes))
        refuse_unknown_classes(names, LABELS)
        unmapped = [name for name in names if name not in MAPPED]
        if self.uncertain == "u_map" and unmapped:
            raise UserError(
                f"uncertain='u_map' says nothing about {', '.join(unmapped)}; set "
                "classes='competition' or another policy."
            )
        return names

    def _class_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        if self.uncertain != "u_multi":
            return names
        return (*names, *(f"{name} (uncertain)" for name in names))

    def _labels(self, row: Row, names: tuple[str, ...], where: str) -> tuple[int, ...] | None:
        """Positive class ids, or None if the image is left out."""
        found = []
        for label, name in enumerate(names):
            text = row[name].strip()
            if text not in VALUES:
                raise UserError(f"{where}: {name} is {text!r}; it must be 1.0, 0.0, -1.0 or blank.")
            value = VALUES[text]
            if value == "u" and self.uncertain == "u_drop":
                return None
            if value == "u" and self.uncertain == "u_multi":
                found.append(label + len(names))
            elif value == "1" or (value == "u" and self._counts_as_present(name)):
                found.append(label)
        return None if self.single_label and len(found) != 1 else tuple(sorted(found))

    def _counts_as_present(self, name: str) -> bool:
        return self.uncertain == "u_ones" or (self.uncertain == "u_map" and MAPPED[name])

    def _shown(self, row: Row) -> bool:
        return self.view == "all" or row["Frontal/Lateral"].strip().lower() == self.view


def with_validation(
    recordings: Collection[Recording], fraction: float, seed: int
) -> tuple[Recording, ...]:
    """The same recordings; those of a share of the training groups get the validation split.

    Groups are ordered by SHA-256 of seed and name, so the choice depends on no random generator.
    """
    groups = sorted(
        {r.group for r in recordings if r.split == "train"},
        key=lambda group: hashlib.sha256(repr((seed, group)).encode()).digest(),
    )
    chosen = set(groups[: round(fraction * len(groups))])
    return tuple(
        replace(r, split="validation") if r.split == "train" and r.group in chosen else r
        for r in recordings
    )


def validation_rule(fraction: float, seed: int) -> str:
    """The end of a split rule in words."""
    if not fraction:
        return ""
    return f"; validation: {fraction:g} of the training patients, seed {seed} (Medley's rule)"


def refuse_unknown_classes(names: Collection[str], known: Collection[str]) -> None:
    """UserError for an empty list or a name that is not in ``known``."""
    if not names:
        raise UserError("classes is empty; name some, or leave it out.")
    for name in names:
        if name not in known:
            raise UserError(f"classes: {name!r} is unknown{did_you_mean(name, list(known))}")


def missing_images(missing: list[Path]) -> UserError:
    """The error for images that a table names but that are not there."""
    return UserError(
        f"{missing[0]}: listed but there is no such file ({len(missing)} missing in all); unpack "
        "the archives again, or set allow_missing=true to use the rest."
    )


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
