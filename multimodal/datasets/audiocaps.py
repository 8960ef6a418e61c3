"""AudioCaps: ten-second sounds of videos with captions (Kim et al., NAACL 2019)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.csv_files import csv_rows
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

TABLES = {"train": "train", "validation": "val", "test": "test"}
ROWS = {"validation": 2_475, "test": 4_875}
TRAIN_ROWS = {"v1": 49_838, "v2": 91_256}
COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")
# Ids are text: they may start with "-" or "_", or look like numbers.
ID, START = re.compile(r"[A-Za-z0-9_-]{11}"), re.compile(r"[0-9]+")
AUDIO = "audio_32000Hz"


@DATASETS.register("audiocaps")
class AudioCapsConfig(DatasetConfig):
    """``csv_files_{version}/{train,val,test}.csv`` and ``audio_32000Hz/{split}/{id}_{start}.flac``.

    The layout is that of the package aac-datasets. Captions are the texts, one recording a
    caption (validation and test clips have five); there are no classes, so recordings have no
    labels. Group = video.

    The sounds are not distributed: everybody cuts them from the videos that still exist.
    Captions without a file are left out, and the manifest's version says how many there are:
    results on different parts do not compare. extension: of the sound files.
    """

    folder: ClassVar[str] = "audiocaps"
    modalities: ClassVar[tuple[str, ...]] = ("audio",)
    summary: ClassVar[str] = "AudioCaps: 51,308 ten-second sounds with captions"
    licence: ClassVar[str] = "academic use only"
    how_to_get: ClassVar[str] = (
        "The sounds must be cut from the videos; the package aac-datasets does so "
        "(aac-datasets-download audiocaps). Rename its folder AUDIOCAPS to audiocaps or set root."
    )

    version: Literal["v1", "v2"] = "v1"
    extension: str = ".flac"

    def build(self, root: Path) -> Manifest:
        """UserError for other columns, bad ids or seconds, and if there is no sound at all."""
        tables = {s: root / f"csv_files_{self.version}" / f"{n}.csv" for s, n in TABLES.items()}
        expected = f"csv_files_{self.version}/ with train.csv, val.csv, test.csv and {AUDIO}/"
        entries(root, expected)
        if not all(t.is_file() for t in tables.values()) or not (root / AUDIO).is_dir():
            raise wrong_folder(root, expected)
        every = [
            self._recording(root, row, split, f"{table}, line {line}")
            for split, table in tables.items()
            for line, row in csv_rows(table, COLUMNS)
        ]
        present = tuple(r for r in every if r.path is not None and r.path.is_file())
        if not present:
            raise UserError(
                f"{root / AUDIO}: none of the {len(every)} captions has its sound; expected files "
                f"such as {every[0].path if every else AUDIO}."
            )
        return Manifest(
            name="audiocaps",
            modality="audio",
            class_names=(),
            recordings=present,
            version=f"{self.version}: {len(present)} of {len(every)} captions have their sound",
            licence=self.licence,
            citation="C. D. Kim et al., AudioCaps, NAACL-HLT 2019",
            split_rule="official: train.csv, val.csv, test.csv",
            root=root,
        )

    def expected_counts(self) -> dict[str, int]:
        """Captions per split of the full set."""
        return {"train": TRAIN_ROWS[self.version], **ROWS}

    def _recording(self, root: Path, row: dict[str, str], split: str, where: str) -> Recording:
        video, start = row["youtube_id"], row["start_time"]
        if ID.fullmatch(video) is None or START.fullmatch(start) is None:
            raise UserError(
                f"{where}: youtube_id {video!r} must have 11 characters (letters, digits, - or _) "
                f"and start_time {start!r} must be whole seconds."
            )
        name = f"{video}_{start}{self.extension}"
        return Recording(
            uid=f"{row['audiocap_id']}/{name}",
            labels=(),
            split=split,
            path=root / AUDIO / TABLES[split] / name,
            group=video,
            text=row["caption"].strip(),
        )
