"""``medley datasets get``: what it says, where things go, and its exit codes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks.commands import datasets as commands
from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.fsdd import FsddConfig
from multimodal.downloads import RECORD, Download, transfers
from tests.multimodal.downloads.archive_files import make_tar
from tests.multimodal.downloads.download_source import PLAIN, Source, serving

RECORDINGS = {f"fsdd-1/recordings/{d}_theo_{i}.wav": b"RIFF" for d in range(10) for i in (0, 5)}


@pytest.fixture
def source(monkeypatch, tmp_path) -> Iterator[Source]:
    """A server whose archive stands for FSDD's, and a table that is to be finished by hand."""
    with serving() as source:
        source.files["/fsdd.tar.gz"] = make_tar(tmp_path / "archive", RECORDINGS).read_bytes()
        source.files["/more.7z"] = b"7z"
        downloads = (
            Download(f"{source.url}/fsdd.tar.gz"),
            Download(f"{source.url}/more.7z", unpack=False, by_hand="7z x more.7z"),
        )
        monkeypatch.setattr(FsddConfig, "downloads", downloads)
        monkeypatch.setattr(transfers, "Fetcher", partial(transfers.Fetcher, opener=PLAIN))
        yield source


def test_licence_and_size_come_first_and_the_next_command_last(medley, source) -> None:
    outcome = medley("datasets", "get", "fsdd", "--root", "my data")
    assert outcome.code == 0, outcome.err
    lines = outcome.err.splitlines()
    assert lines[1] == "licence: CC BY-SA 4.0"
    assert lines[2] == "size: 2 file(s), of sizes that the source will say"
    size = len(source.files["/fsdd.tar.gz"])
    assert lines[3] == f"fsdd.tar.gz: {size:,} bytes"
    left, then = outcome.out.splitlines()
    assert left == "left to do: cd 'my data/fsdd' && 7z x more.7z"
    assert then == "next: medley datasets check fsdd --root 'my data/fsdd'"
    assert len(FsddConfig().build(Path("my data/fsdd"))) == 20
    assert Path("my data/fsdd", RECORD).is_file()
    # The command that it names finds the files; that they are no sounds is another matter.
    checked = medley(*shlex.split(then)[2:])
    assert "20 recordings" in checked.out


def test_the_same_command_again_says_that_all_is_there(medley, source) -> None:
    words = ("datasets", "get", "fsdd", "--root", "data")
    first = medley(*words)
    source.asked.clear()
    again = medley(*words)
    assert again.code == 0
    assert again.err.count("there since") == 2
    assert again.out == first.out
    assert not source.asked


def test_some_of_the_files(medley, source) -> None:
    outcome = medley("datasets", "get", "fsdd", "fsdd.tar.gz", "--root", "data")
    assert outcome.code == 0
    assert "left to do" not in outcome.out
    assert not Path("data/fsdd/more.7z").exists()


def test_known_sizes_are_added_up(medley, source, monkeypatch) -> None:
    archive = Download(f"{source.url}/fsdd.tar.gz", bytes=len(source.files["/fsdd.tar.gz"]))
    monkeypatch.setattr(FsddConfig, "downloads", (archive,))
    outcome = medley("datasets", "get", "fsdd", "--root", "data")
    assert f"size: 1 file(s), {archive.bytes:,} bytes" in outcome.err


def test_the_data_root_of_the_environment(medley, source, monkeypatch) -> None:
    monkeypatch.setenv("MEDLEY_DATA", "all")
    assert medley("datasets", "get", "fsdd").code == 0
    assert Path("all/fsdd/recordings").is_dir()


def test_a_terminal_shows_a_bar(source, monkeypatch, tmp_path, capsys) -> None:
    for setting, drawn in (("", False), ("1", True)):  # FORCE_COLOR: take it for a terminal
        monkeypatch.setenv("FORCE_COLOR", setting)
        commands.get("fsdd", [], root=tmp_path / f"data{setting}")
        out, err = capsys.readouterr()
        assert ("━" in err) == drawn
        assert "next: medley datasets check" in out


def test_an_interrupted_command_says_how_to_go_on(medley, monkeypatch) -> None:
    def stopped(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "get", stopped)
    outcome = medley("datasets", "get", "fsdd")
    assert outcome.code == 130
    assert outcome.err == "interrupted; the same command continues where it stopped\n"


# ---- exit code 2 ----------------------------------------------------------------------------


def closed() -> list[str]:
    """Names of Medley's own datasets that are; other tests may have registered theirs."""
    found = [DATASETS.config(name) for name in DATASETS.names()]
    ours = [config for config in found if config.__module__.startswith("multimodal.")]
    return [
        config.registered_name
        for config in ours
        if issubclass(config, DatasetConfig) and not config.downloads and not config.synthetic
    ]


@pytest.mark.parametrize("name", closed())
def test_a_dataset_that_is_not_open_says_how_to_get_it(medley, name: str) -> None:
    outcome = medley("datasets", "get", name, "--root", "data")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: dataset {name!r}: ")
    assert line.endswith(DATASETS.config(name).how_to_get)  # type: ignore[attr-defined]
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fsdd", ["no folder for 'fsdd'", "--root FOLDER", "MEDLEY_DATA"]),
        ("fsdd_ --root data", ["unknown dataset 'fsdd_'; did you mean 'fsdd'?"]),
        ("fsdd fsdd.tgz --root data", ["no file 'fsdd.tgz'; did you mean 'fsdd.tar.gz'?"]),
    ],
)
def test_wrong_words(medley, source, words: str, expected: list[str]) -> None:
    outcome = medley("datasets", "get", *words.split())
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert all(word in line for word in expected)
    assert not Path("data").exists()


def test_a_source_without_the_file(medley, source) -> None:
    del source.files["/fsdd.tar.gz"]
    outcome = medley("datasets", "get", "fsdd", "--root", "data")
    assert outcome.code == 2
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "404" in errors[0]


# ---- what stands around it ------------------------------------------------------------------


def test_synthetic_datasets_need_no_getting(medley) -> None:
    outcome = medley("datasets", "get", "synthetic_speech")
    assert outcome.code == 0
    assert "makes its own signals" in outcome.out


def test_describe_names_the_command_of_open_datasets_only(medley) -> None:
    assert "medley datasets get fsdd" in medley("datasets", "describe", "fsdd").out
    assert "medley datasets get" not in medley("datasets", "describe", "slurp").out


def test_the_examples_of_its_help_work(medley, monkeypatch) -> None:
    """The command itself is replaced, so only the words of its examples are tried."""
    outcome = medley("datasets", "get", "--help")
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", outcome.out).split())
    section = re.search("Examples: (.*?)( Arguments| Options)", text)
    assert section, text
    examples = re.findall(r"medley .*?(?=,? medley |$)", section[1])
    called = []
    monkeypatch.setattr(commands, "get", lambda name, files, root: called.append((name, files)))
    for example in examples:
        assert medley(*shlex.split(example)[1:]).code == 0, example
    for name, files in called:
        config = DATASETS.config(name)
        assert issubclass(config, DatasetConfig)
        assert set(files) <= {download.name for download in config.downloads}
    assert len(called) == len(examples) == 2
