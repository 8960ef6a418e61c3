"""SLURP: spoken language understanding (Bastianelli et al., EMNLP 2020)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.slots import checked
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording, Slots

TABLES = {"train": "train", "validation": "devel", "test": "test"}
SYNTHETIC = "train_synthetic"
COUNTS = {
    "both": {"train": Unverified(50_628), "validation": 8_690, "test": 13_078},
    "headset": {"validation": 4_173, "test": 6_281},
    "distant": {"validation": 8_690 - 4_173, "test": 13_078 - 6_281},
}
SYNTHETIC_COUNT = 69_253
HEADSET = "-headset"
FILE = re.compile(r"[^/\\]+\.flac")
EXPECTED = "dataset/slurp/train.jsonl, devel.jsonl, test.jsonl and audio/slurp_real/"


@DATASETS.register("slurp")
class SlurpConfig(DatasetConfig):
    """``audio/slurp_real/*.flac``, listed in ``dataset/slurp/{train,devel,test}.jsonl``.

    label: ``intent`` = scenario + "_" + action (the field "intent" contradicts these two in a few
    lines and is not read), or ``scenario``. The classes are those that occur in the three official
    files, in alphabetical order.
    microphone: headset files, distant ones, or both. synthetic_train: train on
    ``train_synthetic.jsonl`` (``audio/slurp_synth``) too, whose files count as distant; its classes
    must occur in the other files.

    Texts are the prompts. Group = capture: a file's name without "-headset", since one utterance
    was often recorded by both microphones.

    slots: take the entities of the prompts, in the order of the file: type, and the words of its
    tokens in lower case (not those of the prompt, which are spelled otherwise in some lines), as
    the official scorer does.
    """

    folder: ClassVar[str] = "slurp"
    modalities: ClassVar[tuple[str, ...]] = ("speech",)
    summary: ClassVar[str] = "SLURP: spoken requests to a home assistant, 18 scenarios, 16 kHz"
    licence: ClassVar[str] = "audio CC BY-NC 4.0, text CC BY 4.0"
    how_to_get: ClassVar[str] = (
        "git clone https://github.com/pswietojanski/slurp slurp; unpack slurp_real.tar.gz (and "
        "slurp_synth.tar.gz) of https://zenodo.org/records/4274930 into slurp/audio."
    )

    label: Literal["intent", "scenario"] = "intent"
    microphone: Literal["both", "headset", "distant"] = "both"
    synthetic_train: bool = False
    slots: bool = Field(default=False, exclude_if=lambda on: not on)

    def build(self, root: Path) -> Manifest:
        """UserError names the file and line that is not as documented."""
        entries(root, EXPECTED)
        folder = root / "dataset" / "slurp"
        tables = [(split, folder / f"{name}.jsonl") for split, name in TABLES.items()]
        if not all(table.is_file() for _, table in tables):
            raise wrong_folder(root, EXPECTED)
        prompts = [(split, *p) for split, table in tables for p in _prompts(table)]
        names = tuple(sorted({self._class(prompt) for _, _, prompt in prompts}))
        ids = {name: i for i, name in enumerate(names)}
        if self.synthetic_train:
            prompts += [("train", *p) for p in _prompts(folder / f"{SYNTHETIC}.jsonl")]
        recordings = []
        for split, where, prompt in prompts:
            name = self._class(prompt)
            if name not in ids:
                raise UserError(f"{where}: {name!r} occurs in none of the official splits.")
            recordings += self._recordings(root, where, prompt, split, ids[name])
        return Manifest(
            name="slurp",
            modality="speech",
            class_names=names,
            recordings=tuple(recordings),
            version="1.0",
            licence=self.licence,
            citation="E. Bastianelli et al., SLURP, EMNLP 2020, arXiv:2011.13205",
            split_rule=self._rule(),
            root=root,
        )

    def expected_counts(self) -> dict[str, int]:
        """Official recordings per split; the train split's number is not known for every choice."""
        counts: dict[str, int] = dict(COUNTS[self.microphone])
        if self.synthetic_train:
            real = counts.pop("train", None)
            if real is not None:
                counts["train"] = Unverified(real + SYNTHETIC_COUNT)
        return counts

    def _class(self, prompt: dict[str, Any]) -> str:
        scenario = prompt["scenario"]
        return scenario if self.label == "scenario" else f"{scenario}_{prompt['action']}"

    def _rule(self) -> str:
        synthetic = " and synthetic" if self.synthetic_train else ""
        files = "all files" if self.microphone == "both" else f"{self.microphone} files only"
        return f"official: train{synthetic}, devel = validation, test; {files}"

    def _recordings(
        self, root: Path, where: str, prompt: dict[str, Any], split: str, label: int
    ) -> Iterator[Recording]:
        slots = _slots(prompt, where) if self.slots else ()
        for entry in prompt["recordings"]:
            name = entry.get("file") if isinstance(entry, dict) else None
            if not isinstance(name, str) or FILE.fullmatch(name) is None:
                raise UserError(f"{where}: {name!r} is no name of a recording such as audio-1.flac")
            stem = name.removesuffix(".flac")
            wanted = "headset" if stem.endswith(HEADSET) else "distant"
            if self.microphone not in ("both", wanted):
                continue
            folder = "slurp_synth" if "synth" in name else "slurp_real"
            yield Recording(
                uid=f"{folder}/{name}",
                labels=(label,),
                split=split,
                path=root / "audio" / folder / name,
                group=stem.removesuffix(HEADSET),
                text=prompt["sentence"],
                slots=slots,
            )


def _slots(prompt: dict[str, Any], where: str) -> Slots:
    """Of a prompt's entities; UserError for a span outside its tokens, and other forms."""
    tokens, entities = prompt.get("tokens"), prompt.get("entities")
    if not isinstance(tokens, list) or not isinstance(entities, list):
        raise UserError(f"{where}: slots need tokens and entities (lists); set dataset.slots=false")
    words: dict[int, str] = {}
    for token in tokens:
        number, word = _fields(token, "id", "surface")
        if type(number) is not int or number in words or not isinstance(word, str):
            raise UserError(f"{where}: token {token!r} has no id of its own, or no surface (text).")
        words[number] = word.lower()
    slots = []
    for entity in entities:
        kind, span = _fields(entity, "type", "span")
        if not isinstance(kind, str) or not isinstance(span, list):
            raise UserError(f"{where}: entity {entity!r} has no type (text) or no span (a list).")
        if not all(type(number) is int and number in words for number in span):
            raise UserError(
                f"{where}: entity {kind!r} has the span {span}, which is outside of its "
                f"{len(words)} tokens; restore the official file."
            )
        slots.append((kind, " ".join(words[number] for number in span)))
    return checked(slots, where)


def _fields(entry: Any, *names: str) -> list[Any]:
    """The values of an object's keys, None where it lacks one or is no object."""
    return [entry.get(name) if isinstance(entry, dict) else None for name in names]


def _prompts(table: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and line, prompt) of every line; UserError for a line of another form."""
    if not table.is_file():
        raise UserError(f"{table} does not exist; restore it from the SLURP repository.")
    try:
        # Not splitlines(): JSON strings may hold the other line separators of Unicode.
        lines = table.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is not UTF-8 text ({error.reason}).") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{table}, line {number}"
        try:
            prompt = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is not JSON: {error}.") from error
        texts = ("scenario", "action", "sentence")
        fields = prompt if isinstance(prompt, dict) else {}
        if not all(isinstance(fields.get(key), str) for key in texts) or not isinstance(
            fields.get("recordings"), list
        ):
            raise UserError(f"{where}: needs {', '.join(texts)} (text) and recordings (a list).")
        yield where, fields
