"""Greedy and beam search against slow searches, on real and on made-up decoders."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.models.decoding import beam_search, greedy, top
from multimodal.models.vocabulary import EOS
from tests.multimodal.models import spoken

LENGTHS = [16, 9, 12, 3]


def table(seed: int, vocabulary: int, *, scale: float = 2.0, close: float = 0.0) -> spoken.Table:
    """Random logits of every text; close: added to that of [EOS] for each token written."""

    def logits(recording: int, text: tuple[int, ...]) -> list[float]:
        rng = random.Random(f"{seed} {recording} {text}")
        drawn = [rng.gauss(0, scale) for _ in range(vocabulary)]
        drawn[EOS] += close * len(text)
        return drawn

    return spoken.Table(logits)


def following(made: spoken.Table, recording: int) -> spoken.Next:
    def logs(text: tuple[int, ...]) -> list[float]:
        return (
            torch.tensor(made.logits(recording, text), dtype=torch.float64).log_softmax(0).tolist()
        )

    return logs


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_beam_that_holds_everything_finds_the_best_of_all_texts(alpha: float) -> None:
    model = spoken.model(vocabulary=7).double().eval()
    with torch.no_grad():
        encoded = model.encode(spoken.batch(LENGTHS, dtype=torch.float64))
    found = model.beam(encoded, width=4 * 3**3, longest=3, length_penalty=alpha)
    for row in range(len(LENGTHS)):
        one = model.encode(spoken.alone(spoken.batch(LENGTHS, dtype=torch.float64), row))
        ids, score = spoken.exhaustive(spoken.without_cache(model, one), 7, 3, alpha)
        assert tuple(found.ids[row]) == ids
        assert found.scores[row].item() == pytest.approx(score, abs=1e-9)


@settings(max_examples=60)
@given(
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.6, 1.0, 3.0]),
    st.sampled_from([0.0, 1.0]),
)
def test_narrow_beams_are_those_of_the_definition(
    seed: int, width: int, longest: int, alpha: float, close: float
) -> None:
    """Several recordings at once, of which each ends when it likes; nothing is lost by stopping."""
    made = table(seed, 7, close=close)
    found = beam_search(
        made,  # type: ignore[arg-type]
        spoken.nothing(3),
        width=width,
        longest=longest,
        length_penalty=alpha,
    )
    for row in range(3):
        ids, score = spoken.slow_beam(
            following(made, row), 7, width=width, longest=longest, alpha=alpha
        )
        assert tuple(found.ids[row]) == ids
        assert found.scores[row].item() == pytest.approx(score, abs=1e-9)


def test_the_penalty_is_of_finished_texts() -> None:
    """[EOS] at once: p = 0.5. Two tokens first: 0.5 * 0.9^2 = 0.405, which wins with alpha 2."""
    shares = {(): [0.5, 0.5], (4,): [0.1, 0.9], (4, 4): [0.9, 0.1]}

    def logits(_: int, text: tuple[int, ...]) -> list[float]:
        return [-50.0] * 3 + [math.log(p) for p in shares.get(text, [0.9, 0.1])]

    def best(alpha: float) -> tuple[list[int], float]:
        found = beam_search(
            spoken.Table(logits),  # type: ignore[arg-type]
            spoken.nothing(1),
            width=2,
            longest=5,
            length_penalty=alpha,
        )
        return found.ids[0], found.scores.item()

    assert best(0.0) == ([], pytest.approx(math.log(0.5)))
    expected = math.log(0.5 * 0.9 * 0.9) / (8 / 6) ** 2
    assert best(2.0) == ([4, 4], pytest.approx(expected))


def test_a_beam_of_one_is_greedy() -> None:
    model = spoken.model().double().eval()
    with torch.no_grad():
        encoded = model.encode(spoken.batch([20, 7, 11, 5, 16], dtype=torch.float64))
    one, other = (
        model.beam(encoded, width=1, longest=9, length_penalty=0),
        model.greedy(encoded, longest=9),
    )
    assert one.ids == other.ids
    assert len({len(ids) for ids in one.ids}) > 2
    torch.testing.assert_close(one.scores, other.scores)


def test_greedy_follows_the_likeliest_token() -> None:
    model = spoken.model().double().eval()
    whole = spoken.batch(LENGTHS, dtype=torch.float64)
    with torch.no_grad():
        found = model.greedy(model.encode(whole), longest=8)
    for row, ids in enumerate(found.ids):
        logs = spoken.without_cache(model, model.encode(spoken.alone(whole, row)))
        expected: tuple[int, ...] = ()
        while len(expected) < 8:
            token = max(range(EOS, 11), key=lambda t: logs(expected)[t])
            if token == EOS:
                break
            expected += (token,)
        assert tuple(ids) == expected
        assert found.scores[row].item() == pytest.approx(spoken.total(logs, expected, 0), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_together_is_one_at_a_time(dtype: torch.dtype) -> None:
    model = spoken.model().to(dtype).eval()
    whole = spoken.batch([20, 7, 11, 5, 16], dtype=dtype)
    with torch.no_grad():
        encoded = model.encode(whole)
        found = model.beam(encoded, width=4, longest=12)
        quick = model.greedy(encoded, longest=12)
        for row in range(5):
            one = model.encode(spoken.alone(whole, row))
            single = model.beam(one, width=4, longest=12)
            assert single.ids[0] == found.ids[row]
            assert single.scores.item() == pytest.approx(found.scores[row].item(), abs=1e-5)
            assert model.greedy(one, longest=12).ids[0] == quick.ids[row]
    assert found.scores.dtype == dtype
    assert len({len(ids) for ids in found.ids}) > 2


def test_a_search_ends_when_nothing_open_can_win() -> None:
    """[EOS] has 0.99 at once, so no text of up to 50 tokens comes to it; nor is it stepped to."""

    def logits(recording: int, text: tuple[int, ...]) -> list[float]:
        return [0.0, 0.0, 0.0, 6.0 if recording == 0 or len(text) > 3 else -9.0, 0.0, 0.0]

    for count, steps in ((1, 1), (2, 6)):
        made = spoken.Table(logits)
        found = beam_search(made, spoken.nothing(count), width=3, longest=50)  # type: ignore[arg-type]
        assert found.ids[0] == []
        assert made.steps <= steps
    assert made.read == 3 * 2 + 3 * (made.steps - 1)  # the first recording is left out
    assert len(found.ids[1]) == 4


def test_a_text_ends_at_its_longest() -> None:
    def logits(_: int, text: tuple[int, ...]) -> list[float]:
        return [0.0, 0.0, 0.0, -20.0, 5.0]

    for longest in (1, 4):
        made = spoken.Table(logits)
        quick = greedy(made, spoken.nothing(2), longest=longest)  # type: ignore[arg-type]
        found = beam_search(made, spoken.nothing(2), width=2, longest=longest, length_penalty=0)  # type: ignore[arg-type]
        assert quick.ids == [[4] * longest] * 2
        assert quick.scores.tolist() == pytest.approx([-25 - longest * 0.02] * 2, abs=0.2)
        assert found.scores[0] >= quick.scores[0]


def test_ties_go_to_the_earlier_and_lower() -> None:
    even = spoken.Table(lambda *_: [0.0] * 9)
    found = beam_search(even, spoken.nothing(2), width=3, longest=4, length_penalty=0)  # type: ignore[arg-type]
    assert found.ids == [[], []]

    def late(_: int, text: tuple[int, ...]) -> list[float]:
        return [0.0, 0.0, 0.0, 9.0 if len(text) == 2 else -99.0, 0.0, 0.0, 0.0]

    found = beam_search(spoken.Table(late), spoken.nothing(1), width=2, longest=4)  # type: ignore[arg-type]
    assert found.ids == [[4, 4]]


@given(st.lists(st.lists(st.integers(-3, 3), min_size=6, max_size=6), min_size=1, max_size=4))
def test_top_is_a_stable_sort(rows: list[list[int]]) -> None:
    scores = torch.tensor(rows, dtype=torch.float32)
    scores[scores == -3] = float("-inf")
    for count in range(1, 7):
        values, places = top(scores, count)
        for row, found, places_found in zip(scores.tolist(), values, places, strict=True):
            order = sorted(range(6), key=lambda i: -row[i])[:count]
            assert found.tolist() == [row[i] for i in order]
            finite = sum(v > float("-inf") for v in found.tolist())
            assert places_found.tolist()[:finite] == order[:finite]


def test_decoding_is_without_dropout_and_leaves_the_mode() -> None:
    model = spoken.model(dropout=0.5)
    with torch.no_grad():
        encoded = model.eval().encode(spoken.batch(LENGTHS))
    model.train()
    assert model.greedy(encoded, longest=6).ids == model.greedy(encoded, longest=6).ids
    first = model.beam(encoded, width=3, longest=6)
    assert torch.equal(first.scores, model.beam(encoded, width=3, longest=6).scores)
    assert model.decoder.training
    assert not first.scores.requires_grad
