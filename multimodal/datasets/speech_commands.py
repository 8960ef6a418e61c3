"""Google Speech Commands v0.01 and v0.02 (Warden, arXiv:1804.03209, CC BY 4.0)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import field_validator

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import Unverified
from multimodal.downloads import Download
from multimodal.errors import UserError, did_you_mean
from multimodal.recordings import Manifest, Recording
from multimodal.registry import Distinct

V2_ONLY = ("backward", "follow", "forward", "learn", "visual")
V2_LIST = (
    "backward bed bird cat dog down eight five follow forward four go happy house learn left "
    "marvin nine no off on one right seven sheila six stop three tree two up visual wow yes zero"
)
V2_WORDS = tuple(V2_LIST.split())
WORDS = {"v0.01": tuple(w for w in V2_WORDS if w not in V2_ONLY), "v0.02": V2_WORDS}
COUNTS = {
    "v0.01": {"train": 51_088, "validation": 6_798, "test": 6_835},
    "v0.02": {"train": Unverified(84_843), "validation": 9_981, "test": 11_005},
}
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
NAME = re.compile(r"(.+)_nohash_[0-9]+\.wav")
EXPECTED = "validation_list.txt, testing_list.txt and one folder a word"


@DATASETS.register("speech_commands")
class SpeechCommandsConfig(DatasetConfig):
    """``WORD/{speaker hash}_nohash_{n}.wav`` and the two official lists; texts are the words.

    The files may lie in the root itself, in ``speech_commands_v0.02`` or, as torchaudio unpacks
    them, in ``SpeechCommands/speech_commands_v0.02``; uids are relative to that inner folder.
    Recordings in neither list are the training split; ``_background_noise_`` is no class.

    words: a subset of the version's words, for subsets of the data or of the task. None: all,
    and all must be there. Classes are in alphabetical order either way. In YAML, yes, no, on and
    off need quotes.
    """

    folder: ClassVar[str] = "speech_commands"
    modalities: ClassVar[tuple[str, ...]] = ("speech",)
    summary: ClassVar[str] = "Google Speech Commands: 30 (v0.01) or 35 (v0.02) words, 16 kHz"
    licence: ClassVar[str] = "CC BY 4.0"
    how_to_get: ClassVar[str] = (
        "Unpack http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz into the folder "
        "speech_commands."
    )
    # Size and checksum as TensorFlow Datasets and torchaudio state them.
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            "https://storage.googleapis.com/download.tensorflow.org/data/"
            "speech_commands_v0.02.tar.gz",
            bytes=2_428_923_189,
            checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            into="speech_commands_v0.02",
        ),
    )

    version: Literal["v0.01", "v0.02"] = "v0.02"
    words: Distinct | None = None

    @field_validator("words", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        # YAML 1.1 reads four of the words, unquoted, as true and false.
        if any(isinstance(word, bool) for word in value):
            raise ValueError('write "yes", "no", "on" and "off" in quotes')
        return tuple(value)

    def build(self, root: Path) -> Manifest:
        """UserError for missing or foreign word folders and for list entries without a file."""
        words = self._words()
        base = self._base(root)
        self._refuse_folders(base, words)
        listed = {u: s for u, s in self._read_lists(base).items() if u.split("/")[0] in words}
        recordings = []
        for label, word in enumerate(words):
            for path in entries(base / word, "recordings"):
                uid = f"{word}/{path.name}"
                recordings.append(_recording(path, uid, label, word, listed.pop(uid, "train")))
        if listed:
            uid = min(listed)
            raise UserError(
                f"{base / LISTS[listed[uid]]}: {uid!r} is listed but there is no such file "
                f"({len(listed)} missing in all); unpack the archive again."
            )
        return Manifest(
            name="speech_commands",
            modality="speech",
            class_names=words,
            recordings=tuple(recordings),
            version=self.version,
            licence=self.licence,
            citation="P. Warden, Speech Commands, arXiv:1804.03209, 2018",
            split_rule="official: testing_list.txt test, validation_list.txt validation",
            root=base,
        )

    def expected_counts(self) -> dict[str, int] | None:
        """Official recordings per split; None for a subset of the words."""
        complete = set(self._words()) == set(WORDS[self.version])
        return dict(COUNTS[self.version]) if complete else None

    def _words(self) -> tuple[str, ...]:
        known = list(WORDS[self.version])
        if self.words is None:
            return tuple(known)
        for word in self.words:
            if word not in known:
                raise UserError(
                    f"words: {word!r} is no word of speech_commands {self.version}"
                    f"{did_you_mean(word, known)}"
                )
        if not self.words:
            raise UserError("words is empty; name some words, or leave it out for all.")
        return tuple(sorted(set(self.words)))

    def _base(self, root: Path) -> Path:
        entries(root, EXPECTED)
        inner = f"speech_commands_{self.version}"
        for base in (root, root / inner, root / "SpeechCommands" / inner):
            if all((base / name).is_file() for name in LISTS.values()):
                return base
        raise wrong_folder(root, f"{EXPECTED} (here, in {inner}/ or in SpeechCommands/{inner}/)")

    def _refuse_folders(self, base: Path, words: tuple[str, ...]) -> None:
        folders = [e.name for e in entries(base, EXPECTED) if e.is_dir()]
        foreign = set(folders) - set(WORDS[self.version]) - {"_background_noise_"}
        if foreign:
            hint = "; is it v0.02?" if foreign <= set(V2_ONLY) else ""
            raise UserError(
                f"{base}: {', '.join(sorted(foreign))} is no word of speech_commands "
                f"{self.version}{hint}"
            )
        missing = sorted(set(words) - set(folders))
        if missing:
            hint = "is it v0.01? " if set(missing) == set(V2_ONLY) else ""
            raise UserError(
                f"{base}: no folder of the word(s) {', '.join(missing)}; {hint}"
                "If the data are a subset, name its words with the setting words."
            )

    def _read_lists(self, base: Path) -> dict[str, str]:
        """uid -> split of every listed recording."""
        listed: dict[str, str] = {}
        for split, name in LISTS.items():
            lines = (base / name).read_text(encoding="utf-8").splitlines()
            for number, line in enumerate(lines, start=1):
                uid, where = line.strip(), f"{base / name}, line {number}"
                if not uid:
                    continue
                word, slash, _ = uid.partition("/")
                if not slash or word not in WORDS[self.version]:
                    raise UserError(
                        f"{where}: {uid!r} is not of the form word/file.wav with a word of "
                        f"speech_commands {self.version}."
                    )
                if listed.setdefault(uid, split) != split:
                    raise UserError(f"{where}: {uid!r} is in both lists; keep one entry.")
        return listed


def _recording(path: Path, uid: str, label: int, word: str, split: str) -> Recording:
    match = NAME.fullmatch(path.name)
    if match is None:
        raise UserError(
            f"{path}: not a recording of speech_commands; expected names such as "
            "0a7c2a8d_nohash_0.wav; move other files away."
        )
    return Recording(uid=uid, labels=(label,), split=split, path=path, group=match[1], text=word)
