"""The recordings that the tests of learners share, and what a learner hears of an experience."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from continual.learner import ExperienceInfo
from multimodal.modalities import Adapter
from multimodal.recordings import Manifest
from multimodal.signals import SignalCache


@dataclass(frozen=True)
class ToyData:
    """A dataset, its adapter and the decoded signals."""

    manifest: Manifest
    adapter: Adapter
    signals: SignalCache


def info(stream, index: int, data, strategy=None) -> ExperienceInfo:
    rows = stream.experiences[index].train
    exposed = {c for e in stream.experiences[: index + 1] for c in e.classes}
    return ExperienceInfo(
        index=index,
        count=len(stream),
        classes=stream.experiences[index].classes,
        exposed=tuple(sorted(exposed)),
        rows=rows,
        labels=data.manifest.labels[rows],
        targets=None,
        batches=lambda: iter([data.signals.gather(torch.as_tensor(rows))]),
    )
