from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from continual.scenarios import SCENARIOS, Stream
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.scenarios.si_blurry import draw, online_batches, realised, stream_labels
from multimodal.errors import UserError
from multimodal.recordings import Manifest
from tests.toy import toy_chords, toy_manifest


def build(manifest: Manifest, seed: int = 3, **fields: object) -> Stream:
    config: Any = SCENARIOS.parse({"name": "si_blurry", **fields})
    return config.build(manifest, seed)


@settings(max_examples=30, deadline=None)
@given(
    classes=st.integers(2, 9),
    seed=st.integers(0, 10_000),
    disjoint=st.sampled_from([0.0, 0.5, 1.0]),
    blurry=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_every_recording_is_streamed_once_and_tested_when_its_class_was_met(
    classes: int, seed: int, disjoint: float, blurry: float
) -> None:
    manifest = toy_manifest(num_classes=classes, train=12, test=2)
    stream = build(
        manifest, seed, num_tasks=2, disjoint_class_ratio=disjoint, blurry_sample_ratio=blurry
    )
    streamed = np.concatenate([e.train for e in stream.experiences])
    assert sorted(streamed.tolist()) == manifest.indices("train").tolist()
    met: set[int] = set()
    for experience in stream.experiences:
        met |= set(manifest.labels[experience.train].tolist())
        assert set(manifest.labels[experience.test].tolist()) == met
        assert len(experience.test) == 2 * len(met)
    found = realised(stream)
    assert np.array(found["matrix"]).sum(0).tolist() == [len(e.train) for e in stream.experiences]
    owned = [c for task in found["tasks"] for c in (*task["disjoint"], *task["blurry"])]
    assert sorted(owned) == list(manifest.class_names)
    for task, column in zip(found["tasks"], np.array(found["matrix"]).T, strict=True):
        for name in task["disjoint"]:
            assert column[manifest.class_names.index(name)] == 12
    if blurry == 0.0:
        assert found["leak_share"] == 0.0
    blurred = sum(len(t["blurry"]) for t in found["tasks"]) * 12
    assert found["num_leaked"] <= blurred * round(100 * blurry) // 100
    assert found["leak_share"] * len(streamed) <= found["num_leaked"] + 1e-9


def test_it_is_the_pure_draw_of_the_training_rows() -> None:
    manifest = toy_manifest(num_classes=6, train=10, test=2)
    stream, rows = build(manifest, 5, num_tasks=2, min_task_samples=0), manifest.indices("train")
    tasks = draw(
        manifest.labels[rows],
        num_classes=6,
        num_tasks=2,
        disjoint_class_ratio=0.5,
        blurry_sample_ratio=0.1,
        seed=5,
    )
    for experience, positions in zip(stream.experiences, tasks, strict=True):
        assert experience.train.tolist() == rows[positions].tolist()
    same = build(manifest, 9, num_tasks=2, min_task_samples=0, stream_seed=5)
    assert [e.train.tolist() for e in same.experiences] == [
        e.train.tolist() for e in stream.experiences
    ]


def test_test_recordings_share_no_group_with_the_stream() -> None:
    manifest = toy_manifest(num_classes=4, train=12, test=4)
    stream = build(manifest)
    heard = {g for e in stream.experiences for g in manifest.groups[e.train]}
    assert heard.isdisjoint(manifest.groups[stream.experiences[-1].test])


def test_default_number_of_tasks_and_period_follow_the_data() -> None:
    for classes, tasks in ((3, 2), (12, 2), (15, 3)):
        assert len(build(toy_manifest(num_classes=classes, train=10, test=1))) == tasks
    stream = build(toy_manifest(num_classes=4, train=50, test=1))
    assert stream.online is not None
    assert (stream.online.eval_period, stream.online.iterations) == (4, 3)


def test_small_tasks_are_drawn_again_and_counted() -> None:
    manifest = toy_manifest(num_classes=5, train=20, test=1)
    redrawn = 0
    for seed in range(30):
        stream = build(manifest, seed, num_tasks=2, min_task_samples=30)
        assert min(len(e.train) for e in stream.experiences) >= 30
        assert stream.online is not None
        redrawn += stream.online.redraws > 0
        assert stream.online.seed == seed + 1_000_003 * stream.online.redraws
    assert redrawn


def test_an_unbalanced_dataset_keeps_every_recording() -> None:
    manifest = toy_manifest(num_classes=4, train=30, test=2)
    kept = tuple(
        r for r in manifest if r.split == "test" or int(r.uid[-3:]) < (30, 3, 30, 5)[r.labels[0]]
    )
    stream = build(replace(manifest, recordings=kept))
    assert sum(len(e.train) for e in stream.experiences) == 30 + 3 + 30 + 5


def test_multi_label_recordings_are_drawn_by_their_main_label() -> None:
    manifest = toy_chords(num_classes=5, train=60, test=30)
    stream = build(manifest, 1, num_tasks=2)
    labels = stream_labels(manifest)
    found = realised(stream)
    assert found["classes"][-1] == "(no label)"
    total = np.bincount(labels[manifest.indices("train")], minlength=6)
    assert np.array(found["matrix"]).sum(1).tolist() == total.tolist()
    for experience in stream.experiences:
        assert experience.test.tolist() == manifest.indices("test").tolist()


def test_notes_and_errors_name_the_rule() -> None:
    manifest = toy_manifest(num_classes=7, train=30, test=2)
    with pytest.raises(UserError, match="num_tasks=8: 7 classes need 1 to 7 tasks"):
        build(manifest, num_tasks=8)
    stream = build(manifest, num_tasks=4, min_task_samples=1)
    assert stream.online is not None
    assert any("7 classes bear about 2 tasks" in note for note in stream.online.notes)
    assert any("no class of 7 is disjoint" in note for note in stream.online.notes)
    stream = build(manifest, 0, num_tasks=2, legacy=True, disjoint_class_ratio=0.0)
    assert stream.online is not None
    assert any("sampler drops tone_" in note for note in stream.online.notes)
    with pytest.raises(UserError, match="of 5 of the draw with seed 0 is empty; use another seed"):
        build(manifest, 0, num_tasks=5, legacy=True, disjoint_class_ratio=0.0)
    with pytest.raises(UserError, match="min_task_samples=1000"):
        build(manifest, min_task_samples=1000)


@pytest.mark.parametrize("field", ["disjoint_class_ratio", "blurry_sample_ratio"])
def test_shares_lie_between_0_and_1(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        SCENARIOS.parse({"name": "si_blurry", field: 1.5})


def test_avalanche_sees_tasks_in_order_and_no_task_labels() -> None:
    manifest = toy_manifest(num_classes=6, train=12, test=2)
    stream = build(manifest, num_tasks=2)
    gather: Any = None
    benchmark = as_benchmark(stream, gather)
    assert len(benchmark.train_stream) == len(benchmark.test_stream) == 2
    for experience, ours in zip(benchmark.train_stream, stream.experiences, strict=True):
        assert [item[0] for item in experience.dataset] == ours.train.tolist()
        assert set(experience.dataset.targets_task_labels) == {0}
        assert not hasattr(experience, "task_labels")
        assert sorted(experience.classes_in_this_experience) == list(ours.classes)


def test_a_loop_of_ones_own_meets_it_in_order_and_goes_on_anywhere(data) -> None:
    stream, gather = build(data.manifest, num_tasks=2), data.signals.gather
    batches = [b.indices.tolist() for b in online_batches(stream, gather, 5)]
    order = [row for e in stream.experiences for row in e.train.tolist()]
    assert [row for batch in batches for row in batch] == order
    first = len(stream.experiences[0].train)
    assert first in np.cumsum([len(b) for b in batches])
    for k in range(len(batches)):
        start = sum(map(len, batches[:k]))
        rest = online_batches(stream, gather, 5, start=start)
        assert [b.indices.tolist() for b in rest] == batches[k:]
    with pytest.raises(ValueError, match="within a batch"):
        list(online_batches(stream, gather, 5, start=1))


def test_global_random_state_is_untouched() -> None:
    state = torch.get_rng_state()
    build(toy_manifest(num_classes=6, train=12, test=2))
    assert torch.equal(state, torch.get_rng_state())
