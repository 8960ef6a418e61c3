"""``medley align`` and ``medley zeroshot`` on composed scenes: from single events to a table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.results.result import Result
from benchmarks.runs.composed import ComposeConfig, items_to_tell_apart, training_scenes
from multimodal.datasets.folder import FolderConfig
from multimodal.modalities.speech import SpeechConfig
from multimodal.signals import SignalCache
from multimodal.training.batching import NearBatches

WORDS = {"low": "a low tone", "high": "a high tone"}
COMPOSE = {
    "composer": {
        **{"name": "speech", "sources": "any", "snippet_seconds": [0.02, 1.0], "fade": 0.002},
        **{"gap": [0.0, 0.01], "expressions": {"A+B": 1.0, "A*B": 1.0}},
    },
    "scenes": 12,
    "items": 6,
    "triplets": 0.5,
}
WRITTEN = json.dumps(COMPOSE)
RUN = ["align", "align.yaml", "captions=text", f"compose={WRITTEN}"]
KINDS = (
    "clip",
    "{name: compa_hard_negatives, negative_audio: 1}",
    "{name: compa_modular, mask_equal_compositions: true, positives: 1, negatives: 2}",
)


def results(place: Path, experiment: str = "tones") -> list[Result]:
    found = [Result.load(f.parent) for f in place.glob(f"runs/{experiment}/*/result.json")]
    return sorted(found, key=lambda result: result.started)


def cache(place: Path) -> SignalCache:
    manifest = FolderConfig(modality="speech").build(place / "clips")
    return SignalCache(manifest, SpeechConfig().build(), progress=False)


def test_scenes_are_what_their_manifest_makes(tiny) -> None:
    """Rendered in a batch, and one by one by the cache of recordings that are made."""
    compose = ComposeConfig.parse(COMPOSE)
    for composed in (
        training_scenes(compose, cache(tiny), WORDS, paired=True),
        items_to_tell_apart(compose, cache(tiny), WORDS),
    ):
        signals, rows = composed.signals, np.arange(len(composed.scenes))
        batch = signals.gather(rows)
        alone = SignalCache(signals.manifest, signals.adapter, progress=False).gather(rows)
        assert batch.texts == alone.texts == tuple(composed.scenes.captions)
        for name in ("inputs", "lengths", "labels", "indices"):
            torch.testing.assert_close(getattr(batch, name), getattr(alone, name), atol=0, rtol=0)


def test_twins_are_the_same_events_otherwise(tiny) -> None:
    composed = training_scenes(ComposeConfig.parse(COMPOSE), cache(tiny), WORDS, paired=True)
    scenes, twins = composed.scenes, composed.twins
    assert twins is not None
    for row, (twin,) in enumerate(twins.tolist()):
        assert sorted(scenes.snippets[row]) == sorted(scenes.snippets[twin])
        assert scenes.totals[row] == scenes.totals[twin]
        assert scenes.captions[row] != scenes.captions[twin]


def test_items_are_of_the_test_split_alone(tiny) -> None:
    signals = cache(tiny)
    composed = items_to_tell_apart(ComposeConfig.parse(COMPOSE), signals, WORDS)
    assert {len(item) for item in composed.items} == {2, 3}
    assert len(composed.items) == 6
    rows = {row for item in composed.items for row in item}
    assert rows == set(range(len(composed.scenes)))


def test_every_objective_trains_and_is_scored(medley, tones) -> None:
    outcome = medley(*RUN, f"objectives=[{', '.join(KINDS)}]")
    assert outcome.code == 0, outcome.err
    assert "Look-alikes told apart" in outcome.out
    assert "Paired difference to clip" in outcome.out
    for result in results(tones):
        details = result.evaluation["compositional"]
        assert result.evaluation["num_train"] == 12
        assert (details["mode"], details["items"]) == ("pairs", {"2": 6})
        assert details["left_out"] == 3
        hits = details["hits"]["group_score"]
        assert result.metrics["group_score"] == pytest.approx(hits.count("1") / 6)
        assert result.metrics["group_chance"] == pytest.approx(1 / 6)
        assert 0 <= result.metrics["linear_probe_accuracy"] <= 1
    page = (tones / "runs/tones/report.html").read_text()
    assert "Paired difference to clip" in page


@pytest.mark.slow
def test_a_run_is_the_same_whatever_stands_beside_it_in_a_config(medley, tones) -> None:
    """One that asks for twins leaves the scenes of others as they are."""
    assert medley(*RUN, "objectives=[clip]").code == 0
    assert medley(*RUN, f"objectives=[clip, {KINDS[1]}]", "output_dir=both").code == 0
    (alone,) = results(tones)
    (beside,) = [
        found
        for file in tones.glob("both/tones/*/result.json")
        if (found := Result.load(file.parent)).learner == "clip"
    ]
    assert alone.config_hash == beside.config_hash
    for key in ("mean_margin", "zero_shot_top1", "text_rank_me"):
        assert alone.metrics[key] == beside.metrics[key]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(medley, tones, monkeypatch) -> None:
    from tests.benchmarks.commands.align_text import interrupt_once

    words = [*RUN, f"objectives=[{KINDS[1]}]", "training.checkpoint_every=100"]
    assert medley(*words, "output_dir=whole").code == 0
    (whole,) = [Result.load(f.parent) for f in tones.glob("whole/tones/*/result.json")]
    interrupt_once(monkeypatch, tones)
    assert medley(*words).code == 130
    assert medley(*words).code == 0
    (resumed,) = results(tones)
    for key in ("group_score", "mean_margin", "zero_shot_top1", "text_rank_me"):
        assert resumed.metrics[key] == whole.metrics[key]


def test_neighbours_are_those_of_the_model_it_starts_from(medley, tones, monkeypatch) -> None:
    """And the same ones after an interruption, when the model is another one."""
    from tests.benchmarks.commands.align_text import interrupt_once

    assert medley(*RUN, "experiment=first", "objectives=[clip]").code == 0
    words = [*RUN, "objectives=[compa_hard_negatives]", "init=first", "training.epochs=3"]
    words += ["training.batch={neighbours: 2}", "training.batch_size=8"]
    found, of_epoch = [], NearBatches.of_epoch

    def told(self: NearBatches, epoch: int) -> list[np.ndarray]:
        found.append(self.near.tolist())
        return of_epoch(self, epoch)

    monkeypatch.setattr(NearBatches, "of_epoch", told)
    assert medley(*words, "experiment=whole").code == 0
    interrupt_once(monkeypatch, tones)
    assert medley(*words, "experiment=cut").code == 130
    assert medley(*words, "experiment=cut").code == 0
    assert len(found) >= 4
    assert all(near == found[0] for near in found)
    (whole,), (cut,) = results(tones, "whole"), results(tones, "cut")
    for key in ("group_score", "mean_margin", "zero_shot_top1", "text_rank_me"):
        assert cut.metrics[key] == whole.metrics[key]


def test_zero_shot_tells_apart_what_several_experiments_learned(medley, tones) -> None:
    assert medley(*RUN, "objectives=[clip]").code == 0
    second = ["experiment=second", "init=tones", f"objectives=[{KINDS[2]}]"]
    assert medley(*RUN, *second).code == 0
    (tones / "zero.yaml").write_text(
        "experiment: zero\n"
        "dataset: {name: folder, root: clips, modality: speech}\n"
        "model: {name: aligned, experiment: [tones, second]}\n"
        f"task: compositional\ncompose: {WRITTEN}\n"
        "tracking: {store: none}\n"
    )
    outcome = medley("zeroshot", "zero.yaml", "mode=full")
    assert outcome.code == 0, outcome.err
    one, two = results(tones, "zero")
    assert one.evaluation["compositional"]["items"] == {"2": 3, "3": 3}
    assert one.metrics["group_chance"] == pytest.approx((1 / 6 + 1 / 60) / 2)
    assert (
        one.evaluation["compositional"]["items_hash"]
        == two.evaluation["compositional"]["items_hash"]
    )
    assert "Paired difference to clip" in outcome.out


def test_items_of_a_table_of_ones_own(medley, tones) -> None:
    assert medley("align", "align.yaml", "objectives=[clip]", "training.epochs=1").code == 0
    lines = [
        {"signals": [f"low/{i}.wav", f"high/{i}.wav"], "captions": ["a low tone", "a high tone"]}
        for i in range(4)
    ]
    items = tones / "clips/items.jsonl"
    items.write_text("\n".join(map(json.dumps, lines)))
    (tones / "zero.yaml").write_text(
        "experiment: zero\n"
        "dataset: {name: compositional, root: clips, modality: speech}\n"
        "model: {name: aligned, experiment: tones}\n"
        "task: compositional\ntracking: {store: none}\n"
    )
    outcome = medley("zeroshot", "zero.yaml")
    assert outcome.code == 0, outcome.err
    (result,) = results(tones, "zero")
    assert result.metrics["num_items"] == 4
    (tones / "clips/low/0.wav").unlink()
    outcome = medley("zeroshot", "zero.yaml", "--fresh")
    assert (outcome.code, "low/0.wav" in outcome.err) == (2, True)


def test_all_epochs_are_trained_whatever_validation_recordings_would_say(medley, tones) -> None:
    """Scored scenes may be made of them, and single events tell nothing of order."""
    for split in ("train", "validation", "test"):
        shutil.copytree(tones / "clips", tones / "parts" / split)
    words = ["dataset.root=parts", "training.epochs=3", "compose.test_splits=[validation, test]"]
    outcome = medley(*RUN, "objectives=[clip]", *words)
    assert outcome.code == 0, outcome.err
    (journal,) = tones.glob("runs/tones/*/metrics.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert not [line for line in lines if "validation_score" in line["metrics"]]
    assert lines[-1]["step"] == 3 * 12  # recordings of all epochs


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["objectives=[compa_modular]"], "these have captions alone; set compose"),
        ([f"compose={WRITTEN}", "captions=labels"], "leave out captions"),
        ([f"compose={WRITTEN}", "captions=text", "classes=[low]"], "leave out classes"),
        (
            [f"compose={WRITTEN}", "captions=text", "validation_fraction=0.2"],
            "leave out validation_fraction",
        ),
        (
            [f"compose={WRITTEN}", "captions=text", "training.patience=2"],
            "leave out training.patience",
        ),
        (
            [f"compose={WRITTEN}", "captions=text", "modality.augment={crop_seconds: 0.1}"],
            "modality.augment.crop_seconds makes them false",
        ),
        (
            ["captions=text", f"compose={WRITTEN}", "compose.composer.snippet_seconds=[2,3]"],
            "no event of 'folder' lasts that long",
        ),
        (
            ["captions=text", f"compose={WRITTEN}", "compose.composer.expressions={A+: 1}"],
            "A+",
        ),
        (
            ["captions=text", f"compose={WRITTEN}", "compose.test_splits=[validation]"],
            "has no validation split",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_trains(medley, tones, words, told) -> None:
    outcome = medley("align", "align.yaml", *words)
    assert outcome.code == 2
    assert told in outcome.err
    assert not results(tones)


def test_a_task_and_its_dataset_must_fit(medley, tones) -> None:
    text = (
        "experiment: zero\n"
        "dataset: {name: folder, root: clips, modality: speech}\n"
        "model: {name: aligned, experiment: tones}\n"
    )
    (tones / "zero.yaml").write_text(text)
    outcome = medley("zeroshot", "zero.yaml", "task=compositional")
    assert outcome.code == 2
    assert "has no items of look-alike recordings" in outcome.err
    outcome = medley("zeroshot", "zero.yaml", "mode=full")
    assert outcome.code == 2
    assert "mode: of task=compositional" in outcome.err
