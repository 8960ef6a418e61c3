"""Compositional sets: items of recordings that hold the same events, composed otherwise.

Each recording has its own caption, its ``text``; a model is asked which caption is whose, within an
item (``evaluation/compositional.py``). They are only for tests: all recordings are of that split.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.datasets import DatasetConfig
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording, printable


@dataclass(frozen=True)
class CompositionalSet:
    """manifest: all recordings. items: the rows of each item, two or more, in the order of the
    table. names: where each item stands, such as "items.jsonl, data row 7", for errors and reports.
    tags: of each item, what reports may sort it by.
    """

    manifest: Manifest
    items: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    tags: tuple[Mapping[str, str], ...]

    def __post_init__(self) -> None:
        assert len(self.names) == len(self.tags) == len(self.items) > 0, "a name and tags each"
        assert all(len(set(item)) == len(item) >= 2 for item in self.items), "distinct rows"
        rows = {row for item in self.items for row in item}
        assert rows <= set(range(len(self.manifest))), "rows of the manifest"

    def __len__(self) -> int:
        return len(self.items)

    @property
    def counts(self) -> dict[int, int]:
        """n -> number of items of n recordings, ascending."""
        return dict(sorted(Counter(map(len, self.items)).items()))

    @property
    def summary(self) -> str:
        """One line for a terminal: how many there are, and of how many recordings each."""
        return f"{self.manifest.name} {self.manifest.version}: {sizes_in_words(self.counts)}"


class CompositionalConfig(DatasetConfig):
    """Base of compositional datasets: ``build`` gives the recordings without the items."""

    def build_compositional(self, root: Path) -> CompositionalSet:
        """Read the set from ``root``; UserError as ``build``."""
        raise NotImplementedError

    def build(self, root: Path) -> Manifest:
        return self.build_compositional(root).manifest


class Member(NamedTuple):
    """name: of the file, in uids. caption: as written."""

    name: str
    path: Path
    caption: str


class Item(NamedTuple):
    """where: the table and line, for errors and reports."""

    where: str
    members: Sequence[Member]
    tags: Mapping[str, str] = {}


def compositional_set(items: Sequence[Item], *, root: Path, **facts: Any) -> CompositionalSet:
    """facts: the other fields of the Manifest.

    uids are ITEM/MEMBER/FILE, numbered from 1: one file may stand in several items, with another
    caption each time. UserError names all lines at once that have fewer than two recordings, an
    empty caption, one caption twice (spaces aside) or one file twice, and ALL missing files.
    """
    problems = [f"{item.where}: {fault}" for item in items if (fault := _fault(item.members))]
    if problems:
        raise UserError("\n".join(problems))
    files = {m.name: m.path for item in items for m in item.members}
    # Unlike Path.is_file, it does not fail on a name that is too long for a file.
    missing = [printable(name) for name, path in files.items() if not os.path.isfile(path)]
    if missing:
        raise UserError(
            f"{root}: {len(missing)} of {len(files)} files are missing: {', '.join(missing)}; "
            "unpack the whole archive, or mend the table."
        )
    recordings = [
        [_recording(m, f"{i:04d}/{k}/{m.name}") for k, m in enumerate(item.members, start=1)]
        for i, item in enumerate(items, start=1)
    ]
    every = tuple(recording for of_item in recordings for recording in of_item)
    manifest = Manifest(class_names=(), recordings=every, root=root, **facts)
    # The manifest has an order of its own.
    rows = {recording.uid: row for row, recording in enumerate(manifest)}
    return CompositionalSet(
        manifest=manifest,
        items=tuple(tuple(rows[printable(r.uid)] for r in of_item) for of_item in recordings),
        names=tuple(item.where for item in items),
        tags=tuple(item.tags for item in items),
    )


def sizes_in_words(counts: Mapping[int, int]) -> str:
    """{2: 300, 3: 100} -> "400 items: 300 of 2, 100 of 3"."""
    parts = ", ".join(f"{number:,} of {n}" for n, number in counts.items())
    return f"{sum(counts.values()):,} items: {parts}"


def _fault(members: Sequence[Member]) -> str:
    if len(members) < 2:
        return f"{len(members)} recording(s); an item needs two or more to tell apart."
    if not all(m.caption.strip() for m in members):
        return "a caption is empty; write one for every recording."
    captions = Counter(" ".join(m.caption.split()) for m in members)
    files = Counter(os.path.realpath(m.path) for m in members)
    for found, what in ((captions, "caption"), (files, "file")):
        value, times = found.most_common(1)[0]
        if times > 1:
            shown = value if what == "caption" else Path(value).name
            return (
                f"{what} {shown!r} stands {times} times in one item; its recordings could not be "
                "told apart."
            )
    return ""


def _recording(member: Member, uid: str) -> Recording:
    return Recording(
        uid=uid,
        labels=(),
        split="test",
        path=member.path,
        group=member.name,
        text=member.caption.strip(),
    )
