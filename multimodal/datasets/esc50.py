"""ESC-50 (Piczak, ACM Multimedia 2015, CC BY-NC); and what readers of official folds share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.csv_files import csv_rows
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import known_overlap
from multimodal.downloads import Download
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

CATEGORY_LIST = (
    "dog rooster pig cow frog cat hen insects sheep crow "
    "rain sea_waves crackling_fire crickets chirping_birds water_drops wind pouring_water "
    "toilet_flush thunderstorm "
    "crying_baby sneezing clapping breathing coughing footsteps laughing brushing_teeth snoring "
    "drinking_sipping "
    "door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening washing_machine "
    "vacuum_cleaner clock_alarm clock_tick glass_breaking "
    "helicopter chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw"
)
CATEGORIES = tuple(CATEGORY_LIST.split())
# In the order of the stand-alone release, so that both readers give the same class ids.
ESC10 = (
    "dog",
    "rain",
    "sea_waves",
    "crying_baby",
    "clock_tick",
    "sneezing",
    "helicopter",
    "chainsaw",
    "rooster",
    "crackling_fire",
)
FOLDS, PER_CLASS_AND_FOLD = 5, 8
CITATION = "K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM MM 2015"
# Source recordings that the official folds cut into two related classes in two folds
# (clock_alarm and clock_tick; rooster and hen).
IN_TWO_FOLDS = frozenset({"131943", "209698", "134049", "234879"})
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
NAME = re.compile(r"([1-5])-([0-9]+)-([A-Z])-([0-9]+)\.wav")
EXPECTED = "meta/esc50.csv and a folder audio/"


class FoldConfig(DatasetConfig):
    """Base of datasets with official folds, numbered from 1.

    test_fold: the test split (None: the last). validation_fold: another fold, which then is the
    validation split. The published protocols report the mean over all test folds.
    """

    folds: ClassVar[int] = FOLDS

    test_fold: int | None = Field(default=None, ge=1)
    validation_fold: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _folds_exist(self) -> Self:
        for setting in ("test_fold", "validation_fold"):
            fold = getattr(self, setting)
            if fold is not None and fold > self.folds:
                raise ValueError(f"{setting}={fold}: there are folds 1 to {self.folds}")
        if self.validation_fold == self.test:
            raise ValueError(f"validation_fold={self.validation_fold} is also the test fold")
        return self

    @property
    def test(self) -> int:
        """The fold of the test split."""
        return self.test_fold or self.folds

    def split_of(self, fold: int) -> str:
        """train, validation or test."""
        if fold == self.test:
            return "test"
        return "validation" if fold == self.validation_fold else "train"

    def rule(self) -> str:
        """The split in words."""
        validation = f", fold {self.validation_fold} validation" if self.validation_fold else ""
        return f"official folds: fold {self.test} test{validation}, the others train"

    def counts(self, sizes: Sequence[int]) -> dict[str, int]:
        """Recordings per split, from the sizes of folds 1, 2, ..."""
        counts = dict.fromkeys(map(self.split_of, range(1, self.folds + 1)), 0)
        for fold, size in enumerate(sizes, start=1):
            counts[self.split_of(fold)] += size
        return counts


@DATASETS.register("esc50")
class Esc50Config(FoldConfig):
    """``audio/{fold}-{clip id}-{take}-{target}.wav``, listed in ``meta/esc50.csv``.

    subset: ``all``, or ``esc10``: the ten classes (and their ids) of dataset ``esc10``.
    Group = source recording; the official folds have four of them in two folds.
    """

    folder: ClassVar[str] = "esc50"
    modalities: ClassVar[tuple[str, ...]] = ("audio",)
    summary: ClassVar[str] = "ESC-50: 50 environmental sounds, 5 folds of 400 clips, 44.1 kHz, 5 s"
    licence: ClassVar[str] = "CC BY-NC 3.0 (the ESC-10 subset CC BY 3.0)"
    how_to_get: ClassVar[str] = "git clone https://github.com/karolpiczak/ESC-50 esc50"
    # The commit fixes the content. GitHub makes archives on request and publishes no checksum.
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            "https://github.com/karolpiczak/ESC-50/archive/"
            "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip"
        ),
    )

    subset: Literal["all", "esc10"] = "all"

    def build(self, root: Path) -> Manifest:
        """UserError names the line of ``meta/esc50.csv`` that contradicts itself."""
        entries(root, EXPECTED)
        table = root / "meta" / "esc50.csv"
        if not table.is_file() or not (root / "audio").is_dir():
            raise wrong_folder(root, EXPECTED)
        recordings = [
            self._recording(root, row, f"{table}, line {line}")
            for line, row in csv_rows(table, COLUMNS)
            if self.subset == "all" or row["category"] in ESC10
        ]
        return Manifest(
            name="esc50" if self.subset == "all" else "esc50-esc10",
            modality="audio",
            class_names=self._names(),
            recordings=tuple(recordings),
            version="ESC-50 (2,000 clips)",
            licence=self.licence,
            citation=CITATION,
            split_rule=self.rule(),
            group_overlap=known_overlap(recordings, IN_TWO_FOLDS),
            root=root,
        )

    def expected_counts(self) -> dict[str, int]:
        """Recordings per split of the full set."""
        return self.counts([PER_CLASS_AND_FOLD * len(self._names())] * FOLDS)

    def _names(self) -> tuple[str, ...]:
        return CATEGORIES if self.subset == "all" else ESC10

    def _recording(self, root: Path, row: dict[str, str], where: str) -> Recording:
        name, category = row["filename"], row["category"]
        match = NAME.fullmatch(name)
        if match is None:
            raise UserError(
                f"{where}: filename {name!r} is not of the form 1-100032-A-0.wav "
                "({fold}-{clip id}-{take}-{target}.wav)."
            )
        if category not in CATEGORIES:
            raise UserError(f"{where}: category {category!r} is none of the 50 of ESC-50.")
        target = str(CATEGORIES.index(category))
        told = (row["fold"], row["src_file"], row["take"], row["target"])
        if told != match.groups() or target != match[4]:
            raise UserError(
                f"{where}: {name!r} contradicts its fold, src_file, take, target or category "
                f"({', '.join(told)}, {category} = {target}); restore the official file."
            )
        return Recording(
            uid=f"audio/{name}",
            labels=(self._names().index(category),),
            split=self.split_of(int(match[1])),
            path=root / "audio" / name,
            group=match[2],
        )
