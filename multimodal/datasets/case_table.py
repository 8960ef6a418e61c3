"""Cases as one table: what streams, splits and results know of recordings, known of cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from multimodal.datasets.pairing import Cases
from multimodal.recordings import Manifest, Recording, Slots


def as_table(cases: Cases) -> Manifest:
    """A row a case, in the same order, with its text, patient, split, labels and slots; no signal.

    A class is present if a recording of the case has it, and unknown if no modality that knows the
    class has a recording here. The version tells the content of the cases.
    """
    manifests = cases.manifests
    names = tuple(dict.fromkeys(n for m in manifests.values() for n in m.class_names))
    targets = case_targets(cases, names)
    recordings = tuple(
        Recording(
            uid=f"case {i:08d}",
            labels=tuple(np.flatnonzero(targets[i] == 1).tolist()),
            unknown=tuple(np.flatnonzero(np.isnan(targets[i])).tolist()),
            split=cases.splits[i],
            group=cases.groups[i],
            text=cases.texts[i],
            slots=_slots(cases, i),
        )
        for i in range(len(cases))
    )
    parts = [
        (m.version if m.name == cases.name else f"{m.name} {m.version}") for m in manifests.values()
    ]
    versions = dict.fromkeys(parts)
    return Manifest(
        name=cases.name,
        modality="+".join(manifests),
        class_names=names,
        recordings=recordings,
        version=f"{', '.join(versions)}; cases {cases.content_hash}",
        licence="; ".join(dict.fromkeys(m.licence for m in manifests.values())),
        citation="; ".join(dict.fromkeys(m.citation for m in manifests.values())),
        split_rule=cases.rule,
        synthetic=cases.synthetic,
    )


def _slots(cases: Cases, case: int) -> Slots:
    """Those of the case's recordings, in the order of the modalities."""
    there = [(m, cases.rows[name][case]) for name, m in cases.manifests.items() if m.slots]
    return tuple(slot for m, row in there if row >= 0 for slot in m.recordings[row].slots)


def case_targets(cases: Cases, class_names: tuple[str, ...]) -> np.ndarray:
    """(N, C) float32: 1 present, 0 absent, NaN unknown (see ``as_table``)."""
    shape = (len(cases), len(class_names))
    present, known = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for name, manifest in cases.manifests.items():
        there = np.flatnonzero(cases.rows[name] >= 0)
        own = manifest.targets[cases.rows[name][there]]
        columns = np.array([class_names.index(n) for n in manifest.class_names], dtype=np.int64)
        present[np.ix_(there, columns)] |= own == 1
        known[np.ix_(there, columns)] |= ~np.isnan(own)
    return np.where(present, 1, np.where(known, 0, np.nan)).astype(np.float32)


def with_digests(cases: Cases, digests: Path) -> Cases:
    """The same, whose manifests remember the digests of unchanged files there."""
    kept = {name: replace(m, digests=digests) for name, m in cases.manifests.items()}
    return replace(cases, manifests=kept)


def of_modalities(cases: Cases, names: tuple[str, ...]) -> Cases:
    """The cases that have one of these modalities, the others left out."""
    manifests = {name: cases.manifests[name] for name in names}
    rows = {name: cases.rows[name] for name in names}
    keep = np.flatnonzero(np.stack([r >= 0 for r in rows.values()]).any(axis=0))
    return replace(
        cases,
        manifests=manifests,
        rows={name: r[keep] for name, r in rows.items()},
        texts=tuple(cases.texts[i] for i in keep),
        groups=tuple(cases.groups[i] for i in keep),
        splits=tuple(cases.splits[i] for i in keep),
    )
