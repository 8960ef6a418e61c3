"""The pool of captions: order, protocols, and what is counted or refused."""

from __future__ import annotations

import pytest

from multimodal.errors import UserError
from multimodal.evaluation.captions import caption_pool

TEXTS = ["rain", "it rains", "a dog", "rain", "a dog", "a dog", "wind", "wind"]
SIGNALS = ["a.wav", "a.wav", "b.wav", "c.wav", "b.wav", "a.wav", "c.wav", "c.wav"]


def test_captions_keep_their_order_and_their_owner() -> None:
    pool = caption_pool(TEXTS, SIGNALS)
    assert pool.texts == tuple(TEXTS)
    assert pool.signals == ("a.wav", "b.wav", "c.wav")
    assert pool.rows.tolist() == [0, 2, 3]
    assert pool.owner.tolist() == [0, 0, 1, 2, 1, 0, 2, 2]
    assert pool.metrics == {
        "num_signals": 3,
        "num_captions": 8,
        "num_empty_captions": 0,
        "num_signals_dropped": 0,
        "num_duplicate_captions": 2,  # the dog of b and the wind of c
        "num_shared_captions": 5,  # rain of a and c, the dog of a and twice of b
    }


def test_one_caption_a_signal() -> None:
    pool = caption_pool(TEXTS, SIGNALS, captions="first")
    assert pool.texts == ("rain", "a dog", "rain")
    assert pool.owner.tolist() == [0, 1, 2]


def test_empty_captions_are_an_error_or_counted() -> None:
    texts = ["", "rain", " \n", "a dog"]
    signals = ["a", "a", "b", "c"]
    with pytest.raises(UserError, match=r"2 of 4 captions are empty: of 'a', 'b'; .*drop_empty"):
        caption_pool(texts, signals)
    for captions in ("all", "first"):
        pool = caption_pool(texts, signals, captions=captions, drop_empty=True)
        assert pool.texts == ("rain", "a dog")
        assert pool.signals == ("a", "c")
        assert pool.rows.tolist() == [1, 3]
        assert pool.owner.tolist() == [0, 1]
        assert pool.metrics["num_empty_captions"] == 2
        assert pool.metrics["num_signals_dropped"] == 1


def test_nothing_to_search_and_other_lengths_are_refused() -> None:
    with pytest.raises(UserError, match="no captions to search"):
        caption_pool(["", ""], ["a", "b"], drop_empty=True)
    with pytest.raises(UserError, match="2 captions but 1 names"):
        caption_pool(["x", "y"], ["a"])
