"""Target strings: the pitfalls of specs/coconut.md, section 6, and round trips of any text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from multimodal.errors import UserError
from multimodal.models.targets import Understood, normalise, read_target, write_target

LAST_LETTER = 0x33480  # beyond it Unicode has no letters yet
REAL = "email_sendemail _SEP person _FILL charlotte _SEP reply email to charlotte"
NAMES = st.text(min_size=1).filter(
    lambda t: t == t.strip() and t and "_SEP" not in t and "_FILL" not in t
)
TEXTS = st.text().filter(lambda t: "_SEP" not in t and "_FILL" not in t)


def test_the_authors_own_example() -> None:
    slots = [("person", "charlotte")]
    assert write_target("email_sendemail", slots, "reply email to charlotte") == REAL
    assert read_target(REAL) == Understood(
        "email_sendemail", (("person", "charlotte"),), "reply email to charlotte"
    )


def test_without_slots_and_without_words() -> None:
    assert write_target("iot_hue_lightoff", [], "Lights off!") == "iot_hue_lightoff _SEP lights off"
    assert write_target("a_b", [], "?!") == "a_b _SEP"
    assert read_target("a_b _SEP") == Understood("a_b", (), "")
    assert write_target("a_b", [("date", "?")], "") == "a_b _SEP date _FILL _SEP"
    assert read_target("a_b _SEP date _FILL _SEP") == Understood("a_b", (("date", ""),), "")


def test_all_of_several_slots_are_written_once() -> None:
    slots = [("time", "five o'clock"), ("date", "today"), ("place", "home")]
    target = write_target("alarm_set", slots, "wake me")
    assert target.count("wake me") == 1
    assert read_target(target).slots == tuple(slots)


def test_a_slot_value_equals_the_same_words_of_the_transcript() -> None:
    spoken = "Set it for Five O’Clock, please."
    target = read_target(write_target("alarm_set", [("time", "five o'clock")], spoken))
    assert target.slots[0][1] in target.transcript


@pytest.mark.parametrize(
    ("text", "slots", "transcript"),
    [
        ("a _SEP b _FILL c _FILL d _SEP e", (), "e"),
        ("a _SEP b _SEP e", (), "e"),
        ("a _SEP b _FILL c", (), "b _FILL c"),
        ("a _SEP_SEP b_FILLc_SEPe", (("b", "c"),), "e"),
        ("a _SEP _FILL c _SEP e", (("", "c"),), "e"),
        ("a", (), ""),
    ],
)
def test_what_a_model_may_write(text: str, slots: tuple, transcript: str) -> None:
    assert read_target(text) == Understood("a", slots, transcript)


@given(st.text(alphabet=st.sampled_from("ab _SEPFIL'\n")) | st.text())
def test_reading_never_fails(text: str) -> None:
    found = read_target(text)
    assert all(part == part.strip() for part in (found.intent, found.transcript))
    assert "_SEP" not in "".join([found.intent, found.transcript, *map("".join, found.slots)])


@given(NAMES, st.lists(st.tuples(NAMES, TEXTS), max_size=4), TEXTS)
def test_round_trip(intent: str, slots: list[tuple[str, str]], transcript: str) -> None:
    expected = tuple((kind, normalise(value)) for kind, value in slots)
    found = read_target(write_target(intent, slots, transcript))
    assert found == Understood(intent, expected, normalise(transcript))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a_SEPb", [], "x"), "intent 'a_SEPb': holds _SEP"),
        (("a", [("k", "so _FILL it")], "x"), "slot value 'so _FILL it': holds _FILL"),
        (("a", [("k_FILL", "v")], "x"), "slot type 'k_FILL': holds _FILL"),
        (("a", [], "the _SEP word"), "transcript 'the _SEP word': holds _SEP"),
        (("", [], "x"), "intent '': is empty"),
        (("a ", [], "x"), "intent 'a ': is empty or has white space"),
        (("a", [("", "v")], "x"), "slot type '': is empty"),
    ],
)
def test_what_is_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(UserError, match=words):
        write_target(*arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It’s FIVE o´clock!", "it's five o'clock"),
        ("'rock 'n' roll'", "rock n roll"),
        ("the dogs' ''best'' day", "the dogs best day"),
        ("twelve-ounce,  a_b\t50%", "twelve ounce a b 50"),
        ("Ｆｕｌｌ ﬁne ½", "full fine 1 2"),
        ("Ärger, J̌, cafe\u0301", "ärger ǰ café"),
        ("हिन्दी में!", "हिन्दी में"),
        ("soft\u00adly \ud800 gone\u200b", "softly gone"),
        ("¨ ' … ?", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text() | st.text(alphabet=st.sampled_from("aJß'’´ ̌́ͅΣİﬁ½-\u200d")))
@example("İ")
@example("ΑΣ'Σ")
def test_normalise_is_idempotent(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once == " ".join(once.split())
    assert once == unicodedata.normalize("NFKC", once)


def test_normalise_is_idempotent_for_every_character() -> None:
    once = normalise(" ".join(f"a{chr(code)}b" for code in range(LAST_LETTER))).split()
    twice = normalise(" ".join(once)).split()
    assert [pair for pair in zip(once, twice, strict=True) if pair[0] != pair[1]] == []
