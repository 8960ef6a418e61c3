"""``medley align`` with ``whiten: true``: what is counted and kept, resume, processes, refusal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import multiprocessing

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.data import open_align
from benchmarks.commands.align.parts import count_recordings, tower_of
from benchmarks.commands.align.reopen import reopen
from benchmarks.commands.align.run import AlignRun
from benchmarks.commands.align.scoring import Scorer
from benchmarks.commands.align.start import MODEL_FILE
from benchmarks.config.loading import load_config
from benchmarks.results.result import Result
from benchmarks.runs.data import open_data, read_manifest
from multimodal.weights import save_weights, trained_weights
from tests.benchmarks.commands.align_text import ALIGN, interrupt_once

WHITE = "signals.speech.whitening."
ZERO = """\
experiment: zero
dataset: {name: folder, root: clips, modality: speech}
model: {name: aligned, experiment: tones}
tracking: {store: none}
"""
WORDS = ["align", "align.yaml", "encoder.train=none", "whiten=true"]


def folder_of(place: Path, out: str = "runs") -> Path:
    (file,) = place.glob(f"{out}/tones/*/result.json")
    return file.parent


def whitened(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and (C + 0.01 u I)^-1/2 of rows, by a singular value decomposition of the rows."""
    middle = x.mean(0)
    _, s, v = np.linalg.svd(x - middle, full_matrices=True)
    variances = np.zeros(x.shape[1])
    variances[: len(s)] = s**2 / len(x)
    return middle, v.T @ np.diag((variances + 0.01 * variances.mean()) ** -0.5) @ v


def embeddings(folder: Path, split: str) -> tuple[Any, Any, np.ndarray]:
    """The reopened model, a batch of a split, and what its encoder makes of it (N, D)."""
    found = reopen(folder, torch.device("cpu"))
    data = open_data(found.config, read_manifest(found.config))
    rows = data.manifest.indices(split)
    batch = data.signals.gather(rows)
    with torch.no_grad():
        return found.model, batch, tower_of(found.model, "speech").encode(batch).double().numpy()


def test_all_training_recordings_are_counted_once_and_zero_shot_reads_it(medley, tones) -> None:
    outcome = medley(*WORDS)
    assert outcome.code == 0, outcome.err
    folder = folder_of(tones)
    kept = {k: v for k, v in load_file(folder / MODEL_FILE).items() if k.startswith(WHITE)}
    model, batch, x = embeddings(folder, "test")
    known = embeddings(folder, "train")[2]
    middle, matrix = whitened(known)
    assert len(kept) == 6
    assert int(kept[f"{WHITE}count"]) == int(kept[f"{WHITE}used"]) == len(known)
    np.testing.assert_allclose(kept[f"{WHITE}shift"], middle, atol=1e-5)
    np.testing.assert_allclose(kept[f"{WHITE}matrix"], matrix, atol=2e-4 * abs(matrix).max())
    weight = tower_of(model, "speech").projection.get_parameter("weight").detach().double().numpy()
    with torch.no_grad():
        found = model.embed_signals(batch)
    np.testing.assert_allclose(found, (x - middle) @ matrix @ weight.T, rtol=0, atol=2e-3)
    (tones / "zero.yaml").write_text(ZERO)
    outcome = medley("zeroshot", "zero.yaml")
    assert outcome.code == 0, outcome.err
    (again,) = (Result.load(p.parent) for p in tones.glob("runs/zero/*/result.json"))
    assert again.metrics["zero_shot_top1"] == Result.load(folder).metrics["zero_shot_top1"]


def test_an_interrupted_run_goes_on_bit_for_bit(medley, tones, monkeypatch) -> None:
    words = [*WORDS, "training.epochs=3", "training.checkpoint_every=100"]
    whole = medley(*words, "output_dir=whole")
    assert whole.code == 0, whole.err
    interrupt_once(monkeypatch, tones)
    assert medley(*words).code == 130
    resumed = medley(*words)
    assert resumed.code == 0, resumed.err
    assert "resumed at step" in resumed.err
    one, other = (load_file(folder_of(tones, out) / MODEL_FILE) for out in ("whole", "runs"))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def run_of(place: Path, *changes: str) -> AlignRun:
    config = load_config(place / "align.yaml", [*WORDS[2:], *changes], model=AlignConfig)
    return AlignRun(config.cells()[0], open_align(config))


def count(run: AlignRun, rows: np.ndarray) -> None:
    """As the run does before its first step."""
    source = run.sources["speech"].signals
    count_recordings(tower_of(run.model, "speech"), source, rows, device=run.device)


def test_counting_again_changes_nothing(tones, monkeypatch) -> None:
    monkeypatch.chdir(tones)
    run = run_of(tones)
    white, train = tower_of(run.model, "speech").whitening, run.rows["train"]
    assert white is not None
    assert int(white.count) == 0
    for _ in range(2):
        count(run, train)
        assert int(white.count) == len(train)
    assert run.model.training


def _process(rank: int, place: str) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29541",
        "ACCELERATE_USE_CPU": "true",
    }
    torch.set_num_threads(1)
    os.chdir(place)
    run = run_of(Path(), "modality={name: speech, augment: {gain_db: 6}}")
    rows = run.rows["train"][rank:]  # the first process counts for all
    count(run, rows)
    save_weights(run.model, Path(f"{rank}.safetensors"))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_hold_one_transform(tones, monkeypatch) -> None:
    """That of one process, of the recordings without their augmentation."""
    multiprocessing.spawn(_process, args=(str(tones),), nprocs=2)  # pyright: ignore
    one, other = (load_file(tones / f"{rank}.safetensors") for rank in range(2))
    monkeypatch.chdir(tones)
    alone = run_of(tones)
    count(alone, alone.rows["train"])
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
    for name, tensor in trained_weights(alone.model).items():
        torch.testing.assert_close(one[name], tensor, rtol=1e-4, atol=1e-4)


def test_a_trained_encoder_is_refused(refuse, tones) -> None:
    refuse(
        "align align.yaml whiten=true",
        "whiten: the embeddings of an encoder that is trained",
        "encoder.train=none",
        "leave whiten out",
    )


def test_it_is_in_no_record_where_it_is_off(tones) -> None:
    plain, off, on = (
        load_config(tones / "align.yaml", ["encoder.train=none", *more], model=AlignConfig)
        for more in ([], ["whiten=false"], ["whiten=true"])
    )
    assert "whiten" not in plain.dump()
    assert plain.hash == off.hash != on.hash
    assert on.dump()["whiten"] is True
    assert "whiten" not in ALIGN


@pytest.mark.parametrize(
    ("train", "test", "probed"),
    [([0, 1, 2], [3, 3, 4], False), ([0, 1, 2], [2, 3, 4], True), ([0, 1], [1, 0], True)],
)
def test_probes_are_left_out_where_no_test_class_was_trained_on(
    monkeypatch, train: list[int], test: list[int], probed: bool
) -> None:
    """They could only be 0, and took longer than all the rest; where some were, nothing changes."""
    labels = np.array([c for c in train for _ in range(4)] + test)
    count = 4 * len(train)
    rows = {"train": np.arange(count), "test": np.arange(count, len(labels))}

    class Recordings:
        multi_label, num_classes = False, 5

        def __init__(self) -> None:
            self.labels = labels

    asked = []

    def embed(self: Scorer, wanted: np.ndarray) -> torch.Tensor:
        asked.append(len(wanted))
        return torch.from_numpy(np.eye(5)[labels[wanted]])

    monkeypatch.setattr(Scorer, "_embed", embed)
    recordings: Any = Recordings()
    other: Any = None
    scorer = Scorer(other, other, other, recordings, rows, (), other, other, other)
    found = scorer._probes(torch.from_numpy(np.eye(5)[test]))
    assert ("linear_probe_accuracy" in found) == ("knn_accuracy" in found) == probed
    assert bool(asked) == probed
    if probed:
        right = np.isin(test, train).mean()
        assert found["linear_probe_accuracy"] == pytest.approx(right)
