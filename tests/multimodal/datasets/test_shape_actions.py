"""The reader of the coloured shapes, on tiny copies and on the real one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.shape_actions import ACTIONS, ShapeActionsConfig
from multimodal.errors import UserError

COLOURS = ("bluegreen", "darkish_purple", "dull_green")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Three actions, three colours, two shapes, two takes; no file holds a video."""
    for action in ACTIONS:
        folder = tmp_path / "shape_actions" / "actions" / action
        folder.mkdir(parents=True)
        for colour in COLOURS:
            for shape in ("star", "circle"):
                for take in (1, 2):
                    (folder / f"{colour}_{shape}_{take}.mp4").write_bytes(b"x")
    (tmp_path / "shape_actions" / "LICENSE").write_text("")
    return tmp_path / "shape_actions"


def test_is_registered() -> None:
    assert DATASETS.config("shape_actions") is ShapeActionsConfig
    config = ShapeActionsConfig.parse({"test_colours": ["bluegreen"]})
    assert config.test_colours == ("bluegreen",)


def test_whole_colours_are_held_out(copy: Path) -> None:
    manifest = ShapeActionsConfig().build(copy)
    assert len(manifest) == 36
    assert (manifest.class_names, manifest.modality) == (ACTIONS, "video")
    assert manifest.group_overlap == ""
    assert manifest.split_rule == "colours held out for test: darkish_purple"
    for r in manifest:
        assert r.path == copy / r.uid
        _, action, name = r.uid.split("/")
        assert manifest.class_names[r.label] == action
        assert name.startswith(f"{r.group}_")
        assert r.group in COLOURS
        assert (r.split == "test") == (r.group == "darkish_purple")
    texts = {r.uid: r.text for r in manifest}
    assert texts["actions/vertical/darkish_purple_star_1.mp4"] == "a purple star moving up and down"
    assert texts["actions/circular/dull_green_circle_2.mp4"] == "a green circle moving in a circle"


def test_several_test_colours(copy: Path) -> None:
    config = ShapeActionsConfig(test_colours=("dull_green", "bluegreen"))
    manifest = config.build(copy)
    assert set(manifest.groups[manifest.indices("train")]) == {"darkish_purple"}
    assert config.expected_counts() == {"train": 45, "test": 90}


@pytest.mark.parametrize(
    ("colours", "words"),
    [
        (("red",), "there is no colour 'red'; colours in the data: bluegreen, darkish_purple"),
        ((), "it names no colour"),
        (COLOURS, "no colour is left to train on"),
    ],
)
def test_bad_test_colours(copy: Path, colours: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ShapeActionsConfig(test_colours=colours).build(copy)


@pytest.mark.parametrize("name", ["star_1.mp4", "bluegreen_star_1.avi", "bluegreen_star.mp4"])
def test_unknown_file_is_named(copy: Path, name: str) -> None:
    (copy / "actions" / "circular" / name).write_text("")
    with pytest.raises(UserError, match=f"{name}: not a clip of shape_actions"):
        ShapeActionsConfig().build(copy)


def test_wrong_folders(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*actions/"):
        ShapeActionsConfig().build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected a folder actions/ .*; found shape_actions/\."):
        ShapeActionsConfig().build(tmp_path)
    for path in (copy / "actions" / "vertical").iterdir():
        path.unlink()
    (copy / "actions" / "vertical").rmdir()
    with pytest.raises(UserError, match=r"vertical/; found LICENSE, actions/\."):
        ShapeActionsConfig().build(copy)


@pytest.mark.realdata
def test_real_copy_has_the_expected_counts(real_data: Path) -> None:
    config = ShapeActionsConfig()
    manifest = config.build(real_data / "shape_actions")
    assert dict(Counter(manifest.splits)) == config.expected_counts() == {"train": 90, "test": 45}
    assert Counter(manifest.labels.tolist()) == {0: 45, 1: 45, 2: 45}
    assert len(set(manifest.groups)) == 3
    colours = {r.text.split()[1] for r in manifest}
    assert colours == {"bluegreen", "purple", "green"}
