"""Do files' names tell of speakers or patients that a drawn split has on both sides?

Without a split or a group that the user gives, recordings are dealt out one by one, and a score may
then be of voices that were heard in training. Names can only hint at that, so it is a warning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from multimodal.datasets.splits import SEEDED
from multimodal.recordings import Manifest

SAMPLE = 20_000  # recordings whose names are looked at, evenly spaced
BETWEEN = re.compile(r"[_\-. ]")
# speaker_07, patient12, p003, s1, actor-3: a person and a number.
PERSON = re.compile(
    r"(speaker|spkr?|subject|subj?|patient|pat|pid|sid|person|pers|user|participant|actor|case"
    r"|singer|animal|bird|dog|record|rec|[ps])[_\- ]?\d+",
    re.IGNORECASE,
)
WORD = re.compile(r"[a-z]{2,}", re.IGNORECASE)
MIXED = re.compile(r"(?=.*\d)(?=.*[a-z])[0-9a-z]{4,}", re.IGNORECASE)  # 0a7c2a8d
SPLIT_WORDS = {"train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"}


class Place(NamedTuple):
    """What stands at one place of every name. pattern: for ``group_pattern``; "" of folders."""

    what: str
    pattern: str
    values: list[str]


def sources_in_names(manifest: Manifest) -> list[str]:
    """A warning, if the split was drawn, no group is known and names look like people's; or none.

    What stands at a place of the names looks so if its values are names, numbers behind a word
    for a person or ids of digits and letters, if most of them come twice or more, and if they say
    something else than the class.
    """
    if not manifest.split_rule.startswith(SEEDED) or manifest.columns.has("group"):
        return []
    rows = np.unique(np.linspace(0, len(manifest) - 1, SAMPLE).astype(np.int64))
    labels, splits = manifest.labels[rows].tolist(), manifest.splits[rows].tolist()
    known = {name.casefold() for name in manifest.class_names}
    for place in _places(manifest.columns.column("uid")[rows].tolist()):
        if not _people(place.values, labels, known):
            continue
        sides = set(zip(place.values, splits, strict=True))
        both = sorted(v for v, number in Counter(v for v, _ in sides).items() if number > 1)
        if not both:
            continue
        examples = ", ".join(map(repr, both[:3])) + ", ..." * (len(both) > 3)
        remedy = f"set group_pattern='{place.pattern}'" if place.pattern else "name the groups"
        return [
            f"{place.what} of the files' names looks like a speaker, patient or source "
            f"({examples}), and neither a split nor a group is given: the drawn split has "
            f"{len(both):,} of {len(set(place.values)):,} on both sides, so scores may be of "
            f"voices or patients that were trained on; {remedy} (of a table also group_column), or "
            "give the split"
        ]
    return []


def _places(uids: list[str]) -> Iterator[Place]:
    """Folders from the outermost, then the parts of a file's name; such as all names have."""
    parts = [uid.split("/") for uid in uids]
    for level in range(min(map(len, parts)) - 1):
        yield Place(f"folder {level + 1}", "", [part[level] for part in parts])
    stems = [re.split(r"\.[^.]*$", part[-1])[0] for part in parts]
    words = [BETWEEN.split(stem) for stem in stems]
    for place in range(min(map(len, words))):
        pattern = "^" + r"[^_\-. ]*[_\-. ]" * place + r"([^_\-. ]+)"
        yield Place(f"part {place + 1}", pattern, [word[place] for word in words])
        # speaker_07: the word and its number are two parts.
        if place + 1 < min(map(len, words)) and len({word[place] for word in words}) == 1:
            yield Place(
                f"part {place + 1} and {place + 2}",
                "^" + r"[^_\-. ]*[_\-. ]" * place + r"([^_\-. ]+[_\-. ][^_\-. ]+)",
                ["_".join(word[place : place + 2]) for word in words],
            )


def _people(values: list[str], labels: list[int], classes: set[str]) -> bool:
    counts = Counter(values)
    several = sum(number for number in counts.values() if number > 1)
    if len(counts) < 2 or "" in counts or several < 0.5 * len(values):
        return False
    if any(v.casefold() in classes | SPLIT_WORDS for v in counts):
        return False
    for kind in (PERSON, MIXED, WORD):
        if all(kind.fullmatch(value) for value in counts):
            # Words that go with the class one to one are its own name, in other words.
            pairs = len(set(zip(values, labels, strict=True)))
            return kind is not WORD or pairs > max(len(counts), len(set(labels)))
    return False
