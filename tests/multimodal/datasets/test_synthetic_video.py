"""The synthetic clips: deterministic, canonical, honest splits, and motion that fits the class."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from multimodal.datasets import DATASETS
from multimodal.datasets.synthetic.video import (
    ACTIONS,
    COLOURS,
    SHAPES,
    SyntheticVideoConfig,
    path,
    render,
)
from multimodal.modalities.video import VideoConfig
from multimodal.recordings import Manifest

NOWHERE = Path("nowhere")
TRAIN_TEST = ("train", "test")
GOLDEN = "b5aff5c21d09875a"  # of the clip in the test below, in steps of four levels


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return SyntheticVideoConfig(train_per_class=20, test_per_class=8).build(NOWHERE)


def clips(manifest: Manifest, split: str) -> np.ndarray:
    made = [manifest.recordings[i].make for i in manifest.indices(split)]
    return np.stack([make() for make in made if make is not None])


def test_is_registered_and_called_synthetic(manifest: Manifest) -> None:
    assert DATASETS.config("synthetic_video") is SyntheticVideoConfig
    assert SyntheticVideoConfig.synthetic
    assert manifest.synthetic
    assert manifest.modality == "video"
    assert not NOWHERE.exists()


def test_counts_classes_and_objects(manifest: Manifest) -> None:
    assert manifest.class_names == tuple(ACTIONS)
    assert manifest.num_classes == 12
    for split, count in (("train", 20), ("test", 8)):
        labels = manifest.labels[manifest.indices(split)]
        assert np.bincount(labels, minlength=12).tolist() == [count] * 12
    groups = {s: set(manifest.groups[manifest.indices(s)]) for s in ("train", "test")}
    assert not groups["train"] & groups["test"]
    assert groups["test"] <= {f"{c} {s}" for c in COLOURS for s in SHAPES}
    for position, names in ((0, COLOURS), (1, SHAPES)):
        for split in groups:
            assert {g.split()[position] for g in groups[split]} == set(names)


def test_captions_say_object_and_action(manifest: Manifest) -> None:
    for r in manifest:
        colour, shape = r.group.split()
        action = manifest.class_names[r.label]
        assert any(r.text.endswith(caption) for caption in ACTIONS[action])
        assert f"{colour} {shape}" in r.text
        assert r.text.startswith("two " if action in ("meet", "part") else ("a ", "an "))
        assert not r.text.startswith("a orange")
    assert len({caption for texts in ACTIONS.values() for caption in texts}) == sum(
        len(texts) for texts in ACTIONS.values()
    )


def test_clips_are_in_the_canonical_form_of_the_default_adapter(manifest: Manifest) -> None:
    adapter = VideoConfig().build()
    for r in manifest.recordings[::37]:
        assert r.make is not None
        clip = r.make()
        assert (clip.shape, clip.dtype) == ((8, 3, 32, 32), np.uint8)
        np.testing.assert_array_equal(adapter.load(r).numpy(), clip)
        other = VideoConfig(frames=4, size=48).build().load(r)
        assert other.shape == (4, 3, 48, 48)


def test_same_config_same_clips_and_another_seed_others(manifest: Manifest) -> None:
    again = SyntheticVideoConfig(train_per_class=20, test_per_class=8).build(NOWHERE)
    assert again.content_hash == manifest.content_hash
    np.testing.assert_array_equal(clips(again, "test"), clips(manifest, "test"))
    assert len({clip.tobytes() for clip in clips(manifest, "train")}) == 240
    other = SyntheticVideoConfig(seed=1, train_per_class=20, test_per_class=8).build(NOWHERE)
    assert other.content_hash != manifest.content_hash
    assert (clips(other, "test") != clips(manifest, "test")).mean() > 0.5


def test_more_clips_leave_the_first_ones_as_they_are(manifest: Manifest) -> None:
    small = SyntheticVideoConfig(train_per_class=3, test_per_class=2).build(NOWHERE)
    known = {r.uid: r for r in manifest}
    for r in small:
        same = known[r.uid]
        assert (same.text, same.group, same.labels) == (r.text, r.group, r.labels)
        assert r.make is not None
        assert same.make is not None
        np.testing.assert_array_equal(r.make(), same.make())


def test_the_bytes_of_one_clip_do_not_change_with_the_version() -> None:
    clip = render("move_left", "red", "square", (0, 0, 0, 0)).astype(np.int64)
    digest = hashlib.sha256((clip // 4).tobytes()).hexdigest()
    assert digest.startswith(GOLDEN), "raise GENERATOR_VERSION and the golden digest together"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("action", ACTIONS)
def test_paths_follow_the_action_and_stay_in_view(action: str, seed: int) -> None:
    objects = path(action, np.random.default_rng(seed))
    centres, radii = objects[0]
    step = np.diff(centres, axis=0)
    assert all((c > 0).all() and (c < 31).all() for c, _ in objects)
    kind, _, direction = action.partition("_")
    if kind == "move":
        axis, sign = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}[direction]
        assert (sign * step[:, axis] > 1).all()
        assert np.allclose(step[:, 1 - axis], 0)
    elif kind == "orbit":
        # y points downwards, so a positive cross product of steps turns clockwise on the screen.
        turn = step[:-1, 0] * step[1:, 1] - step[:-1, 1] * step[1:, 0]
        assert ((turn if direction == "clockwise" else -turn) > 0).all()
    elif kind == "swing":
        axis = 0 if direction == "sideways" else 1
        assert np.allclose(step[:, 1 - axis], 0)
        assert {-1.0, 1.0} <= set(np.sign(step[:, axis]))
    elif kind in ("grow", "shrink"):
        assert np.allclose(step, 0)
        assert ((np.diff(radii) > 0) == (kind == "grow")).all()
    else:
        apart = np.linalg.norm(centres - objects[1][0], axis=1)
        assert ((np.diff(apart) > 0) == (kind == "part")).all()


def test_a_linear_probe_on_raw_pixels_stays_below_60_percent() -> None:
    manifest = SyntheticVideoConfig(train_per_class=50, test_per_class=25).build(NOWHERE)
    pixels = [clips(manifest, s).reshape(-1, 8 * 3 * 32 * 32) for s in TRAIN_TEST]
    train, test = (p.astype(np.float32) / 255 - 0.5 for p in pixels)
    labels = [manifest.labels[manifest.indices(s)] for s in TRAIN_TEST]
    # Ridge regression on one-hot labels, in its dual form: 600 clips are fewer than pixels.
    kernel = train @ train.T + 100 * np.eye(len(train))
    weights = np.linalg.solve(kernel, np.eye(12)[labels[0]] - 1 / 12)
    accuracy = ((test @ train.T @ weights).argmax(1) == labels[1]).mean()
    assert 1 / 12 < accuracy < 0.6


@pytest.mark.parametrize("fields", [{"num_classes": 1}, {"num_classes": 13}, {"seed": -1}])
def test_config_refuses(fields: dict) -> None:
    with pytest.raises(ValidationError):
        SyntheticVideoConfig.parse(fields)
