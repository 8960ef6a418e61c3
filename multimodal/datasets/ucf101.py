"""UCF101: 101 human actions in 13,320 clips (Soomro et al., arXiv:1212.0402)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.errors import UserError, did_you_mean
from multimodal.recordings import Manifest, Recording
from multimodal.registry import Distinct

COUNTS = {1: (9_537, 3_783), 2: (9_586, 3_734), 3: (9_624, 3_696)}
NAME = re.compile(r"v_[A-Za-z]+_(g[0-9]{2})_c[0-9]{2}\.avi")
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+")
EXPECTED = "the folders UCF-101/ (one folder a class) and ucfTrainTestlist/"


@DATASETS.register("ucf101")
class Ucf101Config(DatasetConfig):
    """``UCF-101/{Class}/v_{Class}_g{NN}_c{MM}.avi`` and the official lists of train and test.

    fold: which of the three official splits. classes: a subset of the classes, for a subset of
    the data or of the task; None: all of ``classInd.txt``. Class ids follow that file's order.
    The class is that of the folder (names of files spell HandstandPushups in another way), the
    group is the class with gNN, the source video. Clips in neither list are left out.
    """

    folder: ClassVar[str] = "ucf101"
    modalities: ClassVar[tuple[str, ...]] = ("video",)
    summary: ClassVar[str] = "UCF101: 101 human actions, 13,320 clips of 25 source groups a class"
    licence: ClassVar[str] = "for research (no formal licence)"
    how_to_get: ClassVar[str] = (
        "Unpack UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip "
        "(https://www.crcv.ucf.edu/data/UCF101.php) into the folder ucf101."
    )

    fold: Literal[1, 2, 3] = 1
    classes: Distinct | None = None

    def build(self, root: Path) -> Manifest:
        """UserError for an unknown class, a bad line of a list and a listed clip without file."""
        entries(root, EXPECTED)
        if not (root / "UCF-101").is_dir() or not (root / "ucfTrainTestlist").is_dir():
            raise wrong_folder(root, EXPECTED)
        official = _class_index(root / "ucfTrainTestlist" / "classInd.txt")
        names = self._chosen(official)
        present = {name: _clips(root, name) for name in names}
        recordings, missing = [], []
        for split in ("train", "test"):
            path = root / "ucfTrainTestlist" / f"{split}list0{self.fold}.txt"
            for name, file, group in _listed(path, official):
                if name not in present:
                    continue
                if file not in present[name]:
                    missing.append(f"{path}: {name}/{file} is listed but there is no such file")
                recordings.append(
                    Recording(
                        uid=f"{name}/{file}",
                        labels=(names.index(name),),
                        split=split,
                        path=root / "UCF-101" / name / file,
                        group=f"{name}/{group}",
                        text=" ".join(WORDS.findall(name)).lower(),
                    )
                )
        if missing:
            raise UserError(
                f"{missing[0]} ({len(missing)} missing in all); unpack the archive again."
            )
        return Manifest(
            name="ucf101",
            modality="video",
            class_names=names,
            recordings=tuple(recordings),
            version=f"action recognition lists, fold {self.fold}",
            licence=self.licence,
            citation="K. Soomro, A. R. Zamir, M. Shah, UCF101, arXiv:1212.0402, 2012",
            split_rule=f"official: trainlist0{self.fold}.txt, testlist0{self.fold}.txt",
            root=root,
        )

    def expected_counts(self) -> dict[str, int] | None:
        """Official clips per split; None for a subset of the classes."""
        train, test = COUNTS[self.fold]
        return {"train": train, "test": test} if self.classes is None else None

    def _chosen(self, official: tuple[str, ...]) -> tuple[str, ...]:
        if self.classes is None:
            return official
        if not self.classes:
            raise UserError("classes is empty; name some classes of ucf101 or leave it out.")
        for name in self.classes:
            if name not in official:
                raise UserError(
                    f"classes: {name!r} is no class of ucf101{did_you_mean(name, list(official))}"
                )
        return tuple(name for name in official if name in self.classes)


def _class_index(path: Path) -> tuple[str, ...]:
    """Class names in the order of their official numbers, which start at 1."""
    names = []
    for where, line in _lines(path):
        number, _, name = line.partition(" ")
        if number != str(len(names) + 1) or not name or name in names:
            raise UserError(f"{where}: {line!r}; expected a line such as '1 ApplyEyeMakeup'.")
        names.append(name)
    return tuple(names)


def _lines(path: Path) -> list[tuple[str, str]]:
    """(place in words, line) of every line that is not blank."""
    if not path.is_file():
        raise wrong_folder(path.parent, path.name)
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [(f"{path}, line {n}", line.strip()) for n, line in enumerate(lines, start=1)]
    rows = [row for row in rows if row[1]]
    if not rows:
        raise UserError(f"{path} is empty; unpack the lists again.")
    return rows


def _listed(path: Path, official: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """(class, file name, group) of every line of a list; its label, if any, must be right."""
    rows = []
    for where, line in _lines(path):
        clip, _, label = line.partition(" ")
        name, _, file = clip.partition("/")
        match = NAME.fullmatch(file)
        if match is None or name not in official:
            raise UserError(
                f"{where}: {line!r}; expected a line such as "
                "'ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1'."
            )
        if label and label != str(official.index(name) + 1):
            raise UserError(
                f"{where}: label {label} of {clip}, but classInd.txt gives {name} the number "
                f"{official.index(name) + 1}; unpack the lists again."
            )
        rows.append((name, file, match[1]))
    return rows


def _clips(root: Path, name: str) -> set[str]:
    folder = root / "UCF-101" / name
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; unpack the archive again, or name the classes of a subset "
            "with the setting classes."
        )
    return {path.name for path in entries(folder, "clips")}
