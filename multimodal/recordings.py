"""Recording and Manifest: the table that every dataset reader returns."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from multimodal import contents
from multimodal.errors import UserError

SPLITS = ("train", "validation", "test")
Slots = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """One signal of a dataset and what is known of it.

    uid: stable name within the dataset, normally the path relative to its root.
    path: the file, or None if ``make`` is given.
    labels: class ids that are present; one for single-label data. unknown: class ids of which it
    is not known whether they are present (multi-label data). text: caption, report or transcript.
    group: speaker, patient, record or source clip; "" where unknown.
    start, duration: the part of the file that is meant, in seconds; None means to its end.
    make: lazily made array (canonical shape, canonical rate) instead of a file.
    slots: of a spoken request, what is said of it as (type, value) pairs in the order of the
    annotation, e.g. (("object", "lights"), ("location", "kitchen")); a type may come twice.
    """

    uid: str
    labels: tuple[int, ...]
    split: str
    path: Path | None = None
    group: str = ""
    text: str = ""
    start: float = 0.0
    duration: float | None = None
    make: Callable[[], np.ndarray] | None = None
    unknown: tuple[int, ...] = ()
    slots: Slots = ()

    @property
    def label(self) -> int:
        """The class id of single-label data."""
        return self.labels[0]

    @property
    def where(self) -> str:
        """The name for error messages."""
        return printable(str(self.path)) if self.path is not None else self.uid


def printable(name: str) -> str:
    """A name that any file, terminal and library can write, on one line; most are so already.

    Bytes of a file's name that are no UTF-8, and control characters, are shown as \\xb2, \\n, ...
    """
    if name.isprintable():
        return name
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    control = ("Cc", "Zl", "Zp")
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in control else c for c in name)


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

    name, version, licence, citation: of the dataset. modality: the adapter's registered name.
    class_names: position = class id. split_rule: in words, e.g. "official: index 0-4 test".
    group_overlap: why a group may stand on both sides of a split (only where the OFFICIAL split
    has it); "" means that this is an error. synthetic: the signals were generated. made_rate: Hz of
    the arrays that ``make`` gives, which the adapter's rate must be; None: files, or no rate.
    left_out: number of files that lie beside the recordings and were not taken, by extension.
    Names of classes and recordings are made ``printable``.
    Where ``make`` gives the signals, name and version must tell what it makes. digests: a file that
    keeps the digests of unchanged files (see ``contents``); None: they are read each time.

    Raises UserError for duplicate recordings, labels outside the class list, unknown splits, slots
    that are empty or break a line, an empty table, and a group on both sides of a split (the leak
    checker).
    """

    name: str
    modality: str
    class_names: tuple[str, ...]
    recordings: tuple[Recording, ...]
    version: str
    licence: str = "unknown"
    citation: str = ""
    split_rule: str = ""
    group_overlap: str = ""
    synthetic: bool = False
    made_rate: int | None = None
    root: Path | None = field(default=None, compare=False)
    left_out: Mapping[str, int] = field(default_factory=dict, compare=False)
    digests: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        rows = [r if r.uid.isprintable() else replace(r, uid=printable(r.uid)) for r in self]
        object.__setattr__(self, "recordings", tuple(sorted(rows, key=lambda r: r.uid)))
        object.__setattr__(self, "class_names", tuple(map(printable, self.class_names)))
        _check_rows(self)
        if not self.group_overlap:
            refuse_shared_groups(self)

    def __len__(self) -> int:
        return len(self.recordings)

    def __iter__(self) -> Iterator[Recording]:
        return iter(self.recordings)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64 class ids; of multi-label data each recording's main label, or -1 if none.

        The main label is that which streams and memories sort a recording by. Of its labels it is
        the one with the fewest recordings of the same split so far (of equals the rarer class),
        going through the table in order; so a class that never stands alone gets recordings too.
        """
        if not self.multi_label:
            return np.array([r.label for r in self.recordings], dtype=np.int64)
        totals = Counter((r.split, c) for r in self.recordings for c in r.labels)
        taken: Counter[tuple[str, int]] = Counter()
        main = np.full(len(self), -1, dtype=np.int64)
        for row, recording in enumerate(self.recordings):
            if recording.labels:
                split = recording.split
                order = {c: (taken[split, c], totals[split, c], c) for c in recording.labels}
                main[row] = min(order, key=lambda c: order[c])
                taken[split, int(main[row])] += 1
        return main

    @cached_property
    def multi_label(self) -> bool:
        """Some recording has not exactly one label."""
        return any(len(r.labels) != 1 or r.unknown for r in self.recordings)

    @cached_property
    def targets(self) -> np.ndarray:
        """(N, C) float32: 1 where a class is present, 0 where it is not, NaN where unknown."""
        targets = np.zeros((len(self), self.num_classes), dtype=np.float32)
        for row, recording in zip(targets, self.recordings, strict=True):
            row[list(recording.unknown)] = np.nan
            row[list(recording.labels)] = 1.0
        return targets

    @cached_property
    def groups(self) -> np.ndarray:
        """(N,) str."""
        return np.array([r.group for r in self.recordings], dtype=object)

    @cached_property
    def splits(self) -> np.ndarray:
        """(N,) str, each one of SPLITS."""
        return np.array([r.split for r in self.recordings], dtype=object)

    @cached_property
    def texts(self) -> tuple[str, ...] | None:
        """N texts, or None if no recording has one."""
        texts = tuple(r.text for r in self.recordings)
        return texts if any(texts) else None

    @cached_property
    def slots(self) -> tuple[Slots, ...] | None:
        """N tuples of (type, value) pairs, or None if no recording has any."""
        slots = tuple(r.slots for r in self.recordings)
        return slots if any(slots) else None

    def indices(self, split: str) -> np.ndarray:
        """Rows of a split, ascending, int64."""
        return np.flatnonzero(self.splits == split)

    def select(self, keep: Sequence[int] | np.ndarray) -> Manifest:
        """A manifest of the given rows only (same classes)."""
        return replace(self, recordings=tuple(self.recordings[int(i)] for i in keep))

    @cached_property
    def content_hash(self) -> str:
        """Hex digest over every row (uid, labels, split, group, text, cut, slots) and file's size.

        No signal is opened; ``files_hash`` tells a file that was replaced by one of the same size.
        """
        digest = hashlib.sha256(repr((self.name, self.version, self.class_names)).encode())
        for r in self.recordings:
            size = r.path.stat().st_size if r.path is not None and r.path.exists() else -1
            row = (r.uid, r.labels, r.split, r.group, r.text, r.start, r.duration, size)
            row += (r.unknown,) if r.unknown else ()
            row += (("slots", *r.slots),) if r.slots else ()
            digest.update(repr(row).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def files_hash(self) -> str:
        """Hex digest over every file's bytes in the order of rows, wherever the files lie.

        Of WFDB records all files count. It is made once: signals that are decoded later belong to
        it, so ask for it before anything is decoded.
        """
        paths = (r.path for r in self.recordings if r.path is not None)
        known: dict[Path, list[Path]] = {}
        files = (known.setdefault(p, known.get(p) or [*contents.files_of(p)]) for p in paths)
        return contents.digest((file for each in files for file in each), self.digests)

    @property
    def has_files(self) -> bool:
        """Some recording is a file."""
        return any(r.path is not None for r in self.recordings)


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
    seen: dict[str, str] = {}
    shared = {r.group for r in manifest if r.group and seen.setdefault(r.group, r.split) != r.split}
    return sorted(shared)


def _check_rows(manifest: Manifest) -> None:
    if not manifest.recordings:
        where = f" in {manifest.root}" if manifest.root else ""
        raise UserError(f"dataset {manifest.name!r}: no recordings found{where}.")
    problems, uids, count = [], set(), manifest.num_classes
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
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(f"dataset {manifest.name!r}: {'; '.join(problems[:3])}{more}.")
