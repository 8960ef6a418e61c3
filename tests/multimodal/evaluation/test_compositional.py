"""Compositional scores against a slow oracle, closed forms and what a model cannot cheat."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.errors import UserError
from multimodal.evaluation import compositional as module
from multimodal.evaluation.compositional import chance, companions, compare, compositional
from multimodal.evaluation.diagnostics import centroid_angle

SCORES = ("text_score", "audio_score", "group_score")


def consecutive(sizes: list[int]) -> list[range]:
    ends = np.cumsum(sizes)
    return [range(end - n, end) for n, end in zip(sizes, ends, strict=True)]


def by_hand(signals, texts, items) -> dict:
    """Every comparison written out; rows of whole numbers have exact products."""

    def cosine(a, b) -> float:
        length = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
        return sum(v * w for v, w in zip(a, b, strict=True)) / length if length else 0.0

    text, audio, group, margins, ties = [], [], [], [], []
    right = {"text": 0, "audio": 0}
    comparisons = 0
    for item in items:
        table = [[round(cosine(signals[k], texts[j]), 12) for j in item] for k in item]
        n = len(item)
        f = g = True
        tie = False
        for k in range(n):
            for j in range(n):
                if j != k:
                    comparisons += 1
                    right["text"] += table[k][k] > table[k][j]
                    right["audio"] += table[k][k] > table[j][k]
                    f, g = f and table[k][k] > table[k][j], g and table[k][k] > table[j][k]
                    tie = tie or table[k][k] in (table[k][j], table[j][k])
        own = sum(table[k][k] for k in range(n)) / n
        rest = [table[k][j] for k in range(n) for j in range(n) if j != k]
        margins.append(own - sum(rest) / len(rest))
        for scores, hit in ((text, f), (audio, g), (group, f and g), (ties, tie)):
            scores.append(hit)
    return {
        "text_score": np.mean(text),
        "audio_score": np.mean(audio),
        "group_score": np.mean(group),
        "text_comparison_accuracy": right["text"] / comparisons,
        "audio_comparison_accuracy": right["audio"] / comparisons,
        "mean_margin": np.mean(margins),
        "positive_margin_share": np.mean([m > 1e-11 for m in margins]),
        "tie_share": np.mean(ties),
        "num_items": len(items),
    }


@settings(max_examples=80)
@given(st.data())
def test_it_is_the_slow_one(data) -> None:
    sizes = data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=6))
    count = sum(sizes)
    side = st.lists(
        st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=count, max_size=count
    )
    signals, texts = data.draw(side), data.draw(side)
    order = data.draw(st.permutations(range(count)))
    items = [[order[r] for r in item] for item in consecutive(sizes)]
    found = compositional(
        np.array(signals, float), np.array(texts, float), items, mode="full", replicates=0
    )
    for key, value in by_hand(signals, texts, items).items():
        assert found.metrics[key] == pytest.approx(value, abs=1e-9), key
    pairs = compositional(np.array(signals, float), np.array(texts, float), items, replicates=0)
    for key, value in by_hand(signals, texts, [item[:2] for item in items]).items():
        assert pairs.metrics[key] == pytest.approx(value, abs=1e-9), key
    assert pairs.left_out == count - 2 * len(items)


@pytest.mark.parametrize("mode", ["pairs", "full"])
@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.float32])
def test_identity_scores_everything(mode, kind) -> None:
    sizes = [2, 3, 2, 3, 4]
    eye = np.eye(sum(sizes))
    rows = torch.tensor(eye, dtype=kind) if isinstance(kind, torch.dtype) else eye.astype(kind)
    found = compositional(rows, rows, consecutive(sizes), mode=mode)
    assert [found.metrics[key] for key in SCORES] == [1, 1, 1]
    assert found.metrics["text_comparison_accuracy"] == 1
    assert found.metrics["mean_margin"] == found.metrics["positive_margin_share"] == 1
    assert found.metrics["tie_share"] == 0
    assert found.counts == ({2: 5} if mode == "pairs" else {2: 2, 3: 2, 4: 1})
    assert found.left_out == (4 if mode == "pairs" else 0)
    low, high = found.intervals["group_score"]  # Wilson: 5 of 5
    assert high == 1
    assert low == pytest.approx(5 / (5 + 1.959964**2))


def test_a_collapsed_model_scores_nothing() -> None:
    """Whichever side collapses, also where the products are rounded: none wins by rounding."""
    rng = np.random.default_rng(0)
    items = consecutive([2, 3] * 200)
    free, one = rng.normal(size=(1_000, 37)), np.tile(rng.normal(size=37), (1_000, 1))
    for signals, texts in ((one, one), (free, one), (one, free)):
        found = compositional(signals, texts, items, mode="full", replicates=100)
        assert found.metrics["group_score"] == 0
        assert found.metrics["tie_share"] == 1
        assert found.intervals["group_score"][0] == 0
        assert found.intervals["group_score"][1] == pytest.approx(0.00951, abs=1e-5)
    both = compositional(one, one, items, mode="full", replicates=0).metrics
    assert [both[key] for key in SCORES] == [0, 0, 0]
    assert both["text_comparison_accuracy"] == both["positive_margin_share"] == 0


def test_each_side_has_its_own_score() -> None:
    """Both recordings are nearer to caption 0: each caption still picks its recording."""
    signals = np.array([[1.0, 0.0], [0.8, 0.6]])
    texts = np.array([[1.0, 0.0], [0.6, 0.8]])
    found = compositional(signals, texts, [[0, 1]], replicates=0).metrics
    # S = [[1, .6], [.8, .96]]: both directions right; then with the second caption far away
    assert (found["text_score"], found["audio_score"]) == (1, 1)
    away = np.array([[1.0, 0.0], [-0.6, 0.8]])  # S = [[1, -.6], [.8, 0]]
    found = compositional(signals, away, [[0, 1]], replicates=0).metrics
    assert (found["text_score"], found["audio_score"], found["group_score"]) == (0, 1, 0)
    assert (found["text_comparison_accuracy"], found["audio_comparison_accuracy"]) == (0.5, 1)
    assert found["mean_margin"] == pytest.approx(0.5 - 0.1)
    # Roles exchanged, so are the scores.
    found = compositional(away, signals, [[0, 1]], replicates=0).metrics
    assert (found["text_score"], found["audio_score"], found["group_score"]) == (1, 0, 0)


@pytest.mark.parametrize("n", [2, 3])
def test_chance_is_what_counting_gives(n: int) -> None:
    """All orders of the n^2 scores are equally likely: some of them are drawn for n = 3."""
    rng = np.random.default_rng(n)
    if n == 2:
        tables = np.array(list(itertools.permutations(range(4)))).reshape(-1, 2, 2)
    else:
        tables = rng.random((200_000, 3, 3))
    own, others = np.diagonal(tables, axis1=1, axis2=2), ~np.eye(n, dtype=bool)
    f = ((own[:, :, None] > tables) | ~others).all(axis=(1, 2))
    g = ((own[:, None, :] > tables) | ~others).all(axis=(1, 2))
    expected = chance([n])
    for hits, key in ((f, "text"), (g, "audio"), (f & g, "group")):
        error = 0 if n == 2 else 3 * math.sqrt(expected[key] / len(tables))
        assert abs(hits.mean() - expected[key]) <= error + 1e-12


def test_chance_of_the_published_mix() -> None:
    mix = chance([2] * 300 + [3] * 100)
    assert (round(100 * mix["text"], 2), round(100 * mix["group"], 2)) == (19.68, 12.92)
    assert mix["audio"] == mix["text"]
    assert chance([2]) == pytest.approx({"text": 1 / 4, "audio": 1 / 4, "group": 1 / 6})
    assert chance([3]) == pytest.approx({"text": 1 / 27, "audio": 1 / 27, "group": 1 / 60})


@pytest.mark.parametrize("sizes", [[2] * 4_000, [3] * 4_000, [2] * 3_000 + [3] * 1_000])
def test_a_random_model_scores_chance(sizes: list[int]) -> None:
    """Random embeddings whose scores are nearly independent: wide, so that no row is special."""
    rng = np.random.default_rng(len(set(sizes)))
    signals, texts = rng.normal(size=(2, sum(sizes), 256)).astype(np.float32)
    found = compositional(signals, texts, consecutive(sizes), mode="full", replicates=0).metrics
    for key in SCORES:
        expected = found[key.replace("score", "chance")]
        assert abs(found[key] - expected) < 3 * math.sqrt(expected * (1 - expected) / len(sizes))
    for key in ("text_comparison_accuracy", "audio_comparison_accuracy"):
        assert found[key] == pytest.approx(0.5, abs=0.02)
    assert found["mean_margin"] == pytest.approx(0, abs=0.01)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    signals, texts = rng.normal(size=(2, 50, 8))
    items = consecutive([2, 3] * 10)
    whole = compositional(signals, texts, items, mode="full", replicates=0)
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 60)
    parts = compositional(signals, texts, items, mode="full", replicates=0)
    assert whole.metrics == parts.metrics
    for key in SCORES:
        np.testing.assert_array_equal(whole.hits[key], parts.hits[key])
        assert whole.hits[key].mean() == whole.metrics[key]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["recording", "caption"])
def test_not_a_number_names_its_item(value: float, side: str) -> None:
    rows = {"recording": np.eye(7), "caption": np.eye(7)}
    rows[side][6, 2] = value  # the third member of the second item, which pairs do not look at
    items, names = consecutive([2, 3, 2])[:2], ["line 1", "line 4"]
    rows[side] = np.roll(rows[side], -2, axis=0)
    with pytest.raises(UserError, match=rf"^item 1 contains NaN or infinity .* of a {side} \(1 of"):
        compositional(rows["recording"], rows["caption"], items)
    with pytest.raises(ValueError, match=r"^line 4 contains NaN"):
        compositional(rows["recording"], rows["caption"], items, names=names)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "no items"),
        ([[0, 1], [2]], "item 1 has fewer than two members"),
        ([[0, 1], []], "item 1 has fewer than two members"),
        ([[0, 4]], "item 0 names a row outside the 4 recordings"),
        ([[0, -1]], "item 0 names a row outside"),
        ([[0, 1], [2, 3, 2], [1, 1]], "item 1 .and 1 more items. names a row twice"),
    ],
)
def test_bad_items(items, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compositional(np.eye(4), np.eye(4), items)


def test_forms_of_embeddings() -> None:
    """Half precision of a model, with its gradient, and a file that cannot be written to."""
    rows = np.random.default_rng(4).integers(-3, 4, size=(6, 5)).astype(np.float32)
    locked = rows.copy()
    locked.flags.writeable = False
    half = torch.tensor(rows, dtype=torch.bfloat16, requires_grad=True)
    items = [[0, 1, 2], [3, 4, 5]]
    expected = compositional(rows, rows[::-1], items, mode="full").metrics
    for one in (locked, half, torch.tensor(rows)):
        found = compositional(one, rows[::-1], items, mode="full").metrics
        assert found == expected
        assert {type(value) for value in found.values()} == {float}


def test_bad_sides() -> None:
    with pytest.raises(UserError, match="embedding dimensions"):
        compositional(np.eye(4), np.eye(4)[:, :3], [[0, 1]])
    with pytest.raises(UserError, match="4 recordings but 3 captions"):
        compositional(np.eye(4), np.eye(4)[:3], [[0, 1]])
    with pytest.raises(UserError, match="mode='triplets' is unknown; valid: pairs, full"):
        compositional(np.eye(4), np.eye(4), [[0, 1]], mode="triplets")  # type: ignore[arg-type]


def test_equal_runs_are_equal() -> None:
    rng = np.random.default_rng(2)
    signals, texts = rng.normal(size=(2, 250, 8))
    items = consecutive([2, 3] * 50)
    runs = [compositional(signals, texts, items, mode="full") for _ in range(2)]
    assert runs[0].intervals == runs[1].intervals
    assert set(runs[0].intervals) == set(SCORES)
    other = compositional(signals, texts, items, mode="full", seed=1)
    assert other.metrics == runs[0].metrics
    assert other.intervals != runs[0].intervals


def test_two_models_on_the_same_items() -> None:
    rng = np.random.default_rng(3)
    items = consecutive([2, 3] * 40)
    texts = rng.normal(size=(200, 16))
    better = compositional(texts + rng.normal(size=texts.shape), texts, items, mode="full")
    worse = compositional(texts + 3 * rng.normal(size=texts.shape), texts, items, mode="full")
    values, intervals = compare(better, worse)
    for key in SCORES:
        assert values[key] == pytest.approx(better.metrics[key] - worse.metrics[key])
        assert 0 < intervals[key][0] < values[key] < intervals[key][1]
    with pytest.raises(UserError, match="80 items, mode full, the other on 80, mode pairs"):
        compare(better, compositional(texts, texts, items))


def test_companions() -> None:
    """Two orthogonal directions, equally often: rank 2; the angle is that of the means."""
    texts = np.tile(np.eye(3)[:2], (5, 1))
    signals = np.tile([[0.0, 0.0, 1.0]], (10, 1))
    assert companions(signals, texts) == pytest.approx({"text_rank_me": 2, "centroid_angle": 90})
    for degrees in (0.0, 1e-6, 30, 179.999999, 180):
        turned = [[math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]]
        assert centroid_angle(np.array([[2.0, 0.0]]), np.array(turned)) == pytest.approx(
            degrees, abs=1e-9
        )
    assert math.isnan(centroid_angle(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.eye(2)))
