"""Cases: recordings of several modalities that belong together, by patient and time.

A case is up to one recording of every modality, and one text. Which recordings stand in one case is
decided by ``matching.pair``, or by a dataset that makes its signals
(``synthetic/patients.py``).
Every patient stands in one split, whatever the splits of the modalities' own tables are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from multimodal.errors import UserError
from multimodal.recordings import SPLITS, Manifest


@dataclass(frozen=True)
class Cases:
    """N cases of a few modalities, each manifest's recordings named by their rows.

    manifests: by modality, in the order that pairing gave them (the first leads). rows: by
    modality, (N,) int64, the row of that manifest, or -1 where the case lacks the modality. texts:
    N reports, "" where there is none. groups: the N patients. splits: of the N cases. name, rule:
    of the dataset, and how its cases were made, in words. left_out: what pairing did not take, by
    what it is.

    Raises UserError for a patient in two splits (the leak checker) and for a table without cases.
    """

    manifests: Mapping[str, Manifest]
    rows: Mapping[str, np.ndarray]
    texts: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    name: str = "cases"
    rule: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not len(self):
            raise UserError(f"dataset {self.name!r}: no cases found.")
        assert list(self.rows) == list(self.manifests), "rows and manifests have the same names"
        assert len(self.groups) == len(self.splits) == len(self), "a patient and a split each"
        assert set(self.splits) <= set(SPLITS), f"splits are {', '.join(SPLITS)}"
        for modality, rows in self.rows.items():
            count = len(self.manifests[modality])
            assert (rows.shape, rows.dtype) == ((len(self),), np.int64), f"{modality}: (N,) int64"
            assert ((rows >= -1) & (rows < count)).all(), f"{modality}: rows of the manifest"
        assert self.presence.any(1).all(), "every case has a recording"
        refuse_shared_patients(self.name, self.groups, self.splits)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.manifests)

    @cached_property
    def presence(self) -> np.ndarray:
        """(N, modalities) bool: where the case has a recording."""
        return np.stack([rows >= 0 for rows in self.rows.values()], axis=1)

    @cached_property
    def text_ids(self) -> np.ndarray:
        """(N,) int64: equal where texts are, -1 where there is none."""
        return _ids(self.texts, absent="")

    @cached_property
    def group_ids(self) -> np.ndarray:
        """(N,) int64: equal where patients are."""
        return _ids(self.groups)

    def indices(self, split: str) -> np.ndarray:
        """Cases of a split, ascending, int64."""
        return np.flatnonzero(np.array(self.splits, dtype=object) == split)

    def select(self, keep: Sequence[int] | np.ndarray) -> Cases:
        """The given cases only, of the same manifests."""
        places = np.asarray(keep, dtype=np.int64)
        return replace(
            self,
            rows={modality: rows[places] for modality, rows in self.rows.items()},
            texts=tuple(self.texts[i] for i in places),
            groups=tuple(self.groups[i] for i in places),
            splits=tuple(self.splits[i] for i in places),
        )

    def pairs(self, one: str, two: str) -> np.ndarray:
        """(P, 2) int64: distinct rows of two modalities that stand in one case, ascending."""
        both = np.stack([self.rows[one], self.rows[two]], axis=1)
        return np.unique(both[(both >= 0).all(1)], axis=0)

    @property
    def synthetic(self) -> bool:
        """Some signals were generated."""
        return any(manifest.synthetic for manifest in self.manifests.values())

    @cached_property
    def counts(self) -> dict[str, int]:
        """Cases, patients, complete cases, cases with a text, those of each modality, and splits.

        ``xray recordings``: distinct ones that stand in a case. ``patients without a pair``: none
        of whose cases has two modalities; those without a case are in ``left_out``.
        """
        found = {
            "cases": len(self),
            "patients": len(set(self.groups)),
            "patients without a pair": len(set(self.groups)) - len(self._paired_patients),
            "complete cases": int(self.presence.all(1).sum()),
            "cases with a text": sum(map(bool, self.texts)),
        }
        for modality, rows in self.rows.items():
            found[f"cases with {modality}"] = int((rows >= 0).sum())
            found[f"{modality} recordings"] = len(np.unique(rows[rows >= 0]))
        return found | {f"{split} cases": len(self.indices(split)) for split in SPLITS}

    @cached_property
    def _paired_patients(self) -> set[str]:
        return {self.groups[i] for i in np.flatnonzero(self.presence.sum(1) >= 2)}

    @cached_property
    def pairs_per_patient(self) -> dict[str, int]:
        """Patient -> complete cases, for patients that have one."""
        whole = np.flatnonzero(self.presence.all(1))
        return dict(Counter(self.groups[i] for i in whole))

    @property
    def summary(self) -> str:
        """One line for a terminal: how many there are, and what was left out."""
        each = sorted(self.pairs_per_patient.values()) or [0]
        parts = [f"{count:,} {what}" for what, count in self.counts.items() if count]
        per = f"complete cases per patient: median {each[len(each) // 2]}, at most {each[-1]}"
        lost = "; ".join(f"{count:,} {what}" for what, count in self.left_out.items() if count)
        return f"{', '.join(parts)}; {per}" + (f"; left out: {lost}" if lost else "")

    @cached_property
    def content_hash(self) -> str:
        """16 hex digits over the manifests' content and every case; no signal is opened."""
        digest = hashlib.sha256(repr((self.name, self.modalities)).encode())
        for modality, manifest in self.manifests.items():
            digest.update(manifest.content_hash.encode())
            digest.update(np.ascontiguousarray(self.rows[modality], dtype="<i8").tobytes())
        digest.update(repr((self.texts, self.groups, self.splits)).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def files_hash(self) -> str:
        """16 hex digits over the bytes of all manifests' files (see ``Manifest.files_hash``)."""
        files = [manifest.files_hash for manifest in self.manifests.values()]
        return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


def refuse_shared_patients(name: str, groups: Iterable[str], splits: Iterable[str]) -> None:
    """Leak checker: UserError if a patient stands in two splits."""
    seen: dict[str, str] = {}
    pairs = zip(groups, splits, strict=True)
    shared = sorted({g for g, split in pairs if seen.setdefault(g, split) != split})
    if shared:
        raise UserError(
            f"dataset {name!r}: {len(shared)} patient(s) stand in two splits "
            f"({', '.join(shared[:5])}{' ...' if len(shared) > 5 else ''}); give each to one."
        )


def _ids(values: Sequence[Hashable], absent: Hashable = None) -> np.ndarray:
    known: dict[Hashable, int] = {}
    ids = [-1 if v == absent else known.setdefault(v, len(known)) for v in values]
    return np.array(ids, dtype=np.int64)
