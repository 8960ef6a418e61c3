"""Test recordings of which a model's training pool holds a part (``training_pool``)."""

from __future__ import annotations

import numpy as np

from benchmarks.commands.zeroshot.config import ZeroShotConfig
from benchmarks.runs.composed import pool_rows
from benchmarks.runs.data import build_manifest, cache_folder
from benchmarks.runs.shared_sound import SOUND, shared_sound, told
from multimodal.errors import UserError
from multimodal.evaluation.scores import Scores
from multimodal.modalities import Adapter
from multimodal.recordings import Manifest
from multimodal.signals import SignalCache


def pool_manifest(config: ZeroShotConfig, manifest: Manifest) -> Manifest | None:
    """Of the pool; None: none is named. manifest: of the dataset that is tested.

    UserError: either of them is no sound; the pool has no training recordings.
    """
    if config.training_pool is None:
        return None
    pool = build_manifest(config.model_copy(update={"dataset": config.training_pool}))
    for one in (pool, manifest):
        if one.modality not in SOUND:
            raise UserError(
                f"training_pool: fingerprints are of sound (audio, speech), and {one.name!r} holds "
                f"{one.modality} recordings; leave it out."
            )
    if not len(pool.indices("train")):
        raise UserError(f"training_pool: dataset {pool.name!r} has no training recordings.")
    return pool


def tell_shared(
    scores: Scores,
    config: ZeroShotConfig,
    pool: Manifest,
    adapter: Adapter,
    signals: SignalCache,
    rows: np.ndarray,
) -> None:
    """Into the details of ``scores``; rows: recordings of ``signals`` that are scored, or that
    scored scenes are composed of.
    """
    rate = adapter.config.sample_rate  # pyright: ignore[reportAttributeAccessIssue]
    if pool.made_rate not in (None, rate):
        raise UserError(
            f"training_pool: dataset {pool.name!r} makes its signals at {pool.made_rate} Hz, and "
            f"the model reads {rate} Hz; leave it out."
        )
    known = SignalCache(
        pool, adapter, folder=cache_folder(config), skip_damaged=config.skip_damaged
    )
    trained = known.usable(pool.indices("train"))
    if config.compose is not None:
        rows = pool_rows(signals, config.compose.test_splits)
    shared = shared_sound((known, trained), (signals, rows))
    scores.details["shared_sound"] = shared
    if told(shared):
        scores.details["warnings"] = [*scores.details.get("warnings", []), told(shared)]
