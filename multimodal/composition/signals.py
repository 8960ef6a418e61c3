"""Scenes where recordings are expected: their signals are composed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from multimodal.batch import Batch
from multimodal.composition.plan import Pool
from multimodal.composition.scenes import Scenes
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache

Render = Callable[[Scenes, np.ndarray], Any]


class ComposedSignals:
    """Stands where a ``SignalCache`` stands; holds the snippets of the pool, not the scenes.

    ``manifest``: of the scenes, in their order: uids hold their hashes, texts are main captions,
    labels those of the events (multi-label where a scene has several, as all have). source: the
    signals that the pool was cut from. render: (scenes, rows) -> what ``audio.render`` gives.
    composer: its name; that of speech composes sounds of other levels than that of audio. split: of
    all scenes, which nothing reads.
    """

    def __init__(
        self,
        scenes: Scenes,
        pool: Pool,
        source: SignalCache,
        render: Render,
        *,
        composer: str,
        split: str,
    ) -> None:
        self.scenes, self.adapter, self._render = scenes, source.adapter, render
        by = "" if composer == source.manifest.modality else f"by {composer} "
        self.manifest = scene_manifest(scenes, pool, source.manifest, render, by=by, split=split)
        self._targets = torch.from_numpy(self.manifest.targets)

    def ensure(self, indices: ArrayLike) -> None:
        """Everything is there: what is damaged in the pool is in no scene."""

    def usable(self, indices: ArrayLike) -> np.ndarray:
        return np.asarray(indices, dtype=np.int64)

    def lengths(self, indices: ArrayLike) -> np.ndarray:
        """(N,) int64 steps."""
        return self.scenes.totals[np.asarray(indices, dtype=np.int64)]

    def gather(self, indices: ArrayLike) -> Batch:
        """A Batch of N >= 1 scenes in the given order; labels: (N, C) of their events."""
        rows = np.asarray(indices, dtype=np.int64)
        found = self._render(self.scenes, rows)
        return replace(self.annotations(rows), inputs=found.values, lengths=found.lengths)

    def annotations(self, indices: ArrayLike) -> Batch:
        """As of ``SignalCache``."""
        rows = np.array(indices, dtype=np.int64)
        index, lengths = torch.from_numpy(rows), torch.zeros(len(rows), dtype=torch.int64)
        texts = tuple(self.scenes.captions[row] for row in rows.tolist())
        return Batch(torch.empty(len(rows), 0), lengths, self._targets[index], index, texts)


def scene_manifest(
    scenes: Scenes, pool: Pool, source: Manifest, render: Render, *, by: str, split: str
) -> Manifest:
    """The scenes as recordings that are made; groups are what all their events come from."""

    def made(row: int) -> Callable[[], np.ndarray]:
        return lambda: render(scenes, np.array([row])).values[0].numpy()

    recordings = []
    for row, snippets in enumerate(scenes.snippets):
        there = snippets[snippets >= 0]
        recordings.append(
            Recording(
                uid=f"{row:08d}-{scenes.hashes[row]}",
                labels=tuple(sorted(set(pool.labels[there].tolist()))),
                split=split,
                text=scenes.captions[row],
                make=made(row),
            )
        )
    files = f"-{source.files_hash}" if source.has_files else ""
    return Manifest(
        name=f"scenes of {source.name}",
        modality=source.modality,
        class_names=source.class_names,
        recordings=tuple(recordings),
        version=f"composed {by}of {source.content_hash}{files}",
        licence=source.licence,
        citation=source.citation,
        split_rule=f"composed of recordings of one side each; {source.split_rule}",
        synthetic=True,
        made_rate=scenes.rate,
    )
