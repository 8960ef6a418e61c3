"""Domain-incremental streams: the same classes throughout, one group (speaker, ...) at a time."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from continual.scenarios import SCENARIOS, Experience, Stream
from multimodal.datasets.splits import hold_out_validation
from multimodal.errors import UserError
from multimodal.recordings import Manifest
from multimodal.registry import Config


@SCENARIOS.register("domain_incremental")
class DomainIncrementalConfig(Config):
    """Every experience is the training and test recordings of one group.

    order: group names in the order to meet them; None: seeded. validation_fraction: share of the
    training recordings held out. Needs an official split in which groups stand on both sides
    (the test set of an experience is the same speaker, heard on other recordings).
    """

    order: tuple[str, ...] | None = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def build(self, manifest: Manifest, seed: int) -> Stream:
        """UserError if groups are unknown, listed wrongly, or without training or test part."""
        manifest = hold_out_validation(
            manifest,
            self.validation_fraction,
            seed=seed,
            by_group=False,
            setting="scenario.validation_fraction",
        )
        groups = sorted({g for g in manifest.groups if g})
        if not groups:
            raise UserError(f"domain_incremental: dataset {manifest.name!r} knows no groups.")
        unknown = int(np.sum(manifest.groups == ""))
        if unknown:
            raise UserError(
                f"domain_incremental: {unknown} recordings of {manifest.name!r} have no group; "
                "give each one its speaker, patient or source."
            )
        if self.order is not None and sorted(self.order) != groups:
            raise UserError(
                f"scenario.order must list each group of {manifest.name!r} once: "
                f"{', '.join(groups)}; got {', '.join(self.order)}."
            )
        order = self.order or np.random.default_rng(seed).permutation(groups).tolist()
        return Stream(manifest, tuple(self._experience(manifest, str(group)) for group in order))

    def _experience(self, manifest: Manifest, group: str) -> Experience:
        mine = manifest.groups == group
        rows = {s: np.flatnonzero(mine & (manifest.splits == s)) for s in ("train", "test")}
        for split, found in rows.items():
            if not len(found):
                raise UserError(
                    f"domain_incremental: group {group!r} of {manifest.name!r} has no {split} "
                    "recording; use a split in which every group is trained on and tested."
                )
        held = np.flatnonzero(mine & (manifest.splits == "validation"))
        classes = np.unique(manifest.labels[rows["train"]]).tolist()
        if manifest.multi_label:
            classes = np.flatnonzero((manifest.targets[rows["train"]] == 1).any(0)).tolist()
        return Experience(group, tuple(classes), rows["train"], held, rows["test"])
