"""The reader of Kinetics, on tiny copies in the layouts that occur."""

from __future__ import annotations

from pathlib import Path

import pytest

from multimodal.check import check
from multimodal.datasets import DATASETS
from multimodal.datasets.kinetics import KineticsConfig
from multimodal.errors import UserError
from multimodal.modalities.video import VideoConfig

HEADER = "label,youtube_id,time_start,time_end,split\n"
CLIPS = {
    "train": [("abseiling", "-a_1"), ("abseiling", "bbb2"), ("tai chi", "ccc3"), ("tai chi", "d")],
    "val": [("abseiling", "eee5"), ("tai chi", "fff6")],
    "test": [("abseiling", "ggg7"), ("", "hhh8")],
}


def write(root: Path, *, lists: str = "{}.csv", clips: str = "{label}/{name}.mp4") -> Path:
    for split, rows in CLIPS.items():
        path = root / lists.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{label},{name},{7 * i},{7 * i + 10},{split}" for i, (label, name) in _each(rows)]
        path.write_text(HEADER + "\n".join(lines) + "\n")
        for i, (label, name) in _each(rows):
            stem = f"{name}_{7 * i:06d}_{7 * i + 10:06d}"
            file = root / clips.format(
                split=split, label=label, under=label.replace(" ", "_"), name=stem
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
    return root


def _each(rows):
    return list(enumerate(rows))


@pytest.mark.parametrize("lists", ["{}.csv", "annotations/kinetics400_{}.csv"])
@pytest.mark.parametrize(
    "clips", ["{label}/{name}.mp4", "videos_{split}/{under}/{name}.mkv", "flat/{name}.webm"]
)
def test_layouts(tmp_path: Path, lists: str, clips: str) -> None:
    manifest = KineticsConfig().build(write(tmp_path, lists=lists, clips=clips))
    assert manifest.class_names == ("abseiling", "tai chi")
    found = {r.uid: (r.split, r.group, r.text) for r in manifest}
    assert found == {
        "abseiling/-a_1_000000_000010": ("train", "-a_1", "abseiling"),
        "abseiling/bbb2_000007_000017": ("train", "bbb2", "abseiling"),
        "tai chi/ccc3_000014_000024": ("train", "ccc3", "tai chi"),
        "tai chi/d_000021_000031": ("train", "d", "tai chi"),
        "abseiling/eee5_000000_000010": ("test", "eee5", "abseiling"),
        "tai chi/fff6_000007_000017": ("test", "fff6", "tai chi"),
    }
    assert all(r.path is not None and r.path.is_file() for r in manifest)
    assert all(manifest.class_names[r.label] == r.text for r in manifest)
    shares = "clips present: train 4 of 4, test 2 of 2"
    assert manifest.split_rule == f"official lists, validation as test; {shares}"


def test_three_official_splits_without_unlabelled_rows(tmp_path: Path) -> None:
    manifest = KineticsConfig(test_on_validation=False).build(write(tmp_path))
    sizes = [len(manifest.indices(s)) for s in ("train", "validation", "test")]
    assert sizes == [4, 2, 1]


def test_missing_clips_are_counted_or_named_by_check(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "tai chi" / "d_000021_000031.mp4").unlink()
    (tmp_path / "abseiling" / "eee5_000000_000010.mp4").unlink()
    manifest = KineticsConfig().build(tmp_path)
    assert len(manifest) == 4
    assert "train 3 of 4, test 1 of 2" in manifest.split_rule
    kept = KineticsConfig(keep_missing=True).build(tmp_path)
    assert len(kept) == 6
    report = check(kept, VideoConfig().build(), workers=1, progress=False)
    missing = [message for message in report.errors if message.endswith(": missing")]
    assert len(missing) == 2
    assert "eee5_000000_000010.mp4" in missing[0]
    assert any("train 3 of 4" in line for line in report.lines())


def test_version_changes_with_the_lists(tmp_path: Path) -> None:
    first = KineticsConfig().build(write(tmp_path)).version
    assert KineticsConfig().build(tmp_path).version == first
    path = tmp_path / "train.csv"
    path.write_text(path.read_text() + "abseiling,zzz9,0,10,train\n")
    assert KineticsConfig().build(tmp_path).version != first


def test_a_video_on_both_sides_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train.csv").write_text(HEADER + "abseiling,eee5,50,60,train\n")
    (tmp_path / "eee5_000050_000060.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match=r"both sides of a split \(eee5\)"):
        KineticsConfig().build(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label,id\na,b\n", r"train.csv: no column 'time_end'"),
        (HEADER + "a,b,0,ten,train\n", r"train.csv, line 2: needs a youtube_id and times"),
        (HEADER + "a,,0,10,train\n", r"train.csv, line 2: needs a youtube_id"),
        (HEADER + "a\n", r"train.csv, line 2: needs"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path)
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        KineticsConfig().build(tmp_path)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*train.csv"):
        KineticsConfig().build(tmp_path / "nowhere")
    (tmp_path / "train.csv").write_text(HEADER)
    with pytest.raises(UserError, match=r"expected train.csv, val.csv .*found train.csv"):
        KineticsConfig().build(tmp_path)
    (tmp_path / "val.csv").write_text(HEADER + "a,b,0,10,val\n")
    with pytest.raises(UserError, match=r"none of the 1 listed clips .*b_000000_000010.mp4"):
        KineticsConfig().build(tmp_path)


def test_doubles_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "d_000021_000031.mkv").write_bytes(b"x")
    with pytest.raises(UserError, match=r"d_000021_000031.mkv and .* are the same clip"):
        KineticsConfig().build(tmp_path)
    (tmp_path / "validate.csv").write_text(HEADER)
    with pytest.raises(UserError, match=r"are both lists of validation"):
        KineticsConfig().build(tmp_path)


def test_is_registered() -> None:
    assert DATASETS.config("kinetics") is KineticsConfig
