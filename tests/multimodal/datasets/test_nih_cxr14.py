"""The reader of NIH ChestX-ray14, on tiny copies of the official layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.nih_cxr14 import FINDINGS, NihCxr14Config
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = {
    "00000001_000.png": ("Cardiomegaly", "PA"),
    "00000001_001.png": ("Cardiomegaly|Emphysema", "AP"),
    "00000002_000.png": ("No Finding", "PA"),
    "00000003_000.png": ("Hernia|Infiltration", "PA"),
    "00000004_000.png": ("Pleural_Thickening", "PA"),
}
TEST = ("00000003_000.png", "00000004_000.png")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "nih"
    (root / "images").mkdir(parents=True)
    lines = [HEADER]
    for name, (findings, view) in ROWS.items():
        follow, patient = int(name[9:12]), int(name[:8])
        lines.append(f"{name},{findings},{follow},{patient},58,M,{view},2682,2749,0.143,0.143")
        (root / "images" / name).write_text(name)
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines))
    (root / "train_val_list.txt").write_text("\r\n".join(n for n in ROWS if n not in TEST))
    (root / "test_list.txt").write_text("\n".join(TEST))
    return root


def test_rows(copy: Path) -> None:
    manifest = NihCxr14Config().build(copy)
    assert DATASETS.config("nih_cxr14") is NihCxr14Config
    assert (manifest.class_names, len(set(FINDINGS))) == (FINDINGS, 14)
    assert len(manifest) == 5
    for r in manifest:
        findings = ROWS[r.uid][0].split("|")
        assert {FINDINGS[c] for c in r.labels} == set(findings) - {"No Finding"}
        assert r.labels == tuple(sorted(r.labels))
        assert r.group == str(int(r.uid[:8]))
        assert r.split == ("test" if r.uid in TEST else "train")
        assert r.path == copy / "images" / r.uid
    assert manifest.version == "Data_Entry_2017_v2020"


def test_settings(copy: Path) -> None:
    def build(**settings: object) -> dict[str, tuple[int, ...]]:
        return {r.uid: r.labels for r in NihCxr14Config.parse(settings).build(copy)}

    assert set(build(view="AP")) == {"00000001_001.png"}
    assert build(single_label=True) == {"00000001_000.png": (1,), "00000004_000.png": (12,)}
    subset = build(classes=["Emphysema", "Hernia"])
    assert [subset[name] for name in ROWS] == [(), (0,), (), (1,), ()]
    manifest = NihCxr14Config(validation_fraction=0.5).build(copy)
    sides = {r.group: r.split for r in manifest}
    assert sorted(sides[p] for p in "12") == ["train", "validation"]
    assert {sides[p] for p in "34"} == {"test"}
    for classes, words in (((), "classes is empty"), (("Hernai",), "did you mean 'Hernia'")):
        with pytest.raises(UserError, match=words):
            NihCxr14Config(classes=classes).build(copy)


def test_expected_counts() -> None:
    counts = NihCxr14Config().expected_counts()
    assert counts is not None
    assert sum(counts.values()) == 112_120
    assert all(isinstance(n, Unverified) for n in counts.values())
    assert NihCxr14Config(view="PA").expected_counts() is None


def test_folders_of_the_archives(copy: Path) -> None:
    for number, name in enumerate(ROWS, start=1):
        folder = copy / f"images_{number:03d}" / "images"
        folder.mkdir(parents=True)
        (copy / "images" / name).rename(folder / name)
    (copy / "Data_Entry_2017_v2020.csv").rename(copy / "Data_Entry_2017.csv")
    manifest = NihCxr14Config().build(copy)
    assert [r.uid for r in manifest] == list(ROWS)
    assert all(r.path is not None and r.path.is_file() for r in manifest)


def test_missing_images(copy: Path) -> None:
    image = copy / "images" / "00000002_000.png"
    image.unlink()
    with pytest.raises(UserError, match=rf"{image}: listed but .*\(1 missing in all\)"):
        NihCxr14Config().build(copy)
    assert len(NihCxr14Config(allow_missing=True).build(copy)) == 4


def test_a_patient_in_both_lists_is_refused(copy: Path) -> None:
    (copy / "train_val_list.txt").write_text("00000001_000.png")
    (copy / "test_list.txt").write_text("00000001_001.png")
    with pytest.raises(UserError, match="1 group"):
        NihCxr14Config().build(copy)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("Data_Entry_2017_v2020.csv", "Image Index", "Image", "header must begin with"),
        ("Data_Entry_2017_v2020.csv", "|Emphysema", "|Flu", "line 3: unknown finding 'Flu'"),
        ("Data_Entry_2017_v2020.csv", "1,1,58,M,AP", "1", "line 3: 7 cells instead of 11"),
        ("Data_Entry_2017_v2020.csv", "1_001", "1_000", "'00000001_000.png' is in the table twice"),
        ("Data_Entry_2017_v2020.csv", "4_000", "5_000", "'00000004_000.png' is not in Data_Entry"),
        ("test_list.txt", "3_000", "1_000", "'00000001_000.png' is in both lists"),
    ],
)
def test_damaged_tables(copy: Path, file: str, old: str, new: str, words: str) -> None:
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=words):
        NihCxr14Config().build(copy)


def test_wrong_folders(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*test_list\.txt"):
        NihCxr14Config().build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected Data_Entry_2017_v2020\.csv.*; found nih/\."):
        NihCxr14Config().build(tmp_path)
    (copy / "images").rename(copy / "pictures")
    with pytest.raises(UserError, match=r"images/.*; found Data_Entry"):
        NihCxr14Config().build(copy)
