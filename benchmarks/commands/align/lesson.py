"""What an alignment is trained on: the dataset's recordings, or scenes composed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import torch

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.data import AlignData
from benchmarks.commands.align.parts import caption_texts, signal_source
from multimodal.evaluation.embeddings import embed_rows
from multimodal.loader import Loader
from multimodal.models.align_task import Beside, Source, numbered
from multimodal.models.captions import Captions
from multimodal.models.towers import Aligned
from multimodal.recordings import Manifest, Recording
from multimodal.training.neighbours import nearest

AT_ONCE = 64


@dataclass(frozen=True)
class Lesson:
    """sources, captions, beside, groups: as of ``AlignTask``. rows: cases that are trained on, of
    the recordings or scenes ``of``. lengths: of these, in steps.
    """

    sources: Mapping[str, Source]
    captions: Captions
    rows: np.ndarray
    lengths: np.ndarray
    of: Sequence[Recording]
    beside: Beside = field(default_factory=Beside)
    groups: np.ndarray | None = None

    @property
    def distinct_texts(self) -> int:
        return len(np.unique(self.captions.of_row[self.rows]))

    def near(self, model: Aligned, count: int, *, device: torch.device) -> np.ndarray:
        """(N, count) positions among ``rows`` of the nearest cases that say something else, by the
        signals as ``model`` embeds them now; of one modality, everything decoded.
        """
        ((_, source),) = self.sources.items()
        model.eval()
        loader = Loader(source.signals.gather, device)
        with torch.no_grad():
            signals = embed_rows(model.embed_signals, loader, self.rows, batch_size=AT_ONCE)
        model.train()
        said = self.captions.of_row if self.beside.keys is None else self.beside.keys
        return nearest(signals, count, said[self.rows])

    def ensure(self) -> None:
        """Embed, or tokenise, its texts."""
        self.captions.ensure(self.rows)
        for numbers in self.beside.texts.values():
            self.captions.ensure_numbers(numbers)


def recorded(
    data: AlignData,
    manifest: Manifest,
    captions: Captions,
    sources: Mapping[str, Source],
    rows: np.ndarray,
) -> Lesson:
    """manifest: with the cell's hold-out."""
    return Lesson(
        sources,
        captions,
        rows,
        data.lengths(rows),
        manifest.recordings,
        groups=numbered(manifest.groups),
    )


def recorded_captions(
    config: AlignConfig, data: AlignData, manifest: Manifest, model: Aligned
) -> Captions:
    return Captions(
        caption_texts(config, manifest),
        model,
        settings=config.text.dump(),
        folder=data.folder,
        known=data.embeddings,
    )


def composed(
    config: AlignConfig, data: AlignData, model: Aligned, *, device: torch.device
) -> Lesson:
    """Of ``data.scenes``; the main caption is a positive that stands by itself."""
    ((modality, _),) = data.views.items()
    found = data.scenes[bool(config.objectives[0].extra_signals)]  # pyright: ignore
    scenes, signals, twins = found.scenes, found.signals, found.twins
    positives = [texts[1:] for texts in scenes.positives]
    captions = Captions(
        scenes.captions,
        model,
        settings=config.text.dump(),
        more=chain(*positives, *scenes.negatives),
        folder=data.folder,
        known=data.embeddings,
    )
    count = len(scenes) if twins is None else len(twins)
    rows = np.arange(count)
    texts = {
        name: captions.table(lists, max(map(len, lists)))
        for name, lists in (("positives", positives), ("negatives", scenes.negatives))
    }
    every = np.arange(len(scenes))
    source = signal_source(config, data, model, modality, every, device=device, signals=signals)
    return Lesson(
        {modality: source},
        captions,
        rows,
        signals.lengths(rows),
        signals.manifest.recordings,
        beside=Beside(texts, {} if twins is None else {"negative_signals": twins}, scenes.keys),
    )
