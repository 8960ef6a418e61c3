"""Domain-incremental streams: the same classes throughout, one group (speaker, ...) at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from continual.scenarios import SCENARIOS, Experience, Stream
from multimodal.datasets.splits import SEEDED, hold_out_validation, seeded_split
from multimodal.errors import UserError
from multimodal.recordings import Manifest
from multimodal.registry import Config, Distinct

SIDES = ("train", "test")


@SCENARIOS.register("domain_incremental")
class DomainIncrementalConfig(Config):
    """Every experience is the training and test recordings of one group.

    order: group names in the order to meet them; None: seeded. validation_fraction: share of the
    training recordings held out. The test set of an experience is the same speaker, heard on other
    recordings: the data have a split in which groups stand on both sides, or none at all. Where
    none is given (a dataset drew its own, by whole groups), every group gives ``test_fraction`` of
    its recordings of each class to the test split, by ``split_seed``, whatever the run's seed.
    """

    order: Distinct | None = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    test_fraction: float = Field(default=0.2, gt=0, lt=1, exclude_if=lambda share: share == 0.2)
    split_seed: int = Field(default=0, ge=0, exclude_if=lambda seed: seed == 0)

    def build(self, manifest: Manifest, seed: int) -> Stream:
        """UserError if groups are unknown, listed wrongly, or without training or test part."""
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
        # Of groups that are to stand on both sides the leak checker has nothing to say.
        told = manifest.group_overlap or "each group is tested on other recordings of its own"
        manifest = replace(manifest, group_overlap=told, shared="") if manifest.shared else manifest
        sided = any(_one_sided(manifest, groups)) or bool(manifest.undrawn)
        drawn = manifest.split_rule.startswith(SEEDED) and sided
        if drawn:
            manifest = split_inside_groups(manifest, self.test_fraction, seed=self.split_seed)
        _refuse_one_sided(manifest, groups)
        manifest = hold_out_validation(
            manifest,
            self.validation_fraction,
            seed=seed,
            by_group=False,
            setting="scenario.validation_fraction",
        )
        order = self.order or np.random.default_rng(seed).permutation(groups).tolist()
        experiences = tuple(_experience(manifest, str(group)) for group in order)
        # A class of which a group has one recording is trained on there, and not tested.
        return Stream(manifest, experiences, grouped=drawn)


def split_inside_groups(manifest: Manifest, test_fraction: float, *, seed: int) -> Manifest:
    """A drawn split anew: of each group and class a share of the recordings is for the test.

    Of n recordings it is ``floor(test_fraction * n + 1/2)``, at least 1 and at most n - 1; a lone
    one is trained on. UserError naming all groups of which no class has two recordings.
    """
    uids, splits = manifest.columns.column("uid"), manifest.splits.copy()
    splits[:] = "train"
    cells: dict[tuple[str, int], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(manifest.groups, manifest.labels.tolist(), strict=True)):
        cells[key].append(row)
    several = {key: rows for key, rows in cells.items() if len(rows) > 1}
    lone = sorted({group for group, _ in cells} - {group for group, _ in several})
    if lone:
        raise UserError(
            f"domain_incremental: {len(lone)} group(s) of {manifest.name!r} have no class with two "
            f"recordings, one to train on and one to test: {_listed(lone)}; add recordings or "
            "leave these groups out."
        )
    for (group, label), rows in several.items():
        sides = seeded_split(
            [str(uids[row]) for row in rows],
            [f"{group} {label}"] * len(rows),
            test_fraction=test_fraction,
            seed=seed,
        )
        for row, side in zip(rows, sides, strict=True):
            splits[row] = side
    return replace(
        manifest,
        recordings=manifest.columns.replace(split=splits),
        split_rule=f"{SEEDED}inside each group, test_fraction {test_fraction:g}, seed {seed}",
        group_overlap="each group is tested on other recordings of its own",
        undrawn="",
    )


def _refuse_one_sided(manifest: Manifest, groups: list[str]) -> None:
    for split, missing in zip(SIDES, _one_sided(manifest, groups), strict=True):
        if missing:
            several = len(missing) > 1
            raise UserError(
                f"domain_incremental: group{'s' * several} {_listed(missing)} of "
                f"{manifest.name!r} {'have' if several else 'has'} no {split} recording; use a "
                "split in which every group is trained on and tested, or give none, so that one "
                "is drawn inside each group (of a table split_column=null)."
            )


def _one_sided(manifest: Manifest, groups: list[str]) -> list[list[str]]:
    """Of each of SIDES the groups that have no recording there."""
    there = (set(manifest.groups[manifest.indices(split)]) for split in SIDES)
    return [[group for group in groups if group not in its] for its in there]


def _listed(groups: list[str]) -> str:
    return ", ".join(map(repr, groups[:10])) + ", ..." * (len(groups) > 10)


def _experience(manifest: Manifest, group: str) -> Experience:
    mine = manifest.groups == group
    train, held, test = (
        np.flatnonzero(mine & (manifest.splits == s)) for s in ("train", "validation", "test")
    )
    classes = np.unique(manifest.labels[train]).tolist()
    if manifest.multi_label:
        classes = np.flatnonzero((manifest.targets[train] == 1).any(0)).tolist()
    return Experience(group, tuple(classes), train, held, test)
