"""ECG records that cannot be read are refused by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from multimodal.errors import UserError
from multimodal.modalities.ecg import LEADS, EcgConfig
from multimodal.modalities.wfdb_files import call_wfdb
from multimodal.recordings import Recording
from tests.multimodal.modalities.ecg_files import load, noise, refused, write


@pytest.mark.parametrize("form", ["16", "212"])
@pytest.mark.parametrize("keep", [0, 1, 500, -1])
def test_truncated_files(tmp_path: Path, form: str, keep: int) -> None:
    path = write(tmp_path, noise(), list(LEADS), form=form)
    path.write_bytes(path.read_bytes()[:keep])
    assert ("empty file" if keep == 0 else "truncated") in refused(path)
    assert ("empty file" if keep == 0 else "truncated") in refused(path, start=0.5, duration=0.1)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "gone.dat")
    path = write(tmp_path, noise(), list(LEADS))
    for text, words in {
        "": "not a WFDB record",
        "rec": "not a WFDB record",
        "\x00\xff rec": "not a WFDB record",
        "rec 12 x y\n": "not a WFDB record (first line 'rec 12 x y')",
        "rec 0 250 1000\n": "0 signals",
    }.items():
        (tmp_path / "rec.hea").write_text(text)
        assert words in refused(path), text
    write(tmp_path, noise(), list(LEADS))
    path.unlink()
    assert "no such file" in refused(path)
    assert "names rec.dat, but there is no" in refused(tmp_path / "rec.hea")
    with pytest.raises(UserError, match="neither a file nor a made array"):
        EcgConfig().build().load(Recording("x", (0,), "train"))


def test_only_annotations_need_wfdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, noise(), list(LEADS), name="unseen")
    monkeypatch.setitem(sys.modules, "wfdb", None)
    assert load(path).shape == (12, 1000)
    with pytest.raises(UserError, match=r"install the extra 'medical'"):
        call_wfdb("rdann", path, "atr")
