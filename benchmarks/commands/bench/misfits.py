"""What cannot be learned: a learner that does not fit the data or the stream, in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from continual.learner import Learner, LearnerConfig
from continual.rehearsal import Memory
from continual.scenarios import Stream
from multimodal.errors import UserError
from multimodal.recordings import Manifest
from multimodal.registry import Config


class Misfit(UserError):
    """A learner cannot learn such data, or such a stream: there is nothing to mend."""


@contextlib.contextmanager
def misfits() -> Iterator[None]:
    """What is refused inside is refused of a learner and a stream together."""
    try:
        yield
    except UserError as error:
        if type(error) is not UserError:  # of files, which may be mended
            raise
        raise Misfit(str(error)) from error


def refuse_two_kinds(config: Config, learner: Learner) -> None:
    """UserError if a learner from outside the tree does not say what it is, or says two things."""
    name, said = config.registered_name, getattr(config, "kind", None)
    if said != learner.kind:
        raise UserError(
            f"learner {name!r}: its config is of kind {said!r}, but {type(learner).__name__} is "
            f"{learner.kind!r}; give both classes the same `kind`."
        )
    if hasattr(learner, "online"):
        raise UserError(
            f"learner {name!r}: `online` is called `kind` now, of the learner and of its config "
            "('online', 'offline' or 'joint'); rename it."
        )


def refuse_misfits(learner: Config, stream: Stream) -> None:
    """UserError if a learner cannot be used on a stream, an online one above all."""
    name, manifest = learner.registered_name, stream.manifest
    if not isinstance(learner, LearnerConfig):
        raise UserError(f"learner {name!r}: its config is no continual.learners.LearnerConfig.")
    rows = np.concatenate([e.train for e in stream.experiences])
    picky = learner.needs_all_labels and manifest.multi_label
    if picky and np.isnan(manifest.targets[rows]).any():
        raise UserError(
            f"learner {name!r}: some labels of dataset {manifest.name!r} are unknown, and a "
            "regression needs all of them; leave it out, or use er or linear_probe."
        )
    if learner.needs_texts or (learner.uses_texts and manifest.texts is not None):
        refuse_missing_texts(learner, manifest, rows)
    if stream.online is None:
        return
    if learner.kind == "offline":
        raise UserError(
            f"learner {name!r} comes back to recordings after an experience, but an online stream "
            "shows each of them once; use er, finetune or another online learner."
        )
    if learner.kind == "online" and learner.epochs is not None:
        raise UserError(
            f"learner {name!r}: epochs has no meaning in an online stream, which is read once; "
            "set scenario.online_iter, the optimiser steps of a stream batch."
        )


def refuse_small_memory(learner: str, memory: Memory | None, stream: Stream) -> None:
    """UserError unless a memory of exemplars has room for one of every class that it will meet."""
    if memory is None or not memory.needs_features:
        return
    # Multi-label recordings without a label are a class of their own to a memory.
    rows = np.concatenate([e.train for e in stream.experiences])
    classes = len(np.unique(stream.manifest.labels[rows]))
    if memory.capacity < classes:
        raise UserError(
            f"learner {learner!r}, memory_size={memory.capacity}: herding keeps at least one "
            f"recording of each of the {classes} classes; give {classes} or more."
        )


def refuse_missing_texts(learner: LearnerConfig, manifest: Manifest, rows: np.ndarray) -> None:
    """UserError naming training recordings without a text, for a learner that reads texts."""
    uids, texts = (manifest.columns.column(name)[rows].tolist() for name in ("uid", "text"))
    missing = [uid for uid, text in zip(uids, texts, strict=True) if not text.strip()]
    if missing:
        why, remedy = "learns to write texts", "write texts, or leave these recordings out"
        if learner.needs_texts:
            why, remedy = "captions=text", "write texts, or set captions=labels"
        names = ", ".join(map(repr, missing[:5])) + ", ..." * (len(missing) > 5)
        raise UserError(
            f"learner {learner.registered_name!r}: {why}, but {len(missing)} of {len(rows)} "
            f"training recordings of dataset {manifest.name!r} have no text: {names}; {remedy}."
        )
