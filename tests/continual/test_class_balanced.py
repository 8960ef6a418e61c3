"""Class-balancing reservoir sampling against its algorithm, and memories over domains."""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from continual import rehearsal
from continual.herding import herding_order
from continual.rehearsal import MEMORIES, make_memory
from tests.continual.memories import FEATURES, assert_same_state, chi_square_p, offer

P_VALUE = 1e-4


class Steps:
    """Algorithm 1 of the paper, word by word, with its set of full classes: all that may happen."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.seen: Counter = Counter()

    def after(self, slots, full, item, label, labels):
        """(memory, full classes, probability) of every outcome; ``seen`` counts the item."""
        if len(slots) < self.capacity:
            yield (*slots, item), self._full((*slots, item), full, labels), Fraction(1)
            return
        held = Counter(labels[i] for i in slots)
        if label not in full:
            losers = [i for i in slots if held[labels[i]] == max(held.values())]
            taken = Fraction(1)
        else:
            losers = [i for i in slots if labels[i] == label]
            taken = Fraction(held[label], self.seen[label])
            if taken < 1:
                yield slots, full, 1 - taken
        for loser in losers:
            new = tuple(item if i == loser else i for i in slots)
            yield new, self._full(new, full, labels), taken / len(losers)

    def _full(self, slots, full, labels):
        if len(slots) < self.capacity:
            return full
        held = Counter(labels[i] for i in slots)
        return full | {c for c in held if held[c] == max(held.values())}


# Own class alone at the top, then ties; more classes than places; three classes; longer ones.
CASES = [(3, "AABAB"), (3, "ABCDD"), (2, "ABBA"), (4, "AABBC"), (3, "AAABAB"), (4, "AAAABCBB")]


@pytest.mark.parametrize(("capacity", "labels"), CASES)
def test_it_has_the_exact_distribution(capacity, labels):
    steps, exact = Steps(capacity), {((), frozenset()): Fraction(1)}
    for item, label in enumerate(labels):
        steps.seen[label] += 1
        before, exact = exact, defaultdict(Fraction)
        for (slots, full), p in before.items():
            for new, now, q in steps.after(slots, full, item, label, labels):
                exact[new, now] += p * q
    memories: defaultdict = defaultdict(Fraction)
    for (slots, _), p in exact.items():
        memories[slots] += p
    observed: Counter = Counter()
    for seed in range(1500):
        memory = rehearsal.ClassBalancedMemory(capacity, seed)
        offer(memory, range(len(labels)), map(ord, labels))
        observed[tuple(memory.indices.tolist())] += 1
    likely = {k: p for k, p in memories.items() if p}
    assert sum(likely.values()) == 1
    assert chi_square_p(observed, likely) > P_VALUE


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=100), st.integers(1, 15), st.integers(0, 99))
def test_every_step_is_one_of_the_algorithm_and_balances(labels, capacity, seed):
    memory = rehearsal.ClassBalancedMemory(capacity, seed)
    steps, full = Steps(capacity), frozenset()
    for item, label in enumerate(labels):
        before = tuple(memory.indices.tolist())
        steps.seen[label] += 1
        offer(memory, [item], [label])
        legal = {new: now for new, now, _ in steps.after(before, full, item, label, labels)}
        after = tuple(memory.indices.tolist())
        assert after in legal
        full = legal[after]
        held = Counter(memory.labels.tolist())
        for c in steps.seen:
            assert held[c] == steps.seen[c] or held[c] >= max(held.values()) - 1


def test_counts_differ_by_at_most_one():
    labels = np.repeat(np.arange(7), [40, 15, 300, 22, 15, 90, 60])
    for stream in (labels, labels[::-1], np.random.default_rng(0).permutation(labels)):
        memory = rehearsal.ClassBalancedMemory(100, 0)
        memory.update(np.arange(len(stream)), stream)
        assert sorted(torch.bincount(memory.labels).tolist()) == [14] * 5 + [15] * 2


def in_order(order: str, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    if order == "class by class":
        return np.lexsort((groups, labels))
    if order == "mixed within a domain":
        return np.lexsort((rng.random(len(labels)), groups))
    rows = np.lexsort((labels, groups))
    return rows[np.sort(rng.permutation(240)[:150])] if order == "some left out" else rows


@pytest.mark.parametrize(
    "order", ["domain by domain", "mixed within a domain", "class by class", "some left out"]
)
def test_what_is_held_of_a_class_is_a_uniform_draw_of_it(order):
    """Inclusion of every item over seeds, given how many of its class are held."""
    classes, domains, each, seeds = 4, 6, 10, 300
    labels, groups, _ = (x.ravel() for x in np.indices((classes, domains, each)))
    rows = in_order(order, labels, groups)
    counts, variance, expected = np.zeros((3, len(labels)))
    for seed in range(seeds):
        memory = rehearsal.ClassBalancedMemory(40, seed)
        for part in np.array_split(rows, 13):
            memory.update(part, labels[part])
        counts[memory.indices.numpy()] += 1
        for c in range(classes):
            own = rows[labels[rows] == c]
            p = (memory.labels == c).sum().item() / len(own)
            expected[own] += p
            variance[own] += p * (1 - p)
    # Items of a class are drawn a fixed number at a time: negatively correlated, n/(n-1).
    statistic, freedom = 0.0, 0
    for c in range(classes):
        own = rows[labels[rows] == c]
        share = (counts[own] - expected[own]) ** 2 / variance[own]
        statistic, freedom = statistic + share.sum() * (len(own) - 1) / len(own), freedom + len(own)
    assert P_VALUE < chi2.sf(statistic, freedom - classes) < 1 - P_VALUE


def by_speaker(policy: str, seed: int) -> list[int]:
    """Held of each of six speakers with 45 takes of ten digits, one after another, 200 places."""
    memory = make_memory(policy, 200, seed)
    for speaker in range(6):
        rows = np.random.default_rng([seed, speaker]).permutation(450) + 450 * speaker
        features = FEATURES[rows % len(FEATURES)] if memory.needs_features else None
        memory.update(rows, rows % 10, features)
    return np.bincount(memory.indices.numpy() // 450, minlength=6).tolist()


@pytest.mark.parametrize("policy", sorted(MEMORIES))
def test_every_policy_keeps_every_domain(policy):
    held = np.array([by_speaker(policy, seed) for seed in range(12)])
    assert held.sum(1).tolist() == [200] * 12
    assert held.mean(0) == pytest.approx(200 / 6, abs=7 if policy == "herding" else 3.5)
    assert held.min() >= 15


def test_herding_shares_its_places_between_old_and_new_of_a_class():
    memory = rehearsal.HerdingMemory(8, 0)
    offer(memory, [0, 1, 2], [5, 5, 5])
    first = memory.indices.tolist()
    offer(memory, range(10, 16), [5, 5, 5, 1, 1, 1])
    new = (10 + herding_order(FEATURES[10:13], 2)).tolist()
    assert memory.indices.tolist()[:4] == [first[0], new[0], first[1], new[1]]
    assert memory.labels.tolist() == [5, 5, 5, 5, 1, 1, 1]
    offer(memory, range(20, 22), [5, 5])  # 2 of 8 seen: one of four places
    assert memory.indices.tolist()[:4].count(20) + memory.indices.tolist()[:4].count(21) == 1


@pytest.mark.parametrize("policy", ["class_balanced", "herding"])
@pytest.mark.parametrize("full", [False, True])
def test_a_state_of_an_earlier_version_goes_on(policy, full):
    memory, again = make_memory(policy, 12, 0), make_memory(policy, 12, 1)
    offer(memory, range(12 if full else 10), [0, 1, 2, 1] * 3 if full else [0, 1] * 5)
    if full and policy == "herding":
        memory = make_memory(policy, 12, 0)
        offer(memory, range(12), [0, 1, 2] * 4)
    state = memory.state_dict()
    old = {key: value for key, value in state.items() if key != "seen_by_class"}
    if full:
        with pytest.warns(UserWarning, match="an earlier version began"):
            again.load_state_dict(old)
    else:
        again.load_state_dict(old)
    assert_same_state(memory.state_dict(), again.state_dict())
    offer(memory, range(12, 60), [0, 1, 2] * 16)
    offer(again, range(12, 60), [0, 1, 2] * 16)
    assert_same_state(memory.state_dict(), again.state_dict())
