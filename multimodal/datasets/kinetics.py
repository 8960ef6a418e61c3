"""Kinetics-400/600/700: human actions on YouTube, from whatever part of the clips a copy holds."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from pathlib import Path
from typing import ClassVar, NamedTuple

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.errors import UserError
from multimodal.recordings import SPLITS, Manifest, Recording

LIST_NAMES = {"train": "train", "val": "validation", "validate": "validation", "test": "test"}
LIST = re.compile(r"(?:kinetics[-_]?[0-9]+[-_])?(train|val|validate|test)\.csv")
COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
CLIP = re.compile(r"(.+_[0-9]{6}_[0-9]{6})\.(mp4|mkv|webm|avi)")
EXPECTED = "train.csv, val.csv (and test.csv), in it or in annotations/, and clips below it"


class Row(NamedTuple):
    """One line of a list; stem: the clip's file name without extension."""

    stem: str
    label: str
    youtube_id: str
    split: str


@DATASETS.register("kinetics")
class KineticsConfig(DatasetConfig):
    """Lists with label, youtube_id, time_start, time_end, split; ``{id}_{start}_{end}.mp4`` clips.

    Start and end are six digits in a clip's name; clips may lie in any folders below the root,
    because copies differ in that. Copies also differ in content, since videos vanish: a clip
    without a file is left out, and ``split_rule`` says how many of each split are there.
    keep_missing: keep them, so that ``medley datasets check`` names each one.
    test_on_validation: the validation split becomes the test split, as is usual, because most
    copies have no labelled test clips; rows without a label are left out.
    The class ids follow the alphabet; the group is the YouTube video; the version holds a hash of
    the lists, so results on different lists cannot be confused.
    """

    folder: ClassVar[str] = "kinetics"
    modalities: ClassVar[tuple[str, ...]] = ("video",)
    summary: ClassVar[str] = "Kinetics-400/600/700: human actions on YouTube, 10 s a clip"
    licence: ClassVar[str] = "lists: see their source; the videos belong to their uploaders"
    how_to_get: ClassVar[str] = (
        "Put the official lists (train.csv, val.csv, test.csv) and your copy of the clips into the "
        "folder kinetics."
    )

    keep_missing: bool = False
    test_on_validation: bool = True

    def build(self, root: Path) -> Manifest:
        """UserError for a bad list, a clip that lies there twice, and a copy without any clip."""
        lists = _lists(root)
        rows = [row for split, path in sorted(lists.items()) for row in _rows(path, split)]
        if self.test_on_validation:
            rows = [r._replace(split="test") for r in rows if r.split == "validation"] + [
                r for r in rows if r.split == "train"
            ]
        files = _files(root)
        present = Counter(row.split for row in rows if row.stem in files)
        total = Counter(row.split for row in rows)
        if not present:
            raise UserError(
                f"{root}: none of the {len(rows)} listed clips is there; expected files such as "
                f"{rows[0].stem if rows else 'id_000010_000020'}.mp4 in any folder below it."
            )
        names = sorted({row.label for row in rows})
        ids = {name: i for i, name in enumerate(names)}
        shares = ", ".join(f"{s} {present[s]:,} of {total[s]:,}" for s in SPLITS if total[s])
        source = ", validation as test" if self.test_on_validation else ""
        return Manifest(
            name="kinetics",
            modality="video",
            class_names=tuple(names),
            recordings=tuple(
                Recording(
                    uid=f"{row.label}/{row.stem}",
                    labels=(ids[row.label],),
                    split=row.split,
                    path=files.get(row.stem, root / row.label / f"{row.stem}.mp4"),
                    group=row.youtube_id,
                    text=row.label,
                )
                for row in rows
                if self.keep_missing or row.stem in files
            ),
            version=f"{len(names)} classes, lists {_hash(lists)}",
            licence=self.licence,
            citation="W. Kay et al., The Kinetics human action video dataset, arXiv:1705.06950",
            split_rule=f"official lists{source}; clips present: {shares}",
            root=root,
        )


def _lists(root: Path) -> dict[str, Path]:
    """Split -> list."""
    lists: dict[str, Path] = {}
    inside = entries(root, EXPECTED)
    if (root / "annotations").is_dir():
        inside += entries(root / "annotations", "lists")
    for path in inside:
        match = LIST.fullmatch(path.name)
        if match is None:
            continue
        split = LIST_NAMES[match[1]]
        if split in lists:
            raise UserError(f"{lists[split]} and {path} are both lists of {split}; keep one.")
        lists[split] = path
    if not {"train", "validation"} <= set(lists):
        raise wrong_folder(root, EXPECTED)
    return lists


def _rows(path: Path, split: str) -> list[Row]:
    rows = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = sorted(set(COLUMNS) - {"label", "split"} - set(reader.fieldnames or ()))
        if missing:
            raise UserError(
                f"{path}: no column {missing[0]!r}; expected the columns {', '.join(COLUMNS)}."
            )
        for line in reader:
            where = f"{path}, line {reader.line_num}"
            times = [(line[name] or "").strip() for name in ("time_start", "time_end")]
            name = (line["youtube_id"] or "").strip()
            if not name or not all(time.isdecimal() for time in times):
                raise UserError(f"{where}: needs a youtube_id and times in whole seconds.")
            start, end = (int(time) for time in times)
            label = (line.get("label") or "").strip()
            if label:
                rows.append(Row(f"{name}_{start:06d}_{end:06d}", label, name, split))
    return rows


def _files(root: Path) -> dict[str, Path]:
    """Clip name without extension -> file."""
    files: dict[str, Path] = {}
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            match = CLIP.fullmatch(name)
            if match is None:
                continue
            path = Path(folder) / name
            if match[1] in files:
                raise UserError(f"{files[match[1]]} and {path} are the same clip; keep one.")
            files[match[1]] = path
    return files


def _hash(lists: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for split, path in sorted(lists.items()):
        digest.update(split.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
