"""Clotho v2.1: sounds with five captions each (Drossos et al., ICASSP 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.csv_files import csv_rows
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.downloads import Download
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

FOLDERS = {"train": "development", "validation": "validation", "test": "evaluation"}
CLIPS = {"train": 3_839, "validation": 1_045, "test": 1_045}
CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))
COLUMNS = ("file_name", *CAPTIONS)
EXPECTED = "clotho_csv_files/clotho_captions_development.csv, ... and clotho_audio_files/"
# Checksums of the files of Zenodo's record, as the package aac-datasets states them.
ZENODO = "https://zenodo.org/records/4783391/files"
SOUND_ARCHIVES = {
    "development": "md5:c8b05bc7acdb13895bb3c6a29608667e",
    "validation": "md5:7dba730be08bada48bd15dc4e668df59",
    "evaluation": "md5:4569624ccadf96223f19cb59fe4f849f",
}
TABLES = {
    "captions_development": "md5:d4090b39ce9f2491908eebf4d5b09bae",
    "captions_validation": "md5:5879e023032b22a2c930aaa0528bead4",
    "captions_evaluation": "md5:1b16b9e57cf7bdb7f13a13802aeb57e2",
    "metadata_development": "md5:170d20935ecfdf161ce1bb154118cda5",
    "metadata_validation": "md5:2e010427c56b1ce6008b0f03f41048ce",
    "metadata_evaluation": "md5:13946f054d4e1bf48079813aac61bf77",
}


def _table(name: str, checksum: str) -> Download:
    url = f"{ZENODO}/clotho_{name}.csv"
    return Download(url, checksum=checksum, unpack=False, into="clotho_csv_files")


def _sounds(name: str, checksum: str) -> Download:
    file = f"clotho_audio_{name}.7z"
    by_hand = f"7z x archives/{file} -oclotho_audio_files"
    return Download(
        f"{ZENODO}/{file}", checksum=checksum, unpack=False, into="archives", by_hand=by_hand
    )


@DATASETS.register("clotho")
class ClothoConfig(DatasetConfig):
    """``clotho_audio_files/{split}/*.wav`` and ``clotho_csv_files/clotho_captions_{split}.csv``.

    Captions are the texts; there are no classes, so recordings have no labels.
    captions: ``all`` makes five recordings of each clip, one a caption, with uids that end in #1
    to #5; ``first`` makes one. Group = the clip.
    """

    folder: ClassVar[str] = "clotho"
    modalities: ClassVar[tuple[str, ...]] = ("audio",)
    summary: ClassVar[str] = "Clotho v2.1: 5,929 sounds of 15 to 30 s with five captions each"
    licence: ClassVar[str] = "differs a file: column license of clotho_metadata_*.csv"
    how_to_get: ClassVar[str] = (
        "Unpack the archives of https://zenodo.org/records/4783391 into clotho/clotho_audio_files "
        "and put the CSV files into clotho/clotho_csv_files."
    )
    downloads: ClassVar[tuple[Download, ...]] = (
        *(_table(*item) for item in TABLES.items()),
        *(_sounds(*item) for item in SOUND_ARCHIVES.items()),
    )

    captions: Literal["all", "first"] = "all"

    def build(self, root: Path) -> Manifest:
        """UserError for other columns, empty captions and names that leave their folder."""
        entries(root, EXPECTED)
        recordings: list[Recording] = []
        for split, name in FOLDERS.items():
            table = root / "clotho_csv_files" / f"clotho_captions_{name}.csv"
            if not table.is_file() or not (root / "clotho_audio_files").is_dir():
                raise wrong_folder(root, EXPECTED)
            for line, row in csv_rows(table, COLUMNS):
                where = f"{table}, line {line}"
                recordings += self._recordings(root, row, split, where)
        return Manifest(
            name="clotho",
            modality="audio",
            class_names=(),
            recordings=tuple(recordings),
            version="2.1",
            licence=self.licence,
            citation="K. Drossos, S. Lipping, T. Virtanen, Clotho, ICASSP 2020, arXiv:1910.09387",
            split_rule="official: development train, validation, evaluation test",
            root=root,
        )

    def expected_counts(self) -> dict[str, int]:
        """Recordings per split of the full set."""
        return {split: clips * self._number() for split, clips in CLIPS.items()}

    def _number(self) -> int:
        return len(CAPTIONS) if self.captions == "all" else 1

    def _recordings(
        self, root: Path, row: dict[str, str], split: str, where: str
    ) -> list[Recording]:
        name, folder = row["file_name"], FOLDERS[split]
        if not name or name == ".." or "/" in name or "\\" in name:
            raise UserError(f"{where}: file_name {name!r} is not the name of a file.")
        recordings = []
        for number, column in enumerate(CAPTIONS[: self._number()], start=1):
            text = row[column].strip()
            if not text:
                raise UserError(f"{where}: {column} is empty; restore the official file.")
            recordings.append(
                Recording(
                    uid=f"{folder}/{name}#{number}",
                    labels=(),
                    split=split,
                    path=root / "clotho_audio_files" / folder / name,
                    group=f"{folder}/{name}",
                    text=text,
                )
            )
        return recordings
