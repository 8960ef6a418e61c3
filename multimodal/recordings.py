"""Recording and Manifest: the table that every dataset reader returns."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from multimodal import contents
from multimodal.columns import Columns
from multimodal.columns import Recording as Recording  # also from here
from multimodal.columns import Slots as Slots
from multimodal.columns import printable as printable
from multimodal.errors import UserError

SPLITS = ("train", "validation", "test")
AT_ONCE = 4096  # rows that are hashed together


def slot_fault(slot: tuple[str, str]) -> str:
    """What is wrong with a slot, in words; "" if its type and its value are a line of text each."""
    for part, text in zip(("type", "value"), slot, strict=True):
        if not text.strip():
            return f"its {part} is empty"
        if text.splitlines() != [text]:
            return f"its {part} breaks a line"
    return ""


@dataclass(frozen=True)
class Manifest:
    """An immutable table of recordings, sorted by uid whatever the file system's order.

    recordings: any; they become ``Columns``.

    name, version, licence, citation: of the dataset. modality: the adapter's registered name.
    class_names: position = class id. split_rule: in words, e.g. "official: index 0-4 test".
    group_overlap: why a group may stand on both sides of a split (only where the OFFICIAL split
    has it); "" means that this is an error. synthetic: the signals were generated. made_rate: Hz of
    the arrays that ``make`` gives, which the adapter's rate must be; None: files, or no rate.
    made_rates: likewise by modality, of recordings of several.
    left_out: number of files that lie beside the recordings and were not taken, by extension.
    undrawn: why a drawn split serves not every class, whose recordings are then in train. shared:
    why groups stand on both sides of the user's own split. Either only of ``build_for_stream``,
    where the stream must see to it.
    notes: what else the reader left out, in words. Names of classes and recordings are made
    ``printable``.
    Where ``make`` gives the signals, name and version must tell what it makes. digests: a file that
    keeps the digests of unchanged files (see ``contents``); None: they are read each time.

    Raises UserError for duplicate recordings, labels outside the class list, unknown splits, slots
    that are empty or break a line, an empty table, and a group on both sides of a split (the leak
    checker).
    """

    name: str
    modality: str
    class_names: tuple[str, ...]
    recordings: Sequence[Recording]
    version: str
    licence: str = "unknown"
    citation: str = ""
    split_rule: str = ""
    group_overlap: str = ""
    synthetic: bool = False
    made_rate: int | None = None
    made_rates: Mapping[str, int] = field(default_factory=dict, hash=False)
    root: Path | None = field(default=None, compare=False)
    left_out: Mapping[str, int] = field(default_factory=dict, compare=False)
    digests: Path | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    undrawn: str = field(default="", compare=False)
    shared: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "recordings", Columns.of(self.recordings).sorted())
        object.__setattr__(self, "class_names", tuple(map(printable, self.class_names)))
        _check_rows(self)
        if not self.group_overlap and not self.shared:
            refuse_shared_groups(self)

    def __len__(self) -> int:
        return len(self.recordings)

    def __iter__(self) -> Iterator[Recording]:
        return iter(self.recordings)

    @property
    def columns(self) -> Columns:
        """The recordings, for whoever reads single fields of all of them."""
        assert isinstance(self.recordings, Columns)
        return self.recordings

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64 class ids; of multi-label data each recording's main label, or -1 if none."""
        return self.main_labels()

    def main_labels(self, among: Collection[int] | None = None) -> np.ndarray:
        """``labels``, of multi-label data among these classes (None: all); -1 if it has none.

        The main label is that which streams and memories sort a recording by. Of its labels it is
        the one with the fewest recordings of the same split so far (of equals the rarer class),
        going through the table in order; so a class that never stands alone gets recordings too.
        """
        codes, values = self.columns.coded("labels")
        if not self.multi_label:
            return np.array([labels[0] for labels in values], dtype=np.int64)[codes]
        chosen = frozenset(range(self.num_classes) if among is None else among)
        totals: Counter[tuple[str, int]] = Counter()
        for (split, labels), number in Counter(zip(self.splits, codes, strict=True)).items():
            totals.update({(split, c): number for c in values[labels]})
        taken: Counter[tuple[str, int]] = Counter()
        main = np.full(len(self), -1, dtype=np.int64)
        rows = zip(self.splits, self.columns.column("labels"), strict=True)
        for row, (split, labels) in enumerate(rows):
            order = {c: (taken[split, c], totals[split, c], c) for c in labels if c in chosen}
            if order:
                main[row] = min(order, key=lambda c: order[c])
                taken[split, int(main[row])] += 1
        return main

    @cached_property
    def multi_label(self) -> bool:
        """Some recording has not exactly one label."""
        single = all(map((1).__eq__, map(len, self.columns.column("labels"))))
        return not single or self.columns.has("unknown")

    @cached_property
    def targets(self) -> np.ndarray:
        """(N, C) float32: 1 where a class is present, 0 where it is not, NaN where unknown."""
        targets = np.zeros((len(self), self.num_classes), dtype=np.float32)
        # What is said to be present is so, even if it is said to be unknown as well.
        for name, value in (("unknown", np.nan), ("labels", 1.0)):
            codes, values = self.columns.coded(name)
            rows = np.zeros((len(values), self.num_classes), dtype=bool)
            for row, classes in zip(rows, values, strict=True):
                row[list(classes)] = True
            targets[rows[codes]] = value
        return targets

    @property
    def groups(self) -> np.ndarray:
        """(N,) str, not to be written."""
        return self.columns.column("group")

    @property
    def splits(self) -> np.ndarray:
        """(N,) str, each one of SPLITS; not to be written."""
        return self.columns.column("split")

    @cached_property
    def texts(self) -> tuple[str, ...] | None:
        """N texts, or None if no recording has one."""
        return tuple(self.columns.column("text")) if self.columns.has("text") else None

    @cached_property
    def slots(self) -> tuple[Slots, ...] | None:
        """N tuples of (type, value) pairs, or None if no recording has any."""
        return tuple(self.columns.column("slots")) if self.columns.has("slots") else None

    def indices(self, split: str) -> np.ndarray:
        """Rows of a split, ascending, int64."""
        return np.flatnonzero(self.splits == split)

    def select(self, keep: Sequence[int] | np.ndarray) -> Manifest:
        """A manifest of the given rows only (same classes)."""
        return replace(self, recordings=self.columns.take([int(i) for i in keep]))

    @cached_property
    def content_hash(self) -> str:
        """Hex digest over every row (uid, labels, split, group, text, cut, slots) and file's size.

        No signal is opened; ``files_hash`` tells a file that was replaced by one of the same size.
        """
        digest = hashlib.sha256(repr((self.name, self.version, self.class_names)).encode())
        names = ("uid", "labels", "split", "group", "text", "start", "duration")
        fields = [self.columns.column(name) for name in names]
        rows: Iterator[tuple[object, ...]] = zip(*fields, self._sizes(), strict=True)
        more = [name for name in ("unknown", "slots") if self.columns.has(name)]
        if more:  # of data without them the hash is as it was before there were such fields
            unknown, slots = (self.columns.column(name) for name in ("unknown", "slots"))
            rows = (
                (*row, *((ids,) if ids else ()), *((("slots", *its),) if its else ()))
                for row, ids, its in zip(rows, unknown, slots, strict=True)
            )
        while part := "".join(map(repr, islice(rows, AT_ONCE))):
            digest.update(part.encode())
        return digest.hexdigest()[:16]

    def _sizes(self) -> Iterator[int]:
        return map(contents.size_of, self.columns.paths())

    @cached_property
    def files_hash(self) -> str:
        """Hex digest over every file's bytes in the order of rows, wherever the files lie.

        Of WFDB records all files count. It is made once: signals that are decoded later belong to
        it, so ask for it before anything is decoded.
        """
        paths = (path for path in self.columns.paths() if path is not None)
        return contents.digest_records(paths, self.digests)

    @property
    def has_files(self) -> bool:
        """Some recording is a file."""
        return self.columns.has("path")


def refuse_shared_groups(manifest: Manifest) -> None:
    """Leak checker: UserError if a group stands in two splits. Groups named "" are unknown."""
    shared = shared_groups(manifest)
    if shared:
        names = ", ".join(shared[:5]) + (" ..." if len(shared) > 5 else "")
        raise UserError(
            f"dataset {manifest.name!r}: {len(shared)} group(s) stand on both sides of a split "
            f"({names}); give each speaker, patient or source to one split only."
        )


def shared_groups(manifest: Manifest) -> list[str]:
    """Groups that occur in more than one split, sorted."""
    pairs = set(zip(manifest.groups, manifest.splits, strict=True))
    sides = Counter(group for group, _ in pairs if group)
    return sorted(group for group, count in sides.items() if count > 1)


def _check_rows(manifest: Manifest) -> None:
    if not len(manifest):
        where = f" in {manifest.root}" if manifest.root else ""
        raise UserError(f"dataset {manifest.name!r}: no recordings found{where}.")
    columns, count = manifest.columns, manifest.num_classes
    classes = {
        c for name in ("labels", "unknown") for ids in set(columns.column(name)) for c in ids
    }
    slots = {slot for its in set(columns.column("slots")) for slot in its}
    fine = columns.ascending and set(manifest.splits) <= set(SPLITS)
    if fine and all(0 <= c < count for c in classes) and not any(map(slot_fault, slots)):
        return
    problems, uids = [], set()
    for r in manifest.recordings:
        if r.uid in uids:
            problems.append(f"duplicate recording {r.uid!r}")
        uids.add(r.uid)
        if r.split not in SPLITS:
            problems.append(f"{r.uid}: split {r.split!r} is not one of {', '.join(SPLITS)}")
        if any(not 0 <= c < count for c in r.labels + r.unknown):
            problems.append(f"{r.uid}: label {r.labels} outside the {count} classes")
        faults = [(slot, slot_fault(slot)) for slot in r.slots]
        problems += [f"{r.uid}: slot {slot}: {fault}" for slot, fault in faults if fault]
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    raise UserError(f"dataset {manifest.name!r}: {'; '.join(problems[:3])}{more}.")
