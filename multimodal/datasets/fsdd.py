"""Free Spoken Digit Dataset: English digits, 8 kHz (Jackson et al., CC BY-SA 4.0)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import refuse_held_out
from multimodal.downloads import Download
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"([0-9])_([^_]+)_([0-9]+)\.wav")
EXPECTED = "a folder recordings/ with files such as 7_jackson_32.wav"
SPEAKERS, TAKES = 6, 50


@DATASETS.register("fsdd")
class FsddConfig(DatasetConfig):
    """``recordings/{digit}_{speaker}_{index}.wav``; class names and texts are the words.

    split: ``official`` tests on index 0-4 and trains on the rest, so that every speaker stands on
    both sides; ``speaker`` holds out all recordings of ``test_speakers`` instead.
    validation: under the official split, index 5-9 become the validation split. That rule is
    Medley's, not the dataset's.
    """

    folder: ClassVar[str] = "fsdd"
    modalities: ClassVar[tuple[str, ...]] = ("speech",)
    summary: ClassVar[str] = "Free Spoken Digit Dataset: 10 English digits, 6 speakers, 8 kHz"
    licence: ClassVar[str] = "CC BY-SA 4.0"
    how_to_get: ClassVar[str] = (
        "git clone https://github.com/Jakobovski/free-spoken-digit-dataset fsdd"
    )
    # The last tag. GitHub makes archives on request and publishes no checksum of them.
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
        ),
    )

    split: Literal["official", "speaker"] = "official"
    test_speakers: tuple[str, ...] = ("theo", "yweweler")
    validation: bool = False

    def build(self, root: Path) -> Manifest:
        """UserError for a file with another name, or test speakers that cannot be held out."""
        if self.validation and self.split == "speaker":
            raise UserError(
                "validation=true takes index 5-9 of the official split; with split='speaker' "
                "set validation=false."
            )
        rows = _read(root)
        speakers = sorted({speaker for _, _, speaker, _ in rows})
        if self.split == "speaker":
            refuse_held_out(
                "test_speakers",
                self.test_speakers,
                speakers,
                kind="speaker",
                empty="it names nobody",
            )
        return Manifest(
            name="fsdd",
            modality="speech",
            class_names=DIGITS,
            recordings=tuple(
                Recording(
                    uid=path.relative_to(root).as_posix(),
                    labels=(digit,),
                    split=self._split(speaker, index),
                    path=path,
                    group=speaker,
                    text=DIGITS[digit],
                )
                for path, digit, speaker, index in rows
            ),
            # The releases (v1.0.0 to v1.0.10) leave no mark in the files.
            version=f"unnamed release: {len(rows)} files, {len(speakers)} speakers",
            licence=self.licence,
            citation="Z. Jackson et al., free-spoken-digit-dataset, doi:10.5281/zenodo.1342401",
            split_rule=self._rule(),
            group_overlap="the official split shares speakers" if self.split == "official" else "",
            root=root,
        )

    def expected_counts(self) -> dict[str, int]:
        """Recordings per split of the full set of 6 speakers with 50 takes of each digit."""
        takes = len(DIGITS) * SPEAKERS
        if self.split == "speaker":
            test = len(set(self.test_speakers)) * len(DIGITS) * TAKES
            return {"train": takes * TAKES - test, "test": test}
        if self.validation:
            return {"train": takes * (TAKES - 10), "validation": takes * 5, "test": takes * 5}
        return {"train": takes * (TAKES - 5), "test": takes * 5}

    def _split(self, speaker: str, index: int) -> str:
        if self.split == "speaker":
            return "test" if speaker in self.test_speakers else "train"
        if index < 5:
            return "test"
        return "validation" if self.validation and index < 10 else "train"

    def _rule(self) -> str:
        if self.split == "speaker":
            return f"speakers held out for test: {', '.join(sorted(set(self.test_speakers)))}"
        if self.validation:
            return "official: index 0-4 test; index 5-9 validation (Medley's rule), 10-49 train"
        return "official: index 0-4 test, 5-49 train"


def _read(root: Path) -> list[tuple[Path, int, str, int]]:
    """(path, digit, speaker, index) of every recording."""
    folder = root / "recordings"
    entries(root, EXPECTED)
    if not folder.is_dir():
        raise wrong_folder(root, EXPECTED)
    rows = []
    for path in entries(folder, EXPECTED):
        match = NAME.fullmatch(path.name)
        if match is None:
            raise UserError(
                f"{path}: not a recording of fsdd; expected names such as 7_jackson_32.wav "
                "({digit}_{speaker}_{index}.wav); move other files away."
            )
        rows.append((path, int(match[1]), match[2], int(match[3])))
    if not rows:
        raise wrong_folder(folder, "files such as 7_jackson_32.wav")
    return rows
