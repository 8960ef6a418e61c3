"""``medley zeroshot``: tiny CLAP checkpoints and aligned runs, pins, protocols, bad input."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.commands.zeroshot.config import ZeroShotConfig
from benchmarks.commands.zeroshot.run import ZeroShotCells
from benchmarks.config.loading import load_config
from benchmarks.results.result import Result
from multimodal.encoders.cache import EmbeddingCache
from multimodal.models.towers import Aligned
from tests.multimodal.datasets.esc50_files import make_copy
from tests.multimodal.encoders.audio_checkpoints import clap
from tests.multimodal.encoders.checkpoints import WORDS, save_tokenizer

CLAP = """\
experiment: clap
dataset: {name: esc50, root: esc50}
model: {name: clap, checkpoint: checkpoint}
split: all
tracking: {store: none}
"""
ZERO = """\
experiment: zero
dataset: {name: folder, root: clips, modality: speech}
model: {name: aligned, experiment: tones}
tracking: {store: none}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLAP checkpoint, and 250 sounds in ESC-50's layout."""
    folder = tmp_path_factory.mktemp("clap")
    clap(folder / "checkpoint")
    save_tokenizer(folder / "checkpoint", "roberta", WORDS)
    make_copy(folder / "esc50")
    lines = (folder / "esc50/meta/esc50.csv").read_text().splitlines()[1:]
    for number, line in enumerate(lines):
        rng = np.random.default_rng(number)
        seconds = rng.uniform(0.05, 1.5)  # shorter and longer than the checkpoint's window
        wave = rng.normal(0, 0.1, int(8000 * seconds))
        soundfile.write(folder / "esc50/audio" / line.split(",")[0], wave, 8000)
    return folder


@pytest.fixture
def place(medley, files, tmp_path) -> Path:
    for name in ("checkpoint", "esc50"):
        (tmp_path / name).symlink_to(files / name)
    (tmp_path / "clap.yaml").write_text(CLAP)
    return tmp_path


def result_of(folder: Path) -> Result:
    (file,) = folder.glob("*/result.json")
    return Result.load(file.parent)


class TestCheckpoint:
    def test_everything_is_pinned(self, medley, place) -> None:
        outcome = medley("zeroshot", "clap.yaml", "dataset.subset=esc10")
        assert outcome.code == 0, outcome.err
        assert "zero-shot" in outcome.out
        result = result_of(place / "runs/clap")
        assert (result.scenario, result.learner, result.command) == (
            "zero_shot",
            "checkpoint",
            "zeroshot",
        )
        pins = result.evaluation
        assert pins["model"]["weights"]
        assert pins["num_recordings"] == 50
        assert pins["label_text"]["sea_waves"] == "sea waves"
        assert pins["templates"][0] == "This is a sound of {}."
        assert pins["signals"]["crop"] == "windows"
        assert "rate=8000" in pins["signals"]["adapter"]
        assert pins["signals"]["resampler"] == "soxr HQ"
        assert pins["numerics"]["dtype"] == "float32"
        assert len(pins["candidates"]) == 10
        low, high = pins["intervals"]["zero_shot_top1"]
        assert low <= result.metrics["zero_shot_top1"] <= high
        assert result.metrics["zero_shot_chance"] == 0.1

    def test_figures_do_not_depend_on_the_batch_size(self, medley, place) -> None:
        found = []
        for size in (1, 32):
            out = f"output_dir=out{size}"
            words = ["dataset.subset=esc10", f"batch_size={size}", out]
            assert medley("zeroshot", "clap.yaml", *words).code == 0
            result = result_of(place / f"out{size}/clap")
            found.append((result.metrics, result.evaluation["top1_by_template"]))
        assert found[0] == found[1]

    @pytest.mark.parametrize("protocol", ["mteb", "laion", "open_clip", "microsoft"])
    def test_foreign_protocols(self, medley, place, protocol: str) -> None:
        words = ["dataset.subset=esc10", f"protocol={protocol}"]
        outcome = medley("zeroshot", "clap.yaml", *words)
        assert outcome.code == 0, outcome.err
        signals = result_of(place / "runs/clap").evaluation["signals"]
        assert signals["name"] == protocol
        assert signals["int16"] == (protocol == "laion")

    def test_an_evaluation_repeats_to_the_digit_and_is_not_repeated_if_done(
        self, medley, place
    ) -> None:
        words = ["zeroshot", "clap.yaml", "dataset.subset=esc10", "protocol=laion"]
        assert medley(*words).code == 0
        first = result_of(place / "runs/clap")
        assert medley(*words).code == 0
        assert result_of(place / "runs/clap").started == first.started
        assert medley(*words, "--fresh").code == 0
        again = result_of(place / "runs/clap")
        assert again.started != first.started
        assert json.dumps(again.evaluation) == json.dumps(first.evaluation)
        assert again.metrics == first.metrics

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("model.checkpoint=gone", "not a folder"),
            ("model.checkpont=x", "model.checkpont: unknown key; did you mean 'checkpoint'?"),
            ("model=clip", "unknown model 'clip'"),
            ("split=validation", "has no such recordings"),
            ("classes=[dog,rein]", "no class 'rein'; did you mean 'rain'?"),
            ("protocol=mtb", "protocol"),
            ("dataset=synthetic_ecg", "reads audio or speech"),
            ("dataset=synthetic_audio", "at 16000 Hz, and the model checkpoint reads 8000 Hz"),
        ],
    )
    def test_bad_input(self, medley, place, override: str, words: str) -> None:
        outcome = medley("zeroshot", "clap.yaml", override)
        assert outcome.code == 2, outcome
        assert words in outcome.err


class TestAlignedRuns:
    @pytest.fixture
    def aligned(self, medley, tones, tmp_path_factory) -> Path:
        """Two objectives and seeds, trained once."""
        kept = tmp_path_factory.getbasetemp() / "aligned runs"
        if not kept.exists():
            assert medley("align", "align.yaml", "objectives=[cwcl,clip]", "seeds=[1,2]").code == 0
            shutil.copytree(tones / "runs", kept)
        shutil.copytree(kept, tones / "runs", dirs_exist_ok=True)
        (tones / "zero.yaml").write_text(ZERO)
        return tones

    def test_all_runs_stand_in_one_table(self, medley, aligned) -> None:
        outcome = medley("zeroshot", "zero.yaml")
        assert outcome.code == 0, outcome.err
        results = [Result.load(p.parent) for p in aligned.glob("runs/zero/*/result.json")]
        assert sorted((r.learner, r.seed) for r in results) == [
            ("clip", 1),
            ("clip", 2),
            ("cwcl", 1),
            ("cwcl", 2),
        ]
        rows = [line for line in outcome.out.splitlines() if "clip" in line or "cwcl" in line]
        assert any("│ clip" in row and " 2 │" in row for row in rows)
        # The same towers on the same recordings: what align had measured itself.
        own = {
            (r.learner, r.seed): r.metrics["zero_shot_top1"]
            for r in (Result.load(p.parent) for p in aligned.glob("runs/tones/*/result.json"))
        }
        assert {(r.learner, r.seed): r.metrics["zero_shot_top1"] for r in results} == own

    def test_cells_share_what_frozen_encoders_make(self, medley, tones, monkeypatch) -> None:
        words = ("objectives=[cwcl,clip]", "encoder.train=none")
        assert medley("align", "align.yaml", *words).code == 0
        (tones / "zero.yaml").write_text(ZERO)
        encoded, tokens = [], Aligned._tokens
        embedded, embed = [], EmbeddingCache._embed
        monkeypatch.setattr(
            Aligned, "_tokens", lambda self, t: (encoded.append(t), tokens(self, t))[1]
        )
        monkeypatch.setattr(
            EmbeddingCache,
            "_embed",
            lambda self, block, advance: (embedded.append(block), embed(self, block, advance))[1],
        )
        outcome = medley("zeroshot", "zero.yaml")
        assert outcome.code == 0, outcome.err
        texts = [text for part in encoded for text in part]
        assert len(set(texts)) == len(texts) > 0
        assert len(set(embedded)) == len(embedded) > 0
        results, own = (
            {r.learner: r.metrics["zero_shot_top1"] for r in map(Result.load, folders)}
            for folders in (
                [p.parent for p in tones.glob(f"runs/{name}/*/result.json")]
                for name in ("zero", "tones")
            )
        )
        assert results == own
        assert len(own) == 2

    def test_embeddings_are_shared_by_equal_modalities_only(self, aligned, monkeypatch) -> None:
        """Settings of a modality may be in no weight: what an ECG is divided by, say."""
        monkeypatch.chdir(aligned)
        cells = ZeroShotCells(load_config(Path("zero.yaml"), [], model=ZeroShotConfig))
        cell: Any = cells.cells[0].model
        opened = cell.open(cells.output_dir, cells.protocol, device=torch.device("cpu"), seed=0)
        opened.aligned.signals.requires_grad_(False)
        other = copy.deepcopy(opened.facts)
        other["config"]["modality"]["scale_mv"] = 2.0
        again, scaled = replace(opened), replace(opened, facts=other)
        signals = cells._signals(opened)
        first = cells._source(opened, signals, cells.chosen.rows)
        assert isinstance(first, EmbeddingCache)
        assert cells._source(again, signals, cells.chosen.rows) is first
        assert cells._source(scaled, signals, cells.chosen.rows) is not first

    def test_missing_damaged_and_changed_models(self, medley, aligned) -> None:
        outcome = medley("zeroshot", "zero.yaml", "model.experiment=other")
        assert outcome.code == 2
        assert "no finished run of `medley align`" in outcome.err
        (model, *_) = sorted(aligned.glob("runs/tones/*/model.safetensors"))
        model.write_bytes(model.read_bytes()[:100])
        outcome = medley("zeroshot", "zero.yaml")
        assert outcome.code == 2
        assert "model.safetensors: cannot be read" in outcome.err
