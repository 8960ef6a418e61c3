"""ESC-10 on a tiny copy of the stand-alone layout, and on the real data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from multimodal.check import check
from multimodal.datasets import DATASETS
from multimodal.datasets.esc10 import FOLDERS, Esc10Config
from multimodal.errors import UserError
from multimodal.modalities.audio import AudioConfig


def make_copy(root: Path) -> Path:
    """Two takes of one source in every fold of every class."""
    for number, name in enumerate(FOLDERS):
        (root / name).mkdir(parents=True)
        for fold in range(1, 6):
            for take in "AB":
                (root / name / f"{fold}-{1000 * number + fold}-{take}.ogg").write_bytes(b"x")
    return root


def test_tiny_copy(tmp_path: Path) -> None:
    manifest = Esc10Config().build(make_copy(tmp_path))
    assert manifest.class_names[0] == "dog"
    assert manifest.class_names[9] == "crackling_fire"
    assert Counter(manifest.splits) == {"train": 80, "test": 20}
    row = next(r for r in manifest if r.uid == "005 - Clock tick/5-4005-B.ogg")
    assert (row.label, row.split, row.group) == (4, "test", "4005")
    assert row.path == tmp_path / "005 - Clock tick" / "5-4005-B.ogg"
    assert manifest.modality == "audio"
    assert not manifest.group_overlap


def test_other_folds(tmp_path: Path) -> None:
    manifest = Esc10Config(test_fold=2, validation_fold=3).build(make_copy(tmp_path))
    for row in manifest:
        fold = Path(row.uid).name[0]
        assert row.split == {"2": "test", "3": "validation"}.get(fold, "train")
    assert manifest.split_rule == "official folds: fold 2 test, fold 3 validation, the others train"


@pytest.mark.parametrize("folds", [{"test_fold": 6}, {"validation_fold": 5}, {"test_fold": 0}])
def test_bad_folds(folds: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Esc10Config.parse(folds)


def test_a_source_in_two_folds_is_refused(tmp_path: Path) -> None:
    make_copy(tmp_path)
    (tmp_path / FOLDERS[0] / "5-1-A.ogg").write_bytes(b"x")  # source 1 is in fold 1
    with pytest.raises(UserError, match=r"both sides of a split \(1\)"):
        Esc10Config().build(tmp_path)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*001 - Dog bark"):
        Esc10Config().build(tmp_path / "nowhere")
    (tmp_path / "recordings").mkdir()
    with pytest.raises(UserError, match=r"expected ten folders .*; found recordings/\."):
        Esc10Config().build(tmp_path)
    make_copy(tmp_path / "esc10")
    for path in (tmp_path / "esc10" / FOLDERS[3]).iterdir():
        path.unlink()
    (tmp_path / "esc10" / FOLDERS[3]).rmdir()
    with pytest.raises(UserError, match=r"no folder '004 - Baby cry' \(1 of 10 missing\)"):
        Esc10Config().build(tmp_path / "esc10")


@pytest.mark.parametrize("name", ["6-1-A.ogg", "1-1-A-0.wav", "notes.txt"])
def test_foreign_file(tmp_path: Path, name: str) -> None:
    make_copy(tmp_path)
    (tmp_path / FOLDERS[0] / name).write_bytes(b"x")
    with pytest.raises(UserError, match=rf"{name}: not a recording of esc10"):
        Esc10Config().build(tmp_path)


@pytest.mark.realdata
def test_real_data(real_data: Path) -> None:
    manifest = Esc10Config().build(real_data / "esc10")
    assert Counter(manifest.splits) == Esc10Config().expected_counts() == {"train": 320, "test": 80}
    assert set(Counter(manifest.labels.tolist()).values()) == {40}
    report = check(manifest.select(range(0, 400, 7)), AudioConfig().build(), progress=False)
    assert not report.errors
    assert report.lengths is not None
    low, high = report.lengths
    assert 3.6 * 32_000 < low <= high < 7.3 * 32_000


def test_is_registered() -> None:
    assert DATASETS.config("esc10") is Esc10Config
