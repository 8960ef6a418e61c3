"""The reader of HMDB51, on a tiny copy of the official layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.hmdb51 import LISTS, Hmdb51Config
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError

CLASSES = ("brush_hair", "cartwheel", "wave")
FILES = ("#20_Rhythm_{}_u.avi", "A&B!_{}_[x].avi", "two words_{}_f.avi", "plain_{}_0.avi")
FLAGS = {1: "1202", 2: "2110", 3: "0121"}  # of the four files, in each fold


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / LISTS).mkdir()
    for name in CLASSES:
        (tmp_path / name).mkdir()
        files = [file.format(name) for file in FILES]
        for file in files:
            (tmp_path / name / file).write_bytes(b"x")
        for fold, flags in FLAGS.items():
            lines = [f"{file} {flag} \n" for file, flag in zip(files, flags, strict=True)]
            (tmp_path / LISTS / f"{name}_test_split{fold}.txt").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_official_splits(copy: Path, fold) -> None:
    manifest = Hmdb51Config(fold=fold).build(copy)
    assert manifest.class_names == CLASSES
    expected = {}
    for name in CLASSES:
        for file, flag in zip(FILES, FLAGS[fold], strict=True):
            if flag != "0":
                expected[f"{name}/{file.format(name)}"] = {"1": "train", "2": "test"}[flag]
    assert {r.uid: r.split for r in manifest} == expected
    for r in manifest:
        assert r.path == copy / r.uid
        assert manifest.class_names[r.label] == r.uid.split("/")[0]
        assert r.group == ""
    assert {r.text for r in manifest} == {"brush hair", "cartwheel", "wave"}


def test_subset_of_classes(copy: Path) -> None:
    shutil.rmtree(copy / "cartwheel")
    config = Hmdb51Config.parse({"classes": ["wave", "brush_hair"]})
    assert config.build(copy).class_names == ("brush_hair", "wave")
    assert config.expected_counts() is None
    with pytest.raises(UserError, match=r"cartwheel: no such folder; unpack the archives again"):
        Hmdb51Config().build(copy)
    (copy / "cartwheel.rar").write_bytes(b"Rar!")
    with pytest.raises(UserError, match=r"cartwheel: no such folder; unpack cartwheel.rar"):
        Hmdb51Config().build(copy)


def test_expected_counts_are_unverified() -> None:
    counts = Hmdb51Config().expected_counts()
    assert counts is not None
    assert counts == {"train": 3_570, "test": 1_530}
    assert all(isinstance(n, Unverified) for n in counts.values())


@pytest.mark.parametrize(
    ("classes", "words"), [(("wav",), "did you mean 'wave'"), ((), "classes is empty")]
)
def test_bad_classes(copy: Path, classes: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Hmdb51Config(classes=classes).build(copy)


def test_listed_clip_without_a_file(copy: Path) -> None:
    (copy / "wave" / "A&B!_wave_[x].avi").unlink()
    with pytest.raises(UserError, match=r"'A&B!_wave_\[x\].avi' is listed .*1 missing in all"):
        Hmdb51Config().build(copy)


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3", "a.mp4 1", "1"])
def test_bad_lines(copy: Path, line: str) -> None:
    (copy / LISTS / "wave_test_split1.txt").write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=r"wave_test_split1.txt, line 2: .*0, 1 or 2"):
        Hmdb51Config().build(copy)


def test_wrong_folders(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nowhere does not exist; expected a folder with class folders"
    ):
        Hmdb51Config().build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected class folders and testTrain.*found #20"):
        Hmdb51Config().build(copy / "wave")
    for path in (copy / LISTS).glob("*split2.txt"):
        path.unlink()
    with pytest.raises(UserError, match=r"files such as brush_hair_test_split2.txt; found brush"):
        Hmdb51Config(fold=2).build(copy)


def test_is_registered() -> None:
    assert DATASETS.config("hmdb51") is Hmdb51Config
