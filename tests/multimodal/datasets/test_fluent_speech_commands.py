"""Fluent Speech Commands on a tiny copy of the official layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.fluent_speech_commands import (
    INTENTS,
    FluentSpeechCommandsConfig,
    class_name,
    slots_of,
)
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError

HEADER = ",path,speakerId,transcription,action,object,location"
ROWS = (
    ('"Turn on the lights, please"', "activate,lights,none"),
    ("Turn on the kitchen lights", "activate,lights,kitchen"),
    ("Switch to Chinese", "change language,Chinese,none"),
)


def lines(speaker: str, rows: tuple[tuple[str, str], ...] = ROWS) -> list[str]:
    return [
        f"{i},wavs/speakers/{speaker}/{speaker}-{i}.wav,{speaker},{text},{triple}"
        for i, (text, triple) in enumerate(rows)
    ]


def make_copy(root: Path, **tables: list[str]) -> Path:
    (root / "data").mkdir(parents=True)
    (root / "wavs" / "speakers").mkdir(parents=True)
    content = {"train": lines("AAA") + lines("BBB"), "valid": lines("CCC"), "test": lines("DDD")}
    for name, rows in {**content, **tables}.items():
        (root / "data" / f"{name}_data.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return root


def test_intents() -> None:
    """31 distinct triples and names, with some ids of the authors' order."""
    assert len(set(INTENTS)) == len({class_name(i) for i in INTENTS}) == 31
    assert INTENTS[0] == ("change language", "none", "none")
    assert INTENTS[13] == ("activate", "lights", "washroom")
    assert INTENTS[22] == ("decrease", "heat", "washroom")
    assert INTENTS[30] == ("bring", "shoes", "none")


def test_tiny_copy(tmp_path: Path) -> None:
    manifest = FluentSpeechCommandsConfig().build(make_copy(tmp_path))
    assert Counter(manifest.splits) == {"train": 6, "validation": 3, "test": 3}
    rows = {r.uid: r for r in manifest}
    first = rows["wavs/speakers/AAA/AAA-0.wav"]
    assert first.text == "Turn on the lights, please"  # the quoted comma does not end the cell
    assert (first.label, first.group, first.split) == (2, "AAA", "train")
    assert first.path == tmp_path / "wavs" / "speakers" / "AAA" / "AAA-0.wav"
    # "none" is a value: another intent than the same lights in the kitchen.
    assert manifest.class_names[first.label] == "activate lights"
    assert manifest.class_names[rows["wavs/speakers/CCC/CCC-1.wav"].label] == (
        "activate lights kitchen"
    )
    assert rows["wavs/speakers/DDD/DDD-2.wav"].label == 26


def test_slots_are_asked_for(tmp_path: Path) -> None:
    root = make_copy(tmp_path)
    plain, config = FluentSpeechCommandsConfig(), FluentSpeechCommandsConfig(slots=True)
    assert plain.build(root).slots is None
    found = {r.uid.rpartition("/")[2]: r.slots for r in config.build(root) if r.split == "test"}
    assert found == {
        "DDD-0.wav": (("object", "lights"),),
        "DDD-1.wav": (("object", "lights"), ("location", "kitchen")),
        "DDD-2.wav": (("object", "chinese"),),
    }
    assert "slots" not in plain.dump()
    assert DATASETS.parse(config.dump()) == config


def test_slots_of_every_intent() -> None:
    """The values of the specification; "none" is never one."""
    pairs = Counter(slot for intent in INTENTS for slot in slots_of(intent))
    assert {value for kind, value in pairs if kind == "location"} == {
        *("kitchen", "bedroom", "washroom"),
    }
    assert {value for kind, value in pairs if kind == "object"} == {
        *("music", "lights", "volume", "heat", "lamp", "newspaper", "juice", "socks", "shoes"),
        *("chinese", "korean", "english", "german"),
    }
    assert pairs["object", "lights"] == 8
    assert slots_of(INTENTS[0]) == ()


def test_speaker_on_both_sides_is_refused(tmp_path: Path) -> None:
    moved = [line.replace("AAA-", "AAA-x") for line in lines("AAA")]
    with pytest.raises(UserError, match=r"both sides of a split \(AAA\)"):
        FluentSpeechCommandsConfig().build(make_copy(tmp_path, test=moved))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,wavs/speakers/D/a.wav,D,x,activate,lights,garage", "activate, lights, garage is none"),
        ("0,wavs/speakers/D/a.wav,D,x,activate,lights,", "is none of the 31 intents"),
        ("0,wavs/speakers/D/a.wav,D,x,change language,chinese,none", "capitalised"),
        ("0,wavs/speakers/E/a.wav,D,x,activate,lights,none", "with speaker 'D'"),
        ("0,../speakers/D/a.wav,D,x,activate,lights,none", "is not of the form"),
        ("0,wavs/speakers/../a.wav,..,x,activate,lights,none", "is not of the form"),
        ("0,wavs/speakers/D/a.wav,D,on, please,activate,lights,none", "8 cells for 7 columns"),
    ],
)
def test_bad_row(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"test_data\.csv, line 2: .*{message}"):
        FluentSpeechCommandsConfig().build(make_copy(tmp_path, test=[row]))


def test_wrong_folder(tmp_path: Path) -> None:
    (tmp_path / "fluent_speech_commands_dataset").mkdir()
    with pytest.raises(UserError, match=r"expected data/train_data\.csv.*found fluent_speech_comm"):
        FluentSpeechCommandsConfig().build(tmp_path)


def test_expected_counts_sum_to_the_published_total() -> None:
    counts = FluentSpeechCommandsConfig().expected_counts()
    assert sum(counts.values()) == 30_043
    assert all(isinstance(n, Unverified) for n in counts.values())


def test_is_registered() -> None:
    assert DATASETS.config("fluent_speech_commands") is FluentSpeechCommandsConfig
