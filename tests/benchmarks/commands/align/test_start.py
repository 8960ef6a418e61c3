"""``medley align`` with ``init``: what training starts from, and which run that is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.commands.align.reopen import reopen
from benchmarks.commands.align.start import MODEL_FILE
from benchmarks.results.result import Result

FROZEN = ["align", "align.yaml", "experiment=second", "encoder.train=none", "training.epochs=1"]


def runs(place: Path, experiment: str) -> dict[int, Path]:
    found = [file.parent for file in place.glob(f"runs/{experiment}/*/result.json")]
    return {Result.load(folder).seed: folder for folder in found}


@pytest.fixture
def first(medley, tones) -> Path:
    assert medley("align", "align.yaml", "seeds=[1,2]", "training.epochs=1").code == 0
    return tones


def test_each_seed_starts_from_its_own_run_also_what_is_frozen(medley, first) -> None:
    outcome = medley(*FROZEN, "init=tones", "seeds=[1,2]")
    assert outcome.code == 0, outcome.err
    before, after = runs(first, "tones"), runs(first, "second")
    for seed, folder in after.items():
        start = load_file(before[seed] / MODEL_FILE)
        model = reopen(folder, torch.device("cpu")).model.state_dict()
        encoder = [name for name in start if ".encoder." in name]
        assert encoder
        assert all(torch.equal(start[name], model[name]) for name in encoder)
        (head,) = (name for name in start if name.endswith("projection.weight"))
        assert not torch.equal(start[head], model[head])
    assert "done before" in medley(*FROZEN, "init=tones", "seeds=[1,2]").err


def test_a_start_that_changed_is_noticed(medley, first) -> None:
    one = runs(first, "tones")[1]
    words = [*FROZEN, f"init={one}"]
    assert medley(*words).code == 0
    other = runs(first, "tones")[2]
    (one / MODEL_FILE).write_bytes((other / MODEL_FILE).read_bytes())
    outcome = medley(*words)
    assert outcome.code == 2
    assert "digest of init" in outcome.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["init=nothing"], "no finished run of seed 1; train it first, or correct init"),
        (["init=tones", "seeds=[3]"], "no finished run of seed 3"),
        (["init=tones", "encoder.width=8"], "does not fit the encoders of this config"),
    ],
)
def test_what_is_no_start_is_refused_before_anything_trains(medley, first, words, told) -> None:
    outcome = medley("align", "align.yaml", "experiment=third", *words)
    assert outcome.code == 2
    assert told in outcome.err
    assert not runs(first, "third")


def test_two_runs_of_a_seed_must_be_told_apart(medley, first) -> None:
    assert medley("align", "align.yaml", "objectives=[clip]", "training.epochs=1").code == 0
    outcome = medley(*FROZEN, "init=tones")
    assert outcome.code == 2
    assert "2 finished runs of seed 1; name the folder of one of them" in outcome.err
