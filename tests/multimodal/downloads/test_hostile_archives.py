"""Archives that are made to harm: refused in one line, and nothing of them stays."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

from multimodal.downloads import archives
from multimodal.downloads.archives import STAGING, unpack
from multimodal.errors import UserError
from tests.multimodal.downloads.archive_files import MAKERS, make_tar, make_zip, tree


def refused(archive: Path, zipped: bool) -> str:
    """What it says; ValueError of pytest if it is unpacked."""
    folder = archive.parent / "folder"
    folder.mkdir(exist_ok=True)
    with pytest.raises(UserError) as caught:
        unpack(archive, folder, zipped=zipped)
    assert not tree(folder)
    assert not (folder / STAGING).exists()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("deep", [101, 1_500, 20_000])
def test_folders_in_folders_are_refused(tmp_path: Path, zipped: bool, deep: int) -> None:
    archive = MAKERS[zipped](tmp_path / "archive", {"a/" * deep + "b": b"1"})
    assert "lies over 100 folders deep" in refused(archive, zipped)


@pytest.mark.parametrize("zipped", [True, False])
def test_names_that_no_disk_has_are_refused(tmp_path: Path, zipped: bool) -> None:
    archive = MAKERS[zipped](tmp_path / "archive", {"x" * 300: b"1"})
    assert "cannot be unpacked into" in refused(archive, zipped)


@pytest.mark.parametrize("zipped", [True, False])
def test_little_that_becomes_much_is_refused(tmp_path: Path, zipped: bool, monkeypatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS", 2**20)
    archive = MAKERS[zipped](tmp_path / "archive", {"zeros": bytes(2**23)})
    assert "become 8,388,608 or more; nothing was unpacked" in refused(archive, zipped)
    assert unpack(MAKERS[zipped](archive, {"some": bytes(2**19)}), tmp_path / "b", zipped=zipped)


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_a_header_that_fills_the_memory_is_refused(tmp_path: Path, kind: bytes) -> None:
    archive = make_tar(tmp_path / "archive", {"header": bytes(2**21)}, type=kind)
    assert "an extended header of 2,097,152 bytes" in refused(archive, zipped=False)


def test_headers_of_headers_are_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("name")
    info.type, info.size = tarfile.XHDTYPE, 0
    (tmp_path / "archive").write_bytes(3_000 * info.tobuf(tarfile.GNU_FORMAT))
    assert "damaged, or not the archive it should be" in refused(tmp_path / "archive", False)


def harmless(kind: str) -> bytes:
    files = {"top/one.txt": b"1" * 700, "top/two/three.txt": b"23" * 400, "top/four": b""}
    memory = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                file.writestr(name, content)
        return memory.getvalue()
    with tarfile.open(fileobj=memory, mode=kind, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5  # pyright: ignore[reportAttributeAccessIssue]
            tar.addfile(info, io.BytesIO(content))
    return memory.getvalue()


KINDS = ("zip", "w", "w:gz", "w:bz2", "w:xz")


def harmed(content: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut, doubled, or filled with what numbers are made of."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data))
        way = chance.randrange(5)
        if way == 0:
            data[at] = chance.randrange(256)
        elif way == 1:
            data[at : at + 4] = chance.choice([b"\xff" * 4, bytes(4), b"7777", b"-1\0\0"])
        elif way == 2:
            del data[at : at + chance.randint(1, 600)]
        elif way == 3:
            data[at:at] = data[at : at + chance.randint(1, 600)]
        else:
            data = data[: max(1, at)]
        data = data or bytearray(b"\0")
    return bytes(data)


def fuzz(folder: Path, kind: str, count: int) -> None:
    archive, target = folder / "archive", folder / "target"
    whole = harmless(kind)
    for number in range(count):
        archive.write_bytes(harmed(whole, random.Random(f"{kind} {number}")))
        words = "one line"
        try:
            unpack(archive, target, zipped=kind == "zip")
        except UserError as error:
            words = str(error)
        assert len(words.splitlines()) == 1, number
        assert sorted(p.name for p in folder.iterdir()) in (["archive"], ["archive", "target"])
        assert not (target / STAGING).exists(), number


@pytest.mark.parametrize("kind", KINDS)
def test_harmed_archives_are_unpacked_or_refused(tmp_path: Path, kind: str) -> None:
    fuzz(tmp_path, kind, 10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_harmed_archives_are_unpacked_or_refused(tmp_path: Path, kind: str) -> None:
    fuzz(tmp_path, kind, 200)


def test_what_is_harmed_there_was_whole(tmp_path: Path) -> None:
    for kind in KINDS:
        (tmp_path / "archive").write_bytes(harmless(kind))
        found = unpack(tmp_path / "archive", tmp_path / kind.replace(":", ""), zipped=kind == "zip")
        assert found.files == 3


def test_make_zip_writes_what_is_asked(tmp_path: Path) -> None:
    assert zipfile.ZipFile(make_zip(tmp_path / "a", {"x": b"1"})).namelist() == ["x"]
