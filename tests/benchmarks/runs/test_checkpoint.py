from __future__ import annotations

import os
import random
import resource
import signal

import numpy as np
import pytest
import torch

from benchmarks.runs import checkpoint
from multimodal.digests import read_tensors, write_tensors
from multimodal.errors import UserError
from tests.benchmarks.runs.damage import DAMAGES


def test_state_comes_back_with_the_random_states(tmp_path) -> None:
    checkpoint.save(tmp_path / "c", {"weights": torch.arange(3.0), "step": 4, "names": ["a"]})
    drawn = (random.random(), np.random.rand(), torch.rand(2))
    state = checkpoint.load(tmp_path / "c")
    assert state is not None
    checkpoint.restore_random_state(state["random"])
    again = (random.random(), np.random.rand(), torch.rand(2))
    assert drawn[:2] == again[:2]
    assert torch.equal(drawn[2], again[2])
    assert torch.equal(state["weights"], torch.arange(3.0))
    assert (state["step"], state["names"]) == (4, ["a"])


def test_nothing_saved_is_none(tmp_path) -> None:
    assert checkpoint.load(tmp_path) is None


def test_a_failed_save_keeps_the_last_one(tmp_path, monkeypatch) -> None:
    checkpoint.save(tmp_path, {"step": 1})

    def full(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(tmp_path, {"step": 2})
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_a_damaged_file_is_named(tmp_path) -> None:
    checkpoint.save(tmp_path, {"step": 1})
    file = tmp_path / checkpoint.FILE
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"checkpoint\.pt: the checkpoint cannot be read"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("seed", range(30))
def test_random_damage_is_found_and_the_one_before_is_used(tmp_path, capsys, seed: int) -> None:
    """PyTorch reads most of these files without a word, with other numbers."""
    for step in (1, 2):
        checkpoint.save(tmp_path, {"step": step, "weights": torch.full((1000,), float(step))})
    file = tmp_path / checkpoint.FILE
    generator = np.random.default_rng(seed)
    DAMAGES[seed % len(DAMAGES)](file, generator)
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert torch.equal(state["weights"], torch.full((1000,), float(state["step"])))
    told = capsys.readouterr().err
    assert (state["step"] == 2) == (told == "")
    if state["step"] == 1:
        assert f"{file}: the checkpoint cannot be read" in told
        assert "going on from the one before it" in told
        assert not file.exists()  # else it would be the one before the next


def test_a_process_killed_between_the_renames_has_one_left(tmp_path, capsys) -> None:
    checkpoint.save(tmp_path, {"step": 1})
    (tmp_path / checkpoint.FILE).rename(tmp_path / checkpoint.PREVIOUS)
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert state["step"] == 1
    assert capsys.readouterr().err == ""


def test_only_tensors_and_plain_values_are_read(tmp_path) -> None:
    checkpoint.save(tmp_path, {"path": tmp_path})
    with pytest.raises(UserError, match="UnpicklingError"):
        checkpoint.load(tmp_path)


def test_a_real_limit_in_the_middle_of_a_checkpoint(tmp_path) -> None:
    """The system refuses; PyTorch and safetensors tell it each in their own words."""
    state = {"weights": torch.arange(100_000)}
    checkpoint.save(tmp_path, state)
    write_tensors(tmp_path / "w", {"a": torch.zeros(10)})
    child = os.fork()
    if child == 0:
        refused = 0
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        for action in (
            lambda: checkpoint.save(tmp_path, state),
            lambda: write_tensors(tmp_path / "w", state),
        ):
            try:
                action()
            except UserError as error:
                refused += str(tmp_path) in str(error) and "allow larger files" in str(error)
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.FILE, "w"}
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert torch.equal(found["weights"], state["weights"])
    assert read_tensors(tmp_path / "w").tensors["a"].shape == (10,)
