"""Files that are there whole or not at all, also on a disk that refuses, and what killed processes
leave."""

from __future__ import annotations

import errno
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from multimodal.errors import UserError, of_the_disk
from multimodal.files import (
    replacing,
    replacing_folder,
    sweep,
    sweep_beside,
    write_atomically,
    writing,
)

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
LONG_AGO = (0, 0)


def dead() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _half(file: Path, error: OSError) -> None:
    file.write_text("ne")
    raise error


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_a_refusal_names_the_file_and_leaves_the_old_one(tmp_path, number: int) -> None:
    file = tmp_path / "a.json"
    write_atomically(file, "old")
    message = rf"^{file}: cannot be written \(.*\); [a-z].*\.$"
    with pytest.raises(UserError, match=message), replacing(file) as temporary:
        _half(temporary, OSError(number, os.strerror(number)))
    assert file.read_text() == "old"
    assert names(tmp_path) == {"a.json"}


def test_a_folder_likewise(tmp_path) -> None:
    folder = tmp_path / "model"
    with replacing_folder(folder) as made:
        (made / "x").write_text("old")
    with pytest.raises(UserError, match="make room there"), replacing_folder(folder) as made:
        _half(made / "x", FULL)
    assert (folder / "x").read_text() == "old"
    with replacing_folder(folder, over=True) as made:
        (made / "y").write_text("new")
    assert names(folder) == {"y"}
    assert names(tmp_path) == {"model"}


def test_faults_of_ours_keep_their_names(tmp_path) -> None:
    for error in (KeyError("x"), ssl.SSLError(1, "certificate"), ConnectionResetError(104, "gone")):
        with pytest.raises(type(error)), writing(tmp_path / "x"):
            raise error


def test_libraries_that_hide_the_refusal() -> None:
    torchs = RuntimeError("unexpected pos 704 vs 598")
    torchs.__context__ = FULL
    assert of_the_disk(torchs) is FULL
    found = of_the_disk(ValueError("I/O error: Disk quota exceeded (os error 122)"))
    assert found is not None
    assert found.errno == errno.EDQUOT
    assert of_the_disk(ValueError("os error 28")) is None
    assert of_the_disk(None) is None


def test_a_folder_that_was_deleted_meanwhile_is_one_line(tmp_path) -> None:
    with pytest.raises(UserError, match="its folder is gone"):
        write_atomically(tmp_path / "gone" / "x", "")


def test_long_names(tmp_path) -> None:
    file = tmp_path / ("x" * 255)
    write_atomically(file, "a")
    assert names(tmp_path) == {file.name}


def test_what_killed_processes_left_goes(tmp_path) -> None:
    """Of this version and of earlier ones; nothing else."""
    left = [".checkpoint.pt.77-0a1b2c.part", ".checkpoint.pt.77", ".x.safetensors.9.part"]
    kept = [".lock", "checkpoint.pt", ".mine.2024", "x.part", ".a.safetensors.part", ".1.part"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    (tmp_path / ".model.77-0a1b2c.part").mkdir()
    (tmp_path / ".model.77-0a1b2c.part" / "x").touch()
    sweep(tmp_path)
    assert names(tmp_path) == set(kept)
    sweep(tmp_path / "none")


def test_what_others_may_be_writing_stays_for_an_hour(tmp_path) -> None:
    for name in (".report.html.77-0a1b2c.part", ".digests.78-0a1b2c.part"):
        (tmp_path / name).touch()
    sweep(tmp_path, shared=("report.html",))
    assert names(tmp_path) == {".report.html.77-0a1b2c.part"}
    sweep(tmp_path, shared=None)
    assert names(tmp_path) == {".report.html.77-0a1b2c.part"}
    os.utime(tmp_path / ".report.html.77-0a1b2c.part", LONG_AGO)
    sweep(tmp_path, shared=None)
    assert names(tmp_path) == set()


def test_beside_a_file_only_its_own_leftovers_of_dead_processes_go(tmp_path) -> None:
    gone = dead()
    for name in (f".out.csv.{gone}-0a1b2c.part", f".out.csv.{os.getpid()}-0a1b2c.part"):
        (tmp_path / name).touch()
    (tmp_path / f".other.csv.{gone}-0a1b2c.part").touch()
    sweep_beside(tmp_path / "out.csv")
    assert names(tmp_path) == {
        f".out.csv.{os.getpid()}-0a1b2c.part",
        f".other.csv.{gone}-0a1b2c.part",
    }
