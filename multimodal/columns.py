"""Recording, and many of them as columns: an object is made when one is asked for."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from operator import lt
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

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


NAMES = tuple(f.name for f in fields(Recording))
DEFAULTS = {f.name: f.default for f in fields(Recording)}
NEEDED = ("uid", "labels", "split")


class Columns(Sequence[Recording]):
    """N recordings, immutable: a column of objects for each field that says anything.

    Equal values should be one object (a label, a split, a speaker), so that a row costs no more
    than its name and eight bytes a column.

    root: of paths that are given as text (relative, as the file system spells them); others are
    ``Path`` or None. columns: by the names of ``Recording``'s fields, N values each; those with a
    default may be left out, or None.
    """

    def __init__(
        self, columns: dict[str, Iterable[Any] | None], *, root: Path | None = None
    ) -> None:
        assert set(NEEDED) <= set(columns) <= set(NAMES)
        given = {name: values for name, values in columns.items() if values is not None}
        self._columns = {name: _frozen(values) for name, values in given.items()}
        self._root = Path() if root is None else root
        self._length = len(self._columns["uid"])
        assert all(len(values) == self._length for values in self._columns.values())

    @classmethod
    def of(cls, recordings: Iterable[Recording]) -> Columns:
        """The columns of recordings; as they are, if they are columns already."""
        if isinstance(recordings, Columns):
            return recordings
        rows = tuple(recordings)
        columns: dict[str, Any] = {n: [getattr(r, n) for r in rows] for n in NAMES}
        for name in NAMES:
            default = repr(DEFAULTS[name])
            if name not in NEEDED and all(
                v is DEFAULTS[name] or repr(v) == default for v in columns[name]
            ):
                columns[name] = None
        if columns["path"] is not None:  # a text takes a fifth of a Path's memory
            kind = type(Path())
            columns["path"] = [str(p) if type(p) is kind else p for p in columns["path"]]
        return cls(columns)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, row: int) -> Recording: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Recording, ...]: ...
    def __getitem__(self, row: int | slice) -> Recording | tuple[Recording, ...]:
        if isinstance(row, slice):
            return tuple(self[i] for i in range(*row.indices(len(self))))
        found = {name: values[row] for name, values in self._columns.items()}
        if isinstance(path := found.get("path"), str):
            found["path"] = self._root / path
        return Recording(**found)

    def __iter__(self) -> Iterator[Recording]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Columns):
            return tuple(self) == other
        return len(self) == len(other) and all(
            self.has(name) == other.has(name) and self._alike(other, name) for name in NAMES
        )

    def _alike(self, other: Columns, name: str) -> bool:
        if not self.has(name):
            return True
        if name != "path":
            return self.column(name).tolist() == other.column(name).tolist()
        return list(map(str, self.paths())) == list(map(str, other.paths()))

    def __hash__(self) -> int:
        return hash(tuple(self.column("uid")))

    def has(self, name: str) -> bool:
        """Some recording has another value than the default."""
        default = DEFAULTS[name]
        return any(value != default for value in self._columns.get(name, ()))

    def column(self, name: str) -> np.ndarray:
        """(N,) objects, not to be written; of paths see ``paths``."""
        assert name != "path"
        if name not in self._columns:
            self._columns[name] = _frozen([DEFAULTS[name]] * len(self))
        return self._columns[name]

    def paths(self) -> Iterator[str | None]:
        """Of each recording ``str(path)``, or None."""
        start = str(self._root / "x")[:-1]  # a root "." adds nothing
        for path in self._columns.get("path", [None] * len(self)):
            if isinstance(path, str):
                yield path if path.startswith("/") else start + path
            else:
                yield None if path is None else str(path)

    def coded(self, name: str) -> tuple[np.ndarray, list[Any]]:
        """((N,) int64 codes, the distinct values in the order in which they come)."""
        known: dict[Any, int] = {}
        codes = (known.setdefault(value, len(known)) for value in self.column(name))
        return np.fromiter(codes, np.int64, len(self)), list(known)

    def take(self, rows: ArrayLike) -> Columns:
        """Those rows, in their order."""
        keep = np.asarray(rows, dtype=np.int64)
        return Columns({n: values[keep] for n, values in self._columns.items()}, root=self._root)

    def replace(self, **columns: Iterable[Any]) -> Columns:
        """The same with other values in some columns."""
        return Columns({**self._columns, **columns}, root=self._root)

    def sorted(self) -> Columns:
        """By uid, which is made ``printable``; itself, if it is so already."""
        uids, named = self.column("uid"), self
        if not all(map(str.isprintable, uids)):
            named = self.replace(uid=[printable(uid) for uid in uids])
        if named.ascending:
            return named
        order = sorted(range(len(self)), key=named.column("uid").tolist().__getitem__)
        return named.take(order)

    @cached_property
    def ascending(self) -> bool:
        """Every uid stands before the next one, so that none comes twice."""
        uids = self.column("uid")
        return all(map(lt, uids, islice(uids, 1, None)))


def _frozen(values: Iterable[Any]) -> np.ndarray:
    """(N,) objects; an array is taken over as it is."""
    if not isinstance(values, np.ndarray) or values.dtype != object:
        # Unlike np.array, which would take tuples of one length for a matrix.
        values = np.fromiter(values, dtype=object)
    values.flags.writeable = False
    return values
