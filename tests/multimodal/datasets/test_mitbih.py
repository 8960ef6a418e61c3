"""The reader of MIT-BIH, on tiny records written here and on the real ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wfdb

from multimodal.datasets import DATASETS
from multimodal.datasets.mitbih import AAMI, BEATS, DS1, DS2, MitbihConfig
from multimodal.errors import UserError
from multimodal.modalities.ecg import EcgConfig
from multimodal.recordings import Manifest

FRAMES = 3600


def write(folder: Path, record: str, beats: list[tuple[int, str]]) -> None:
    """A record of 10 s with the given annotations; every sample tells its own number."""
    folder.mkdir(parents=True, exist_ok=True)
    digital = np.stack([np.arange(FRAMES) % 2000 - 1000, np.zeros(FRAMES)], axis=1)
    digital[1, 1] = 1  # a constant signal would have a gain of nothing
    options: dict[str, Any] = {"write_dir": str(folder)}
    wfdb.wrsamp(
        record,
        fs=360,
        units=["mV", "mV"],
        sig_name=["MLII", "V1"],
        d_signal=digital.astype(np.int64),
        fmt=["212", "212"],
        adc_gain=[200.0, 200.0],
        baseline=[0, 0],
        **options,
    )
    samples, symbols = zip(*beats, strict=True)
    wfdb.wrann(record, "atr", np.array(samples), list(symbols), **options)


def beats_of(symbols: str) -> list[tuple[int, str]]:
    """One beat every 150 samples from sample 200 on."""
    return [(200 + 150 * i, symbol) for i, symbol in enumerate(symbols)]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "mitbih"
    for record in ("101", "106", "201", "202", "207"):
        write(folder, record, beats_of("N+VNAVNNRV~NNLSVN"))
    write(folder, "102", beats_of("/fQ/"))
    return folder


def names_of(manifest: Manifest, split: str) -> Counter[str]:
    return Counter(manifest.class_names[c] for c in manifest.labels[manifest.indices(split)])


def config(**fields: Any) -> MitbihConfig:
    return MitbihConfig.parse({"classes": ["N", "S", "V"], **fields})


def test_registered_and_aami_classes() -> None:
    assert DATASETS.config("mitbih") is MitbihConfig
    assert {s: AAMI[s] for s in "NLRejAaJSVEF/fQ"} == dict(
        zip("NLRejAaJSVEF/fQ", "NNNNNSSSSVVFQQQ", strict=True)
    )
    assert not set('+~|!"x[]') & set(AAMI)
    assert (len(DS1), len(DS2), len({*DS1, *DS2})) == (22, 22, 44)


def test_beats_are_windows_around_the_peak(copy: Path) -> None:
    manifest = config(test_records=["106"]).build(copy)
    assert len(manifest) == 5 * 15
    assert manifest.class_names == ("N", "S", "V")
    assert (manifest.modality, manifest.group_overlap) == ("ecg", "")
    first = manifest.recordings[0]
    assert (first.uid, first.group, first.path) == ("101/000200", "101", copy / "101.dat")
    assert (first.start, first.duration) == (110 / 360, 234 / 360)
    by_uid = {r.uid: r for r in manifest}
    assert "101/000350" not in by_uid  # "+" is no beat
    assert [by_uid[f"101/{s:06d}"].label for s in (200, 500, 800, 1400)] == [0, 2, 1, 0]
    assert by_uid["101/000800"].text == "atrial premature beat"
    # The peak stands 90 samples into the window, whatever the record.
    adapter = EcgConfig(sample_rate=360).build()
    for r in manifest:
        signal = adapter.load(r)
        assert signal.shape == (12, 234)
        sample = int(r.uid.split("/")[1])
        torch.testing.assert_close(signal[1, 90], torch.tensor((sample % 2000 - 1000) / 200.0))


def test_beats_at_the_edges_are_left_out_and_counted(tmp_path: Path) -> None:
    for record in ("101", "106"):
        write(tmp_path, record, [(89, "N"), (90, "N"), (FRAMES - 144, "N"), (FRAMES - 143, "N")])
    manifest = config(classes=["N"], test_records=["106"]).build(tmp_path)
    assert [r.uid for r in manifest] == [f"{r}/{s:06d}" for r in (101, 106) for s in (90, 3456)]
    assert "4 beat(s) at a record's edge left out" in manifest.split_rule


def test_by_record_keeps_patients_apart(copy: Path) -> None:
    for seed in range(6):
        manifest = config(seed=seed).build(copy)
        sides = {s: set(manifest.groups[manifest.indices(s)]) for s in ("train", "test")}
        assert not sides["train"] & sides["test"]
        assert sides["train"] | sides["test"] == {"101", "106", "201+202", "207"}
        assert set(names_of(manifest, "train")) == set(names_of(manifest, "test")) == set("NSV")
        tested = {r.uid[:3] for r in manifest if r.split == "test"}
        assert f"test records {', '.join(sorted(tested))}" in manifest.split_rule
        assert f"seed {seed}" in manifest.split_rule
    assert config(seed=1).build(copy).content_hash == config(seed=1).build(copy).content_hash


def test_named_test_records(copy: Path) -> None:
    manifest = config(test_records=["101", "207"]).build(copy)
    assert {r.uid[:3] for r in manifest if r.split == "test"} == {"101", "207"}
    assert manifest.split_rule.startswith("by record, named: test records 101, 207")
    with pytest.raises(UserError, match=r"stand on both sides of a split \(201\+202\)"):
        config(test_records=["201"]).build(copy)
    with pytest.raises(UserError, match=r"no record 999, which .* records there: 101, 102, 106"):
        config(test_records=["999"]).build(copy)
    with pytest.raises(UserError, match="test_records needs split='by_record'"):
        config(test_records=["101"], split="within_record").build(copy)


def test_paced_records_are_left_out_unless_wanted(copy: Path) -> None:
    assert "102" not in set(config().build(copy).groups)
    manifest = MitbihConfig(paced=True, min_beats=1).build(copy)
    assert "Q" not in manifest.class_names  # one record only
    write(copy, "104", beats_of("/N/"))
    manifest = MitbihConfig(paced=True, min_beats=1).build(copy)
    assert manifest.class_names == ("N", "S", "V", "Q")
    assert "class(es) F left out: fewer than 1 beats in train or test" in manifest.split_rule


def test_within_record_cuts_by_time_and_says_so(copy: Path) -> None:
    for record in ("101", "106", "201", "202", "207"):
        write(copy, record, beats_of("N+VNAVNNRV~NNLSVNNAV"))
    manifest = config(split="within_record", test_fraction=0.3).build(copy)
    assert manifest.group_overlap.startswith("within_record: every record is cut in time")
    assert "WITHIN record, not by patient" in manifest.split_rule
    cut = 0.7 * FRAMES / 360
    for r in manifest:
        assert r.duration is not None
        if r.split == "train":
            assert r.start + r.duration <= cut + 1e-9
        else:
            assert r.start >= cut - 1e-9
    for record in ("101", "201"):
        splits = {r.split for r in manifest if r.uid.startswith(record)}
        assert splits == {"train", "test"}
    # The beat at 2450 needs 2360 to 2594, that at 2600 begins at 2510: both touch the cut at 2520.
    assert not {"101/002450", "101/002600"} & {r.uid for r in manifest}


def test_limit_of_beats_is_seeded(copy: Path) -> None:
    full = config(test_records=["101"]).build(copy)
    limited = config(test_records=["101"], max_per_record=2).build(copy)
    counts = Counter((r.uid[:3], r.label) for r in limited)
    assert set(counts.values()) == {2}
    assert {r.uid for r in limited} < {r.uid for r in full}
    other = config(test_records=["101"], max_per_record=2, seed=1).build(copy)
    assert {r.uid for r in other} != {r.uid for r in limited}
    assert "at most 2 beats a class and record (seed 0)" in limited.split_rule


def test_classes_on_one_side(copy: Path) -> None:
    write(copy, "101", beats_of("NNVVSSFFF"))
    with pytest.raises(UserError, match="class 'F' has 0 train and 3 test beats; set min_beats=1"):
        config(classes=["N", "V", "F"], test_records=["101"]).build(copy)
    manifest = config(classes=["N", "V", "F"], test_records=["101"], min_beats=1).build(copy)
    assert manifest.class_names == ("N", "V")
    assert "class(es) F left out: fewer than 1 beats" in manifest.split_rule
    assert max(manifest.labels) == 1
    with pytest.raises(UserError, match="class 'F' has recordings of one group only"):
        config(classes=["N", "V", "F"]).build(copy)
    assert config(classes=["N", "V", "F"], min_beats=1).build(copy).class_names == ("N", "V")
    with pytest.raises(UserError, match="no class has that many beats"):
        config(test_records=["101"], min_beats=1000).build(copy)
    for classes in ([], ["N", "N"]):
        with pytest.raises(UserError, match="name each class once, at least one"):
            config(classes=classes).build(copy)


def test_ds1_ds2_has_the_official_leak_and_strict_has_not(tmp_path: Path) -> None:
    for record in (*DS1, *DS2):
        write(tmp_path, record, beats_of("NVA"))
    manifest = config(split="ds1_ds2").build(tmp_path)
    assert "records 201 and 202" in manifest.group_overlap
    for r in manifest:
        assert r.split == ("train" if r.uid[:3] in DS1 else "test")
    strict = config(split="ds1_ds2_strict").build(tmp_path)
    assert strict.group_overlap == ""
    assert {r.uid[:3] for r in manifest} - {r.uid[:3] for r in strict} == {"202"}
    (tmp_path / "233.hea").unlink()
    with pytest.raises(UserError, match="no record 233, which split='ds1_ds2'"):
        config(split="ds1_ds2").build(tmp_path)


def test_expected_counts() -> None:
    counts = MitbihConfig(split="ds1_ds2", root="x").expected_counts() or {}
    assert counts == {"train": 51_003, "test": 49_692}
    assert sum(BEATS.values()) - sum(counts.values()) == 38
    assert MitbihConfig().expected_counts() is None
    assert MitbihConfig(split="ds1_ds2", max_per_record=5).expected_counts() is None


def test_wrong_folders_and_damaged_annotations(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*101.hea"):
        config().build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected records such as .*; found mitbih/\."):
        config().build(tmp_path)
    whole = (copy / "106.atr").read_bytes()
    for data in (b"", None):
        (copy / "106.atr").unlink()
        if data is not None:
            (copy / "106.atr").write_bytes(data)
        with pytest.raises(UserError, match=r"106.atr: missing or empty"):
            config().build(copy)
        (copy / "106.atr").write_bytes(whole)
    for data in (b"\0\0", whole[:1], b"not annotations"):
        (copy / "106.atr").write_bytes(data)
        with pytest.raises(UserError, match=r"106.atr: .*damaged"):
            config().build(copy)
    (copy / "106.atr").write_bytes(whole)
    (copy / "106.dat").write_bytes(b"1234")
    with pytest.raises(UserError, match=r"106.dat: truncated, 4 of 10800 bytes"):
        config().build(copy)


@pytest.mark.realdata
def test_real_ds1_has_the_measured_beats(real_data: Path) -> None:
    manifest = MitbihConfig(test_fraction=0.3).build(real_data / "mitbih")
    assert manifest.version == "1.0.0: 22 records"
    edge = {"N": 17, "F": 1}
    measured = {"N": 45_866, "S": 944, "V": 3_788, "F": 415, "Q": 8}
    found = names_of(manifest, "train") + names_of(manifest, "test")
    assert found == {name: n - edge.get(name, 0) for name, n in measured.items()}
    assert len(manifest) == 51_003
    assert "18 beat(s) at a record's edge left out" in manifest.split_rule
    assert EcgConfig().build().load(manifest.recordings[-1]).shape == (12, 162)


def raw_annotations(data: bytes) -> list[tuple[int, int]]:
    """(sample, code) of the annotation format of MIT: code << 10 | step, in 16-bit words."""
    words, i, time, found = np.frombuffer(data, "<u2").astype(int), 0, 0, []
    while i < len(words) and words[i]:
        code, value = words[i] >> 10, words[i] & 0x3FF
        i += 1
        if code == 59:
            step = words[i] << 16 | words[i + 1]
            time += step - (1 << 32) * (step >> 31)
            i += 2
        elif code == 63:
            i += (value + 1) // 2
        elif code not in (60, 61, 62):
            time += value
            found.append((int(time), int(code)))
    return found


@pytest.mark.realdata
def test_real_annotations_equal_the_format_written_out(real_data: Path) -> None:
    codes = dict(zip((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), "NLRaVFJASEj", strict=True))
    codes |= {12: "/", 13: "Q", 34: "e", 38: "f"}
    manifest = MitbihConfig(before=0.0, after=0.01).build(real_data / "mitbih")
    for record in ("101", "208", "223"):
        raw = raw_annotations((real_data / "mitbih" / f"{record}.atr").read_bytes())
        expected = {f"{record}/{s:06d}": AAMI[codes[c]] for s, c in raw if c in codes}
        found = {r.uid: manifest.class_names[r.label] for r in manifest if r.uid.startswith(record)}
        assert found == expected
