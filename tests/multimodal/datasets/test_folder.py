"""A user's folders of recordings, and the seeded split that folders and tables share."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.datasets import DATASETS
from multimodal.datasets.folder import FolderConfig
from multimodal.datasets.splits import class_order, seeded_split
from multimodal.errors import UserError


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(8, dtype=np.float32), 8000)


def splits_of(manifest) -> dict[str, str]:
    return {r.uid: r.split for r in manifest}


def test_seeded_split_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, *[f"{c}/{i}.wav" for c in ("dog", "cat") for i in range(10)])
    manifest = FolderConfig(root="x").build(tmp_path)
    assert DATASETS.config("folder") is FolderConfig
    assert manifest.class_names == ("cat", "dog")
    assert manifest.modality == "speech"
    for name in ("cat", "dog"):
        rows = [r for r in manifest if r.uid.startswith(name)]
        assert all(manifest.class_names[r.label] == name for r in rows)
        assert sum(r.split == "test" for r in rows) == 2
        assert sum(r.split == "train" for r in rows) == 8
    assert splits_of(manifest) == splits_of(FolderConfig().build(tmp_path))
    assert splits_of(manifest) != splits_of(FolderConfig(seed=1).build(tmp_path))
    assert manifest.split_rule == "seeded: test_fraction 0.2, seed 0"


def test_named_splits(tmp_path: Path) -> None:
    write(
        tmp_path, "train/a/1.wav", "train/b/1.wav", "test/a/1.wav", "test/b/2.wav", "valid/a/3.wav"
    )
    (tmp_path / "README.md").write_text("")
    manifest = FolderConfig().build(tmp_path)
    assert splits_of(manifest) == {
        "train/a/1.wav": "train",
        "train/b/1.wav": "train",
        "test/a/1.wav": "test",
        "test/b/2.wav": "test",
        "valid/a/3.wav": "validation",
    }
    assert manifest.class_names == ("a", "b")
    write(tmp_path, "validation/b/4.wav")
    assert splits_of(FolderConfig().build(tmp_path))["validation/b/4.wav"] == "validation"


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write(tmp_path, "train/1.wav", "train/2.wav", "dog/1.wav", "dog/2.wav")
    assert FolderConfig().build(tmp_path).class_names == ("dog", "train")


def test_folder_beside_named_splits(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.wav", "test/a/1.wav", "more/a/1.wav")
    with pytest.raises(UserError, match=r"more/ beside them.*valid names: dev, eval, test, "):
        FolderConfig().build(tmp_path)


def test_groups_stay_whole(tmp_path: Path) -> None:
    names = [f"{c}/{s}_{i}.wav" for c in ("yes", "no") for s in "pqrst" for i in range(3)]
    write(tmp_path, *names)
    manifest = FolderConfig(group_pattern="^([a-z])_").build(tmp_path)
    assert set(manifest.groups) == set("pqrst")
    test = set(manifest.groups[manifest.indices("test")])
    assert len(test) == 1
    assert len(manifest.indices("test")) == 6


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("([", r"group_pattern '\(\[' is not a regular expression"),
        ("^[a-z]+_", "has 0 groups; it needs exactly one"),
        ("^([a-z])_(.)", "has 2 groups"),
        ("^([0-9]+)_", "finds no group in 'p_1'"),
        ("^([0-9]*)", "finds no group in 'p_1'"),
    ],
)
def test_bad_group_pattern(tmp_path: Path, pattern: str, words: str) -> None:
    write(tmp_path, "yes/p_1.wav", "yes/q_1.wav")
    with pytest.raises(UserError, match=words):
        FolderConfig(group_pattern=pattern).build(tmp_path)


def test_class_of_one_group(tmp_path: Path) -> None:
    write(tmp_path, "yes/p_1.wav", "yes/q_1.wav", "no/p_1.wav", "no/p_2.wav")
    with pytest.raises(UserError, match="class 'no' has recordings of one group only"):
        FolderConfig(group_pattern="^(.)_").build(tmp_path)


def test_leak_between_named_splits(tmp_path: Path) -> None:
    write(tmp_path, "train/a/p_1.wav", "test/a/p_2.wav")
    with pytest.raises(UserError, match="both sides of a split"):
        FolderConfig(group_pattern="^(.)_").build(tmp_path)


def test_hidden_and_other_files_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, "a/1.wav", "a/2.WAV", "a/3.flac", "a/.4.wav", ".git/1.wav")
    (tmp_path / "a" / "1.txt").write_text("")
    assert set(splits_of(FolderConfig().build(tmp_path))) == {"a/1.wav", "a/2.WAV", "a/3.flac"}
    only = FolderConfig(extensions=("wav",), modality="audio").build(tmp_path)
    assert set(splits_of(only)) == {"a/1.wav", "a/2.WAV"}
    assert only.modality == "audio"


def test_files_in_no_class_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "loose.wav", "b.WAV", ".hidden.wav", "a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav")
    for name in ("README.md", "LICENSE", "labels.csv", "photo.tif", "a/notes.txt"):
        (tmp_path / name).write_text("")
    manifest = FolderConfig().build(tmp_path)
    assert len(manifest) == 4
    assert manifest.left_out == {".wav": 2, ".tif": 1, ".txt": 1}
    root = tmp_path / "named"
    write(root, "0.wav", "train/a/1.wav", "train/2.wav", "test/a/1.wav", "test/3.flac")
    assert FolderConfig().build(root).left_out == {".wav": 2, ".flac": 1}


def test_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist; expected a folder with"):
        FolderConfig().build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected folders CLASS/.*found nothing"):
        FolderConfig().build(tmp_path)
    write(tmp_path, "loose.wav")
    with pytest.raises(UserError, match=r"found loose\.wav"):
        FolderConfig().build(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        FolderConfig().build(tmp_path / "loose.wav")
    write(tmp_path, "a/1.wav", "a/2.wav")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"class folder .*b has no recordings \(.*\.wav"):
        FolderConfig().build(tmp_path)
    write(tmp_path, "b/1.wav")
    with pytest.raises(UserError, match="class 'b' has only one recording"):
        FolderConfig().build(tmp_path)
    write(tmp_path, "b/more/2.wav")
    with pytest.raises(UserError, match="more is a folder inside the class folder 'b'"):
        FolderConfig().build(tmp_path)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_fraction_is_validated(fraction: float) -> None:
    with pytest.raises(ValueError, match="test_fraction"):
        FolderConfig(test_fraction=fraction)


def test_class_order() -> None:
    assert class_order(["10", "9", "1"]) == ["1", "9", "10"]
    assert class_order(["0.25", "-1", "0.5", "3"]) == ["-1", "0.25", "0.5", "3"]
    assert class_order(["take10", "take9", "a", "B", "a"]) == ["B", "a", "take9", "take10"]
    assert class_order(["2", "nan", "x", "1"]) == ["1", "2", "nan", "x"]


classes = st.dictionaries(st.sampled_from("abcdef"), st.integers(2, 25), min_size=1)


@settings(max_examples=60, deadline=None)
@given(classes, st.floats(0.01, 0.99), st.integers(0, 1000), st.randoms())
def test_split_without_groups(counts, fraction, seed, shuffler) -> None:
    labels = [name for name, n in counts.items() for _ in range(n)]
    uids = [f"{name}/{i}" for i, name in enumerate(labels)]
    state = random.getstate()
    splits = seeded_split(uids, labels, test_fraction=fraction, seed=seed)
    assert random.getstate() == state
    for name, n in counts.items():
        test = sum(s == "test" for s, label in zip(splits, labels, strict=True) if label == name)
        assert test == np.clip(np.floor(fraction * n + 0.5), 1, n - 1)
    rows = list(zip(uids, labels, strict=True))
    shuffler.shuffle(rows)
    again = seeded_split(*zip(*rows, strict=True), test_fraction=fraction, seed=seed)
    assert dict(zip([u for u, _ in rows], again, strict=True)) == dict(
        zip(uids, splits, strict=True)
    )


def servable(rows: list[tuple[str, str]]) -> bool:
    """Brute force: does any set of whole groups give every class both sides?"""
    groups = sorted({g for _, g in rows})
    names = {c for c, _ in rows}
    for bits in range(2 ** len(groups)):
        chosen = {g for i, g in enumerate(groups) if bits >> i & 1}
        sides: dict[str, set[bool]] = defaultdict(set)
        for name, group in rows:
            sides[name].add(group in chosen)
        if all(len(sides[name]) == 2 for name in names):
            return True
    return False


table_rows = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("123456")), min_size=2, max_size=24
)


@settings(max_examples=150, deadline=None)
@given(table_rows, st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 5))
def test_split_with_groups_against_brute_force(rows, fraction, seed) -> None:
    labels, groups = [c for c, _ in rows], [g for _, g in rows]
    uids = [str(i) for i in range(len(rows))]

    def split() -> list[str]:
        return seeded_split(uids, labels, groups=groups, test_fraction=fraction, seed=seed)

    if not servable(rows):
        with pytest.raises(UserError, match=r"class(es \(|es | )'[abcd]'"):
            split()
        return
    splits = split()
    for values in (labels, groups):
        sides = defaultdict(set)
        for value, side in zip(values, splits, strict=True):
            sides[value].add(side)
        expected = 2 if values is labels else 1
        assert all(len(side) == expected for side in sides.values())


def test_group_split_comes_near_the_fraction() -> None:
    generator = np.random.default_rng(3)
    labels = [str(c) for c in generator.integers(0, 10, 4000)]
    groups = [f"s{g}" for g in generator.integers(0, 60, 4000)]
    uids = [str(i) for i in range(4000)]
    splits = np.array(seeded_split(uids, labels, groups=groups))
    for name in set(labels):
        share = np.mean(splits[np.array(labels) == name] == "test")
        assert 0.12 < share < 0.28


def test_recordings_without_group_stand_alone() -> None:
    uids = [str(i) for i in range(10)]
    plain = seeded_split(uids, ["a"] * 10)
    assert seeded_split(uids, ["a"] * 10, groups=[""] * 10) == plain


def test_odd_ring_of_groups_is_refused() -> None:
    with pytest.raises(UserError, match="found no split of whole groups"):
        seeded_split(list("uvwxyz"), list("aabbcc"), groups=["1", "2", "2", "3", "3", "1"])


@pytest.mark.parametrize("seed", range(20))
def test_even_ring_of_groups_has_exactly_two_splits_and_one_is_found(seed: int) -> None:
    labels = [f"c{i}" for i in range(8) for _ in range(2)]
    groups = [f"g{(i + j) % 8}" for i in range(8) for j in range(2)]
    uids = [str(i) for i in range(16)]
    splits = seeded_split(uids, labels, groups=groups, seed=seed)
    chosen = {g for g, split in zip(groups, splits, strict=True) if split == "test"}
    assert chosen in ({"g0", "g2", "g4", "g6"}, {"g1", "g3", "g5", "g7"})
