"""Items of look-alike recordings that ``task: compositional`` asks a model to tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.commands.zeroshot.config import ZeroShotConfig
from benchmarks.runs.composed import items_to_tell_apart
from multimodal.datasets.compositional import CompositionalConfig, CompositionalSet
from multimodal.errors import UserError
from multimodal.evaluation.prompts import Prompts
from multimodal.loader import Signals
from multimodal.signals import SignalCache


class Items(NamedTuple):
    """items: rows of ``signals``, whose manifest has the captions. names: of items, for errors."""

    signals: Signals
    items: Sequence[tuple[int, ...]]
    names: Sequence[str] | None

    @property
    def rows(self) -> np.ndarray:
        """(R,) int64 of all items, each once, ascending."""
        return np.unique([row for item in self.items for row in item])


def items_of_dataset(config: ZeroShotConfig) -> CompositionalSet | None:
    """Of a compositional dataset; None: none is asked for, or scenes are composed.

    UserError: the dataset has no items, and ``compose`` is not set.
    """
    if config.task != "compositional" or config.compose is not None:
        return None
    dataset = config.dataset
    if not isinstance(dataset, CompositionalConfig):
        raise UserError(
            f"task=compositional: dataset {dataset.registered_name!r} has no items of look-alike "
            "recordings; name one that has (compositional, compa_order, compa_attribute), or "
            "compose them of its recordings with compose."
        )
    return dataset.build_compositional(config.dataset_root())


def items_for(
    config: ZeroShotConfig,
    known: CompositionalSet | None,
    signals: SignalCache,
    prompts: Prompts,
) -> Items:
    """signals: of the dataset, as the model reads them. prompts: whose words captions of composed
    scenes have. UserError: a recording of an item is damaged.
    """
    if known is not None:
        signals.ensure([row for item in known.items for row in item])
        return Items(signals, known.items, known.names)
    assert config.compose is not None
    names = signals.manifest.class_names
    words = dict(zip(names, prompts.words(names), strict=True))
    composed = items_to_tell_apart(config.compose, signals, words)
    return Items(composed.signals, composed.items, None)
