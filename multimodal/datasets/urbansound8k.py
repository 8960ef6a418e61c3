"""UrbanSound8K (Salamon, Jacoby and Bello, ACM Multimedia 2014, CC BY-NC 3.0)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from multimodal.datasets import DATASETS
from multimodal.datasets.csv_files import csv_rows
from multimodal.datasets.esc50 import FoldConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import known_overlap
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
FOLD_SIZES = (873, 888, 925, 990, 936, 823, 838, 806, 816, 837)
# Source recordings with slices of two classes, which the official folds put into two folds.
IN_TWO_FOLDS = frozenset({"180937", "77751", "132016", "176638", "106905"})
TABLE = "UrbanSound8K.csv"
COLUMNS = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
NAME = re.compile(r"([0-9]+)-([0-9])-[0-9]+-[0-9]+\.wav")
EXPECTED = f"metadata/{TABLE} and folders audio/fold1 to audio/fold10"


@DATASETS.register("urbansound8k")
class UrbanSound8kConfig(FoldConfig):
    """``audio/fold{k}/{fsID}-{classID}-{occurrence}-{slice}.wav``, listed in the metadata.

    Group = fsID, the source recording: all its slices share a fold, but for five recordings. The
    published protocol is the mean over ten test folds; one fold's accuracy does not compare with
    it. Classes are unbalanced (gun_shot 374, car_horn 429, seven of 1,000 slices). Slices last
    0.05 to 4 s; rate, depth and channels are the uploaders'.
    """

    folder: ClassVar[str] = "urbansound8k"
    folds: ClassVar[int] = 10
    modalities: ClassVar[tuple[str, ...]] = ("audio",)
    summary: ClassVar[str] = "UrbanSound8K: 10 city sounds, 8,732 slices of at most 4 s, 10 folds"
    licence: ClassVar[str] = "CC BY-NC 3.0 (credits in FREESOUNDCREDITS.txt)"
    how_to_get: ClassVar[str] = (
        "Fill in the form on https://urbansounddataset.weebly.com/urbansound8k.html and unpack "
        "the archive; rename UrbanSound8K to urbansound8k or set root."
    )

    def build(self, root: Path) -> Manifest:
        """UserError names the line of the metadata that contradicts itself."""
        entries(root, EXPECTED)
        table = root / "metadata" / TABLE
        if not table.is_file() or not (root / "audio").is_dir():
            raise wrong_folder(root, EXPECTED)
        recordings = [
            self._recording(root, row, f"{table}, line {line}")
            for line, row in csv_rows(table, COLUMNS)
        ]
        return Manifest(
            name="urbansound8k",
            modality="audio",
            class_names=CLASSES,
            recordings=tuple(recordings),
            version="UrbanSound8K (8,732 slices)",
            licence=self.licence,
            citation=(
                "J. Salamon, C. Jacoby, J. P. Bello, A Dataset and Taxonomy for Urban Sound "
                "Research, ACM MM 2014"
            ),
            split_rule=self.rule(),
            group_overlap=known_overlap(recordings, IN_TWO_FOLDS),
            root=root,
        )

    def expected_counts(self) -> dict[str, int]:
        """Recordings per split of the full set."""
        return self.counts(FOLD_SIZES)

    def _recording(self, root: Path, row: dict[str, str], where: str) -> Recording:
        name, fold = row["slice_file_name"], row["fold"]
        match = NAME.fullmatch(name)
        if match is None:
            raise UserError(
                f"{where}: slice_file_name {name!r} is not of the form 100032-3-0-0.wav "
                "({fsID}-{classID}-{occurrence}-{slice}.wav)."
            )
        if fold not in {str(number) for number in range(1, self.folds + 1)}:
            raise UserError(f"{where}: fold {fold!r} is none of 1 to {self.folds}.")
        label = int(match[2])
        if (row["fsID"], row["classID"], row["class"]) != (match[1], match[2], CLASSES[label]):
            raise UserError(
                f"{where}: {name!r} contradicts its fsID, classID or class ({row['fsID']}, "
                f"{row['classID']}, {row['class']}); restore the official file."
            )
        return Recording(
            uid=f"audio/fold{fold}/{name}",
            labels=(label,),
            split=self.split_of(int(fold)),
            path=root / "audio" / f"fold{fold}" / name,
            group=match[1],
        )
