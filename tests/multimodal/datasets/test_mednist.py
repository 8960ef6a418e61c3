"""The reader of MedNIST, on tiny copies and on the real subset."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.mednist import CLASSES, MednistConfig
from multimodal.errors import UserError


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Ten files a class; the reader opens none of them."""
    root = tmp_path / "mednist"
    for name in reversed(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(10):
            (root / name / f"{number:06d}.jpeg").write_text(f"{name}{number}")
    return root


def test_is_registered() -> None:
    assert DATASETS.config("mednist") is MednistConfig
    assert MednistConfig.modalities == ("xray",)
    assert MednistConfig().expected_counts() is None


def test_rows(copy: Path) -> None:
    (copy / "README.md").write_text("licence")
    (copy / "Hand" / ".DS_Store").write_text("")
    manifest = MednistConfig().build(copy)
    assert (len(manifest), manifest.class_names, manifest.modality) == (60, CLASSES, "xray")
    assert manifest.version == "subset: 60 images"
    for r in manifest:
        folder, name = r.uid.split("/")
        assert r.path == copy / folder / name
        assert (r.label, r.group) == (CLASSES.index(folder), "")
    for split, count in (("train", 8), ("test", 2)):
        labels = manifest.labels[manifest.indices(split)].tolist()
        assert Counter(labels) == dict.fromkeys(range(6), count)


def test_split_follows_the_settings_only(copy: Path) -> None:
    first = MednistConfig().build(copy)
    assert first.splits.tolist() == MednistConfig().build(copy).splits.tolist()
    assert first.splits.tolist() != MednistConfig(seed=1).build(copy).splits.tolist()
    assert len(MednistConfig(test_fraction=0.5).build(copy).indices("test")) == 30
    assert "seed 0" in first.split_rule


def test_wrong_folders(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*AbdomenCT"):
        MednistConfig().build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected one folder a class .*; found mednist/\."):
        MednistConfig().build(tmp_path)
    (copy / "Foot").mkdir()
    with pytest.raises(UserError, match=r"no class of mednist: Foot; expected"):
        MednistConfig().build(copy)
    (copy / "Foot").rmdir()
    (copy / "Hand" / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"notes\.txt: not an image of mednist"):
        MednistConfig().build(copy)
    for path in (copy / "Hand").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"Hand has no \.jpeg files"):
        MednistConfig().build(copy)
    (copy / "Hand").rmdir()
    with pytest.raises(UserError, match="no folder of Hand; expected"):
        MednistConfig().build(copy)


@pytest.mark.realdata
def test_real_subset(real_data: Path) -> None:
    manifest = MednistConfig().build(real_data / "mednist")
    assert len(manifest) == 1800
    assert Counter(manifest.labels.tolist()) == dict.fromkeys(range(6), 300)
    assert Counter(manifest.splits) == {"train": 1440, "test": 360}
