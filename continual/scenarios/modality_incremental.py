"""Modality-incremental streams: each experience brings all classes of a modality never met before.

Data set ``several`` has the recordings. All modalities share one classifier, or one space of texts;
what an experience teaches of sound may cost what was known of X-rays. No published suite has such a
stream: its protocol is ours.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from continual.scenarios import SCENARIOS, Experience, Stream
from multimodal.datasets.splits import hold_out_validation
from multimodal.errors import UserError, did_you_mean
from multimodal.modalities import SEVERAL, modality_of
from multimodal.recordings import Manifest
from multimodal.registry import Config, Distinct


@SCENARIOS.register("modality_incremental")
class ModalityIncrementalConfig(Config):
    """order: of the modalities; None: drawn by the run's seed. validation_fraction: share of the
    training recordings of each modality that is held out.

    held_out_classes: number of classes of each modality, drawn by the seed, that no experience
    shows. Learners that know texts are tested on them before and after every experience, named
    among those of the same modality: whether the space keeps what it never was taught.
    """

    order: Distinct | None = None
    held_out_classes: Annotated[int, Field(ge=0)] = 0
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def build(self, manifest: Manifest, seed: int) -> Stream:
        """UserError: data of one modality, an order of others, too few classes to hold out."""
        if manifest.modality != SEVERAL:
            raise UserError(
                f"modality_incremental: dataset {manifest.name!r} holds {manifest.modality} "
                f"recordings alone; use dataset {SEVERAL}."
            )
        manifest = hold_out_validation(
            manifest, self.validation_fraction, seed=seed, setting="scenario.validation_fraction"
        )
        classes: dict[str, list[int]] = {}
        for number, name in enumerate(manifest.class_names):
            classes.setdefault(modality_of(name)[0], []).append(number)
        order, rng = self._ordered(list(classes), seed), np.random.default_rng([seed, 2])
        experiences, parts = [], []
        for name in order:
            shown, hidden = self._held_out(name, classes[name], rng)
            experiences.append(_experience(manifest, name, shown))
            if hidden:
                parts.append(_experience(manifest, name, hidden, tested=True))
        return Stream(manifest, tuple(experiences), held_out=_union(parts), parts=tuple(parts))

    def _ordered(self, names: list[str], seed: int) -> list[str]:
        if self.order is None:
            return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
        for name in self.order:
            if name not in names:
                raise UserError(
                    f"scenario.order: no modality {name!r} in the data{did_you_mean(name, names)}"
                )
        if sorted(self.order) != sorted(names):
            raise UserError(
                f"scenario.order={list(self.order)}: name each of {', '.join(names)} once."
            )
        return list(self.order)

    def _held_out(
        self, name: str, classes: list[int], rng: np.random.Generator
    ) -> tuple[list[int], list[int]]:
        """(Classes of an experience, classes that none shows.)"""
        count = self.held_out_classes
        if count and (count < 2 or len(classes) - count < 2):
            raise UserError(
                f"scenario.held_out_classes={count}: {name} has {len(classes)} classes; hold out "
                "at least two, and leave two to learn."
            )
        hidden = sorted(rng.choice(classes, count, replace=False).tolist())
        return [c for c in classes if c not in hidden], hidden


def _experience(
    manifest: Manifest, name: str, classes: list[int], *, tested: bool = False
) -> Experience:
    rows = {split: manifest.indices(split) for split in ("train", "validation", "test")}
    own = {s: r[np.isin(manifest.labels[r], classes)] for s, r in rows.items()}
    if tested:
        own |= {split: np.empty(0, dtype=np.int64) for split in ("train", "validation")}
    return Experience(name, tuple(classes), **own)


def _union(parts: list[Experience]) -> Experience | None:
    if not parts:
        return None
    classes = tuple(sorted(c for part in parts for c in part.classes))
    test, none = np.concatenate([part.test for part in parts]), np.empty(0, dtype=np.int64)
    return Experience("held out", classes, none, none, np.sort(test))
