"""The reader of PTB-XL, on a tiny copy of the official layout."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from multimodal.datasets import DATASETS
from multimodal.datasets.ptbxl import PtbxlConfig
from multimodal.errors import UserError
from multimodal.modalities.ecg import LEADS, EcgConfig

STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass
NORM,normal ECG,1.0,,,NORM,NORM
ASMI,anteroseptal myocardial infarction,1.0,,,MI,AMI
IMI,inferior myocardial infarction,1.0,,,MI,IMI
NDT,non-diagnostic T abnormalities,1.0,1.0,,STTC,STTC
1AVB,first degree AV block,1.0,,,CD,_AVB
LVH,left ventricular hypertrophy,1.0,,,HYP,LVH
LVOLT,low QRS voltages,,1.0,,,
SR,sinus rhythm,,,1.0,,
"""
# ecg_id, patient, codes, fold
ROWS = [
    (1, "11.0", "{'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0}", 3),
    (2, "11.0", "{'ASMI': 15.0, 'NDT': 0.0}", 3),
    (3, "12.0", "{'ASMI': 100.0, 'IMI': 50.0, 'SR': 0.0}", 9),
    (4, "13.0", "{'SR': 0.0}", 10),
    (5, "14.0", "{'1AVB': 100.0, 'LVH': 100.0}", 10),
    (1000, "15.0", "{'NORM': 80.0}", 8),
]


def table(root: Path, rows: list[tuple[int, str, str, Any]]) -> None:
    with (root / "ptbxl_database.csv").open("w", newline="") as file:
        out = csv.writer(file)
        names = "ecg_id patient_id report scp_codes strat_fold filename_lr filename_hr"
        out.writerow(names.split(" "))
        for number, patient, codes, fold in rows:
            block = f"{number // 1000 * 1000:05d}"
            names = [f"records{r}/{block}/{number:05d}_{k}" for r, k in ((100, "lr"), (500, "hr"))]
            out.writerow([number, patient, "sinusrhythmus", codes, fold, *names])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "ptbxl"
    root.mkdir()
    (root / "scp_statements.csv").write_text(STATEMENTS)
    table(root, ROWS)
    for number, *_ in ROWS:
        folder = root / "records100" / f"{number // 1000 * 1000:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"write_dir": str(folder)}
        wfdb.wrsamp(
            f"{number:05d}_lr",
            fs=100,
            units=["mV"] * 12,
            sig_name=[lead.upper() for lead in LEADS],
            d_signal=np.random.default_rng(number).integers(-900, 900, (1000, 12)),
            fmt=["16"] * 12,
            adc_gain=[1000.0] * 12,
            baseline=[0] * 12,
            **options,
        )
    return root


def labels(config: PtbxlConfig, root: Path) -> dict[int, set[str]]:
    manifest = config.build(root)
    return {
        int(r.uid.split("/")[2][:5]): {manifest.class_names[c] for c in r.labels} for r in manifest
    }


def test_superdiagnostic_is_multi_label_on_the_official_folds(copy: Path) -> None:
    assert DATASETS.config("ptbxl") is PtbxlConfig
    manifest = PtbxlConfig().build(copy)
    assert manifest.class_names == ("CD", "HYP", "MI", "NORM", "STTC")
    assert labels(PtbxlConfig(), copy) == {
        1: {"NORM"},
        2: {"MI", "STTC"},
        3: {"MI"},
        5: {"CD", "HYP"},
        1000: {"NORM"},
    }
    assert manifest.splits.tolist() == ["train", "train", "validation", "test", "train"]
    assert manifest.groups.tolist() == ["11", "11", "12", "14", "15"]
    first = manifest.recordings[0]
    assert first.uid == "records100/00000/00001_lr"
    assert first.text == "normal ECG, low QRS voltages, sinus rhythm"
    assert PtbxlConfig(texts="report").build(copy).recordings[0].text == "sinusrhythmus"
    assert manifest.version == "unknown release of 6 records"
    assert "folds 1-8 train, 9 validation, 10 test; task superdiagnostic" in manifest.split_rule
    assert EcgConfig(sample_rate=100).build().load(first).shape == (12, 1000)
    assert EcgConfig().build().missing_leads(first) == ()


def test_tasks(copy: Path) -> None:
    names = {
        task: PtbxlConfig.parse({"task": task}).build(copy).class_names
        for task in ("all", "diagnostic", "subdiagnostic", "form", "rhythm")
    }
    assert names == {
        "all": ("1AVB", "ASMI", "IMI", "LVH", "LVOLT", "NDT", "NORM", "SR"),
        "diagnostic": ("1AVB", "ASMI", "IMI", "LVH", "NDT", "NORM"),
        "subdiagnostic": ("AMI", "IMI", "LVH", "NORM", "STTC", "_AVB"),
        "form": ("LVOLT", "NDT"),
        "rhythm": ("SR",),
    }
    assert labels(PtbxlConfig(task="form"), copy) == {1: {"LVOLT"}, 2: {"NDT"}}
    assert set(labels(PtbxlConfig(task="rhythm"), copy)) == {1, 3, 4}
    assert labels(PtbxlConfig(task="subdiagnostic"), copy)[3] == {"AMI", "IMI"}


def test_likelihood_and_single_label(copy: Path) -> None:
    assert labels(PtbxlConfig(min_likelihood=20.0), copy) == {
        1: {"NORM"},
        3: {"MI"},
        5: {"CD", "HYP"},
        1000: {"NORM"},
    }
    assert set(labels(PtbxlConfig(single_label=True), copy)) == {1, 3, 1000}


def test_expected_counts() -> None:
    counts = PtbxlConfig().expected_counts()
    assert counts == {"train": 17_084, "validation": 2_146, "test": 2_158}
    single = PtbxlConfig(single_label=True).expected_counts() or {}
    assert sum(single.values()) == 16_244
    assert PtbxlConfig(task="all").expected_counts() is None
    assert PtbxlConfig(min_likelihood=1.0).expected_counts() is None


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((7, "1.0", "NORM", 1), r"line 2: scp_codes 'NORM' is not of the form"),
        ((7, "1.0", "{'XYZ': 1.0}", 1), r"line 2: statement 'XYZ' is not in scp_statements"),
        ((7, "1.0", "{'NORM': 1.0}", 11), r"line 2: strat_fold '11' \(1 to 10\)"),
        ((7, "", "{'NORM': 1.0}", 1), r"patient_id '' \(a number\)"),
        ((7, "1.0", "{'NORM': 1.0}", 1), r"00007_lr.dat: listed in .* \(1 of 1 missing\)"),
    ],
)
def test_bad_rows(copy: Path, row: tuple, words: str) -> None:
    table(copy, [row])
    with pytest.raises(UserError, match=words):
        PtbxlConfig().build(copy)


def test_wrong_folders_missing_rates_and_columns(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist; expected .*ptbxl_database"):
        PtbxlConfig().build(tmp_path / "gone")
    with pytest.raises(UserError, match=r"expected ptbxl_database.csv.*; found ptbxl/\."):
        PtbxlConfig().build(tmp_path)
    with pytest.raises(UserError, match=r"00001_hr.dat: listed .*\(5 of 5 missing\).*rate"):
        PtbxlConfig(rate=500).build(copy)
    text = (copy / "ptbxl_database.csv").read_text()
    (copy / "ptbxl_database.csv").write_text(text.replace("strat_fold", "fold"))
    with pytest.raises(UserError, match="there is no column 'strat_fold'; found ecg_id"):
        PtbxlConfig().build(copy)
    (copy / "ptbxl_database.csv").write_text(text + "9,1.0")
    with pytest.raises(UserError, match="line 8: too few columns"):
        PtbxlConfig().build(copy)


def test_a_patient_in_two_folds_is_refused(copy: Path) -> None:
    rows = [(n, "11.0" if n == 5 else p, c, f) for n, p, c, f in ROWS]
    table(copy, rows)
    with pytest.raises(UserError, match=r"stand on both sides of a split \(11\)"):
        PtbxlConfig().build(copy)
