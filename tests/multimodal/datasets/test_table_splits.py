"""Splits that the names of several tables tell, or those of their folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from multimodal.datasets.table import TableConfig
from multimodal.errors import UserError

NAMES = [f"ann_{i}.wav" for i in range(12)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


NAMES_OF_SPLITS = [
    ("trainSet.csv", "testSet.csv"),
    ("TrainData.csv", "TESTDATA.csv"),
    ("trainset.csv", "testset.csv"),
    ("myTraining2.csv", "evalList01.csv"),
    ("train/metadata.csv", "test/metadata.csv"),
    ("v1/Train/a/metadata.csv", "v1/testing/metadata.csv"),
    ("test/train.csv", "test/test.csv"),
    ("dev/train.csv", "eval/test.csv"),
    ("dev/train/m.csv", "dev/test_set/m.csv"),
    ("train_test/trainSet/m.csv", "train_test/m_test.csv"),
]


@pytest.mark.parametrize("names", NAMES_OF_SPLITS)
@pytest.mark.parametrize("above", ["", "test/"])
def test_names_of_splits(root: Path, names: tuple[str, str], above: str) -> None:
    """The file's own name counts first, then its nearest folder below those of all files."""
    files = [above + name for name in names]
    for i, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"path,label\nann_{i}.wav,a\n")
    manifest = TableConfig.parse({"file": files}).build(root)
    assert [r.split for r in manifest] == ["train", "test"]
    assert manifest.split_rule == "named by the tables' files"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train/metadata.csv", "other/metadata.csv"), "other/metadata.csv names no split"),
        (("trainSet.csv", "rest.csv"), "rest.csv names no split"),
        (("train/m.csv", "trainVal/m.csv"), "trainVal/m.csv names train and validation"),
        (("retrain.csv", "contest.csv"), None),
        (("strain/a.csv", "latest/a.csv"), None),
        (("train/a.csv", "train/b.csv"), None),
    ],
)
def test_names_that_tell_no_split(root: Path, names: tuple[str, str], words: str | None) -> None:
    for half, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        rows = [f"{own},{'ab'[i % 2]}\n" for i, own in enumerate(NAMES)]
        (root / name).write_text("path,label\n" + "".join(rows[6 * half : 6 * half + 6]))
    config = TableConfig(file=names)
    if words is None:
        assert config.build(root).split_rule.startswith("seeded")
        return
    with pytest.raises(UserError, match=words) as caught:
        config.build(root)
    assert "\n" not in str(caught.value)
