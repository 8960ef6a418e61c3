"""The strings that a spoken-language model writes: intent, slots and transcript in one.

    email_sendemail _SEP person _FILL charlotte _SEP reply email to charlotte

The form is that of the authors of COCONUT (Cappellazzo et al., arXiv:2310.02699; read in the slides
and code of their sister papers). Their code joins slots to this string in a loop that loses every
second one and repeats the transcript, and strips punctuation from transcripts alone, so that a slot
"o'clock" never equals what is decoded; here all slots are written once, and both are normalised by
one function.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from multimodal.errors import UserError

SEP, FILL = "_SEP", "_FILL"
APOSTROPHES = dict.fromkeys(map(ord, "’‘‛ʼ´`′＇"), "'")


class Understood(NamedTuple):
    """slots: (type, value), in their order. Parts that are not there are empty."""

    intent: str
    slots: tuple[tuple[str, str], ...]
    transcript: str


class _Seen(dict[int, str]):
    """For ``str.translate``: one apostrophe; nothing that only tells how to print, as a soft
    hyphen does.
    """

    def __missing__(self, code: int) -> str:
        self[code] = "" if unicodedata.category(chr(code)) == "Cf" else chr(code)
        return self[code]


class _Kept(dict[int, str]):
    """For ``str.translate``: letters, their marks, digits and ' stay, all else is a space."""

    def __missing__(self, code: int) -> str:
        self[code] = chr(code) if unicodedata.category(chr(code))[0] in "LMN" else " "
        return self[code]


# Twice: NFKC takes the acute accent apart, and makes U+02BC of U+0149.
_SEEN, _KEPT = _Seen(APOSTROPHES), _Kept({**APOSTROPHES, ord("'"): "'"})


def normalise(text: str) -> str:
    """Words in lower case between single spaces, as transcripts and slot values are written.

    Unicode NFKC; typographic apostrophes are "'", which stays inside words alone; other
    punctuation and symbols are spaces. Idempotent. "" where there is no letter and no digit.
    """
    text = text.translate(_SEEN)
    # Lower case may compose anew, as j and a caron do and J and a caron do not.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    text = re.sub("'{2,}", " ", text.translate(_KEPT))
    words = (word.strip("'") for word in text.split())
    return " ".join(word for word in words if any(map(str.isalnum, word)))


def write_target(intent: str, slots: Sequence[tuple[str, str]], transcript: str) -> str:
    """The string that ``read_target`` reads back: intent and slot types as they are, values and
    transcript normalised.

    UserError: a text that holds a marker, an intent or slot type that is empty or has white space
    around it.
    """
    check_name("intent", intent)
    parts = [intent]
    for kind, value in slots:
        check_name("slot type", kind)
        _refuse_markers("slot value", value)
        parts.append(f"{kind} {FILL} {normalise(value)}".rstrip())
    _refuse_markers("transcript", transcript)
    return f" {SEP} ".join([*parts, normalise(transcript)]).rstrip()


def read_target(text: str) -> Understood:
    """What a string says, whatever it is: a model may write anything.

    The first part is the intent and the last the transcript; those between that hold one _FILL are
    slots, the others nothing. Without a _SEP there is no transcript.
    """
    parts = [part.strip() for part in text.split(SEP)]
    if len(parts) == 1:
        return Understood(parts[0], (), "")
    pairs = [part.split(FILL) for part in parts[1:-1]]
    slots = tuple((pair[0].strip(), pair[1].strip()) for pair in pairs if len(pair) == 2)
    return Understood(parts[0], slots, parts[-1])


def check_name(what: str, name: str) -> None:
    """UserError unless an intent or a slot type comes back as it is."""
    _refuse_markers(what, name)
    if not name or name != name.strip():
        raise UserError(
            f"{what} {name!r}: is empty or has white space around it, which is lost when a target "
            "is read; name it without."
        )


def _refuse_markers(what: str, text: str) -> None:
    for marker in (SEP, FILL):
        if marker in text:
            raise UserError(
                f"{what} {text!r}: holds {marker}, which separates the parts of a target; "
                "take it out of the dataset's text."
            )
