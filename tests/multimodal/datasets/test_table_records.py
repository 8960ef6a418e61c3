"""Names of a user's table: records of WFDB without their ending, and links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from multimodal.datasets.places import find_files, inside
from multimodal.datasets.table import TableConfig
from multimodal.errors import UserError


def test_records_are_named_with_or_without_their_ending(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    for i in range(30):
        (tmp_path / f"records/r{i}.hea").write_text("x")
        (tmp_path / f"records/r{i}.dat").write_bytes(b"x")
    for ending in ("", ".hea"):
        rows = "".join(f"records/r{i}{ending},{'ab'[i % 2]}\n" for i in range(30))
        (tmp_path / "t.csv").write_text(f"path,label\n{rows}")
        manifest = TableConfig(file="t.csv", modality="ecg").build(tmp_path)
        assert {r.uid for r in manifest} == {f"records/r{i}.hea" for i in range(30)}
        twice = f"path,label\n{rows}records/r3,a\nrecords/r3.hea,a\n"
        (tmp_path / "t.csv").write_text(twice)
        with pytest.raises(UserError, match="already in"):
            TableConfig(file="t.csv", modality="ecg").build(tmp_path)
    (tmp_path / "t.csv").write_text("path,label\nrecords/r0,a\nrecords/r1,b\nrecords/q,b\n")
    with pytest.raises(UserError, match=r"'records/q' does not exist .*1 of 3 rows"):
        TableConfig(file="t.csv", modality="ecg").build(tmp_path)
    (tmp_path / "t.csv").write_text("path,label\n../r0,a\nrecords/r1,b\n")
    with pytest.raises(UserError, match="leads out of the data root"):
        TableConfig(file="t.csv", modality="ecg").build(tmp_path)
    (tmp_path / "t.csv").write_text("path,label\nrecords/r0,a\nrecords/r1,b\n")
    with pytest.raises(UserError, match="2 of 2 rows name no file"):  # "r0" of sound is nothing
        TableConfig(file="t.csv", modality="audio").build(tmp_path)


def test_links_are_looked_at_once_a_folder_and_none_leads_out(tmp_path: Path, monkeypatch) -> None:
    root, away = tmp_path / "root", tmp_path / "away"
    for folder in (root / "links", root / "store/deep", away):
        folder.mkdir(parents=True)
    (root / "door").symlink_to(away)
    (root / "hall").symlink_to("store/deep")
    (away / "x.wav").write_bytes(b"x")
    targets = {
        **{f"in{i}": f"../store/deep/{i}.wav" for i in range(40)},
        "absolute": str(root / "store/deep/0.wav"),
        "through": "../hall/1.wav",
        "behind": "../hall/../top.wav",  # of store, whatever it looks like
        "chain": "in3",
        "out": "../../away/x.wav",
        "out_absolute": str(away / "x.wav"),
        "out_through": "../door/x.wav",
        "out_chain": "out",
        "gone": "../store/deep/none.wav",
        "ring": "ring",
        "folder": "../store",
    }
    for i in range(40):
        (root / f"store/deep/{i}.wav").write_bytes(b"x")
    (root / "store/top.wav").write_bytes(b"x")
    for name, target in targets.items():
        os.symlink(target, root / "links" / name)
    for name in targets:
        found = find_files(root, [f"links/{name}"])
        try:
            path, uid = inside(root, f"links/{name}", name)
        except UserError:
            assert found.outside == [0], name
            continue
        assert (found.uids, found.outside) == ([uid], []), name
        assert found.missing == ([] if path.is_file() else [0]), name
    resolved = []
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda p, **kw: resolved.append(p) or real(p, **kw))
    found = find_files(root, [f"links/in{i}" for i in range(40)])
    assert found.missing == found.outside == []
    assert len(resolved) <= 4
