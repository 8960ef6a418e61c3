"""``medley align``: results, exact resume, tracking, bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results.result import Result
from benchmarks.tracking import store as tracking
from multimodal.digests import read_tensors
from tests.benchmarks.commands.align_text import ALIGN, interrupt_once


def result_of(folder: Path) -> Result:
    (file,) = folder.glob("runs/tones/*/result.json")
    return Result.load(file.parent)


def test_a_run_leaves_everything(medley, tones) -> None:
    outcome = medley("align", "align.yaml", "objectives=[clip,siglip]", "seeds=[1,2]")
    assert outcome.code == 0, outcome.err
    assert "zero-shot" in outcome.out
    assert "clip" in outcome.out
    folders = sorted(p.parent for p in tones.glob("runs/tones/*/result.json"))
    assert len(folders) == 4
    for folder in folders:
        names = {p.name for p in folder.iterdir()}
        assert {"config.yaml", "metrics.jsonl", "model.safetensors", "report.html"} <= names
        assert {"map.png", "similarity.png"} <= names
        result = Result.load(folder)
        pins = {"templates", "label_text", "prompts_hash", "split", "recordings_hash", "intervals"}
        assert pins <= set(result.evaluation)
        assert 0 <= result.metrics["data_wait_share"] <= 1
        assert 0 <= result.metrics["linear_probe_accuracy"] <= 1
        assert result.evaluation["num_train_texts"] == 6  # two classes, templates in turn
        page = (folder / "report.html").read_text()
        assert "Embedding map" in page
        assert "Similarity" in page
        assert "medley align" in page
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
        assert {"loss", "learning_rate", "gradient_norm", "scale"} <= set(lines[0]["metrics"])
    again = medley("align", "align.yaml", "objectives=[clip,siglip]", "seeds=[1,2]")
    assert again.err.count("done before") == 4


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(medley, tones, monkeypatch) -> None:
    words = ["align", "align.yaml", "training.epochs=3", "training.ema=0.9"]
    words += ["validation_fraction=0.25", "training.checkpoint_every=100"]
    whole = medley(*words, "output_dir=whole")
    assert whole.code == 0, whole.err
    expected = Result.load(next(tones.glob("whole/tones/*/result.json")).parent)
    interrupt_once(monkeypatch, tones)
    assert medley(*words).code == 130
    resumed = medley(*words)
    assert resumed.code == 0, resumed.err
    assert "resumed at step 3" in resumed.err or "resumed at step 2" in resumed.err
    found = result_of(tones)
    timed = {"recordings_per_second", "data_wait_share"}
    for key, value in expected.metrics.items():
        assert key in timed or found.metrics[key] == value, key
    steps = [
        [(line["step"], line["metrics"].get("loss")) for line in map(json.loads, file.open())]
        for file in (next(tones.glob(f"{out}/tones/*/metrics.jsonl")) for out in ("whole", "runs"))
    ]
    assert steps[0] == steps[1]


def test_runs_are_tracked(medley, tones, empty_store) -> None:
    (tones / "runs").mkdir()
    (tones / "runs/mlflow.db").write_bytes(empty_store.read_bytes())
    assert medley("align", "align.yaml", "tracking={store: mlflow}").code == 0
    client = tracking.connect(f"sqlite:///{tones}/runs/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("tones").experiment_id])
    assert run.data.tags["medley.scenario"] == "alignment"
    assert run.data.metrics["zero_shot_top1"] == result_of(tones).metrics["zero_shot_top1"]
    assert {"loss", "scale", "kl"} <= set(run.data.metrics)
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"map.png", "similarity.png", "report.html", "result.json"} <= names


@pytest.mark.slow
def test_two_processes_share_a_run(tones) -> None:
    """As ``torchrun`` starts them; only the first one writes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-port=29533", "-m", "benchmarks.cli", "align", "align.yaml"]
    paths = [str(Path(__file__).parents[4]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tones, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Report:") == 1
    shared = result_of(tones)
    assert shared.metrics["zero_shot_top1"] is not None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("captions=text", ["empty caption", "captions=labels"]),
        ("classes=[low,hgh]", ["no class 'hgh'", "high"]),
        ("objectives=[cwlc]", ["unknown objective 'cwlc'; did you mean 'cwcl'?"]),
        ("objectives=[]", ["objectives: list at least one"]),
        ("objectives=[{name: cwcl, kernel: exp}]", ["need a sharpness"]),
        ("training.batch_size=1", ["training.batch_size=1", "at least 2", "set 2 or more"]),
        ("training.precision=fp16", ["fp16 needs a GPU"]),
        ("training.patience=2", ["patience=2 needs validation recordings"]),
        ("text.train=all", ["'cwcl' takes its weights", "text.train=none"]),
        ("text.checkpoint=gone", ["not a folder", "hub", "packaged-minilm"]),
        ("prompts.templates=gone.yaml", ["gone.yaml: cannot read the prompts"]),
        ("prompts.phrases=mitbih", ["phrases lack 2 of 2 classes"]),
        ("training.epochz=2", ["training.epochz: unknown key; did you mean 'epochs'?"]),
        ("text.maxlength=2", ["text.maxlength: unknown key; did you mean 'max_length'?"]),
    ],
)
def test_bad_input_is_refused_before_training(refuse, tones, override: str, words) -> None:
    refuse(f"align align.yaml '{override}'", *words)


def test_an_objective_that_cannot_run_stops_those_in_front_of_it(refuse, tones) -> None:
    refuse("align align.yaml 'objectives=[clip,cwcl]' text.train=all", "'cwcl' takes its weights")


def test_local_views_need_augmented_signals(refuse, tones) -> None:
    words = ["clip_rocket takes 2 augmented views", "set modality.augment, or choose clip"]
    refuse("align align.yaml 'objectives=[clip,clip_rocket]'", *words)


def test_heads_of_objectives_are_trained_and_not_kept(medley, tones) -> None:
    words = ["align", "align.yaml", "objectives=[clip_rocket]", "training.epochs=1"]
    outcome = medley(*words, "modality={name: speech, augment: {noise_db: 10}}")
    assert outcome.code == 0, outcome.err
    (weights,) = tones.glob("runs/tones/*/model.safetensors")
    assert not any("own" in name for name in read_tensors(weights)[0])
    lines = [json.loads(line) for line in (weights.parent / "metrics.jsonl").open()]
    assert {"local", "global"} <= set(lines[0]["metrics"])


def test_configs_of_other_commands_say_so(medley, tones) -> None:
    for command in ("bench", "zeroshot"):
        outcome = medley(command, "align.yaml")
        assert outcome.code == 2
        assert "this is a config of `medley align`" in outcome.err
    outcome = medley("align", "tiny.yaml")
    assert "this is a config of `medley bench`, not of `medley align`" in outcome.err


def test_a_shown_config_is_whole(medley, tones) -> None:
    outcome = medley("config", "show", "align.yaml", "seeds=[1,2]")
    assert outcome.code == 0
    assert "warmup: 0.1" in outcome.out
    assert outcome.out.count("# folder cwcl (linear, reconstruction) seed") == 2
    for command in ("bench", "align", "zeroshot"):
        assert '"properties"' in medley("config", "schema", command).out
    assert "did you mean 'align'" in medley("config", "schema", "alin").err


def test_shared_texts_are_told_once(medley, tones) -> None:
    (tones / "one.yaml").write_text('templates: ["a {}"]\n')
    words = ["align", "align.yaml", "prompts.templates=one.yaml"]
    outcome = medley(*words, "objectives=[clip,siglip]")
    assert outcome.err.count("training recordings share 2 texts") == 1
    masked = medley(*words, "objectives=[{name: clip, mask_duplicates: true}]")
    assert masked.code == 0
    assert "share" not in masked.err


def test_templates_without_a_place_for_the_class(refuse, tones) -> None:
    (tones / "bad.yaml").write_text("templates: [a sound]\n")
    refuse("align align.yaml prompts.templates=bad.yaml", "needs one placeholder {}")


def test_a_folder_of_another_config_is_not_touched(medley, tones) -> None:
    assert medley("align", "align.yaml").code == 0
    (folder,) = (p.parent for p in tones.glob("runs/tones/*/result.json"))
    (folder / "config.yaml").write_text(ALIGN.replace("epochs: 2", "epochs: 3"))
    outcome = medley("align", "align.yaml")
    assert outcome.code == 2
    assert "another config" in outcome.err
