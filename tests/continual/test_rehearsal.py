"""Memories against sequential, exact-probability and brute-force oracles."""

from __future__ import annotations

import io
import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from continual import rehearsal
from continual.herding import herding_order
from continual.rehearsal import MEMORIES, make_memory
from multimodal.errors import UserError
from tests.continual.memories import FEATURES, assert_same_state, chi_square_p, offer

P_VALUE = 1e-4
every_policy = pytest.mark.parametrize("policy", sorted(MEMORIES))
online_policy = pytest.mark.parametrize("policy", ["class_balanced", "reservoir"])
streams = st.lists(st.lists(st.integers(0, 4), max_size=25), min_size=1, max_size=6)


def numbered(batches):
    """Batches of labels -> batches of (indices, labels) with a running index."""
    count = itertools.count()
    return [([next(count) for _ in labels], labels) for labels in batches]


@every_policy
@settings(max_examples=40, deadline=None)
@given(batches=streams, capacity=st.integers(5, 20), n=st.integers(0, 30))
def test_contract(policy, batches, capacity, n):
    memory = make_memory(policy, capacity, 3)
    label_of = {}
    for indices, labels in numbered(batches):
        offer(memory, indices, labels)
        label_of.update(zip(indices, labels, strict=True))
        held = memory.indices.tolist()
        assert len(set(held)) == len(held) == len(memory) <= capacity
        assert memory.labels.tolist() == [label_of[i] for i in held]
        if policy != "herding":
            assert len(memory) == min(capacity, len(label_of))
        for copy in (memory.indices, memory.labels, memory.state_dict()["indices"]):
            copy.fill_(-1)
        drawn = memory.sample(n)
        assert drawn.dtype == memory.indices.dtype == memory.labels.dtype == torch.int64
        assert len(set(drawn.tolist()) & set(held)) == len(drawn) == min(n, len(memory))


@every_policy
@settings(max_examples=25, deadline=None)
@given(batches=streams, seed=st.integers(0, 2**40), cut=st.integers(0, 6))
def test_resumed_equals_uninterrupted(policy, batches, seed, cut):
    memory, resumed = make_memory(policy, 8, seed), make_memory(policy, 8, seed + 1)
    stream = numbered([*batches, [0, 3] * 30])
    for indices, labels in stream[:cut]:
        offer(memory, indices, labels)
        memory.sample(3)
    torch.save(memory.state_dict(), file := io.BytesIO())
    offer(resumed, [400, 401, 402], [7, 8, 8])
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for indices, labels in stream[cut:]:
        offer(memory, indices, labels)
        offer(resumed, indices, labels)
        assert torch.equal(memory.sample(5), resumed.sample(5))
        assert_same_state(memory.state_dict(), resumed.state_dict())


@online_policy
@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 4), max_size=80), cuts=st.lists(st.integers(0, 80)))
def test_batches_equal_single_items(policy, labels, cuts):
    """However the stream is cut into batches, the memory is the same, bit for bit."""
    batched, single = make_memory(policy, 9, 1), make_memory(policy, 9, 1)
    for a, b in itertools.pairwise(sorted({0, *(c for c in cuts if c < len(labels)), len(labels)})):
        offer(batched, range(a, b), labels[a:b])
        for i in range(a, b):
            offer(single, [i], labels[i : i + 1])
    assert_same_state(batched.state_dict(), single.state_dict())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10), st.integers(0, 1000), st.lists(st.integers(0, 40), max_size=5))
def test_reservoir_equals_sequential_algorithm(capacity, seed, sizes):
    memory = rehearsal.ReservoirMemory(capacity, seed)
    generator = torch.Generator().manual_seed(seed)
    slots, seen = [], 0
    for size in sizes:
        batch = range(seen, seen + size)
        offer(memory, batch, [i % 3 for i in batch])
        for item in batch:
            seen += 1
            if len(slots) < capacity:
                slots.append(item)
                continue
            u = torch.rand((), dtype=torch.float64, generator=generator).item()
            if (j := math.floor(Fraction(u) * seen)) < capacity:
                slots[j] = item
        assert (memory.indices.tolist(), memory.seen) == (slots, seen)


def test_reservoir_keeps_every_item_equally_often():
    """Inclusion counts over seeds; the filling batch is larger than the memory."""
    items, capacity, seeds = 60, 12, 3000
    counts = np.zeros(items)
    for seed in range(seeds):
        memory = rehearsal.ReservoirMemory(capacity, seed)
        for batch in (range(20), range(20, 27), range(27, items)):
            offer(memory, batch, [0] * len(batch))
        counts[memory.indices.numpy()] += 1
    p = capacity / items
    # Draws of a fixed size are negatively correlated: covariance p(1-p) N/(N-1) (I - 1/N).
    statistic = ((counts - seeds * p) ** 2).sum() / (seeds * p * (1 - p) * items / (items - 1))
    assert P_VALUE < chi2.sf(statistic, items - 1) < 1 - P_VALUE


@settings(max_examples=80, deadline=None)
@given(st.tuples(*[st.integers(1, 12)] * 2), st.integers(0, 14), st.integers(0, 999), st.booleans())
def test_herding_order_is_the_greedy_choice(shape, count, seed, small):
    """Every pick is at the brute-force minimum; small integers make ties, where the first wins."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(-1, 2, shape).astype(float) if small else rng.normal(size=shape)
    order = herding_order(torch.from_numpy(raw), count).tolist()
    assert len(order) == len(set(order)) == min(count, len(raw))
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    phi = raw / np.where(norms == 0, 1, norms)
    for k, pick in enumerate(order):
        left = sorted(set(range(len(raw))) - set(order[:k]))
        far = [((phi.mean(0) - phi[[*order[:k], i]].mean(0)) ** 2).sum() for i in left]
        assert pick == left[int(np.flatnonzero(far <= min(far) + 1e-13)[0])]
    assert herding_order(torch.from_numpy(raw), count // 2).tolist() == order[: count // 2]


def test_herding_lists_are_prefixes_of_earlier_lists():
    memory = rehearsal.HerdingMemory(20, 0)
    earlier: dict[int, list[int]] = {}
    for experience, size in enumerate((30, 40, 12)):
        indices, classes = torch.arange(size) + 100 * experience, 2 * experience + 2
        labels = torch.arange(size) % 2 + 2 * experience
        offer(memory, indices, labels)
        for label in range(classes):
            own = indices[labels == label]
            ranked = own[herding_order(FEATURES[own], 20)].tolist()
            expected = earlier.setdefault(label, ranked)[: 20 // classes]
            assert memory.indices[memory.labels == label].tolist() == expected
    with pytest.raises(UserError, match="memory capacity 20: herding 21 classes needs at least 21"):
        offer(memory, range(300, 315), range(6, 21))
    assert len(memory) == 18


def test_sample_is_uniform():
    """All ordered pairs of 5 held items are equally likely."""
    memory = rehearsal.ReservoirMemory(5, 0)
    offer(memory, [3, 1, 4, 15, 9], [0] * 5)
    observed = Counter(tuple(memory.sample(2).tolist()) for _ in range(3000))
    pairs = itertools.permutations([3, 1, 4, 15, 9], 2)
    assert chi_square_p(observed, dict.fromkeys(pairs, 1 / 20)) > P_VALUE
    with pytest.raises(ValueError, match="cannot sample -1"):
        memory.sample(-1)


@every_policy
def test_own_generator_only(policy):
    draws = []
    for global_seed, seed in ((1, 5), (2, 5), (1, 6)):
        before = torch.manual_seed(global_seed).get_state()
        offer(memory := make_memory(policy, 10, seed), range(60), [0, 1, 2] * 20)
        draws.append(memory.sample(10).tolist())
        assert torch.equal(torch.get_rng_state(), before)
    assert draws[0] == draws[1] != draws[2]


def test_make_memory():
    for policy in ("reservoir", "class_balanced", "herding"):
        assert make_memory(policy, 4, 0).needs_features == (policy == "herding")
    with pytest.raises(UserError, match="unknown memory policy 'resevoir'; did you mean 'reserv"):
        make_memory("resevoir", 4, 0)
    with pytest.raises(UserError, match="memory capacity 0: must be at least 1"):
        make_memory("reservoir", 0, 0)


BAD_UPDATES: list[Any] = [
    (([0, 1], [0]), "2 indices but 1 labels"),
    (([0.5, 1.0], [0, 1]), "indices must be a vector of integers"),
    (([0, 1], torch.zeros(2, 3)), "labels must be a vector of integers"),
    (([0, -3], [0, 1]), "indices contain -3"),
    (([0, 1], [0, 1]), r"needs features \(2, D\), got None"),
    (([0, 1], [0, 1], torch.zeros(3, 5)), r"needs features \(2, D\), got \(3, 5\)"),
    (([0, 1], [0, 1], torch.tensor([[0.0], [math.nan]])), "NaN or infinity"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_UPDATES)
def test_bad_updates(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_memory("herding", 4, 0).update(*arguments)


@every_policy
def test_refused_checkpoints(policy):
    memory = make_memory(policy, 4, 0)
    offer(memory, [7, 8], [0, 1])
    before = memory.state_dict()
    for other in sorted(MEMORIES.keys() - {policy}):
        with pytest.raises(UserError, match=f"does not fit {type(memory).__name__}"):
            memory.load_state_dict(make_memory(other, 4, 1).state_dict())
    with pytest.raises(UserError, match=r"capacity 5, .* does not fit .*\(4\)"):
        memory.load_state_dict(make_memory(policy, 5, 1).state_dict())
    assert_same_state(memory.state_dict(), before)
