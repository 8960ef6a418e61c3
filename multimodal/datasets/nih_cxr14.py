"""NIH ChestX-ray14: 112,120 frontal chest X-rays with 14 mined findings.

Wang et al., ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised
Classification and Localization of Common Thorax Diseases, CVPR 2017 (arXiv:1705.02315).
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.findings import (
    missing_images,
    refuse_unknown_classes,
    validation_rule,
    with_validation,
)
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording
from multimodal.registry import Distinct

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
NO_FINDING = "No Finding"
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
EXPECTED = f"{TABLES[0]}, {', '.join(LISTS.values())} and images/ (or images_001/ to images_012/)"
# Nine names in the header, two of which have a comma inside.
CELLS = 11
COUNTS = {"train": Unverified(86_524), "test": Unverified(25_596)}


class Entry(NamedTuple):
    """A row of the table; view: PA or AP."""

    findings: tuple[str, ...]
    patient: str
    view: str


@DATASETS.register("nih_cxr14")
class NihCxr14Config(DatasetConfig):
    """The data entry table, the two official lists, and ``images/00000001_000.png``.

    The archives' folders ``images_001/images/`` to ``images_012/images/`` are read as well.
    Recordings hold the ids of their findings; "No Finding" is no class but a recording without
    labels. Labels were mined from reports: noisy, above all Infiltration, Pneumonia and
    Consolidation. Group = patient; no patient is in both lists.

    classes: a subset of the 14 findings; the others then count as absent. None: all.
    view: PA, AP or both. single_label: keep images with exactly one of the classes, for
    class-incremental streams. validation_fraction: share of the patients of train_val_list.txt
    that become the validation split (Medley's rule, seeded). allow_missing: leave out listed
    images without a file, for parts of the data set.
    """

    folder: ClassVar[str] = "nih_cxr14"
    modalities: ClassVar[tuple[str, ...]] = ("xray",)
    summary: ClassVar[str] = "NIH ChestX-ray14: 112,120 chest X-rays, 14 findings, multi-label"
    licence: ClassVar[str] = "free use with attribution to the NIH Clinical Center"
    how_to_get: ClassVar[str] = (
        "Download images_001 to images_012, the data entry table and both lists from "
        "https://nihcc.app.box.com/v/ChestXray-NIHCC into the folder nih_cxr14."
    )

    classes: Distinct | None = None
    view: Literal["PA", "AP", "all"] = "all"
    single_label: bool = False
    validation_fraction: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0
    allow_missing: bool = False

    def build(self, root: Path) -> Manifest:
        """UserError for missing tables, lists, images, unknown findings and unlisted names."""
        names = FINDINGS if self.classes is None else tuple(dict.fromkeys(self.classes))
        refuse_unknown_classes(names, FINDINGS)
        entries(root, EXPECTED)
        table = next((root / t for t in TABLES if (root / t).is_file()), None)
        if table is None or not all((root / name).is_file() for name in LISTS.values()):
            raise wrong_folder(root, EXPECTED)
        rows, files = _read_table(table), _images(root)
        recordings, missing = [], []
        for name, split in _read_lists(root).items():
            if name not in rows:
                raise UserError(f"{root / LISTS[split]}: {name!r} is not in {table.name}.")
            entry = rows[name]
            labels = tuple(i for i, finding in enumerate(names) if finding in entry.findings)
            if self.view not in ("all", entry.view) or (self.single_label and len(labels) != 1):
                continue
            if name not in files:
                missing.append(root / "images" / name)
                continue
            # The name, not the path: copies differ in their folders.
            recordings.append(Recording(name, labels, split, path=files[name], group=entry.patient))
        if missing and not self.allow_missing:
            raise missing_images(missing)
        return Manifest(
            name="nih_cxr14",
            modality="xray",
            class_names=names,
            recordings=with_validation(recordings, self.validation_fraction, self.seed),
            version=table.stem,
            licence=self.licence,
            citation="X. Wang et al., ChestX-ray8, CVPR 2017, arXiv:1705.02315",
            split_rule="official: test_list.txt test, train_val_list.txt train"
            + validation_rule(self.validation_fraction, self.seed),
            root=root,
        )

    def expected_counts(self) -> dict[str, int] | None:
        """Reported lengths of the lists; None where settings leave images out or move them."""
        reduced = self.view != "all" or self.single_label or self.allow_missing
        return None if reduced or self.validation_fraction else dict(COUNTS)


def _read_table(table: Path) -> dict[str, Entry]:
    """Image name -> entry.

    Columns are read by position: the header has commas inside its column names. They are image,
    findings joined by "|", follow-up, patient, age, gender, view, and four sizes.
    """
    rows: dict[str, Entry] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if header[:2] != ["Image Index", "Finding Labels"]:
                raise UserError(
                    f"{table}: the header must begin with Image Index,Finding Labels; it begins "
                    f"with {','.join(header[:2])!r}."
                )
            for cells in filter(None, reader):
                where = f"{table}, line {reader.line_num}"
                if len(cells) < CELLS:
                    raise UserError(f"{where}: {len(cells)} cells instead of {CELLS}.")
                name, findings = cells[0].strip(), tuple(cells[1].strip().split("|"))
                unknown = set(findings) - {*FINDINGS, NO_FINDING}
                if unknown:
                    raise UserError(f"{where}: unknown finding {min(unknown)!r}.")
                if name in rows:
                    raise UserError(f"{where}: {name!r} is in the table twice.")
                rows[name] = Entry(findings, cells[3].strip(), cells[6].strip())
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{table} cannot be read as a UTF-8 table: {error}.") from error
    return rows


def _read_lists(root: Path) -> dict[str, str]:
    """Image name -> split."""
    listed: dict[str, str] = {}
    for split, file in LISTS.items():
        for name in (root / file).read_text(encoding="utf-8").split():
            if listed.setdefault(name, split) != split:
                raise UserError(f"{root / file}: {name!r} is in both lists; keep one entry.")
    return listed


def _images(root: Path) -> dict[str, Path]:
    """Name -> file, in images/ and in the folders that the archives make."""
    archives = [*sorted(root.glob("images_*")), *sorted(root.glob("images_*/images"))]
    found: dict[str, Path] = {}
    for folder in [root / "images", *archives]:
        if folder.is_dir():
            with os.scandir(folder) as items:
                found.update({e.name: Path(e.path) for e in items if e.name.endswith(".png")})
    if not found:
        raise wrong_folder(root, EXPECTED)
    return found
