"""The reader of the COVID-19 image collection, on tiny copies and on the real subset."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.covid_xray import CovidXrayConfig
from multimodal.errors import UserError
from multimodal.recordings import Manifest

# As in the edition of 2020, the last column has no name.
COLUMNS = ["patientid", "sex", "finding", "view", "modality", "filename", "license"]
COLUMNS += ["clinical_notes", ""]


def write(root: Path, rows: list[dict[str, str]], *, images: bool = True) -> Path:
    (root / "images").mkdir(parents=True, exist_ok=True)
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        if images and row["filename"]:
            (root / "images" / row["filename"]).write_text(row["filename"])
    return root


def row(patient: int, finding: str, name: str = "", **fields: str) -> dict[str, str]:
    return {
        "patientid": f"{patient:03d}",
        "finding": finding,
        "view": "PA",
        "modality": "X-ray",
        "filename": name or f"{patient}.png",
        "license": "CC BY 4.0",
        "clinical_notes": f'Notes, "{patient}"\nsecond line',
        **fields,
    }


def many(**fields: str) -> list[dict[str, str]]:
    """Six patients with COVID-19 (two images each), four with SARS."""
    covid = [row(i, "COVID-19", f"{i}-{k}.png", **fields) for i in range(6) for k in range(2)]
    return covid + [row(i, "SARS", **fields) for i in range(10, 14)]


def names(manifest: Manifest) -> set[str]:
    return {r.uid.removeprefix("images/") for r in manifest}


def test_rows_and_groups(tmp_path: Path) -> None:
    root = write(tmp_path, many())
    manifest = CovidXrayConfig().build(root)
    assert DATASETS.config("covid_xray") is CovidXrayConfig
    assert (manifest.class_names, manifest.modality) == (("COVID-19", "SARS"), "xray")
    assert len(manifest) == 16
    first = manifest.recordings[0]
    assert (first.uid, first.group, first.label) == ("images/0-0.png", "000", 0)
    assert first.path == root / first.uid
    assert first.text == 'Notes, "0"\nsecond line'
    sides = defaultdict(set)
    for r in manifest:
        sides[r.group].add(r.split)
    assert all(len(splits) == 1 for splits in sides.values())
    for split in ("train", "test"):
        assert set(manifest.labels[manifest.indices(split)].tolist()) == {0, 1}
    assert manifest.version == "unnamed edition: 16 rows, 16 images used"
    assert CovidXrayConfig().expected_counts() is None


def test_findings_written_as_paths(tmp_path: Path) -> None:
    rows = many()
    for r in rows[:7]:
        r["finding"] = "Pneumonia/Viral/COVID-19"
    manifest = CovidXrayConfig().build(write(tmp_path, rows))
    assert manifest.class_names == ("COVID-19", "SARS")
    assert len(manifest) == 16


def test_what_is_left_out(tmp_path: Path) -> None:
    others = [
        row(20, "COVID-19", modality="CT"),
        row(21, "COVID-19", view="L"),
        row(22, "todo"),
        row(23, ""),
        row(24, "Unknown"),
        row(25, "COVID-19", license=""),
        row(26, "Rare"),
        row(27, "COVID-19", ""),
    ]
    root = write(tmp_path, many() + others)
    (root / "images" / "27.png").unlink()
    kept = names(CovidXrayConfig().build(root))
    assert kept == {r["filename"] for r in many()}
    assert names(CovidXrayConfig(allow_blank_license=True).build(root)) - kept == {"25.png"}
    assert names(CovidXrayConfig(views=("PA", "L")).build(root)) - kept == {"21.png"}
    assert CovidXrayConfig(min_patients=5).build(root).class_names == ("COVID-19",)


def test_licences(tmp_path: Path) -> None:
    rows = many() + [row(30 + i, "SARS", license="CC BY-NC-SA") for i in range(3)]
    root = write(tmp_path, rows)
    assert CovidXrayConfig().build(root).licence == "per image: CC BY 4.0, CC BY-NC-SA"
    manifest = CovidXrayConfig(license_allow=("CC BY 4.0",)).build(root)
    assert names(manifest) == {r["filename"] for r in many()}
    with pytest.raises(UserError, match="none of 19 rows"):
        CovidXrayConfig(license_allow=("MIT",)).build(root)


def test_max_patients_draws_whole_patients(tmp_path: Path) -> None:
    root = write(tmp_path, many())
    manifest = CovidXrayConfig(max_patients=4).build(root)
    assert Counter(manifest.labels.tolist()) == {0: 8, 1: 4}
    assert len(set(manifest.groups)) == 8
    others = [CovidXrayConfig(max_patients=4, seed=s).build(root) for s in range(5)]
    assert len({frozenset(names(m)) for m in others}) > 1


def test_one_image_in_several_rows(tmp_path: Path) -> None:
    """Ids that share an image are one patient, also over a chain; a contradiction is left out."""
    shared = [
        row(40, "SARS", "a.png"),
        row(41, "SARS", "a.png"),
        row(41, "SARS", "b.png"),
        row(42, "SARS", "b.png"),
        row(42, "SARS", "c.png"),
        row(43, "SARS", "d.png"),
        row(44, "COVID-19", "d.png"),
    ]
    manifest = CovidXrayConfig().build(write(tmp_path, many() + shared))
    found = {r.uid: r.group for r in manifest if r.uid[7] in "abcd"}
    assert list(found) == ["images/a.png", "images/b.png", "images/c.png"]
    assert len(set(found.values())) == 1


def test_min_patients_counts_patients_not_rows(tmp_path: Path) -> None:
    rows = many() + [row(50, "Flu", f"f{i}.png") for i in range(9)]
    assert CovidXrayConfig().build(write(tmp_path, rows)).class_names == ("COVID-19", "SARS")
    with pytest.raises(UserError, match=r"min_patients=7 leaves no finding; .*'COVID-19', has 6"):
        CovidXrayConfig(min_patients=7).build(tmp_path)


def test_wrong_folders_and_tables(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*metadata\.csv"):
        CovidXrayConfig().build(tmp_path / "nowhere")
    root = write(tmp_path / "covid", many(), images=False)
    with pytest.raises(UserError, match=r"expected metadata\.csv .*; found covid/\."):
        CovidXrayConfig().build(tmp_path)
    with pytest.raises(UserError, match="none of 16 rows has a file in images/"):
        CovidXrayConfig().build(root)
    table = root / "metadata.csv"
    whole = table.read_text()
    table.write_text(whole.replace("finding", "disease", 1))
    with pytest.raises(UserError, match="no column finding; columns: patientid, sex, disease"):
        CovidXrayConfig().build(root)
    table.write_text(whole + "099,M,COVID-19")
    with pytest.raises(UserError, match=r"line \d+: fewer cells than columns"):
        CovidXrayConfig().build(root)
    table.write_text(whole[:-10])
    with pytest.raises(
        UserError, match=r"metadata\.csv cannot be read as a UTF-8 table: unexpected end"
    ):
        CovidXrayConfig().build(root)
    table.write_bytes(b"\xff\xfe" + whole.encode())
    with pytest.raises(UserError, match="cannot be read as a UTF-8 table"):
        CovidXrayConfig().build(root)
    write(root, [row(1, "SARS", "../1.png")], images=False)
    with pytest.raises(UserError, match=r"'\.\./1\.png' is not the plain name"):
        CovidXrayConfig().build(root)
    write(root, [row(1, "SARS", patientid=" ")])
    with pytest.raises(UserError, match="line 3: patientid is empty"):
        CovidXrayConfig().build(root)


@pytest.mark.realdata
def test_real_subset(real_data: Path) -> None:
    root = real_data / "covid_xray"
    everything = CovidXrayConfig(min_patients=2).build(root)
    counts = Counter(everything.class_names[r.label] for r in everything)
    # 279 rows, four of which list the images of two patients under a second id.
    expected = {"COVID-19": 189, "Pneumonia": 10, "Pneumocystis": 12, "No Finding": 12}
    expected |= {"Streptococcus": 11, "COVID-19, ARDS": 9, "Klebsiella": 7, "ARDS": 4}
    assert counts == expected | {"Legionella": 3, "Lipoid": 3}
    groups = {r.uid: r.group for r in everything}
    assert groups["images/000001-24.jpg"] == "285"
    assert len(CovidXrayConfig().build(root).class_names) == 7
    assert everything.texts is not None
    table = list(csv.DictReader((root / "metadata.csv").open(newline="", encoding="utf-8")))
    notes = {f"images/{r['filename']}": r["clinical_notes"].strip() for r in table}
    assert sum(r.text == notes[r.uid] for r in everything) >= len(everything) - 3
