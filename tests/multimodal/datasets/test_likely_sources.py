"""Names that look like speakers or patients are warned of; others are not."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from multimodal.datasets.likely_sources import sources_in_names
from multimodal.datasets.splits import SEEDED, seeded_split
from multimodal.recordings import Manifest, Recording


def table(
    names: list[str], *, rule: str = f"{SEEDED}test_fraction 0.2", group: str = ""
) -> Manifest:
    """Class = the number of the recording modulo 3."""
    labels = [i % 3 for i in range(len(names))]
    splits = seeded_split(names, [str(label) for label in labels])
    rows = [
        Recording(name, (label,), split, group=group)
        for name, label, split in zip(names, labels, splits, strict=True)
    ]
    return Manifest(
        "d", "speech", ("dog", "cat", "cow"), rows, "1", split_rule=rule, group_overlap="x"
    )


LOOKING = {
    "who": lambda i: f"{i:03d}_{('ann', 'bob', 'eve', 'joe')[i % 4]}_x.wav",
    "patient": lambda i: f"patient{i % 7:05d}_view{i}.wav",
    "apart": lambda i: f"speaker_{i % 7:02d}_{i}.wav",
    "hash": lambda i: f"{(1 + i % 7) * 0x1ABCDE:08x}_nohash_{i // 7}.wav",
    "letter": lambda i: f"s{i % 7}-{i}.wav",
    "folder": lambda i: f"p{i % 7:03d}/session1/{i}.wav",
}
OTHERS = {
    "numbers": lambda i: f"{i:05d}.wav",
    "takes": lambda i: f"clip_{i:03d}.wav",
    "classes": lambda i: f"{('dog', 'cat', 'cow')[i % 3]}_{i}.wav",
    "own words for classes": lambda i: f"{('hund', 'katze', 'kuh')[i % 3]}_{i}.wav",
    "each once": lambda i: f"patient{i:04d}.wav",
    "splits": lambda i: f"{('train', 'test')[i % 2]}/{i}.wav",
}


@pytest.mark.parametrize("kind", LOOKING)
def test_people_are_seen(kind: str) -> None:
    names = [LOOKING[kind](i) for i in range(120)]
    (warning,) = sources_in_names(table(names))
    assert "neither a split nor a group is given" in warning
    if kind != "folder":
        pattern = re.search(r"group_pattern='(.*)' \(of", warning)
        assert pattern
        groups = {re.search(pattern[1], PurePosixPath(n).stem)[1] for n in names}  # type: ignore[index]
        assert len(groups) == {"who": 4}.get(kind, 7)
        assert f"of {len(groups)} on both sides" in warning


@pytest.mark.parametrize("kind", OTHERS)
def test_other_names_are_not(kind: str) -> None:
    assert sources_in_names(table([OTHERS[kind](i) for i in range(120)])) == []


def test_known_splits_and_groups_need_no_warning() -> None:
    names = [LOOKING["patient"](i) for i in range(120)]
    assert sources_in_names(table(names, rule="named by column 'split'")) == []
    assert sources_in_names(table(names, group="ann")) == []
    assert len(sources_in_names(table(names))) == 1
