"""The vocabulary of spoken targets: exact round trips, fixed size, state, BPE-dropout."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from multimodal.errors import UserError
from multimodal.models.bpe_dropout import merge_words
from multimodal.models.byte_pairs import LETTERS, BytePairs
from multimodal.models.targets import write_target
from multimodal.models.vocabulary import EOS, INTENTS, PAD, SOS, UNK, Vocabulary

INTENTS_OF = ("email_sendemail", "activate lights", "yes", "a", "café")
TARGETS = [
    write_target("email_sendemail", [("person", "charlotte")], "reply email to charlotte"),
    write_target("activate lights", [], "turn the lights on in the kitchen"),
    write_target("yes", [("time", "five o'clock")], "yes at five o'clock"),
]


def vocabulary(merges: int = 40, *, learned: bool = True) -> Vocabulary:
    made = Vocabulary(INTENTS_OF, merges=merges)
    if learned:
        made.learn(TARGETS)
    return made


LEARNED = vocabulary()
PIECES = st.sampled_from([" _SEP", " _FILL", "_SEP", " ", "yes", "a", "café", " person", "[EOS]"])
TEXTS = st.text() | st.lists(PIECES | st.text(max_size=3)).map("".join)


@given(TEXTS)
def test_any_text_comes_back_and_nothing_is_unknown(text: str) -> None:
    for each in (LEARNED, BARE):
        ids = each.encode(text)
        assert each.decode([*ids, EOS, 17]) == text
        assert not {PAD, UNK, SOS, EOS} & set(ids)
        assert all(0 <= token < each.size for token in ids)


BARE = vocabulary(learned=False)


def test_markers_and_the_leading_intent_are_whole_tokens() -> None:
    assert LEARNED.encode(TARGETS[0])[:2] == [INTENTS, 4]
    assert LEARNED.encode("yes _SEP") == [INTENTS + 2, 4]
    assert LEARNED.encode("yes") == [INTENTS + 2]
    assert LEARNED.encode(TARGETS[2]).count(INTENTS + 2) == 1  # the spoken "yes" is a word
    assert LEARNED.encode(TARGETS[0]).count(5) == 1
    assert LEARNED.encode("") == []
    assert LEARNED.encode("yes, _SEP no")[0] != INTENTS + 2


def test_size_is_known_before_any_text() -> None:
    assert BARE.size == LEARNED.size == 4 + 2 + len(INTENTS_OF) + 256 + 40
    few = Vocabulary(["x"], merges=500)
    assert few.learn(["ab ab ab"]) < 5
    assert few.size == 6 + 1 + 256 + 500
    assert few.learn([]) == 0
    assert LEARNED.learn(TARGETS) == 40


def test_pieces_depend_on_the_texts_alone() -> None:
    again = vocabulary()
    assert torch.equal(again.state(), LEARNED.state())
    shuffled = Vocabulary(INTENTS_OF, merges=40)
    shuffled.learn(random.Random(1).sample(TARGETS, len(TARGETS)))
    assert torch.equal(shuffled.state(), LEARNED.state())


def test_nothing_is_learned_of_intents_and_markers() -> None:
    made = Vocabulary(["qqqq"], merges=50)
    made.learn(["qqqq _SEP zz _FILL xx _SEP zz xx"] * 5)
    assert made.encode("qqqq zz")[:4] == [made.bytes_from + ord("q")] * 4
    assert [len(made.encode(text)) for text in ("_SEP", "_FILL", "zz xx")] == [4, 5, 2]


def test_learned_pieces_shorten_the_texts() -> None:
    long, short = (v.encode_batch(TARGETS)[1] for v in (BARE, LEARNED))
    assert (short < 0.7 * long).all()


@given(st.lists(TEXTS, max_size=4))
def test_a_batch_is_its_texts(texts: list[str]) -> None:
    ids, lengths = LEARNED.encode_batch(texts)
    rows = [LEARNED.encode(text) for text in texts]
    assert lengths.tolist() == [len(row) for row in rows]
    assert ids.dtype == lengths.dtype == torch.int64
    longest = max(lengths.tolist(), default=0)
    assert ids.tolist() == [row + [PAD] * (longest - len(row)) for row in rows]


def test_decoding_stops_skips_and_survives() -> None:
    ids = torch.tensor([SOS, INTENTS, 4, LEARNED.bytes_from + 0xC3, EOS, INTENTS])
    assert LEARNED.decode(ids) == "email_sendemail _SEP\N{REPLACEMENT CHARACTER}"
    assert LEARNED.decode([PAD, UNK]) == ""
    assert BARE.decode([BARE.size - 1]) == ""  # a row that is not used


def test_check_texts_counts() -> None:
    found = LEARNED.check_texts([*TARGETS, "yes _SEP", "", " "], 8)
    long = [len(LEARNED.encode(text)) for text in TARGETS]
    assert found == (6, 3, sum(n > 8 for n in long), max(long))
    assert LEARNED.check_texts([], 8) == (0, 0, 0, 0)


def test_state_comes_back_and_always_has_one_length() -> None:
    state = LEARNED.state()
    assert state.dtype == torch.uint8
    assert state.shape == BARE.state().shape
    assert json.loads(bytes(state.tolist()))["size"] == LEARNED.size
    other = vocabulary(learned=False)
    other.load(state)
    assert [other.encode(t) for t in TARGETS] == [LEARNED.encode(t) for t in TARGETS]
    assert torch.equal(other.state(), state)


def test_a_full_state_has_that_length_too() -> None:
    long = "".join(map(chr, np.random.default_rng(0).integers(97, 123, size=30_000)))
    full = Vocabulary(INTENTS_OF, merges=2000)
    assert full.learn([long[i : i + 7] for i in range(0, len(long), 7)]) == 2000
    assert full.state().shape == Vocabulary(INTENTS_OF, merges=2000).state().shape


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Vocabulary(INTENTS_OF, merges=41), r"5 intents and 307 tokens.*5 intents and 308 tokens"),
        (Vocabulary(["no", *INTENTS_OF[1:]], merges=40), "differ: 'email_sendemail' and 'no'"),
        (Vocabulary(INTENTS_OF[:3], merges=42), "5 intents and 307 tokens.*3 intents"),
    ],
)
def test_a_state_of_another_vocabulary_is_refused(other: Vocabulary, words: str) -> None:
    with pytest.raises(UserError, match=words):
        other.load(LEARNED.state())


@pytest.mark.parametrize(
    "words",
    [
        "{}",
        "[",
        "[]",
        '{"intents": ["x"], "size": 265, "pairs": [[7]]}',
        '{"intents": ["x"], "size": 265, "pairs": [[7, 999]]}',
        '{"intents": ["x"], "size": 265, "pairs": [[7, 8], [7, 9], [7, 10]]}',
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(words: str) -> None:
    made = Vocabulary(["x"], merges=2)
    with pytest.raises(UserError, match="damaged"):
        made.load(torch.tensor(list(words.encode()), dtype=torch.uint8))
    assert made.decode(made.encode("ab")) == "ab"


@pytest.mark.parametrize(
    ("intents", "words"),
    [(["x", "x"], "'x': is named twice"), ([""], "is empty"), (["a _SEP b"], "holds _SEP")],
)
def test_intents_that_are_refused(intents: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Vocabulary(intents, merges=1)


def test_the_letters_of_bytes_are_the_librarys() -> None:
    assert sorted(LETTERS) == sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = BytePairs(0).tokenizer({})
    text = "".join(map(chr, range(1, 0x3000, 7)))
    assert bytes(tokenizer.encode(text).ids) == text.encode()


@given(st.lists(TEXTS, max_size=4))
def test_without_a_draw_our_merges_are_the_librarys(texts: list[str]) -> None:
    """merge_words, which BPE-dropout uses, against the tokenizers library."""
    ids, lengths = LEARNED.encode_batch(texts, dropout=1e-12)
    expected, same = LEARNED.encode_batch(texts)
    assert torch.equal(lengths, same)
    assert torch.equal(ids, expected)


@given(st.lists(TEXTS, max_size=3), st.sampled_from([0.1, 0.5, 0.999]), st.integers(0, 9))
def test_dropped_merges_spell_the_same(texts: list[str], dropout: float, seed: int) -> None:
    def drawn() -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return LEARNED.encode_batch(texts, dropout=dropout, generator=generator)

    ids, _ = drawn()
    assert torch.equal(ids, drawn()[0])
    assert [LEARNED.decode(row) for row in ids] == texts


def test_merges_are_dropped_as_often_as_they_should() -> None:
    """One pair: it stays apart with probability p. Two that need each other, by hand."""
    words = torch.tensor([[0, 1, -1], [0, 1, 2]]).repeat(20_000, 1)
    pairs, products = torch.tensor([[0, 1], [3, 2]]), torch.tensor([3, 4])
    generator = torch.Generator().manual_seed(0)
    merged = merge_words(words, pairs, products, 0.3, generator=generator)
    two, three = merged[0::2], merged[1::2]
    assert (two[:, 1] == 1).double().mean() == pytest.approx(0.3, abs=0.01)
    # [0 1 2] with p, then [3 2] with (1 - p) p, else [4].
    sizes = (three != -1).sum(1)
    shares = [(sizes == n).double().mean().item() for n in (3, 2, 1)]
    assert shares == pytest.approx([0.3, 0.21, 0.49], abs=0.012)


def test_merge_words_keeps_the_order_of_priority() -> None:
    pairs, products = torch.tensor([[1, 1], [0, 1]]), torch.tensor([9, 8])
    words = torch.tensor([[0, 1, 1, 1], [0, 1, 2, -1]])
    merged = merge_words(words, pairs, products, 0.0)
    assert merged.tolist() == [[0, 9, 1, -1], [8, 2, -1, -1]]
