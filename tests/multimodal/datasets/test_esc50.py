"""ESC-50 on a tiny copy of the official layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.esc10 import FOLDERS
from multimodal.datasets.esc50 import CATEGORIES, ESC10, Esc50Config
from multimodal.errors import UserError
from tests.multimodal.datasets.esc50_files import line, make_copy


def test_classes() -> None:
    """Targets that the official table gives, one of each super-category, and ESC-10's."""
    assert len(set(CATEGORIES)) == 50
    targets = {"dog": 0, "rain": 10, "crying_baby": 20, "door_wood_knock": 30, "helicopter": 40}
    assert {name: CATEGORIES.index(name) for name in targets} == targets
    assert CATEGORIES[49] == "hand_saw"
    assert sorted(map(CATEGORIES.index, ESC10)) == [0, 1, 10, 11, 12, 20, 21, 38, 40, 41]
    assert len(FOLDERS) == len(ESC10)


def test_tiny_copy(tmp_path: Path) -> None:
    manifest = Esc50Config(test_fold=1).build(make_copy(tmp_path))
    assert manifest.class_names == CATEGORIES
    assert Counter(manifest.splits) == {"train": 200, "test": 50}
    row = next(r for r in manifest if r.uid == "audio/1-381-A-38.wav")
    assert (manifest.class_names[row.label], row.split, row.group) == ("clock_tick", "test", "381")
    assert row.path == tmp_path / "audio" / "1-381-A-38.wav"


def test_subset_has_the_ids_of_esc10(tmp_path: Path) -> None:
    manifest = Esc50Config(subset="esc10").build(make_copy(tmp_path))
    assert manifest.class_names == ESC10
    assert len(manifest) == 50
    assert all(f"-{CATEGORIES.index(ESC10[r.label])}.wav" in r.uid for r in manifest)


def test_expected_counts() -> None:
    assert Esc50Config().expected_counts() == {"train": 1600, "test": 400}
    small = Esc50Config(subset="esc10", validation_fold=1)
    assert small.expected_counts() == {"train": 240, "validation": 80, "test": 80}


def test_known_sources_in_two_folds_are_said(tmp_path: Path) -> None:
    shared = (line(1, 131943, "clock_alarm"), line(5, 131943, "clock_tick"))
    root = make_copy(tmp_path, shared)
    manifest = Esc50Config().build(root)
    assert manifest.group_overlap == "the official folds share the source recordings 131943"
    # Both lie in train when another fold is tested.
    assert not Esc50Config(test_fold=3).build(root).group_overlap
    assert not Esc50Config(subset="esc10").build(root).group_overlap


def test_other_sources_in_two_folds_are_refused(tmp_path: Path) -> None:
    shared = [line(fold, source, "dog", "B") for source in (131943, 77) for fold in (1, 5)]
    with pytest.raises(UserError, match=r"2 group\(s\) stand on both sides of a split \(131943, 7"):
        Esc50Config().build(make_copy(tmp_path, tuple(shared)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1-5-A-0.wav,2,0,dog,True,5,A", "contradicts its fold"),
        ("1-5-A-0.wav,1,0,rooster,True,5,A", "contradicts its fold"),
        ("1-5-A-0.wav,1,0,dog,True,6,A", "contradicts its fold"),
        ("1-5-A-0.wav,1,0,hound,True,5,A", "category 'hound' is none of the 50"),
        ("../1-5-A-0.wav,1,0,dog,True,5,A", "is not of the form"),
        ("1-5-A-0.wav,1,0,dog", "4 cells for 7 columns"),
    ],
)
def test_bad_row(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"esc50\.csv, line 252: .*{message}"):
        Esc50Config().build(make_copy(tmp_path, (row,)))


def test_wrong_folders_and_columns(tmp_path: Path) -> None:
    (tmp_path / "ESC-50-master").mkdir()
    with pytest.raises(UserError, match=r"expected meta/esc50\.csv .*; found ESC-50-master/\."):
        Esc50Config().build(tmp_path)
    root = make_copy(tmp_path / "esc50")
    (root / "meta" / "esc50.csv").write_text("filename,label\n")
    with pytest.raises(UserError, match=r"esc50\.csv: expected the columns .*; found filename,lab"):
        Esc50Config().build(root)


def test_is_registered() -> None:
    assert DATASETS.config("esc50") is Esc50Config
