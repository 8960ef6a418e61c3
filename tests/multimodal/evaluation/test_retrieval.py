"""Retrieval against brute force, the published traps, and a bound on every tensor made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.utils._python_dispatch import TorchDispatchMode

from multimodal.errors import UserError
from multimodal.evaluation.captions import CaptionPool, caption_pool
from multimodal.evaluation.embeddings import unit_rows
from multimodal.evaluation.retrieval import (
    Retrieval,
    average_precision_at_10,
    retrieval,
    retrieval_ranks,
)
from tests.multimodal.evaluation.towers import by_table, constant, hashed

GRID = st.sampled_from([-1.0, 0.0, 1.0, 2.0])  # coarse, so that there are ties


def pool_of(owner: np.ndarray) -> CaptionPool:
    """Captions "0", "1", ...; signals in the order of their first caption."""
    return caption_pool([str(c) for c in range(len(owner))], [f"s{o}" for o in owner])


def search(signals: np.ndarray, captions: np.ndarray, owner: np.ndarray, **settings) -> Retrieval:
    table = {str(c): list(vector) for c, vector in enumerate(captions)}
    pool = pool_of(owner)
    return retrieval(signals[owner[pool.rows]], pool, by_table(table), **settings)


def brute_force(
    signals: np.ndarray, captions: np.ndarray, owner: np.ndarray
) -> tuple[list[int], list[list[int]]]:
    """Pessimistic ranks by sorting: of equal scores, what is not relevant comes first."""
    scores = (unit_rows(signals) @ unit_rows(captions).T).numpy().round(9)
    of_captions = []
    for c, own in enumerate(owner):
        order = sorted(range(len(signals)), key=lambda a: (-scores[a, c], a == own))
        of_captions.append(1 + order.index(own))
    of_signals = []
    for a in range(len(signals)):
        order = sorted(range(len(owner)), key=lambda c: (-scores[a, c], owner[c] == a))
        of_signals.append([1 + place for place, c in enumerate(order) if owner[c] == a])
    return of_captions, of_signals


@st.composite
def cases(draw):
    count = draw(st.integers(1, 5))
    extra = draw(st.lists(st.integers(0, count - 1), max_size=6))
    owner = np.array(draw(st.permutations([*range(count), *extra])))
    signals = draw(arrays(np.float64, (count, 2), elements=GRID))
    captions = draw(arrays(np.float64, (len(owner), 2), elements=GRID))
    return signals, captions, owner, draw(st.integers(1, 4))


@settings(max_examples=80, deadline=None)
@given(cases())
def test_ranks_are_brute_force_for_every_block(case) -> None:
    signals, captions, owner, block = case
    found = retrieval_ranks(unit_rows(signals), unit_rows(captions), owner, block=block)
    of_captions, of_signals = brute_force(signals, captions, owner)
    assert found.text_to_signal.tolist() == of_captions
    assert [[r for r in row if r] for row in found.signal_to_text.tolist()] == of_signals


def test_metrics_are_their_definitions() -> None:
    generator = np.random.default_rng(0)
    owner = generator.permutation(np.concatenate([np.arange(40), generator.integers(40, size=90)]))
    signals = generator.normal(size=(40, 6))
    captions = signals[owner] + 1.5 * generator.normal(size=(130, 6))
    found = search(signals, captions, owner, replicates=200)
    texts, own = brute_force(signals, captions, owner)
    best = [ranks[0] for ranks in own]
    expected = {
        "median_rank": np.median(texts),
        "mean_rank": np.mean(texts),
        "map_at_10": np.mean([1 / r if r <= 10 else 0 for r in texts]),
        "signal_to_text_median_rank": np.median(best),
        "signal_to_text_mean_rank": np.mean(best),
        "signal_to_text_map_at_10": np.mean(
            [sum(i / r for i, r in enumerate(ranks, 1) if r <= 10) / len(ranks) for ranks in own]
        ),
    }
    for k in (1, 5, 10):
        expected |= {
            f"recall_at_{k}": np.mean([r <= k for r in texts]),
            f"signal_to_text_recall_at_{k}": np.mean([r <= k for r in best]),
            f"signal_to_text_true_recall_at_{k}": np.mean(
                [np.mean([r <= k for r in ranks]) for ranks in own]
            ),
        }
    for key, value in expected.items():
        assert found.metrics[key] == pytest.approx(value), key
        low, high = found.intervals[key]
        assert low <= value <= high
    assert set(found.metrics) - set(expected) == set(pool_of(owner).metrics)
    assert found.metrics["num_captions"] == 130


def test_intervals_sample_signals_with_all_their_captions() -> None:
    generator = np.random.default_rng(5)
    owner = np.repeat(np.arange(12), [1, 2, 6] * 4)
    signals, captions = generator.normal(size=(12, 3)), generator.normal(size=(36, 3))
    found = search(signals, captions, owner, replicates=300, seed=9)
    ranks = [found.ranks.text_to_signal[owner == a] for a in range(12)]
    drawn = np.random.default_rng(9).integers(12, size=(300, 12))
    for key, statistic in (
        ("recall_at_1", lambda ranks: np.mean(ranks <= 1)),
        ("median_rank", np.median),
    ):
        samples = [statistic(np.concatenate([ranks[a] for a in rows])) for rows in drawn]
        np.testing.assert_allclose(found.intervals[key], np.quantile(samples, [0.025, 0.975]))


def test_a_perfect_and_a_collapsed_model() -> None:
    names = [f"clip {i // 5}" for i in range(100)]
    texts = [f"{name}, caption {i % 5}" for i, name in enumerate(names)]
    pool = caption_pool(texts, names)
    perfect = retrieval(
        hashed(pool.signals), pool, lambda ts: hashed([t.split(",")[0] for t in ts]), replicates=0
    ).metrics
    assert perfect["recall_at_1"] == 1.0
    assert perfect["signal_to_text_recall_at_1"] == 1.0
    assert perfect["signal_to_text_map_at_10"] == 1.0
    assert perfect["signal_to_text_true_recall_at_1"] == pytest.approx(0.2)
    assert perfect["signal_to_text_true_recall_at_5"] == 1.0
    collapsed = retrieval(constant(pool.signals), pool, constant, replicates=0).metrics
    assert collapsed["recall_at_10"] == collapsed["signal_to_text_recall_at_10"] == 0.0
    assert collapsed["map_at_10"] == collapsed["signal_to_text_map_at_10"] == 0.0
    assert collapsed["median_rank"] == 20
    assert collapsed["signal_to_text_median_rank"] == 96


@pytest.mark.parametrize("width", [1, 11, 64])
def test_equal_embeddings_tie_whatever_their_place(width: int) -> None:
    # Products in blocks of other shapes round differently; ranks must not.
    point = unit_rows(np.random.default_rng(0).normal(size=(1, width)))
    owner = np.arange(101) % 53
    found = retrieval_ranks(point.repeat(53, 1), point.repeat(101, 1), owner, block=17)
    assert (found.text_to_signal == 53).all()
    own = np.bincount(owner)
    assert np.array_equal(found.signal_to_text[:, 0], 1 + 101 - own)


def test_average_precision_sorts_the_ranks() -> None:
    # Unsorted, as LAION-CLAP's evaluator has it, the first row would be 1.74.
    unsorted = sum(i / r for i, r in enumerate([5, 4, 3, 2, 1], 1)) / 5
    assert unsorted == pytest.approx(1.74, abs=0.005)
    assert average_precision_at_10([[5, 4, 3, 2, 1]]).tolist() == [1.0]
    assert average_precision_at_10([[7]])[0] == pytest.approx(1 / 7)
    assert average_precision_at_10([[11, 12], [2, 11], [4, 0]]).tolist() == [0.0, 0.25, 0.25]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True))
def test_average_precision_is_a_fraction(ranks: list[int]) -> None:
    assert 0 <= average_precision_at_10([ranks])[0] <= 1


class Largest(TorchDispatchMode):
    """Records the number of values of the largest tensor that an operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, torch.Tensor):
                self.numel = max(self.numel, part.numel())
        return result


def test_no_matrix_of_all_signals_and_captions_is_made() -> None:
    generator = np.random.default_rng(0)
    signals, captions = generator.normal(size=(120, 4)), generator.normal(size=(600, 4))
    owner = np.arange(600) % 120
    rows, texts = unit_rows(signals), unit_rows(captions)
    with Largest() as small:
        found = retrieval_ranks(rows, texts, owner, block=40)
    with Largest() as whole:
        same = retrieval_ranks(rows, texts, owner, block=1_000)
    assert small.numel <= max(40 * 40, captions.size, 120 * 5)
    assert whole.numel == 120 * 600
    assert np.array_equal(found.text_to_signal, same.text_to_signal)
    assert np.array_equal(found.signal_to_text, same.signal_to_text)


def test_bad_input_is_refused() -> None:
    pool = pool_of(np.array([0, 1]))
    broken = torch.tensor([[1.0, 0.0], [torch.nan, 0.0]])
    with pytest.raises(UserError, match=r"1 of 2 recording embeddings .*'s1'"):
        retrieval(broken, pool, lambda texts: hashed(texts, 2))
    with pytest.raises(UserError, match="1 of 2 text embeddings"):
        retrieval(torch.eye(2), pool, lambda texts: broken)
    with pytest.raises(UserError, match="3 embeddings of recordings but 2 names"):
        retrieval(torch.eye(3), pool, hashed)
    with pytest.raises(UserError, match="2 embedding dimensions and texts 8"):
        retrieval(torch.eye(2), pool, hashed)
    with pytest.raises(UserError, match="block is 0"):
        retrieval(torch.eye(8)[:2], pool, hashed, block=0)
    for owner in ([0, 0], [0, 2]):
        with pytest.raises(UserError, match="each of the 2 signals, and no other"):
            retrieval_ranks(torch.eye(2), torch.eye(2), np.array(owner))
