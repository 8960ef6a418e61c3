"""Archives as others make them, harmless and not."""

from __future__ import annotations

import stat
import tarfile
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multimodal.downloads.archives import STAGING, Unpacked, unpack
from multimodal.errors import UserError
from tests.multimodal.downloads.archive_files import MAKERS, make_tar, make_zip, tree

TREE = {"a/b/one.txt": b"1" * 10, "a/two.txt": b"2", "three.txt": b""}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a file of its own, which no archive may touch unasked."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    return folder


@pytest.fixture
def refuse(folder):
    """``unpack`` refuses, and outside and inside of the folder everything is as before."""

    def check(archive: Path, words: str, *, zipped: bool, **limits: int) -> None:
        before = tree(folder.parent)
        with pytest.raises(UserError, match=words) as caught:
            unpack(archive, folder, zipped=zipped, **limits)
        assert str(archive) in str(caught.value)
        assert tree(folder.parent) == before
        assert not (folder / STAGING).exists()

    return check


@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_in_it_comes_out_beside_what_is_there(folder, zipped: bool) -> None:
    archive = MAKERS[zipped](folder.parent / "archive", TREE)
    assert unpack(archive, folder, zipped=zipped) == Unpacked(("a", "three.txt"), 3, 11)
    assert tree(folder) == {**TREE, "mine.txt": b"mine"}
    assert not (folder / STAGING).exists()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_compression_of_tar(folder, mode: str) -> None:
    archive = make_tar(folder.parent / "archive", TREE, mode)
    assert unpack(archive, folder, zipped=False).files == 3


@pytest.mark.parametrize("zipped", [True, False])
def test_a_single_folder_at_the_top_is_left_out(folder, zipped: bool) -> None:
    files = {f"ESC-50-master/{name}": content for name, content in TREE.items()}
    archive = MAKERS[zipped](folder.parent / "archive", files)
    assert unpack(archive, folder, zipped=zipped).entries == ("a", "three.txt")
    assert tree(folder) == {**TREE, "mine.txt": b"mine"}


def test_names_that_begin_with_a_dot_and_a_slash(folder) -> None:
    """As speech_commands_v0.02.tar.gz has them."""
    archive = folder.parent / "archive"
    with tarfile.open(archive, "w:gz") as file:
        for name in (".", "./bed"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            file.addfile(info)
        for name in ("./bed/0.wav", "./LICENSE"):
            file.addfile(tarfile.TarInfo(name))
    assert unpack(archive, folder, zipped=False).entries == ("LICENSE", "bed")
    assert set(tree(folder)) == {"bed/0.wav", "LICENSE", "mine.txt"}


@pytest.mark.parametrize("zipped", [True, False])
def test_unpacking_again_replaces_files_of_the_same_names_only(folder, zipped: bool) -> None:
    unpack(MAKERS[zipped](folder.parent / "one", TREE), folder, zipped=zipped)
    (folder / "a" / "note.txt").write_text("note")
    newer = MAKERS[zipped](folder.parent / "two", {"a/two.txt": b"newer", "four.txt": b"4"})
    unpack(newer, folder, zipped=zipped)
    expected = {**TREE, "a/two.txt": b"newer", "four.txt": b"4", "a/note.txt": b"note"}
    assert tree(folder) == {**expected, "mine.txt": b"mine"}


def test_what_a_killed_process_left_is_cleared_away(folder) -> None:
    (folder / STAGING).mkdir()
    (folder / STAGING / "half.txt").write_text("half")
    unpack(make_zip(folder.parent / "archive", TREE), folder, zipped=True)
    assert tree(folder) == {**TREE, "mine.txt": b"mine"}


NAMES = st.text(st.characters(categories=["L", "N"], max_codepoint=1000), min_size=1, max_size=6)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    zipped=st.booleans(),
    files=st.dictionaries(NAMES, st.binary(max_size=50), min_size=2, max_size=5),
    parent=NAMES,
)
def test_any_tree_comes_out_as_it_went_in(tmp_path_factory, zipped, files, parent) -> None:
    base = tmp_path_factory.mktemp("any")
    files = {f"{parent}.d/{name}.x": content for name, content in files.items()}
    files["top.txt"] = b"top"
    archive = MAKERS[zipped](base / "archive", files)
    unpacked = unpack(archive, base / "out", zipped=zipped)
    assert tree(base / "out") == files
    assert (unpacked.files, unpacked.size) == (len(files), sum(map(len, files.values())))


# ---- refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "a/..",
        "/evil",
        "//host/evil",
        "C:/evil",
        "C:evil",
        "..\\evil",
        "a\\..\\..\\evil",
        "\\evil",
    ],
)
def test_a_way_out_of_the_folder_is_refused(refuse, folder, zipped: bool, name: str) -> None:
    archive = MAKERS[zipped](folder.parent / "archive", {"good.txt": b"good", name: b"evil"})
    refuse(archive, "leads out of its folder; nothing was unpacked", zipped=zipped)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(refuse, folder, kind: bytes) -> None:
    archive = make_tar(folder.parent / "archive", {"x": b""}, type=kind, linkname="mine.txt")
    refuse(archive, "'x' is a link or a device", zipped=False)


def test_a_link_through_which_a_later_file_would_leave(refuse, folder) -> None:
    archive = folder.parent / "archive"
    with tarfile.open(archive, "w") as file:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(folder.parent)
        file.addfile(link)
        file.addfile(tarfile.TarInfo("out/evil"))
    refuse(archive, "'out' is a link or a device", zipped=False)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(refuse, folder, kind: int) -> None:
    archive = make_zip(folder.parent / "archive", {"x": b"../mine.txt"}, mode=kind | 0o777)
    refuse(archive, "'x' is a link or a device", zipped=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_too_much_is_refused(refuse, folder, zipped: bool) -> None:
    archive = MAKERS[zipped](folder.parent / "archive", TREE)
    refuse(archive, "more than 2 entries", zipped=zipped, max_files=2)
    refuse(archive, "more than 10 bytes unpacked", zipped=zipped, max_bytes=10)
    unpack(archive, folder, zipped=zipped, max_files=3, max_bytes=11)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bomb_that_the_disk_cannot_hold(refuse, folder, monkeypatch, zipped: bool) -> None:
    archive = MAKERS[zipped](folder.parent / "archive", {"zeros": bytes(100_000), "b": b""})
    assert archive.stat().st_size < 1_000
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(99_999))
    refuse(archive, "the disk has 99,999 bytes free; make room", zipped=zipped)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("damage", ["empty", "cut", "page", "flipped"])
def test_damage_is_told(refuse, folder, zipped: bool, damage: str) -> None:
    archive = MAKERS[zipped](folder.parent / "archive", {"a": bytes(range(256)) * 99, "b": b""})
    content = archive.read_bytes()
    middle = len(content) // 2
    changed = {
        "empty": b"",
        "cut": content[:middle],
        "page": b"<!DOCTYPE html><p>Please log in</p>",
        "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
    }
    archive.write_bytes(changed[damage])
    refuse(archive, "damaged, or not the archive|cannot be unpacked", zipped=zipped)


def test_a_password_is_told(refuse, folder) -> None:
    archive = make_zip(folder.parent / "archive", {"x": b"secret"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(bytes(content))
    refuse(archive, "'x' is locked with a password", zipped=True)


def test_a_folder_that_cannot_be_written_is_told(folder) -> None:
    archive = make_zip(folder.parent / "archive", {"mine.txt/inner": b"", "b": b""})
    with pytest.raises(UserError, match=r"cannot be unpacked into .*folder"):
        unpack(archive, folder, zipped=True)
    assert (folder / "mine.txt").read_text() == "mine"
