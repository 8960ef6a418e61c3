"""Processes are killed and files are damaged at random moments and places; runs end the same.

The moments are those of seeded generators. Every end is compared with that of an undisturbed run:
the result's metrics, the journal's lines and the tracking store's history. ``make slow`` runs them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.benchmarks.runs.chaos import CONFIGS, End, command, end_of, preload, prepare
from tests.benchmarks.runs.damage import DAMAGES

pytestmark = pytest.mark.slow
KILLS = 20  # of each command
DAMAGED = 10  # checkpoints and shards, of each command
BORN = 18  # from this one on, the tracking store is not there yet


class Whole(NamedTuple):
    """An undisturbed run: its working folder, its end and how long it took."""

    place: Path
    end: End
    seconds: float


@pytest.fixture(scope="module", params=CONFIGS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def whole(name: str, empty_store, tmp_path_factory) -> Whole:
    place = tmp_path_factory.mktemp("whole") / name
    prepare(place, name, store=empty_store)
    ended = command(place, name)
    assert ended.code == 0, ended.text
    preload(place)
    again = tmp_path_factory.mktemp("again")
    prepare(again, name, store=empty_store)
    ended = command(again, name)  # of the same length as those that will be killed
    assert end_of(again) == end_of(place)
    return Whole(place, end_of(place), ended.seconds)


def killed_until_it_ends(place: Path, name: str, moments: list[float]) -> int:
    """Kill the command at each of these moments of its own time; the number of kills."""
    kills = 0
    for moment in moments:
        ended = command(place, name, kill_after=moment)
        assert "Traceback" not in ended.text
        kills += ended.code is None
        assert ended.code in (None, 0), ended.text
    ended = command(place, name)
    assert "Traceback" not in ended.text
    assert ended.code == 0, ended.text
    return kills


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_run_ends_as_if_nothing_had_happened(
    seed: int, name: str, whole: Whole, empty_store, tmp_path
) -> None:
    prepare(tmp_path, name, store=empty_store if seed < BORN else None)
    moment = np.random.default_rng([seed, *name.encode()]).uniform(0.02, whole.seconds)
    killed_until_it_ends(tmp_path, name, [moment])
    assert end_of(tmp_path) == whole.end


@pytest.fixture(scope="module")
def half(name: str, whole: Whole, empty_store, tmp_path_factory) -> Path:
    """The folder of a run that was killed after its third checkpoint."""
    place = tmp_path_factory.mktemp("half")
    prepare(place, name, store=empty_store)
    assert command(place, name, saves=3).code is None
    return place


def damaged(place: Path, half: Path, pattern: str, seed: int) -> None:
    """That folder with one file damaged."""
    shutil.copytree(half, place, dirs_exist_ok=True)
    generator = np.random.default_rng(seed)
    path = generator.choice(sorted(map(str, place.glob(pattern))))
    DAMAGES[seed % len(DAMAGES)](Path(path), generator)


@pytest.mark.parametrize("file", ["runs/chaos/*/checkpoint/checkpoint.pt", "runs/cache/*/shard-*"])
@pytest.mark.parametrize("seed", range(DAMAGED))
def test_a_run_with_a_damaged_file_ends_as_if_nothing_had_happened(
    seed: int, file: str, name: str, whole: Whole, half: Path, tmp_path
) -> None:
    damaged(tmp_path, half, file, seed)
    ended = command(tmp_path, name)
    assert "Traceback" not in ended.text
    assert ended.code == 0, ended.text
    assert end_of(tmp_path) == whole.end
