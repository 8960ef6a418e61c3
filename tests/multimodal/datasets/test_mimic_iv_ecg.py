"""The reader of MIMIC-IV-ECG, on a tiny copy of the official layout."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from pydantic import ValidationError

from multimodal.datasets import DATASETS
from multimodal.datasets.mimic_iv_ecg import MimicIvEcgConfig
from multimodal.errors import UserError
from multimodal.modalities.ecg import LEADS, EcgConfig

# aVF stands before aVL.
STORED = ["I", "II", "III", "aVR", "aVF", "aVL", *LEADS[6:]]
# subject, study, statements
ROWS = [
    (10000032, 40689238, ["Sinus rhythm.", "", "Possible left atrial abnormality"]),
    (10000032, 44458630, ["Sinus bradycardia", "Borderline ECG"]),
    (10000117, 45090959, ["ATRIAL FIBRILLATION"]),
    (10000764, 42705166, []),
]


def place(subject: int, study: int) -> str:
    return f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"


def write(root: Path, rows: list[tuple[int, int, list[str]]]) -> None:
    with (root / "record_list.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["subject_id", "study_id", "file_name", "ecg_time", "path"])
        for subject, study, _ in rows:
            out.writerow([subject, study, study, "2180-07-23 08:44:00", place(subject, study)])
    with (root / "machine_measurements.csv").open("w", newline="") as file:
        out = csv.writer(file)
        names = [f"report_{n}" for n in range(18)]
        out.writerow(["subject_id", "study_id", "cart_id", "ecg_time", *names, "rr_interval"])
        for subject, study, texts in rows:
            cells = [*texts, *[""] * (18 - len(texts))]
            out.writerow([subject, study, 6848296, "2180-07-23 08:44:00", *cells, 659])


def record(root: Path, subject: int, study: int) -> None:
    folder = root / Path(place(subject, study)).parent
    folder.mkdir(parents=True)
    options: dict[str, Any] = {"write_dir": str(folder)}
    wfdb.wrsamp(
        str(study),
        fs=500,
        units=["mV"] * 12,
        sig_name=STORED,
        d_signal=np.random.default_rng(study).integers(-900, 900, (1000, 12)),
        fmt=["16"] * 12,
        adc_gain=[200.0] * 12,
        baseline=[0] * 12,
        **options,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "mimic_iv_ecg"
    root.mkdir()
    write(root, ROWS)
    for subject, study, _ in ROWS:
        record(root, subject, study)
    return root


def test_rows(copy: Path) -> None:
    manifest = MimicIvEcgConfig().build(copy)
    assert DATASETS.config("mimic_iv_ecg") is MimicIvEcgConfig
    assert (manifest.modality, manifest.class_names) == ("ecg", ())
    assert MimicIvEcgConfig().expected_counts() is None
    assert {r.uid: (r.group, r.text) for r in manifest} == {
        place(*ROWS[0][:2]): ("10000032", "Sinus rhythm. Possible left atrial abnormality"),
        place(*ROWS[1][:2]): ("10000032", "Sinus bradycardia. Borderline ECG"),
        place(*ROWS[2][:2]): ("10000117", "ATRIAL FIBRILLATION"),
    }
    assert manifest.version == "1.0: 3 records with 1 words or more"
    assert len(MimicIvEcgConfig(min_words=4).build(copy)) == 2
    assert len(MimicIvEcgConfig(min_words=0).build(copy)) == 4


def test_leads_are_found_by_name(copy: Path) -> None:
    recording = MimicIvEcgConfig().build(copy).recordings[0]
    found = EcgConfig(sample_rate=500).build().load(recording).numpy()
    stored = np.random.default_rng(ROWS[0][1]).integers(-900, 900, (1000, 12)).T / 200
    for row, lead in enumerate(LEADS):
        np.testing.assert_allclose(found[row], stored[STORED.index(lead)], atol=1e-6)


def test_split_goes_by_subject_whatever_others_are_present(tmp_path: Path) -> None:
    rows = [(s, 3 * s + n, ["Sinus rhythm"]) for s in range(10000000, 10000400) for n in (0, 1)]
    write(tmp_path, rows)
    config = MimicIvEcgConfig(allow_missing=True)
    with pytest.raises(UserError, match="no recordings found"):
        config.build(tmp_path)
    for subject, study, _ in rows:
        path = tmp_path / f"{place(subject, study)}.dat"
        path.parent.mkdir(parents=True)
        path.touch()
    manifest = config.build(tmp_path)
    sides = {r.group: r.split for r in manifest}
    shares = [list(sides.values()).count(s) / 400 for s in ("train", "validation", "test")]
    assert shares == pytest.approx([0.85, 0.05, 0.1], abs=0.05)
    other = MimicIvEcgConfig(seed=1).build(tmp_path)
    assert {r.group: r.split for r in other} != sides
    write(tmp_path, rows[100:300])
    assert all(sides[r.group] == r.split for r in config.build(tmp_path))


def test_shared_subjects_take_the_split_of_mimic_cxr(copy: Path) -> None:
    name = "mimic-cxr-2.0.0-split.csv.gz"
    lines = "dicom_id,study_id,subject_id,split\na,1,10000032,validate\nb,2,10000032,validate\n"
    (copy / name).write_bytes(gzip.compress(f"{lines}c,3,10000117,test\n".encode()))
    manifest = MimicIvEcgConfig(cxr_split=name).build(copy)
    assert {r.group: r.split for r in manifest} == {"10000032": "validation", "10000117": "test"}
    assert f"subjects in {name} as there" in manifest.split_rule
    for more, words in (("d,4,10000032,test", "line 4: split 'test'"), ("d,4,9,x", "split 'x' of")):
        (copy / name).write_bytes(gzip.compress(f"{lines}{more}\n".encode()))
        with pytest.raises(UserError, match=words):
            MimicIvEcgConfig(cxr_split=name).build(copy)
    for wrong in ("gone.csv", "../mimic_iv_ecg/../outside.csv"):
        (copy.parent / "outside.csv").touch()
        with pytest.raises(UserError, match=r"cxr_split .*: no such file in"):
            MimicIvEcgConfig(cxr_split=wrong).build(copy)


def test_missing_records(copy: Path) -> None:
    (copy / f"{place(*ROWS[2][:2])}.dat").unlink()
    with pytest.raises(UserError, match=r"45090959\.dat: listed in .*\(1 missing in all\)"):
        MimicIvEcgConfig().build(copy)
    assert len(MimicIvEcgConfig(allow_missing=True).build(copy)) == 2


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (
            "record_list.csv",
            "s40689238/40689238",
            "s40689238/4068923",
            r"line 2: path 'files/.*' is",
        ),
        ("record_list.csv", "p10000032/s4", "../s4", r"line 2: path"),
        ("record_list.csv", "10000032,40689238", "10000033,40689238", r"line 2: path"),
        (
            "record_list.csv",
            "study_id",
            "study",
            r"there is no column 'study_id'; found subject_id",
        ),
        ("machine_measurements.csv", "report_17", "report", "there is no column 'report_17'"),
        ("machine_measurements.csv", ",659", "", "line 2: too few columns"),
    ],
)
def test_damaged_tables(copy: Path, file: str, old: str, new: str, words: str) -> None:
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"{file}.*{words}"):
        MimicIvEcgConfig().build(copy)


def test_wrong_folders_and_settings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*record_list\.csv"):
        MimicIvEcgConfig().build(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"expected record_list\.csv.*; found other/\."):
        MimicIvEcgConfig().build(tmp_path)
    with pytest.raises(ValidationError, match="leaves no train split"):
        MimicIvEcgConfig(test_fraction=0.6, validation_fraction=0.4)
