"""Fluent Speech Commands: spoken intents (Lugosch et al., arXiv:1904.03670)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.csv_files import csv_rows
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording, Slots

# (action, object, location); position = class id, in the order of the authors' loader.
INTENTS = (
    ("change language", "none", "none"),
    ("activate", "music", "none"),
    ("activate", "lights", "none"),
    ("deactivate", "lights", "none"),
    ("increase", "volume", "none"),
    ("decrease", "volume", "none"),
    ("increase", "heat", "none"),
    ("decrease", "heat", "none"),
    ("deactivate", "music", "none"),
    ("activate", "lamp", "none"),
    ("deactivate", "lamp", "none"),
    ("activate", "lights", "kitchen"),
    ("activate", "lights", "bedroom"),
    ("activate", "lights", "washroom"),
    ("deactivate", "lights", "kitchen"),
    ("deactivate", "lights", "bedroom"),
    ("deactivate", "lights", "washroom"),
    ("increase", "heat", "kitchen"),
    ("increase", "heat", "bedroom"),
    ("increase", "heat", "washroom"),
    ("decrease", "heat", "kitchen"),
    ("decrease", "heat", "bedroom"),
    ("decrease", "heat", "washroom"),
    ("bring", "newspaper", "none"),
    ("bring", "juice", "none"),
    ("bring", "socks", "none"),
    ("change language", "Chinese", "none"),
    ("change language", "Korean", "none"),
    ("change language", "English", "none"),
    ("change language", "German", "none"),
    ("bring", "shoes", "none"),
)
IDS = {intent: i for i, intent in enumerate(INTENTS)}
TABLES = {"train": "train_data.csv", "validation": "valid_data.csv", "test": "test_data.csv"}
COUNTS = {"train": 23_132, "validation": 3_118, "test": 3_793}
# The first column, a row number, has no name.
COLUMNS = ("", "path", "speakerId", "transcription", "action", "object", "location")
PATH = re.compile(r"wavs/speakers/([^/\\]+)/[^/\\]+\.wav")
EXPECTED = "data/train_data.csv, data/valid_data.csv, data/test_data.csv and wavs/speakers/"


def class_name(intent: tuple[str, str, str]) -> str:
    """The words of (action, object, location) that are not "none"; distinct for all 31 intents."""
    return " ".join(word for word in intent if word != "none")


def slots_of(intent: tuple[str, str, str]) -> Slots:
    """Object and location of (action, object, location), in lower case, without "none"."""
    pairs = zip(("object", "location"), intent[1:], strict=True)
    return tuple((kind, value.lower()) for kind, value in pairs if value != "none")


@DATASETS.register("fluent_speech_commands")
class FluentSpeechCommandsConfig(DatasetConfig):
    """``wavs/speakers/{speaker}/{uuid}.wav``, listed in ``data/{train,valid,test}_data.csv``.

    Class = the triple of action, object and location; 31 occur. "none" is a value: ("activate",
    "lights", "none") is another intent than ("activate", "lights", "kitchen"). Texts are the
    transcripts, group = speaker; the official splits share no speaker.

    slots: take object and location, in lower case, where they are not "none".
    """

    folder: ClassVar[str] = "fluent_speech_commands"
    modalities: ClassVar[tuple[str, ...]] = ("speech",)
    summary: ClassVar[str] = "Fluent Speech Commands: 31 spoken intents, 97 speakers, 16 kHz"
    licence: ClassVar[str] = "Fluent Speech Commands Public License (PDF in the archive)"
    how_to_get: ClassVar[str] = (
        "Ask for it at https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-"
        "understanding-research/ and unpack the archive; rename fluent_speech_commands_dataset "
        "to fluent_speech_commands or set root."
    )

    slots: bool = Field(default=False, exclude_if=lambda on: not on)

    def build(self, root: Path) -> Manifest:
        """UserError names the line with an unknown triple or a path outside wavs/speakers/."""
        entries(root, EXPECTED)
        tables = {split: root / "data" / name for split, name in TABLES.items()}
        if not all(t.is_file() for t in tables.values()) or not (root / "wavs").is_dir():
            raise wrong_folder(root, EXPECTED)
        return Manifest(
            name="fluent_speech_commands",
            modality="speech",
            class_names=tuple(class_name(intent) for intent in INTENTS),
            recordings=tuple(
                _recording(root, row, split, f"{table}, line {line}", slots=self.slots)
                for split, table in tables.items()
                for line, row in csv_rows(table, COLUMNS)
            ),
            version="unnamed release (2019)",
            licence=self.licence,
            citation=(
                "L. Lugosch et al., Speech Model Pre-training for End-to-End Spoken Language "
                "Understanding, Interspeech 2019"
            ),
            split_rule="official: train_data.csv, valid_data.csv, test_data.csv",
            root=root,
        )

    def expected_counts(self) -> dict[str, int]:
        """Reported recordings per split."""
        return {split: Unverified(count) for split, count in COUNTS.items()}


def _recording(
    root: Path, row: dict[str, str], split: str, where: str, *, slots: bool
) -> Recording:
    intent = (row["action"], row["object"], row["location"])
    if intent not in IDS:
        raise UserError(
            f"{where}: action, object, location {', '.join(intent)} is none of the 31 intents; "
            "restore the official file (names of languages are capitalised)."
        )
    match = PATH.fullmatch(row["path"])
    if match is None or match[1] != row["speakerId"] or match[1] == "..":
        raise UserError(
            f"{where}: path {row['path']!r} is not of the form wavs/speakers/{{speaker}}/"
            f"{{uuid}}.wav with speaker {row['speakerId']!r}."
        )
    return Recording(
        uid=row["path"],
        labels=(IDS[intent],),
        split=split,
        path=root / row["path"],
        group=row["speakerId"],
        text=row["transcription"],
        slots=slots_of(intent) if slots else (),
    )
