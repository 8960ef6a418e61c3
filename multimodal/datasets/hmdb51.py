"""HMDB51: 51 human actions from films and web videos (Kuehne et al., ICCV 2011)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError, did_you_mean
from multimodal.recordings import Manifest, Recording
from multimodal.registry import Distinct

LISTS = "testTrainMulti_7030_splits"
LIST_NAME = re.compile(r"(.+)_test_split([123])\.txt")
SPLITS = {"1": "train", "2": "test", "0": ""}
EXPECTED = f"class folders and {LISTS}/ with files such as brush_hair_test_split1.txt"
CLASSES = 51


@DATASETS.register("hmdb51")
class Hmdb51Config(DatasetConfig):
    """``{class}/{file}.avi`` and the official lists, one file a class and fold.

    A list's line is a file name and 1 (train), 2 (test) or 0 (left out of that fold).
    fold: which of the three official splits. classes: a subset of the classes, for a subset of
    the data or of the task; None: all that have a list. Classes are in alphabetical order.
    The authors kept clips of one film on one side, but the release does not name the film of a
    clip, so groups are unknown.
    """

    folder: ClassVar[str] = "hmdb51"
    modalities: ClassVar[tuple[str, ...]] = ("video",)
    summary: ClassVar[str] = "HMDB51: 51 human actions from films and web videos"
    licence: ClassVar[str] = "CC BY 4.0 as reported; the data set's page decides"
    how_to_get: ClassVar[str] = (
        "Unpack hmdb51_org.rar, each class's .rar in it, and test_train_splits.rar "
        "(https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/) into the "
        "folder hmdb51."
    )

    fold: Literal[1, 2, 3] = 1
    classes: Distinct | None = None

    def build(self, root: Path) -> Manifest:
        """UserError for an unknown class, a bad line of a list and a listed clip without file."""
        entries(root, EXPECTED)
        lists = self._lists(root)
        recordings, missing = [], []
        for label, (name, path) in enumerate(lists.items()):
            present = _clips(root, name)
            for file, split in _listed(path):
                if file not in present:
                    missing.append(f"{path}: {file!r} is listed but {root / name} has no such file")
                recordings.append(
                    Recording(
                        uid=f"{name}/{file}",
                        labels=(label,),
                        split=split,
                        path=root / name / file,
                        text=name.replace("_", " "),
                    )
                )
        if missing:
            raise UserError(
                f"{missing[0]} ({len(missing)} missing in all); unpack the archives again."
            )
        return Manifest(
            name="hmdb51",
            modality="video",
            class_names=tuple(lists),
            recordings=tuple(recordings),
            version=f"70/30 lists, fold {self.fold}",
            licence=self.licence,
            citation="H. Kuehne et al., HMDB: a large video database for human motion, ICCV 2011",
            split_rule=f"official: *_test_split{self.fold}.txt",
            root=root,
        )

    def expected_counts(self) -> dict[str, int] | None:
        """70 train and 30 test clips a class, as reported; None for a subset of the classes."""
        if self.classes is not None:
            return None
        return {"train": Unverified(70 * CLASSES), "test": Unverified(30 * CLASSES)}

    def _lists(self, root: Path) -> dict[str, Path]:
        """Class -> its list of this fold, in the order of class ids."""
        if not (root / LISTS).is_dir():
            raise wrong_folder(root, EXPECTED)
        lists = {}
        for path in entries(root / LISTS, EXPECTED):
            match = LIST_NAME.fullmatch(path.name)
            if match is not None and match[2] == str(self.fold):
                lists[match[1]] = path
        if not lists:
            raise wrong_folder(root / LISTS, f"files such as brush_hair_test_split{self.fold}.txt")
        if self.classes is None:
            return lists
        if not self.classes:
            raise UserError("classes is empty; name some classes of hmdb51 or leave it out.")
        for name in self.classes:
            if name not in lists:
                raise UserError(
                    f"classes: {name!r} is no class of hmdb51{did_you_mean(name, list(lists))}"
                )
        return {name: path for name, path in lists.items() if name in self.classes}


def _clips(root: Path, name: str) -> set[str]:
    folder = root / name
    if not folder.is_dir():
        packed = (root / f"{name}.rar").is_file()
        remedy = f"unpack {name}.rar" if packed else "unpack the archives again"
        raise UserError(
            f"{folder}: no such folder; {remedy}, or name the classes of a subset with the "
            "setting classes."
        )
    return {path.name for path in entries(folder, "clips")}


def _listed(path: Path) -> list[tuple[str, str]]:
    """(file name, split) of every clip that the fold uses. Names may hold spaces."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        file, _, flag = line.strip().rpartition(" ")
        if flag not in SPLITS or not file.strip().endswith(".avi"):
            raise UserError(
                f"{path}, line {number}: {line.strip()!r}; expected a name.avi and 0, 1 or 2."
            )
        if SPLITS[flag]:
            rows.append((file.strip(), SPLITS[flag]))
    return rows
