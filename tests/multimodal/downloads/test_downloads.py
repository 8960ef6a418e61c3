"""Getting datasets from a server of our own: verified, unpacked, recorded, and resumed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.clotho import ClothoConfig
from multimodal.datasets.fsdd import FsddConfig
from multimodal.datasets.mednist import CLASSES, MednistConfig
from multimodal.datasets.speech_commands import SpeechCommandsConfig
from multimodal.downloads import LOCK, RECORD, Download, get
from multimodal.downloads.transfers import Fetcher
from multimodal.errors import UserError
from tests.multimodal.downloads.archive_files import make_tar, make_zip, tree
from tests.multimodal.downloads.download_source import PLAIN, Source, serving

TREE = {"top/a/one.txt": b"1" * 10, "top/two.txt": b"2"}
TABLE = b"file,label\n"


@dataclass
class Place:
    """A server with a zip and a table, and a folder for them."""

    source: Source
    folder: Path
    said: list[str]

    @property
    def downloads(self) -> tuple[Download, Download]:
        archive = hashlib.md5(self.source.files["/data.zip"]).hexdigest()
        return (
            Download(f"{self.source.url}/data.zip", checksum=f"md5:{archive}", into="sounds"),
            Download(
                f"{self.source.url}/table.csv",
                bytes=len(TABLE),
                checksum=f"sha256:{hashlib.sha256(TABLE).hexdigest()}",
                unpack=False,
            ),
        )

    def get(self, *downloads: Download, progress: Any = lambda *at: None) -> list[str]:
        """What it says; the number of requests is ``len(source.asked)``."""
        self.said.clear()
        self.source.asked.clear()
        fetcher = Fetcher(self.said.append, progress, PLAIN, sleep=lambda seconds: None)
        get(downloads or self.downloads, self.folder, fetcher)
        return list(self.said)

    def data(self) -> dict[str, bytes]:
        """All files but those of our own bookkeeping."""
        return {k: v for k, v in tree(self.folder).items() if not k.startswith(".download")}

    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / RECORD).read_text())


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    with serving() as source:
        archive = make_zip(tmp_path / "data.zip", TREE).read_bytes()
        source.files = {"/data.zip": archive, "/table.csv": TABLE}
        yield Place(source, tmp_path / "data" / "set", [])


COMPLETE = {"sounds/a/one.txt": b"1" * 10, "sounds/two.txt": b"2", "table.csv": TABLE}


def test_files_are_verified_unpacked_and_recorded(place) -> None:
    said = "\n".join(place.get())
    assert place.data() == COMPLETE
    archive, table = place.downloads
    content = place.source.files["/data.zip"]
    entry = place.record()[archive.url]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", entry.pop("day"))
    assert entry == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "published": archive.checksum,
        "entries": ["a", "two.txt"],
        "files": 2,
    }
    assert place.record()[table.url]["sha256"] == hashlib.sha256(TABLE).hexdigest()
    assert f"data.zip: {archive.checksum} as published; unpacking" in said
    assert "unpacked 2 files, 11 bytes" in said


def test_what_is_there_is_left_alone(place) -> None:
    place.get()
    before = tree(place.folder)
    said = place.get()
    assert (tree(place.folder), place.source.asked) == (before, [])
    sha256 = hashlib.sha256(place.source.files["/data.zip"]).hexdigest()
    assert re.fullmatch(rf"data\.zip: there since [0-9-]+, sha256 {sha256}", said[0])


def test_without_a_published_checksum_the_sha256_is_told(place) -> None:
    archive = replace(place.downloads[0], checksum=None)
    sha256 = hashlib.sha256(place.source.files["/data.zip"]).hexdigest()
    assert any(f"no published checksum; note its sha256 {sha256}" in s for s in place.get(archive))
    assert place.record()[archive.url]["published"] is None


@pytest.mark.parametrize("lost", ["sounds/a/one.txt", "sounds/two.txt", "table.csv"])
def test_what_is_lost_is_fetched_again(place, lost: str) -> None:
    place.get()
    (place.folder / lost).unlink()
    said = place.get()
    assert place.data() == COMPLETE
    assert len(place.source.asked) == 1
    assert sum("no longer complete or unchanged" in line for line in said) == 1


def test_a_file_that_was_changed_is_fetched_again(place) -> None:
    place.get()
    (place.folder / "table.csv").write_bytes(b"file,lable\n")
    place.get()
    assert place.data() == COMPLETE


def test_an_archive_unpacked_by_hand_may_be_deleted(place) -> None:
    archive = replace(place.downloads[0], unpack=False, into="archives", by_hand="7z x it")
    place.get(archive)
    assert set(place.data()) == {"archives/data.zip"}
    (place.folder / "archives" / "data.zip").unlink()
    assert "there since" in place.get(archive)[0]
    assert not place.source.asked


def test_an_interrupted_first_download_goes_on(place) -> None:
    def stop(name: str, done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    place.source.plan = [None, ("cut", 4), ("cut", 1)]
    with pytest.raises(KeyboardInterrupt):
        place.get(progress=stop)
    assert place.record() == {}
    assert (place.folder / "sounds" / "data.zip.part").is_file()
    place.get()
    assert place.data() == COMPLETE


def test_a_server_that_always_breaks_off_is_told(place) -> None:
    place.source.plan = [None] + [("cut", 2)] * 4
    with pytest.raises(UserError, match=r"table\.csv: .* after 8 of 11 bytes \(4 tries\)"):
        place.get()
    place.get()
    assert place.data() == COMPLETE
    assert place.source.asked[0]["Range"] == "bytes=8-"


# ---- refused --------------------------------------------------------------------------------


def test_a_wrong_checksum_is_told_and_nothing_is_unpacked(place) -> None:
    wrong = replace(place.downloads[0], checksum="md5:" + "0" * 32)
    found = hashlib.md5(place.source.files["/data.zip"]).hexdigest()
    with pytest.raises(UserError, match=f"md5 {'0' * 32} expected, {found} found.*was deleted"):
        place.get(wrong)
    assert place.data() == place.record() == {}
    place.get()
    assert place.data() == COMPLETE


def test_a_wrong_size_is_told_where_the_source_states_none(place) -> None:
    place.source.with_length = False
    with pytest.raises(UserError, match="size 12 expected, 11 found"):
        place.get(replace(place.downloads[1], bytes=12))
    assert "table.csv" not in place.data()


def test_an_archive_that_leads_out_of_its_folder(place, tmp_path) -> None:
    evil = make_zip(tmp_path / "evil.zip", {"../../evil.txt": b"evil"})
    place.source.files["/data.zip"] = evil.read_bytes()
    with pytest.raises(UserError, match="leads out of its folder; nothing was unpacked"):
        place.get()
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_folder_of_somebody_else_is_left_alone(place) -> None:
    place.folder.mkdir(parents=True)
    (place.folder / "recording.wav").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"holds files that medley did not fetch.*--root"):
        place.get()
    assert tree(place.folder) == {"recording.wav": b"mine"}
    assert not place.source.asked


@pytest.mark.parametrize("text", ["", "[]", '{"https://a/b": {}}', '{"https://a/b": 1}', "\xff"])
def test_a_damaged_record_is_told(place, text: str) -> None:
    place.get()
    (place.folder / RECORD).write_text(text, "latin-1")
    with pytest.raises(UserError, match=rf"{RECORD}: damaged; move .* away"):
        place.get()


def test_one_process_at_a_time(place) -> None:
    place.folder.mkdir(parents=True)
    with (place.folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(UserError, match="another process fetches into it"):
            place.get()
    place.get()
    assert place.data() == COMPLETE


def test_a_place_where_no_folder_can_be(place) -> None:
    place.folder.parent.write_text("a file")
    with pytest.raises(UserError, match="mend that and give the same command again"):
        place.get()


# ---- the registered datasets ----------------------------------------------------------------

OPEN = {"clotho", "covid_xray", "esc10", "esc50", "fsdd", "mednist", "mitbih", "ptbxl"}
OPEN |= {"medmnist", "speech_commands"}


def configs() -> Sequence[type[DatasetConfig]]:
    """Medley's own; other tests may have registered theirs."""
    found = [DATASETS.config(name) for name in DATASETS.names()]
    ours = [config for config in found if config.__module__.startswith("multimodal.")]
    return [config for config in ours if issubclass(config, DatasetConfig)]


def test_every_dataset_is_open_or_says_how_to_get_it() -> None:
    for config in configs():
        assert config.downloads or len(config.how_to_get) > 20, config
    assert {c.registered_name for c in configs() if c.downloads} >= OPEN


@pytest.mark.parametrize("config", [c for c in configs() if c.downloads])
def test_downloads_are_stated_as_they_must_be(config: type[DatasetConfig]) -> None:
    assert config.folder
    assert config.licence
    names = [download.name for download in config.downloads]
    assert len(set(names)) == len(names)
    for download in config.downloads:
        assert download.url.startswith("https://")
        assert "?" not in download.url
        assert re.fullmatch(
            r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", download.checksum or "md5:" + "0" * 32
        )
        assert not Path(download.into).is_absolute()
        assert ".." not in Path(download.into).parts
        archive = re.search(r"\.(zip|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)$", download.name)
        assert bool(archive) == download.unpack, download.name
        assert not (download.by_hand and download.unpack)


def local(config: type[DatasetConfig], place: Place, make, files: dict[str, bytes]) -> Path:
    """Get the dataset from the test's server: an archive of ``files`` under its official name."""
    (official,) = config.downloads
    archive = make(place.folder.parent.parent / "archive", files)
    place.source.files[f"/{official.name}"] = archive.read_bytes()
    url = f"{place.source.url}/{official.name}"
    place.get(replace(official, url=url, bytes=None, checksum=None))
    return place.folder


def test_the_reader_of_fsdd_finds_what_was_unpacked(place) -> None:
    top = "free-spoken-digit-dataset-1.0.10"
    files = {f"{top}/recordings/{d}_theo_{i}.wav": b"RIFF" for d in range(10) for i in (0, 5)}
    root = local(FsddConfig, place, make_tar, {**files, f"{top}/README.md": b"#"})
    assert len(FsddConfig().build(root)) == 20


def test_the_reader_of_mednist_finds_what_was_unpacked(place) -> None:
    files = {f"MedNIST/{name}/{i:06}.jpeg": b"jpeg" for name in CLASSES for i in range(4)}
    root = local(MednistConfig, place, make_tar, files)
    assert len(MednistConfig().build(root)) == 24


def test_the_reader_of_speech_commands_finds_what_was_unpacked(place) -> None:
    files = {f"./{word}/0{i}_nohash_0.wav": b"RIFF" for word in ("yes", "no") for i in range(3)}
    tested = b"yes/00_nohash_0.wav\nno/00_nohash_0.wav\n"
    lists = {"./testing_list.txt": tested, "./validation_list.txt": b""}
    root = local(SpeechCommandsConfig, place, make_tar, {**files, **lists})
    assert len(SpeechCommandsConfig(words=("yes", "no")).build(root)) == 6


def test_the_sounds_of_clotho_are_left_to_be_unpacked_where_the_reader_looks() -> None:
    sounds = [d for d in ClothoConfig.downloads if d.by_hand]
    assert len(sounds) == 3
    for download in sounds:
        place = f"{download.into}/{download.name}"
        assert download.by_hand == f"7z x {place} -oclotho_audio_files"
    tables = [d for d in ClothoConfig.downloads if not d.by_hand]
    assert {d.into for d in tables} == {"clotho_csv_files"}
