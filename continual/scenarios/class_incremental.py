"""Class-incremental streams: every experience brings classes never met before.

Unlike Avalanche's generator no class is ever dropped (10 classes in 3 experiences are 4 + 3 + 3)
and the global random state is never touched.

Multi-label data: a training recording stands in the experience of its main label, chosen among
the classes of the stream (``Manifest.main_labels``); those without any label are dealt out evenly,
by the seed. It tells the learner all its labels of exposed classes; of classes still to come it is
unlabelled, not negative. Recordings all of whose labels are left out of the stream are left out.
Every experience scores its own classes on all test recordings.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from continual.scenarios import SCENARIOS, Experience, Stream
from multimodal.datasets.splits import hold_out_validation
from multimodal.errors import UserError, did_you_mean
from multimodal.recordings import Manifest
from multimodal.registry import Config, Distinct

ClassList = Annotated[tuple[str, ...], Field(min_length=1)]


@SCENARIOS.register("class_incremental")
class ClassIncrementalConfig(Config):
    """num_experiences: of equal size, the first ones one class larger where it does not divide.

    classes: instead, the class names of each experience; those that no experience names are left
    out of the stream, with their recordings. first_experience: number of classes of
    the first one. shuffle: seeded class order (False: the dataset's own). class_order_seed: None
    follows the run's seed, so that seeds differ in class order too. validation_fraction: share of
    the training recordings held out (whole groups, where groups are known), unless the dataset
    has a validation split of its own. held_out: names of classes that no experience shows; learners
    that know texts are tested on them, zero-shot, all along the stream.

    group_classes_by: prefix: classes of one name up to the first "_" come together, as the intents
    of a scenario (alarm_query, alarm_set) do; ``num_experiences`` and ``first_experience`` then
    count these groups, and ``classes`` lists their names. Scores are still of classes. A class of
    a group that has no training recordings is tested all the same, as one that cannot be named.
    """

    num_experiences: Annotated[int, Field(ge=1)] | None = None
    classes: Annotated[tuple[ClassList, ...], Field(min_length=1)] | None = None
    first_experience: Annotated[int, Field(ge=1)] | None = None
    shuffle: bool = True
    class_order_seed: Annotated[int, Field(ge=0)] | None = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    held_out: Distinct = ()
    group_classes_by: Literal["prefix"] | None = Field(
        default=None, exclude_if=lambda by: by is None
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _lists_of_names(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        alone = [str(each) for each in value if not isinstance(each, list)]
        if alone:
            raise ValueError(
                f"a list for each experience is needed, such as [[a, b], [c]]; {', '.join(alone)} "
                "stands alone: write [[...]] for one experience of all of them, or [[a], [b]] for "
                "one class each"
            )
        return tuple(map(tuple, value))

    @model_validator(mode="after")
    def _one_way_to_split(self) -> ClassIncrementalConfig:
        if (self.num_experiences is None) == (self.classes is None):
            raise ValueError("give either num_experiences or classes")
        if self.classes is not None and self.first_experience is not None:
            raise ValueError("first_experience goes with num_experiences, not with classes")
        return self

    def build(self, manifest: Manifest, seed: int) -> Stream:
        """UserError for more experiences than classes, unknown or repeated classes."""
        order_seed = seed if self.class_order_seed is None else self.class_order_seed
        units, grouped = self._units(manifest), self.group_classes_by is not None
        lists = (
            self._listed(manifest, units)
            if self.classes is not None
            else self._drawn(manifest, units, order_seed)
        )
        streamed = {c for names in lists for name in names for c in units[name]}
        manifest = hold_out_validation(
            manifest,
            self.validation_fraction,
            seed=seed,
            setting="scenario.validation_fraction",
            classes=None if self.classes is None else streamed,
        )
        labels, rows = _sorted_by(manifest, streamed)
        experiences = []
        unlabelled = np.random.default_rng([seed, 1]).permutation(
            rows["train"][labels[rows["train"]] < 0]
        )
        for i, names in enumerate(lists):
            classes = [c for name in names for c in units[name]]
            own = {s: r[np.isin(labels[r], classes)] for s, r in rows.items()}
            if manifest.multi_label:
                share = unlabelled[i :: len(lists)]
                own = {**rows, "train": np.sort(np.concatenate([own["train"], share]))}
            if grouped and not manifest.multi_label:
                met = set(labels[own["train"]].tolist())
                classes = [c for c in classes if c in met] or classes
            name = f"{i + 1}: " + ", ".join(names)
            experiences.append(Experience(name, tuple(classes), **own))
        return Stream(manifest, tuple(experiences), self._held_out(manifest), grouped=grouped)

    def _units(self, manifest: Manifest) -> dict[str, list[int]]:
        """What is dealt out to experiences, by name: classes, or groups of them."""
        units: dict[str, list[int]] = {}
        for c, name in enumerate(manifest.class_names):
            if name not in self.held_out:
                unit = name if self.group_classes_by is None else name.partition("_")[0]
                units.setdefault(unit, []).append(c)
        return units

    @property
    def _what(self) -> tuple[str, str]:
        """What is dealt out, in words: one, many."""
        if self.group_classes_by is None:
            return "class", "classes"
        return "group of classes", "groups of classes"

    def _held_out(self, manifest: Manifest) -> Experience | None:
        if not self.held_out:
            return None
        known = list(manifest.class_names)
        for name in self.held_out:
            if name not in known:
                raise UserError(f"scenario.held_out: no class {name!r}{did_you_mean(name, known)}")
        classes = tuple(known.index(name) for name in self.held_out)
        if manifest.multi_label or len(set(classes)) < max(2, len(classes)):
            raise UserError(
                f"scenario.held_out={list(self.held_out)}: give at least two different classes, of "
                "data with one label a recording."
            )
        test = manifest.indices("test")
        test, none = test[np.isin(manifest.labels[test], classes)], np.empty(0, dtype=np.int64)
        return Experience("held out", classes, none, none, test)

    def _drawn(self, manifest: Manifest, units: dict[str, list[int]], seed: int) -> list[list[str]]:
        count, first, order = self.num_experiences or 1, self.first_experience, list(units)
        total, (one, many) = len(order), self._what
        rest, slots = (total, count) if first is None else (total - first, count - 1)
        if rest < slots or (slots == 0 and rest > 0):
            raise UserError(
                f"scenario.num_experiences={count}"
                + (f" with first_experience={first}" if first else "")
                + f" does not fit the {total} {many} of dataset {manifest.name!r}: "
                + f"every experience needs at least one {one} and every {one} an experience."
            )
        if self.shuffle:
            drawn = np.random.default_rng(seed).permutation(total).tolist()
            order = [order[i] for i in drawn]
        sizes = [rest // slots + (i < rest % slots) for i in range(slots)]
        sizes = sizes if first is None else [first, *sizes]
        ends = np.cumsum(sizes).tolist()
        return [order[end - size : end] for size, end in zip(sizes, ends, strict=True)]

    def _listed(self, manifest: Manifest, units: dict[str, list[int]]) -> list[list[str]]:
        assert self.classes is not None
        known, (one, _) = list(units), self._what
        wanted = [name for group in self.classes for name in group]
        unknown = [name for name in dict.fromkeys(wanted) if name not in known]
        if unknown:
            raise UserError(
                f"scenario.classes: no {one} {', '.join(map(repr, unknown))}"
                f"{did_you_mean(unknown[0], known)}"
            )
        repeated = sorted({n for n in wanted if wanted.count(n) > 1})
        if repeated:
            raise UserError(
                f"scenario.classes must name each {one} of {manifest.name!r} at most once; "
                f"repeated: {repeated}."
            )
        return [list(group) for group in self.classes]


def _sorted_by(manifest: Manifest, streamed: set[int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The labels (N,) that recordings are sorted by, and the stream's recordings of each split.

    Of multi-label data the main label is one of the classes of the stream, and recordings that have
    labels, but none of these, are left out.
    """
    rows = {split: manifest.indices(split) for split in ("train", "validation", "test")}
    if not manifest.multi_label or len(streamed) == manifest.num_classes:
        return manifest.labels, rows
    labels = manifest.main_labels(streamed)
    stays = (labels >= 0) | (manifest.labels < 0)
    return labels, {split: own[stays[own]] for split, own in rows.items()}
