"""AudioCaps on a tiny copy of the layout of aac-datasets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.audiocaps import AudioCapsConfig
from multimodal.errors import UserError

HEADER = "audiocap_id,youtube_id,start_time,caption"
VIDEO = "-abc_DEF012"


def make_copy(root: Path, **tables: list[str]) -> Path:
    content = {
        "train": [f'91,{VIDEO},30,"A dog barks, twice"', "92,00000000001,0,Rain falls"],
        "val": ["93,_bcdefghijk,10,One", "94,_bcdefghijk,10,Two"],
        "test": ["95,cdefghijklm,10,Three"],
    }
    (root / "csv_files_v1").mkdir(parents=True)
    for name, rows in {**content, **tables}.items():
        (root / "csv_files_v1" / f"{name}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
        (root / "audio_32000Hz" / name).mkdir(parents=True)
    for name in (f"train/{VIDEO}_30", "val/_bcdefghijk_10", "test/cdefghijklm_10"):
        (root / "audio_32000Hz" / f"{name}.flac").write_bytes(b"x")
    return root


def test_tiny_copy(tmp_path: Path) -> None:
    manifest = AudioCapsConfig().build(make_copy(tmp_path))
    assert Counter(manifest.splits) == {"train": 1, "validation": 2, "test": 1}
    assert manifest.version == "v1: 4 of 5 captions have their sound"
    row = next(r for r in manifest if r.split == "train")
    assert (row.text, row.group, row.labels) == ("A dog barks, twice", VIDEO, ())
    assert row.path == tmp_path / "audio_32000Hz" / "train" / f"{VIDEO}_30.flac"
    assert [r.text for r in manifest if r.split == "validation"] == ["One", "Two"]


def test_a_video_on_both_sides_is_refused(tmp_path: Path) -> None:
    root = make_copy(tmp_path, test=[f"95,{VIDEO},50,Three"])
    (root / "audio_32000Hz" / "test" / f"{VIDEO}_50.flac").write_bytes(b"x")
    with pytest.raises(UserError, match=rf"both sides of a split \({VIDEO}\)"):
        AudioCapsConfig().build(root)


@pytest.mark.parametrize("row", ["1,../../x,10,a", "1,abcdefghijk,1.5,a", "1,abcdefghij,10,a"])
def test_bad_row(tmp_path: Path, row: str) -> None:
    with pytest.raises(UserError, match=r"test\.csv, line 2: youtube_id .* must have 11 char"):
        AudioCapsConfig().build(make_copy(tmp_path, test=[row]))


def test_no_sound_at_all(tmp_path: Path) -> None:
    make_copy(tmp_path)
    with pytest.raises(
        UserError, match=r"none of the 5 captions has its sound; .*-abc_DEF012_30\."
    ):
        AudioCapsConfig(extension=".wav").build(tmp_path)


def test_wrong_folder(tmp_path: Path) -> None:
    make_copy(tmp_path)
    with pytest.raises(
        UserError, match=r"expected csv_files_v2/.*found audio_32000Hz/, csv_files_"
    ):
        AudioCapsConfig(version="v2").build(tmp_path)


def test_expected_counts() -> None:
    """v1: 49,838 train clips of one caption, 495 and 975 of five."""
    counts = {"train": 49_838, "validation": 5 * 495, "test": 5 * 975}
    assert AudioCapsConfig().expected_counts() == counts
    assert AudioCapsConfig(version="v2").expected_counts()["train"] == 91_256


def test_is_registered() -> None:
    assert DATASETS.config("audiocaps") is AudioCapsConfig
