"""SLURP on a tiny copy of the official layout."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.slurp import SlurpConfig
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError


def prompt(scenario: str, action: str, *files: str, intent: str | None = None) -> str:
    entry = {
        "slurp_id": 1,
        "sentence": f"please {action} the {scenario}\u2028now",
        "intent": intent or f"{scenario}_{action}",
        "action": action,
        "scenario": scenario,
        "recordings": [{"file": f, "wer": 0, "status": "correct"} for f in files],
        "entities": [{"span": [4], "type": "time"}],
    }
    return json.dumps(entry, ensure_ascii=False)


def make_copy(root: Path, **tables: list[str]) -> Path:
    folder = root / "dataset" / "slurp"
    folder.mkdir(parents=True)
    content = {
        "train": [prompt("alarm", "set", "audio-1-headset.flac", "audio-1.flac", "audio-2.flac")],
        "devel": [prompt("play", "music", "audio-3-headset.flac", intent="music")],
        "test": [prompt("alarm", "set", "audio-4.flac"), prompt("cooking", "recipe", "a-5.flac")],
        "train_synthetic": [prompt("play", "music", "audio-synth-6.flac")],
    }
    for name, lines in {**content, **tables}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_tiny_copy(tmp_path: Path) -> None:
    manifest = SlurpConfig().build(make_copy(tmp_path))
    # Scenario and action name the class, whatever the field "intent" says.
    assert manifest.class_names == ("alarm_set", "cooking_recipe", "play_music")
    assert Counter(manifest.splits) == {"train": 3, "validation": 1, "test": 2}
    rows = {r.uid: r for r in manifest}
    both = [rows[f"slurp_real/audio-1{kind}.flac"] for kind in ("", "-headset")]
    assert {r.group for r in both} == {"audio-1"}
    assert both[0].path == tmp_path / "audio" / "slurp_real" / "audio-1.flac"
    assert both[0].text == "please set the alarm\u2028now"
    row = rows["slurp_real/audio-3-headset.flac"]
    assert (row.label, row.split, row.group) == (2, "validation", "audio-3")


def test_scenario_labels(tmp_path: Path) -> None:
    manifest = SlurpConfig(label="scenario").build(make_copy(tmp_path))
    assert manifest.class_names == ("alarm", "cooking", "play")


@pytest.mark.parametrize(
    ("microphone", "counts"),
    [
        ("headset", {"train": 1, "validation": 1}),
        ("distant", {"train": 2, "test": 2}),
    ],
)
def test_microphones(tmp_path: Path, microphone: str, counts: dict[str, int]) -> None:
    manifest = SlurpConfig.parse({"microphone": microphone}).build(make_copy(tmp_path))
    assert Counter(manifest.splits) == counts
    assert manifest.num_classes == 3
    assert f"{microphone} files only" in manifest.split_rule


def test_synthetic_speech(tmp_path: Path) -> None:
    manifest = SlurpConfig(synthetic_train=True).build(make_copy(tmp_path))
    row = next(r for r in manifest if "synth" in r.uid)
    assert (row.split, row.label) == ("train", 2)
    assert row.path == tmp_path / "audio" / "slurp_synth" / "audio-synth-6.flac"
    new = [prompt("qa", "query", "audio-synth-7.flac")]
    root = make_copy(tmp_path / "new", train_synthetic=new)
    with pytest.raises(UserError, match=r"train_synthetic\.jsonl, line 1: 'qa_query' occurs in no"):
        SlurpConfig(synthetic_train=True).build(root)


def spoken(words: str, *entities: object, **changes: object) -> str:
    """A prompt of these tokens, whose sentence is spelled otherwise, for both microphones."""
    line = json.loads(prompt("alarm", "set", "audio-7-headset.flac", "audio-7.flac"))
    tokens = [{"surface": word, "id": i} for i, word in enumerate(words.split(" "))]
    return json.dumps({**line, "tokens": tokens, "entities": entities, **changes})


def entity(kind: object, *span: object) -> dict[str, object]:
    return {"type": kind, "span": list(span)}


def build_test(root: Path, line: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """The slots of the test split, which is this line."""
    tables = {name: [spoken("wake me up").replace("audio-7", name)] for name in ("train", "devel")}
    make_copy(root, **tables, test=[line])
    return {r.uid: r.slots for r in SlurpConfig(slots=True).build(root) if r.split == "test"}


def test_slots_are_the_entities(tmp_path: Path) -> None:
    """Words of tokens in lower case, apostrophes too, in the file's order, a type twice."""
    words = "Siri wake me at eight O'Clock and at half past Nine"
    entities = [entity("time", 8, 9, 10), entity("person", 0), entity("time", 4, 5)]
    slots = (("time", "half past nine"), ("person", "siri"), ("time", "eight o'clock"))
    found = build_test(tmp_path, spoken(words, *entities))
    assert found == {"slurp_real/audio-7-headset.flac": slots, "slurp_real/audio-7.flac": slots}
    plain = SlurpConfig()
    assert plain.build(tmp_path).slots is None
    assert "slots" not in plain.dump()
    assert SlurpConfig.parse({"slots": True}).dump()["slots"] is True


def test_spans_name_tokens_by_their_ids(tmp_path: Path) -> None:
    tokens = [{"surface": "wake", "id": 3}, {"surface": "Me", "id": 1}]
    line = spoken("", entity("person", 1), tokens=tokens)
    assert set(build_test(tmp_path, line).values()) == {(("person", "me"),)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (spoken("wake me", entity("time", 2)), r"'time' has the span \[2\], .* of its 2 tokens"),
        (spoken("wake me", entity("time", 0, -1)), r"has the span \[0, -1\], which is outside"),
        (spoken("wake me", entity("time", True)), r"has the span \[True\], which is outside"),
        (spoken("wake me", entity("time", [0])), "is outside"),
        (spoken("wake me", entity("time")), r"slot \('time', ''\): its value is empty"),
        (spoken("wake me", entity("", 1)), r"slot \('', 'me'\): its type is empty"),
        (spoken("wake m\ne", entity("who", 1)), "its value breaks a line"),
        (spoken("wake me", entity("w\no", 1)), "its type breaks a line"),
        (spoken("wake me", entity(None, 1)), "entity .* has no type"),
        (spoken("wake me", "time"), "entity 'time' has no type"),
        (spoken("wake me", {"type": "time", "span": 1}), r"no span \(a list\)"),
        (spoken("wake me", tokens=None), r"slots need tokens and entities \(lists\)"),
        (spoken("wake me", entities={}), "slots need tokens and entities"),
        (spoken("", tokens=["wake"]), "token 'wake' has no id of its own"),
        (spoken("", tokens=[{"surface": 1, "id": 1}]), r"no surface \(text\)"),
        (spoken("", tokens=[{"surface": "a", "id": 1}] * 2), "no id of its own"),
    ],
)
def test_bad_slots(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"test\.jsonl, line 1: .*{message}"):
        build_test(tmp_path, line)
    assert len(SlurpConfig().build(tmp_path)) == 6  # nobody else minds


def test_a_capture_on_both_sides_is_refused(tmp_path: Path) -> None:
    root = make_copy(tmp_path, devel=[prompt("play", "music", "audio-4-headset.flac")])
    with pytest.raises(UserError, match=r"both sides of a split \(audio-4\)"):
        SlurpConfig().build(root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "needs scenario, action, sentence"),
        ('{"scenario": "a", "action": "b", "sentence": 3, "recordings": []}', "needs scenario"),
        ('{"scenario": "a", "action": "b", "sentence": "c"}', r"and recordings \(a list\)"),
        (prompt("a", "b", "../x.flac"), "is no name of a recording"),
        (prompt("a", "b", "x.wav"), "is no name of a recording"),
    ],
)
def test_bad_line(tmp_path: Path, line: str, message: str) -> None:
    root = make_copy(tmp_path, test=[prompt("alarm", "set", "audio-4.flac"), line])
    with pytest.raises(UserError, match=rf"test\.jsonl, line 2.*{message}"):
        SlurpConfig().build(root)


def test_wrong_folder(tmp_path: Path) -> None:
    (tmp_path / "slurp_real").mkdir()
    with pytest.raises(UserError, match=r"expected dataset/slurp/train\.jsonl.*found slurp_real/"):
        SlurpConfig().build(tmp_path)
    root = make_copy(tmp_path / "slurp")
    (root / "dataset" / "slurp" / "train_synthetic.jsonl").unlink()
    assert len(SlurpConfig().build(root)) == 6
    with pytest.raises(UserError, match=r"train_synthetic\.jsonl does not exist"):
        SlurpConfig(synthetic_train=True).build(root)


def test_expected_counts() -> None:
    counts = SlurpConfig().expected_counts()
    assert counts == {"train": 50_628, "validation": 8_690, "test": 13_078}
    assert isinstance(counts["train"], Unverified)
    every = SlurpConfig(synthetic_train=True).expected_counts()
    assert every["train"] == 119_881
    headset = SlurpConfig(microphone="headset").expected_counts()
    assert headset == {"validation": 4_173, "test": 6_281}


def test_is_registered() -> None:
    assert DATASETS.config("slurp") is SlurpConfig
