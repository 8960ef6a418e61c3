"""A user's own compositional items, and what every compositional set refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.check import check
from multimodal.datasets import DATASETS
from multimodal.datasets.compositional import CompositionalConfig
from multimodal.datasets.compositional_items import CompositionalItemsConfig
from multimodal.errors import UserError
from multimodal.modalities.audio import AudioConfig

FILES = ("a.wav", "sub/b.wav", "c,d [1];.wav", "é.wav")
ODD = 'rain; then [a "bell"], \\ {"x": 1}\u2028 end'


def make_files(root: Path) -> Path:
    for number, name in enumerate(FILES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, np.full(80, 0.1 * (number + 1)), 8_000)
    return root


def item(*signals: str, **more) -> dict:
    captions = [f"caption of {name}" for name in signals]
    return {"signals": list(signals), "captions": captions, **more}


def build(root: Path, *lines: dict | str, **settings):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (root / "items.jsonl").write_text(text, encoding="utf-8")
    return CompositionalItemsConfig(**settings).build_compositional(root)


def test_items_and_their_rows(tmp_path: Path) -> None:
    root = make_files(tmp_path)
    found = build(
        root,
        item("sub/b.wav", "a.wav", tags={"relation": "order", "events": 2, "hard": True}),
        {"signals": ["é.wav", "c,d [1];.wav", "a.wav"], "captions": [ODD, " two ", "three"]},
    )
    assert found.counts == {2: 1, 3: 1}
    assert len(found) == 2
    assert found.summary == "compositional unversioned: 2 items: 1 of 2, 1 of 3"
    rows = [[found.manifest.recordings[r] for r in rows] for rows in found.items]
    assert [r.path for r in rows[0]] == [root / "sub/b.wav", root / "a.wav"]
    assert [r.path for r in rows[1]] == [root / "é.wav", root / "c,d [1];.wav", root / "a.wav"]
    assert [r.text for r in rows[1]] == [ODD, "two", "three"]
    assert rows[0][1].text == "caption of a.wav"  # the same file has another caption elsewhere
    assert found.tags == ({"relation": "order", "events": "2", "hard": "true"}, {})
    assert found.names[1] == f"{root / 'items.jsonl'}, data row 2"
    manifest = found.manifest
    assert set(manifest.splits) == {"test"}
    assert (manifest.modality, manifest.synthetic, manifest.class_names) == ("audio", False, ())
    assert CompositionalItemsConfig().build(root).content_hash == manifest.content_hash


def test_items_keep_their_order_where_the_manifest_has_another(tmp_path: Path) -> None:
    """It sorts by uid, and member 10 comes before member 2."""
    names = [f"{i}.wav" for i in range(12)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    found = build(tmp_path, item(*names), item(*reversed(names)))
    for rows, order in zip(found.items, (names, names[::-1]), strict=True):
        recordings = [found.manifest.recordings[row] for row in rows]
        assert [r.group for r in recordings] == order
        assert [r.text for r in recordings] == [f"caption of {name}" for name in order]


def test_another_modality_and_synthetic_items(tmp_path: Path) -> None:
    root = make_files(tmp_path)
    (root / "sub" / "t.jsonl").write_text(
        json.dumps(item("a.wav", "é.wav", tags={"synthetic": True}))
    )
    config = CompositionalItemsConfig(file="sub/t.jsonl", modality="speech")
    manifest = config.build(root)
    assert (manifest.modality, manifest.synthetic) == ("speech", True)


BAD = [
    (item("a.wav"), r"data row 2: 1 recording\(s\); an item needs two or more"),
    (item(), r"0 recording\(s\); an item needs two"),
    (item("a.wav", "a.wav"), "data row 2: caption 'caption of a.wav' stands 2 times"),
    (
        {"signals": ["a.wav", "sub/../a.wav"], "captions": ["x", "y"]},
        r"data row 2: file 'a\.wav' stands 2 times in one item",
    ),
    ({"signals": ["a.wav", "é.wav"], "captions": ["x  y", " x y "]}, "caption 'x y' stands 2"),
    ({"signals": ["a.wav", "é.wav"], "captions": ["x", "  "]}, "captions holds an empty text"),
    ({"signals": ["a.wav", "é.wav"], "captions": ["x"]}, "2 signals but 1 captions"),
    ({"signals": ["a.wav", "é.wav"], "captions": "xy"}, 'captions is "xy"; give a list of texts'),
    ({"signals": ["a.wav", 3], "captions": ["x", "y"]}, "signals is .*give a list of texts"),
    ({"captions": ["x", "y"]}, "data row 2: signals is missing; give a list of texts"),
    (item("a.wav", "é.wav", tag={"x": "y"}), "unknown key 'tag'; valid: signals, captions, tags"),
    (item("a.wav", "é.wav", tags=["x"]), "tags are .*give an object"),
    (item("a.wav", "é.wav", tags={"x": {"y": 1}}), "tags are .*give an object"),
    (item("a.wav", "../x.wav"), r"data row 2: signal '\.\./x\.wav' leads out of the data root"),
    (item("a.wav", "/etc/passwd"), "signal '/etc/passwd' leads out of the data root"),
    ("[1]", "data row 2 is not a JSON object"),
    ('{"signals": [],', "data row 2 is not JSON"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_item_names_its_line(tmp_path: Path, line, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(make_files(tmp_path), item("a.wav", "é.wav"), line)


def test_all_missing_files_and_all_bad_items_are_named_at_once(tmp_path: Path) -> None:
    root = make_files(tmp_path)
    lines = [item("a.wav", f"gone {i}.wav") for i in range(12)] + [item("sub", "gone 3.wav")]
    with pytest.raises(UserError) as caught:
        build(root, *lines)
    (line,) = str(caught.value).splitlines()
    assert all(f"gone {i}.wav" in line for i in range(12))
    assert "13 of 14 files are missing" in line  # a folder is no file
    with pytest.raises(UserError) as caught:
        build(root, item("a.wav"), item("a.wav", "é.wav"), item("a.wav", "a.wav"))
    assert len(str(caught.value).splitlines()) == 2


def test_links_to_one_file_cannot_be_told_apart(tmp_path: Path) -> None:
    root = make_files(tmp_path)
    (root / "link.wav").symlink_to("a.wav")
    with pytest.raises(UserError, match=r"file 'a\.wav' stands 2 times"):
        build(root, item("a.wav", "link.wav"))


def test_no_table(tmp_path: Path) -> None:
    root = make_files(tmp_path)
    with pytest.raises(UserError, match=r"items\.jsonl does not exist"):
        CompositionalItemsConfig().build(root)
    with pytest.raises(UserError, match=r"'a\.wav' must be a \.jsonl"):
        CompositionalItemsConfig(file="a.wav").build(root)
    with pytest.raises(UserError, match="leads out of the data root"):
        CompositionalItemsConfig(file="../items.jsonl").build(root)
    with pytest.raises(UserError, match="has no rows"):
        build(root)


def test_a_set_for_tests_only_passes_the_check(tmp_path: Path) -> None:
    root = make_files(tmp_path)
    manifest = build(root, item("a.wav", "é.wav")).manifest
    adapter = AudioConfig(sample_rate=8_000).build()
    counts = CompositionalItemsConfig().expected_counts()
    assert check(manifest, adapter, expected=counts, progress=False).errors == []
    assert check(manifest, adapter, progress=False).errors == ["no train recordings"]


def test_is_registered() -> None:
    assert DATASETS.config("compositional") is CompositionalItemsConfig
    assert issubclass(CompositionalItemsConfig, CompositionalConfig)
