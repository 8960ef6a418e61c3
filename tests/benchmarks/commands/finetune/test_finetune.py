"""``medley finetune``: results, exact resume, starts from other runs, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.results.model_folder import open_model
from benchmarks.results.result import Result
from tests.benchmarks.commands.align_text import interrupt_once
from tests.benchmarks.commands.finetune_text import FINETUNE, results

METHODS = "methods=[random,head,lora,rslora,dora,full,scratch]"


def test_methods_make_a_table_and_leave_models(medley, tuned) -> None:
    outcome = medley("finetune", "tune.yaml", METHODS, "validation_fraction=0.25")
    assert outcome.code == 0, outcome.err
    assert "adapted layers: blocks.0.linear1, blocks.0.linear2" in outcome.err
    for word in ("accuracy", "trained", "peak", "majority", "dora", "scratch"):
        assert word in outcome.out
    found = results(tuned)
    assert set(found) == {"random", "head", "lora", "rslora", "dora", "full", "scratch"}
    sizes = {name: r.metrics["trained_parameters"] for name, r in found.items()}
    assert sizes["head"] == sizes["random"] == 2 * 17
    assert sizes["head"] < sizes["lora"] == sizes["rslora"] < sizes["dora"] < sizes["full"]
    for result in found.values():
        assert result.command == "finetune"
        assert 0 <= result.metrics["accuracy"] <= 1
        assert result.metrics["peak_memory_mib"] > 10
        assert set(result.evaluation["intervals"]) == {"accuracy", "mean_per_class_recall"}
        folder = tuned / "runs/tuned" / result.config_hash
        names = {p.name for p in (folder / "model").iterdir()}
        assert {"medley.json", "head.safetensors", "README.md", "encoder.safetensors"} <= names
        adapted = "adapter_model.safetensors" in names
        assert adapted == (result.learner in ("lora", "rslora", "dora"))
        assert (folder / "report.html").exists()
        card = (folder / "model/README.md").read_text()
        assert "high, low" in card
        assert f"seed {result.seed}" in card
        assert "a compact encoder of random weights" in card or "encoder, random" in card
        assert all(p.stat().st_mode & 0o044 for p in (folder / "model").iterdir())
    again = medley("finetune", "tune.yaml", METHODS, "validation_fraction=0.25")
    assert again.err.count("done before") == 7


def test_one_method_is_a_list_of_one(medley, tuned) -> None:
    text = FINETUNE.replace("methods: [lora]", "method: {name: lora, rank: 4}")
    (tuned / "one.yaml").write_text(text)
    outcome = medley("finetune", "one.yaml", "method.rank=2")
    assert outcome.code == 0, outcome.err
    (result,) = results(tuned).values()
    assert result.config["methods"][0]["rank"] == 2
    assert "methods:" in medley("config", "show", "one.yaml").out
    assert "this is a config of `medley finetune`" in medley("bench", "one.yaml").err


def test_a_model_opens_and_says_what_the_run_said(medley, tuned) -> None:
    """From its folder alone, wherever it lies, and whatever the random state is."""
    words = ["finetune", "tune.yaml", "methods=[lora,full,head]", "training.learning_rate=0.01"]
    assert medley(*words).code == 0
    for result in results(tuned).values():
        moved = tuned / f"moved-{result.learner}"
        (tuned / "runs/tuned" / result.config_hash / "model").rename(moved)
        torch.manual_seed(result.seed + 17)
        model = open_model(moved)
        assert model.class_names == ("high", "low")
        accuracy = _accuracy(model, tuned)
        assert accuracy == pytest.approx(result.metrics["accuracy"])


def _accuracy(model, place: Path) -> float:
    from benchmarks.commands.finetune.config import FinetuneConfig
    from benchmarks.config.loading import load_config
    from benchmarks.runs.data import open_data, read_manifest

    config = load_config(place / "tune.yaml", model=FinetuneConfig)
    manifest = read_manifest(config)
    data = open_data(config, manifest)
    rows = manifest.indices("test")
    scores = model.predict_scores(data.signals.gather(rows))
    torch.testing.assert_close(scores.sum(1), torch.ones(len(rows)))
    return float((scores.argmax(1).numpy() == manifest.labels[rows]).mean())


# ---- resume -----------------------------------------------------------------------------------


def same(one: Path, two: Path) -> None:
    """Two runs ended alike, bit for bit."""
    first, second = Result.load(one), Result.load(two)
    timed = {"recordings_per_second", "data_wait_share", "peak_memory_mib"}
    for key, value in first.metrics.items():
        assert key in timed or second.metrics[key] == value, key
    for name in ("adapter_model.safetensors", "head.safetensors", "encoder.safetensors"):
        assert (one / "model" / name).read_bytes() == (two / "model" / name).read_bytes(), name
    losses = [
        [(line["step"], line["metrics"].get("loss")) for line in map(json.loads, file.open())]
        for file in (one / "metrics.jsonl", two / "metrics.jsonl")
    ]
    assert losses[0] == losses[1]


def folder_of(place: Path, out: str) -> Path:
    (file,) = place.glob(f"{out}/tuned/*/result.json")
    return file.parent


WORDS = ["finetune", "tune.yaml", "training.epochs=4", "training.ema=0.9"]
WORDS += ["validation_fraction=0.25", "training.checkpoint_every=3"]


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(medley, tuned, monkeypatch) -> None:
    words = [*WORDS, "evaluate_also=[{name: folder, root: clips, modality: speech}]"]
    assert medley(*words, "output_dir=whole").code == 0
    interrupt_once(monkeypatch, tuned)
    assert medley(*words).code == 130
    resumed = medley(*words)
    assert resumed.code == 0, resumed.err
    assert "resumed at step" in resumed.err
    same(folder_of(tuned, "whole"), folder_of(tuned, "runs"))


def test_a_killed_run_goes_on_as_if_nothing_had_happened(medley, tuned) -> None:
    """kill -9 in the middle of an epoch, then the same command."""
    words = ["finetune", "tune.yaml", "training.ema=0.9", "validation_fraction=0.25"]
    words += ["training.epochs=40", "training.checkpoint_every=1", "training.batch_size=2"]
    paths = [str(Path(__file__).parents[4]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "benchmarks.cli", *words]
    process = subprocess.Popen(command, cwd=tuned, env=environment, stderr=subprocess.PIPE)
    for _ in range(1200):
        if any(tuned.glob("runs/tuned/*/checkpoint/previous.pt")) or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not any(tuned.glob("runs/tuned/*/result.json"))
    resumed = medley(*words)
    assert resumed.code == 0, resumed.err
    assert "resumed at step" in resumed.err
    assert medley(*words, "output_dir=whole").code == 0
    same(folder_of(tuned, "whole"), folder_of(tuned, "runs"))


@pytest.mark.slow
def test_two_processes_share_a_run(tuned) -> None:
    """As ``torchrun`` starts them; only the first one writes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-port=29547", "-m", "benchmarks.cli", "finetune", "tune.yaml"]
    command += ["methods=[lora,head]", "validation_fraction=0.25"]
    command += ["warm_up={dataset: {name: folder, root: clips, modality: speech}, epochs: 1}"]
    paths = [str(Path(__file__).parents[4]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tuned, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Report:") == 1
    for result in results(tuned).values():
        assert (tuned / "runs/tuned" / result.config_hash / "model/medley.json").exists()
    assert len(results(tuned)) == 2


def test_rows_of_one_method_are_told_apart(medley, tuned) -> None:
    words = "methods=[{name: lora, rank: 2}, {name: lora, rank: 4, learning_rate: 0.01}, head]"
    outcome = medley("finetune", "tune.yaml", words, "training.epochs=1")
    assert outcome.code == 0, outcome.err
    for told in ("rank=2", "rank=4", "learning_rate=0.01"):
        assert told in "".join(outcome.out.split())


def test_the_adapter_of_a_compact_encoder_is_trained_further(medley, tuned) -> None:
    """Its base comes from the folder too."""
    assert medley("finetune", "tune.yaml").code == 0
    folder_of(tuned, "runs").rename(tuned / "first")
    words = ["--from-adapter", "first", "training.learning_rate=1e-12", "seeds=[5]"]
    outcome = medley("finetune", "tune.yaml", *words)
    assert outcome.code == 0, outcome.err
    again = folder_of(tuned, "runs")
    first, second = (
        load_file(place / "model/encoder.safetensors") for place in (tuned / "first", again)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    accuracy = [Result.load(place).metrics["accuracy"] for place in (tuned / "first", again)]
    assert accuracy[0] == accuracy[1]
