"""From the config's ``compose`` to scenes: those that are trained on, and the items of a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from multimodal.composition import COMPOSERS
from multimodal.composition.draw import draw
from multimodal.composition.plan import ComposerConfig, Pool
from multimodal.composition.scenes import Scenes, stacked
from multimodal.composition.signals import ComposedSignals
from multimodal.composition.twins import benchmark_items, twins
from multimodal.errors import UserError
from multimodal.evaluation.compositional import Mode, companions, compositional
from multimodal.evaluation.scores import Scores
from multimodal.recordings import Manifest
from multimodal.registry import Config
from multimodal.signals import SignalCache

TRAIN, TEST = 1, 2  # of the seeds that scenes are drawn with


class ComposeConfig(Config):
    """Scenes of a dataset's single events, in place of its recordings.

    composer: of the modality, with its settings. scenes: drawn from the recordings of the split
    "train", to be trained on. items: of look-alike scenes (``twins.benchmark_items``), drawn from
    those of ``test_splits``, to be told apart; triplets: share of them that have three.
    """

    composer: Annotated[Config, COMPOSERS.choice]
    scenes: Annotated[int, Field(ge=2)] = 2000
    items: Annotated[int, Field(ge=1)] = 200
    triplets: Annotated[float, Field(ge=0, le=1)] = 0.25
    test_splits: Annotated[tuple[Literal["validation", "test"], ...], Field(min_length=1)] = (
        "test",
    )


@dataclass(frozen=True)
class Composed:
    """signals: of scenes, pool: of what they are made of. items: of each, rows of scenes; none of
    training scenes. twins: (N, 1) int64 rows of the scene that is the same events composed
    otherwise; training scenes only.
    """

    signals: ComposedSignals
    pool: Pool
    items: tuple[tuple[int, ...], ...] = ()
    twins: np.ndarray | None = None

    @property
    def scenes(self) -> Scenes:
        return self.signals.scenes


def training_scenes(
    compose: ComposeConfig, signals: SignalCache, words: Mapping[str, str], *, paired: bool
) -> Composed:
    """paired: with a twin of each scene, of the same length. words: of each class in captions."""
    composer, pool, clips = _opened(compose, signals, ("train",), words)
    composer = composer.model_copy(update={"paired": paired or composer.paired})
    scenes, rows = draw(pool, composer, compose.scenes, TRAIN), None
    if paired:
        rows = len(scenes) + np.arange(len(scenes))[:, None]
        scenes = stacked([scenes, twins(scenes, pool, composer, seed=TRAIN)])
    made = _signals(composer, scenes, pool, clips, signals, "train")
    return Composed(made, pool, twins=rows)


def items_to_tell_apart(
    compose: ComposeConfig, signals: SignalCache, words: Mapping[str, str]
) -> Composed:
    """UserError: as ``benchmark_items``; no recording in the splits."""
    composer, pool, clips = _opened(compose, signals, compose.test_splits, words)
    found = benchmark_items(pool, composer, compose.items, triplets=compose.triplets, seed=TEST)
    made = _signals(composer, found.scenes, pool, clips, signals, "test")
    return Composed(made, pool, tuple(found.items))


def pool_rows(signals: SignalCache, splits: Sequence[str]) -> np.ndarray:
    """Rows that scenes are composed of, ascending. UserError: there are none."""
    manifest = signals.manifest
    rows = np.concatenate([manifest.indices(split) for split in splits])
    if not len(rows):
        raise UserError(f"compose: dataset {manifest.name!r} has no {' or '.join(splits)} split.")
    return signals.usable(np.sort(rows))


def _opened(
    compose: ComposeConfig,
    signals: SignalCache,
    splits: tuple[str, ...],
    words: Mapping[str, str],
) -> tuple[Any, Pool, Any]:
    composer, manifest = compose.composer, signals.manifest
    assert isinstance(composer, ComposerConfig)
    if manifest.multi_label:
        raise UserError(
            f"compose: recordings of {manifest.name!r} have several labels; scenes are composed of "
            "single events."
        )
    rows = pool_rows(signals, splits)
    opened = composer.open(signals, rows, phrases=words)  # pyright: ignore
    return composer, opened.pool, opened.clips


def _signals(
    composer: Any, scenes: Scenes, pool: Pool, clips: Any, source: SignalCache, split: str
) -> ComposedSignals:
    render = partial(_render, composer, clips)
    name = composer.registered_name
    return ComposedSignals(scenes, pool, source, render, composer=name, split=split)


def _render(composer: Any, clips: Any, scenes: Scenes, rows: np.ndarray) -> Any:
    return composer.render(scenes, rows, clips)


def item_scores(
    signals: Tensor,
    texts: Tensor,
    items: Sequence[Sequence[int]],
    manifest: Manifest,
    *,
    names: Sequence[str] | None = None,
    mode: Mode = "pairs",
    seed: int = 0,
) -> Scores:
    """As ``compositional``, for a result: details tell mode, numbers, and of each item whether it
    was told apart, "1" or "0", by which models are compared item by item.
    """
    found = compositional(signals, texts, items, mode=mode, names=names, seed=seed)
    hits = {key: "".join("01"[int(each)] for each in hit) for key, hit in found.hits.items()}
    details = {
        "mode": mode,
        "items": {str(n): count for n, count in found.counts.items()},
        "left_out": found.left_out,
        "items_hash": manifest.content_hash,
        "hits": hits,
        "sizes": found.sizes.tolist(),
    }
    metrics: dict[str, float | None] = {**found.metrics, **companions(signals, texts)}
    return Scores(metrics, found.intervals, {"compositional": details})
