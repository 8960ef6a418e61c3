"""The Si-Blurry draw: golden vectors in legacy mode, properties in the default mode."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continual.scenarios import si_blurry
from continual.scenarios.si_blurry_draw import draw, draw_stream
from multimodal.errors import UserError

GOLDEN = Path(__file__).parents[3] / "shared/golden/si_blurry.json"


def labels_of(vector: dict) -> list[int]:
    count, each = vector["classes"], vector["per_class"]
    if vector["layout"] == "interleaved":
        return [i % count for i in range(count * each)]
    return [i // each for i in range(count * each)]


def test_every_golden_vector() -> None:
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors in {GOLDEN}")
    vectors = json.loads(GOLDEN.read_text())
    assert len(vectors) >= 10
    for vector in vectors:
        stream = draw(
            labels_of(vector),
            num_classes=vector["classes"],
            num_tasks=vector["n_tasks"],
            disjoint_class_ratio=vector["disjoint_pct"] / 100,
            blurry_sample_ratio=vector["blurry_pct"] / 100,
            seed=vector["seed"],
            stochastic=vector["stochastic"],
            legacy=True,
        )
        assert [len(task) for task in stream] == vector["sizes"], vector
        first = next(task for task in stream if task)
        assert first[:8] == vector["first8"]
        digest = hashlib.sha256(json.dumps(stream).encode()).hexdigest()
        assert digest == vector["sha256"]


@pytest.mark.parametrize(
    ("seed", "disjoint", "blurry", "sizes"),
    [
        (1, [3, 0, 20, 14, 13], [10, 6, 0, 30, 4], [6500, 3000, 10264, 22000, 8236]),
        (3, [29, 13, 0, 1, 7], [13, 13, 5, 14, 5], [21000, 13000, 2500, 7500, 6000]),
        (5, [12, 14, 15, 0, 9], [1, 41, 0, 7, 1], [6500, 27500, 8061, 3389, 4550]),
    ],
)
def test_published_regression_table(seed: int, disjoint, blurry, sizes) -> None:
    found = draw_stream(
        np.arange(50_000) % 100,
        num_classes=100,
        num_tasks=5,
        disjoint_class_ratio=0.5,
        blurry_sample_ratio=0.1,
        seed=seed,
        legacy=True,
    )
    assert [len(c) for c in found.disjoint] == disjoint
    assert [len(c) for c in found.blurry] == blurry
    assert [len(task) for task in found.tasks] == sizes
    if seed == 1:
        assert found.disjoint[:2] == [[45, 15, 90], []]
        assert found.blurry[0] == [46, 39, 92, 0, 44, 98, 49, 9, 4, 61]


cases = st.tuples(
    st.integers(2, 12),
    st.integers(1, 6),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 2**20),
    st.booleans(),
    st.integers(0, 2**16),
)


@settings(max_examples=150, deadline=None)
@given(cases)
def test_default_draws_keep_everything_and_disjoint_classes_in_one_task(case) -> None:
    classes, tasks, disjoint, blurry, seed, stochastic, data = case
    tasks = min(tasks, classes)
    labels = np.random.default_rng(data).integers(0, classes, 6 * classes)
    labels = np.concatenate([labels, np.arange(classes)])
    found = draw_stream(
        labels,
        num_classes=classes,
        num_tasks=tasks,
        disjoint_class_ratio=disjoint,
        blurry_sample_ratio=blurry,
        seed=seed,
        stochastic=stochastic,
    )
    assert sorted(i for task in found.tasks for i in task) == list(range(len(labels)))
    owned = [c for part in (*found.disjoint, *found.blurry) for c in part]
    assert sorted(owned) == list(range(classes))
    for task, (fixed, mixed) in enumerate(zip(found.disjoint, found.blurry, strict=True)):
        present = set(labels[found.tasks[task]])
        for c in fixed:
            assert set(np.flatnonzero(labels == c)) <= set(found.tasks[task])
        outside = [i for i in found.tasks[task] if labels[i] not in fixed + mixed]
        assert set(outside) <= set(found.leaked)
        assert not present.intersection(c for p in found.disjoint for c in p if c not in fixed)
    total = np.isin(labels, [c for part in found.blurry for c in part]).sum()
    assert len(found.leaked) <= total * round(100 * blurry) // 100
    again = draw_stream(
        labels,
        num_classes=classes,
        num_tasks=tasks,
        disjoint_class_ratio=disjoint,
        blurry_sample_ratio=blurry,
        seed=seed,
        stochastic=stochastic,
    )
    assert again == found


def test_small_tasks_are_drawn_again_and_counted() -> None:
    labels = np.arange(300) % 10
    settings_of = {
        "num_classes": 10,
        "num_tasks": 3,
        "disjoint_class_ratio": 0.5,
        "blurry_sample_ratio": 0.1,
    }
    redrawn = []
    for seed in range(40):
        found = draw_stream(labels, seed=seed, min_task_samples=40, **settings_of)
        assert min(map(len, found.tasks)) >= 40
        assert found.seed == seed + 1_000_003 * found.redraws
        assert found.tasks == draw(labels, seed=found.seed, **settings_of)
        redrawn.append(found.redraws)
    assert 0 < np.mean(np.array(redrawn) > 0) < 0.9
    with pytest.raises(UserError, match=r"min_task_samples=200: 101 draws from seed 1"):
        draw(labels, seed=1, min_task_samples=200, **settings_of)


def test_blur_does_not_depend_on_file_order_as_the_published_one_does() -> None:
    def leaking_classes(labels: np.ndarray, legacy: bool) -> int:
        found = draw_stream(
            labels,
            num_classes=100,
            num_tasks=5,
            disjoint_class_ratio=0.5,
            blurry_sample_ratio=0.1,
            seed=1,
            legacy=legacy,
        )
        return len(set(labels[found.leaked]))

    ordered = np.arange(10_000) // 100
    shuffled = np.random.default_rng(0).permutation(ordered)
    assert leaking_classes(ordered, legacy=True) < 0.5 * leaking_classes(shuffled, legacy=True)
    assert leaking_classes(ordered, legacy=False) == pytest.approx(
        leaking_classes(shuffled, legacy=False), abs=5
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"disjoint_class_ratio": 1.2}, r"disjoint_class_ratio=1\.2: .* 0 to 1"),
        ({"blurry_sample_ratio": -0.1}, r"blurry_sample_ratio=-0\.1"),
        ({"num_tasks": 5}, "4 classes need 1 to 4 tasks"),
        ({"num_tasks": 0}, "num_tasks=0"),
        ({"num_classes": 3}, "class ids from 0 to 2"),
    ],
)
def test_bad_settings(changes: dict, words: str) -> None:
    fields = {
        "num_classes": 4,
        "num_tasks": 2,
        "disjoint_class_ratio": 0.5,
        "blurry_sample_ratio": 0.1,
        "seed": 1,
        **changes,
    }
    with pytest.raises(UserError, match=words):
        draw([0, 1, 2, 3] * 5, **fields)


def test_the_draw_stands_beside_its_scenario() -> None:
    assert si_blurry.draw is draw
