"""Several data sets as one of cases: tiny layouts of MIMIC's two, and one's own tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from multimodal.datasets import DATASETS
from multimodal.datasets.mimic_cxr import LABELS, MimicCxrConfig
from multimodal.datasets.mimic_iv_ecg import MimicIvEcgConfig
from multimodal.datasets.paired import PairedConfig
from multimodal.datasets.pairing import Cases
from multimodal.errors import UserError

# dicom, subject, study, split, StudyDate, StudyTime
IMAGES = [
    ("aa01", "10000032", "50000001", "train", "21800723", "84400.0"),
    ("aa02", "10000032", "50000002", "train", "21800901", "235959.5"),
    ("bb01", "10000764", "50000003", "test", "21320101", "0"),
    ("cc01", "10000980", "50000004", "validate", "21500101", "120000"),
]
# subject, study, ecg_time
RECORDS = [
    ("10000032", "40000001", "2180-07-20 10:00:00"),
    ("10000032", "40000002", "2180-09-02 00:10:00"),
    ("10000764", "40000003", "2132-03-01 23:59:00"),
    ("10000117", "40000004", "2132-03-01 23:59:00"),
]


def table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_cxr(root: Path) -> None:
    root.mkdir()
    start = "mimic-cxr-2.0.0-"
    head = ["dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime"]
    rows = [[d, s, study, "PA", day, time] for d, s, study, _, day, time in IMAGES]
    table(root / f"{start}metadata.csv", [head, *rows])
    rows = [[d, study, s, split] for d, s, study, split, *_ in IMAGES]
    table(root / f"{start}split.csv", [["dicom_id", "study_id", "subject_id", "split"], *rows])
    rows = [[s, study, *["1.0"] + [""] * 13] for _, s, study, *_ in IMAGES]
    table(root / f"{start}chexpert.csv", [["subject_id", "study_id", *LABELS], *rows])
    for dicom, subject, study, *_ in IMAGES:
        folder = root / f"files/p10/p{subject}/s{study}"
        folder.mkdir(parents=True)
        (folder / f"{dicom}.jpg").write_text(dicom)
        folder.with_suffix(".txt").write_text(f" FINDINGS: chest {dicom}.\n")


def write_ecg(root: Path) -> None:
    places = [f"files/p{s[:4]}/p{s}/s{study}/{study}" for s, study, _ in RECORDS]
    for place in places:
        (root / place).parent.mkdir(parents=True)
        (root / f"{place}.dat").write_text("")
    head = ["subject_id", "study_id", "file_name", "ecg_time", "path"]
    rows = [
        [s, study, study, t, place] for (s, study, t), place in zip(RECORDS, places, strict=True)
    ]
    table(root / "record_list.csv", [head, *rows])
    statements = [f"report_{n}" for n in range(18)]
    rows = [[s, study, f"heart {study}", *[""] * 17] for s, study, _ in RECORDS]
    table(root / "machine_measurements.csv", [["subject_id", "study_id", *statements], *rows])


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    write_cxr(tmp_path / "mimic_cxr")
    write_ecg(tmp_path / "mimic_iv_ecg")
    return tmp_path


def mimic(**fields: Any) -> PairedConfig:
    members = [{"dataset": {"name": "mimic_cxr", "texts": "both"}}, {"dataset": "mimic_iv_ecg"}]
    return PairedConfig.parse({"members": members, **fields})


def named(cases: Cases) -> list[tuple[str, ...]]:
    """The file's name of every recording of every case, "" where absent."""
    columns = [
        [
            manifest.recordings[row].uid.split("/")[-1].split(".")[0] if row >= 0 else ""
            for row in its
        ]
        for manifest, its in zip(cases.manifests.values(), cases.rows.values(), strict=True)
    ]
    return list(zip(*columns, strict=True))


def test_mimic(data_root: Path) -> None:
    cases = mimic().build_cases(data_root)
    assert DATASETS.parse(mimic().dump()) == mimic()
    assert named(cases) == [
        ("aa01", "40000001"),
        ("aa01", "40000002"),
        ("aa02", "40000001"),
        ("aa02", "40000002"),
        ("bb01", "40000003"),
    ]
    assert cases.groups == ("10000032",) * 4 + ("10000764",)
    assert cases.splits == ("train",) * 4 + ("test",)
    assert cases.texts[1] == "chest aa01. heart 40000002"
    assert cases.left_out == {
        "patients without a case": 2,
        "xray recordings of no case": 1,
        "ecg recordings of no case": 1,
    }
    # From 1 January to 1 March of a leap year there are 60 days, whatever the time of day.
    assert len(mimic(pairing={"days": 59}).build_cases(data_root)) == 4
    nearest = mimic(pairing={"how": "nearest"}).build_cases(data_root)
    assert named(nearest)[:2] == [("aa01", "40000001"), ("aa02", "40000002")]
    one = mimic(pairing={"how": "one_per_patient", "absent": True}).build_cases(data_root)
    assert named(one) == [
        ("aa02", "40000002"),
        ("", "40000004"),
        ("bb01", "40000003"),
        ("cc01", ""),
    ]


def test_reading_times_changes_no_manifest(data_root: Path) -> None:
    for config, folder in ((MimicCxrConfig(), "mimic_cxr"), (MimicIvEcgConfig(), "mimic_iv_ecg")):
        before = config.build(data_root / folder)
        moments = config.moments(data_root / folder)
        assert set(moments) == {r.uid for r in before}
        assert config.build(data_root / folder).content_hash == before.content_hash


def test_one_modality_of_it_and_other_folders(data_root: Path, tmp_path: Path) -> None:
    ecg = mimic(modality="ecg").build(data_root)
    assert (ecg.modality, len(ecg)) == ("ecg", 4)
    assert mimic().build(data_root).modality == "xray"
    with pytest.raises(UserError, match=r"dataset\.modality='video': .* holds xray, ecg"):
        mimic(modality="video").build(data_root)
    moved = tmp_path / "elsewhere"
    (data_root / "mimic_iv_ecg").rename(moved)
    members = [
        {"dataset": {"name": "mimic_cxr", "texts": "both"}},
        {"dataset": {"name": "mimic_iv_ecg", "root": str(moved)}},
    ]
    assert len(PairedConfig.parse({"members": members}).build_cases(data_root)) == 5


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_dates_that_cannot_be_read_name_file_line_and_value(data_root: Path) -> None:
    metadata = data_root / "mimic_cxr/mimic-cxr-2.0.0-metadata.csv"
    edit(metadata, "21800901", "01.09.2180")
    match = rf"^{metadata}, line 3: StudyDate is '01.09.2180.*', no date; write dates as 20180503"
    with pytest.raises(UserError, match=match):
        mimic().build_cases(data_root)
    left = mimic(pairing={"dates": "leave_out"}).build_cases(data_root)
    assert left.left_out["xray recordings without a date"] == 1
    by_patient = mimic(pairing={"days": None}).build_cases(data_root)
    assert len(by_patient) == 5
    records = data_root / "mimic_iv_ecg/record_list.csv"
    edit(metadata, "01.09.2180", "21800901")
    edit(records, "2180-07-20 10:00:00", "")
    with pytest.raises(UserError, match=rf"^{records}, line 2: ecg_time is empty, no date"):
        mimic().build_cases(data_root)
    edit(metadata, "StudyDate", "Date")
    with pytest.raises(UserError, match=rf"{metadata}: there is no column 'StudyDate'"):
        mimic().build_cases(data_root)


def test_reports_that_are_not_there(data_root: Path) -> None:
    members = [{"dataset": "mimic_cxr"}, {"dataset": "mimic_iv_ecg"}]
    with pytest.raises(UserError, match="none of 4 xray recordings has a report; let its reader"):
        PairedConfig.parse({"members": members}).build_cases(data_root)
    optional = {"members": members, "pairing": {"reports": "optional"}}
    assert PairedConfig.parse(optional).build_cases(data_root).texts[0] == "heart 40000001"
    (data_root / "mimic_cxr/files/p10/p10000764/s50000003.txt").write_text("FINDINGS:\n")
    cases = mimic().build_cases(data_root)
    assert cases.left_out["xray recordings without a report"] == 1
    assert set(cases.groups) == {"10000032"}


def own(root: Path, name: str, rows: list[list[str]]) -> dict[str, Any]:
    """A table of one's own, its files and the member that names it."""
    folder = root / name
    folder.mkdir()
    for row in rows:
        (folder / row[0]).write_text("x")
    table(folder / "list.csv", [["path", "label", "patient", "taken", "note", "split"], *rows])
    fields = {"group_column": "patient", "text_column": "note", "file": "list.csv"}
    place = {"root": str(folder), "modality": name}
    return {"dataset": {"name": "table", **fields, **place}, "time_column": "taken"}


def test_tables_of_ones_own(tmp_path: Path) -> None:
    xray = own(
        tmp_path,
        "xray",
        [
            ["a.png", "sick", "007", "2024-01-01", "opacity", "train"],
            ["b.png", "well", "7", "2024-01-01", "clear", "test"],
        ],
    )
    ecg = own(tmp_path, "ecg", [["a.hea", "af", "007", "2024-01-05 10:00", "flutter", "test"]])
    config = PairedConfig.parse({"members": [xray, ecg], "pairing": {"days": 4}})
    cases = config.build_cases(tmp_path)
    assert (cases.groups, cases.splits) == (("007",), ("train",))
    assert cases.texts == ("opacity flutter",)
    assert cases.rows["xray"].dtype == np.int64
    for column, words in ((None, "None"), ("day", "'day'")):
        members = [xray, {**ecg, "time_column": column}]
        with pytest.raises(UserError, match=rf"list\.csv: time_column {words} must be one of"):
            PairedConfig.parse({"members": members}).build_cases(tmp_path)
    with pytest.raises(UserError, match="both of modality 'ecg'; name one of each"):
        PairedConfig.parse({"members": [ecg, ecg]}).build_cases(tmp_path)


def test_members_without_times_and_members_of_several_modalities(tmp_path: Path) -> None:
    members: list[Any] = [{"dataset": "synthetic_xray"}, {"dataset": "synthetic_ecg"}]
    with pytest.raises(
        UserError, match=r"'synthetic_xray' does not tell when .* pairing\.days=null"
    ):
        PairedConfig.parse({"members": members}).build_cases(tmp_path)
    nested = [{"dataset": {"name": "paired", "members": members}}, members[1]]
    with pytest.raises(ValidationError, match="members: paired has several modalities itself"):
        PairedConfig.parse({"members": nested})
    with pytest.raises(ValidationError, match="at least 2"):
        PairedConfig.parse({"members": members[1:]})
