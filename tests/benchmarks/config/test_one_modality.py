"""The modality of a user's own data is said once, in either place."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import load_config

SCENARIO = "scenario: {name: class_incremental, num_experiences: 2}"
TEXT = f"experiment: own\n{SCENARIO}\nlearners: [majority]\n"


def loaded(tmp_path: Path, *lines: str):
    path = tmp_path / "own.yaml"
    path.write_text(TEXT + "\n".join(lines) + "\n")
    return load_config(path, model=RunConfig)


@pytest.mark.parametrize(
    "lines",
    [
        ("dataset: {name: folder, root: r}", "modality: {name: video}"),
        ("dataset: {name: folder, root: r}", "modality: video"),
        ("dataset: {name: folder, root: r, modality: video}",),
        ("dataset: {name: folder, root: r, modality: video}", "modality: {size: 32}"),
        ("dataset: {name: folder, root: r, modality: video}", "modality: {name: video}"),
    ],
)
def test_said_once(tmp_path: Path, lines: tuple[str, ...]) -> None:
    config = loaded(tmp_path, *lines)
    assert config.modality.registered_name == config.dataset.modality == "video"
    assert ".mp4" in config.dataset.extensions


def test_nothing_said_is_speech_and_two_words_stay_two(tmp_path: Path) -> None:
    plain = loaded(tmp_path, "dataset: {name: folder, root: r}")
    said = loaded(tmp_path, "dataset: {name: folder, root: r}", "modality: {name: speech}")
    assert plain.dataset.modality == "speech"
    assert plain.hash == said.hash
    two = loaded(tmp_path, "dataset: {name: folder, root: r, modality: ecg}", "modality: xray")
    assert (two.dataset.modality, two.modality.registered_name) == ("ecg", "xray")
    loaded(tmp_path, "dataset: fsdd", "modality: audio")  # its own modality: said when it is read
