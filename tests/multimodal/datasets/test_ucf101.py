"""The reader of UCF101, on a tiny copy of the official layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.ucf101 import Ucf101Config
from multimodal.errors import UserError

CLASSES = ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
# Folder and file names of one class are spelt in two ways in the real data.
SPELT = {"HandstandPushups": "HandStandPushups"}
TEST_GROUPS = {1: (1, 2), 2: (3, 4), 3: (5, 6)}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Three classes, 7 groups of two clips, CRLF line ends as in the release."""
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    index = "".join(f"{i} {name}\r\n" for i, name in enumerate(CLASSES, start=1))
    (lists / "classInd.txt").write_bytes(index.encode())
    for name in CLASSES:
        (tmp_path / "UCF-101" / name).mkdir(parents=True)
    for fold, held_out in TEST_GROUPS.items():
        rows: dict[str, list[str]] = {"train": [], "test": []}
        for label, name in enumerate(CLASSES, start=1):
            for group in range(1, 8):
                for clip in (1, 2):
                    file = f"v_{SPELT.get(name, name)}_g{group:02d}_c{clip:02d}.avi"
                    (tmp_path / "UCF-101" / name / file).write_bytes(b"x")
                    if group in held_out:
                        rows["test"].append(f"{name}/{file}")
                    else:
                        rows["train"].append(f"{name}/{file} {label}")
        for split, lines in rows.items():
            text = "\r\n".join(lines) + "\r\n"
            (lists / f"{split}list0{fold}.txt").write_bytes(text.encode())
    return tmp_path


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_official_splits(copy: Path, fold) -> None:
    manifest = Ucf101Config(fold=fold).build(copy)
    assert manifest.class_names == CLASSES
    assert (len(manifest.indices("train")), len(manifest.indices("test"))) == (30, 12)
    for r in manifest:
        name, file = r.uid.split("/")
        assert r.path == copy / "UCF-101" / name / file
        assert manifest.class_names[r.label] == name
        group = int(file.split("_g")[1][:2])
        assert r.group == f"{name}/g{group:02d}"
        assert (r.split == "test") == (group in TEST_GROUPS[fold])
    assert {r.text for r in manifest} == {"apply eye makeup", "handstand pushups", "yo yo"}
    assert f"testlist0{fold}.txt" in manifest.split_rule


def test_subset_of_classes_keeps_the_official_order(copy: Path) -> None:
    shutil.rmtree(copy / "UCF-101" / "HandstandPushups")
    config = Ucf101Config.parse({"classes": ["YoYo", "ApplyEyeMakeup"]})
    manifest = config.build(copy)
    assert manifest.class_names == ("ApplyEyeMakeup", "YoYo")
    assert len(manifest) == 28
    assert set(manifest.labels.tolist()) == {0, 1}
    assert config.expected_counts() is None
    with pytest.raises(UserError, match=r"HandstandPushups: no such folder.*setting classes"):
        Ucf101Config().build(copy)


def test_expected_counts_add_up_to_13320() -> None:
    for fold in (1, 2, 3):
        counts = Ucf101Config(fold=fold).expected_counts()
        assert counts is not None
        assert sum(counts.values()) == 13_320
    assert Ucf101Config().expected_counts() == {"train": 9_537, "test": 3_783}


@pytest.mark.parametrize(
    ("classes", "words"), [(("Yoyo",), "did you mean 'YoYo'"), ((), "classes is empty")]
)
def test_bad_classes(copy: Path, classes: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Ucf101Config(classes=classes).build(copy)


def test_listed_clip_without_a_file(copy: Path) -> None:
    (copy / "UCF-101" / "YoYo" / "v_YoYo_g07_c02.avi").unlink()
    with pytest.raises(UserError, match=r"trainlist01.txt: YoYo/v_YoYo_g07_c02.avi .*1 missing"):
        Ucf101Config().build(copy)


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("classInd.txt", "2 ApplyEyeMakeup", r"classInd.txt, line 1: .*'1 ApplyEyeMakeup'"),
        ("classInd.txt", "", r"classInd.txt is empty"),
        ("testlist01.txt", "v_YoYo_g01_c01.avi", r"testlist01.txt, line 1: .*expected"),
        ("testlist01.txt", "Yoga/v_YoYo_g01_c01.avi", r"testlist01.txt, line 1: .*expected"),
        ("trainlist01.txt", "YoYo/v_YoYo_g01_c01.avi 0", r"label 0 .* YoYo the number 3"),
    ],
)
def test_bad_lines(copy: Path, file: str, line: str, words: str) -> None:
    (copy / "ucfTrainTestlist" / file).write_text(line)
    with pytest.raises(UserError, match=words):
        Ucf101Config().build(copy)


def test_leaking_lists_are_refused(copy: Path) -> None:
    path = copy / "ucfTrainTestlist" / "testlist01.txt"
    path.write_text("YoYo/v_YoYo_g07_c01.avi\n")
    train = copy / "ucfTrainTestlist" / "trainlist01.txt"
    lines = [x for x in train.read_text().splitlines() if "v_YoYo_g07_c01" not in x]
    train.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"both sides of a split \(YoYo/g07\)"):
        Ucf101Config().build(copy)


def test_wrong_folders(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*ucfTrainTestlist/"):
        Ucf101Config().build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected the folders UCF-101/ .*found ApplyEyeMakeup/"):
        Ucf101Config().build(copy / "UCF-101")
    (copy / "ucfTrainTestlist" / "testlist01.txt").unlink()
    with pytest.raises(UserError, match=r"expected testlist01.txt; found classInd.txt"):
        Ucf101Config().build(copy)


def test_is_registered() -> None:
    assert DATASETS.config("ucf101") is Ucf101Config
