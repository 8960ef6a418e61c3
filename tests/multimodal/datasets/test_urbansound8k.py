"""UrbanSound8K on a tiny copy of the official layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.datasets import DATASETS
from multimodal.datasets.urbansound8k import CLASSES, UrbanSound8kConfig
from multimodal.errors import UserError
from multimodal.modalities.audio import AudioConfig

HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class"


def line(fold: int, source: int, label: int, part: int = 0) -> str:
    name = f"{source}-{label}-0-{part}.wav"
    return f"{name},{source},0.0,0.317551,1,{fold},{label},{CLASSES[label]}"


def make_copy(root: Path, extra: tuple[str, ...] = ()) -> Path:
    (root / "metadata").mkdir(parents=True)
    lines = [
        line(fold, 100 * fold + label, label, part)
        for fold in range(1, 11)
        for label in range(10)
        for part in range(2)
    ]
    (root / "metadata" / "UrbanSound8K.csv").write_text("\n".join([HEADER, *lines, *extra]))
    for fold in range(1, 11):
        (root / "audio" / f"fold{fold}").mkdir(parents=True)
    return root


def test_tiny_copy(tmp_path: Path) -> None:
    manifest = UrbanSound8kConfig(validation_fold=9).build(make_copy(tmp_path))
    assert Counter(manifest.splits) == {"train": 160, "validation": 20, "test": 20}
    row = next(r for r in manifest if r.uid == "audio/fold10/1006-6-0-1.wav")
    assert (manifest.class_names[row.label], row.split, row.group) == ("gun_shot", "test", "1006")
    assert row.path == tmp_path / "audio" / "fold10" / "1006-6-0-1.wav"
    assert not manifest.group_overlap


def test_very_short_stereo_slice_of_another_rate(tmp_path: Path) -> None:
    make_copy(tmp_path)
    path = tmp_path / "audio" / "fold1" / "100-0-0-0.wav"
    signal = np.random.default_rng(0).uniform(-0.5, 0.5, (2400, 2))  # 0.05 s
    soundfile.write(path, signal, 48_000, subtype="PCM_24")
    manifest = UrbanSound8kConfig().build(tmp_path)
    row = next(r for r in manifest if r.path == path)
    assert AudioConfig(seconds=4.0).build().load(row).shape == (1, 1600)


def test_expected_counts() -> None:
    """Fold 10 has 837 of 8,732 slices, fold 4 has 990."""
    assert UrbanSound8kConfig().expected_counts() == {"train": 7895, "test": 837}
    assert UrbanSound8kConfig(test_fold=4).expected_counts() == {"train": 7742, "test": 990}
    split = UrbanSound8kConfig(validation_fold=9).expected_counts()
    assert split == {"train": 7079, "validation": 816, "test": 837}


def test_known_sources_in_two_folds_are_said(tmp_path: Path) -> None:
    """77751 stands in folds 2 and 7 with drilling (4) and jackhammer (7)."""
    root = make_copy(tmp_path, (line(2, 77751, 4), line(7, 77751, 7)))
    overlap = UrbanSound8kConfig(test_fold=2).build(root).group_overlap
    assert overlap == "the official folds share the source recordings 77751"
    assert not UrbanSound8kConfig().build(root).group_overlap


def test_other_sources_in_two_folds_are_refused(tmp_path: Path) -> None:
    root = make_copy(tmp_path, (line(2, 5, 4), line(10, 5, 7)))
    with pytest.raises(UserError, match=r"both sides of a split \(5\)"):
        UrbanSound8kConfig().build(root)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("5-4-0-0.wav,5,0,1,1,11,4,drilling", "fold '11' is none of 1 to 10"),
        ("5-4-0-0.wav,6,0,1,1,1,4,drilling", "contradicts its fsID"),
        ("5-4-0-0.wav,5,0,1,1,1,5,drilling", "contradicts its fsID"),
        ("5-4-0-0.wav,5,0,1,1,1,4,siren", "contradicts its fsID"),
        ("../5-4-0-0.wav,5,0,1,1,1,4,drilling", "is not of the form"),
    ],
)
def test_bad_row(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"UrbanSound8K\.csv, line 202: .*{message}"):
        UrbanSound8kConfig().build(make_copy(tmp_path, (row,)))


def test_wrong_folder(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    with pytest.raises(UserError, match=r"expected metadata/UrbanSound8K\.csv .*found metadata/\."):
        UrbanSound8kConfig().build(tmp_path)


def test_is_registered() -> None:
    assert DATASETS.config("urbansound8k") is UrbanSound8kConfig
