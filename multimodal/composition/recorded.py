"""From recordings of one event each to a pool, and what a renderer gives, in any modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Columns
from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field
from torch import Tensor

from multimodal.composition.plan import Pool
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

RESEARCH_ONLY = "For research, not for clinical use."
Phrases: TypeAlias = Callable[[Recording], str] | Mapping[str, str]
Zero = Annotated[float, Field(ge=0, le=0)]  # a setting of sound that a signal cannot have


class Rendered(NamedTuple):
    """n scenes in the canonical form of their modality.

    values: (n, 1, T) sound, (n, 12, T) ECG, (n, F, 3, H, W) video, (n, 1, H, W) X-ray; zero beyond
    ``lengths``, (n,) int64, which are 1 for X-rays.
    """

    values: Tensor
    lengths: Tensor


def refuse_modality(manifest: Manifest, composer: str, reads: Columns[str]) -> None:
    """UserError where a composer is asked for scenes of signals that it cannot compose."""
    if manifest.modality not in reads:
        raise UserError(
            f"composer {composer!r}: makes scenes of {' or '.join(reads)}, and {manifest.name!r} "
            f"holds {manifest.modality} recordings; name the composer of this modality."
        )


def phrase_of(manifest: Manifest, phrases: Phrases) -> Callable[[Recording], str]:
    """The words of a recording; UserError for a class without a phrase."""
    if not isinstance(phrases, Mapping):
        return phrases
    names, by_class = manifest.class_names, phrases
    missing = [name for name in names if name not in phrases]
    if missing:
        raise UserError(f"phrases: none for {', '.join(missing)}; give each class its words.")
    return lambda recording: by_class[names[recording.label]]


def pool_of(
    manifest: Manifest,
    kept: Columns[int],
    lengths: Columns[int],
    rate: int,
    *,
    phrases: Callable[[Recording], str],
    categories: Mapping[str, str] | None = None,
    starts: Columns[int] = (),
) -> Pool:
    """The pool of the rows ``kept`` of a manifest; lengths, starts: of each, in steps.

    Sources are the manifest's groups, where it has them. UserError where a recording has not
    exactly one label: captions would be silent on what else is there.
    """
    recordings = [manifest.recordings[row] for row in kept]
    for recording in recordings:
        if len(recording.labels) != 1 or recording.unknown:
            raise UserError(
                f"{recording.where}: {len(recording.labels)} labels, {len(recording.unknown)} "
                "uncertain; scenes are composed of recordings of one label, leave it out of rows."
            )
    names = manifest.class_names
    return Pool(
        labels=np.array([r.label for r in recordings]),
        lengths=np.array(lengths),
        rate=rate,
        names=names,
        sources=tuple(r.group or r.uid for r in recordings),
        categories=() if categories is None else tuple(categories[name] for name in names),
        phrases=tuple(phrases(r) for r in recordings),
        starts=np.array(starts, dtype=np.int64),
        recordings=np.array(kept),
    )
