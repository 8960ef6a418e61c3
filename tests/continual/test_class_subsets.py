"""Streams of a subset of the classes: nothing of the chosen ones is lost to those left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continual.scenarios.class_incremental import ClassIncrementalConfig
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

NAMES = ("A", "B", "C", "D")


def table(labels: list[tuple[int, ...]], groups: list[str] | None = None) -> Manifest:
    """Each row in train, and again in test."""
    rows = [
        Recording(f"{split}{i:03d}", own, split, group=f"{split}{groups[i]}" if groups else "")
        for split in ("train", "test")
        for i, own in enumerate(labels)
    ]
    return Manifest("n", "audio", NAMES, tuple(rows), "1")


def test_a_label_beside_a_rarer_one_that_is_left_out() -> None:
    labels = [(0, 1)] * 8 + [(0,)] * 2 + [(2,)] * 10
    manifest = table(labels)
    stream = ClassIncrementalConfig(classes=(("A",), ("C",))).build(manifest, 1)
    first = stream.experiences[0]
    assert (manifest.targets[first.train, 0] == 1).sum() == 10
    assert (manifest.targets[first.test, 0] == 1).sum() == 10


several = st.lists(
    st.sets(st.integers(0, 3), max_size=3).map(lambda s: tuple(sorted(s))), min_size=2, max_size=30
)


@settings(max_examples=60, deadline=None)
@given(several, st.sets(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 3))
def test_all_that_has_a_chosen_label_is_there(
    labels: list[tuple[int, ...]], chosen: set[int], seed: int
) -> None:
    labels = [*labels, (), *((c,) for c in range(4)), (0, 1), (2, 3)]
    manifest = table(labels)
    stream = ClassIncrementalConfig(classes=tuple((NAMES[c],) for c in sorted(chosen)))
    built = stream.build(manifest, seed)
    train = np.concatenate([e.train for e in built.experiences])
    assert len(set(train.tolist())) == len(train)
    wanted = {
        row
        for row, recording in enumerate(manifest)
        if not recording.labels or chosen & set(recording.labels)
    }
    assert set(train.tolist()) == wanted & set(manifest.indices("train").tolist())
    for experience in built.experiences:
        assert set(experience.test.tolist()) == wanted & set(manifest.indices("test").tolist())
        sorted_in = manifest.main_labels(chosen)[experience.train]
        assert set(sorted_in.tolist()) <= {*experience.classes, -1}


def test_all_classes_are_sorted_as_ever() -> None:
    manifest = table([(0, 1), (1, 2), (2,), (3,), (), (0, 3)] * 4)
    np.testing.assert_array_equal(manifest.main_labels(range(4)), manifest.labels)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_rare_class_that_is_left_out_blocks_no_validation_split(grouped: bool) -> None:
    labels = [(i % 3,) for i in range(60)] + [(3,)]
    groups = [str(i // 6) for i in range(60)] + ["9"]
    manifest = table(labels, groups if grouped else None)
    config = ClassIncrementalConfig(classes=(("A", "B"), ("C",)), validation_fraction=0.2)
    stream = config.build(manifest, 1)
    for experience in stream.experiences:
        assert set(stream.manifest.labels[experience.validation]) == set(experience.classes)
    assert sum(len(e.train) + len(e.validation) for e in stream.experiences) == 60
    with pytest.raises(UserError, match="class 'D' has"):
        ClassIncrementalConfig(num_experiences=2, validation_fraction=0.2).build(manifest, 1)


def test_no_label_at_all_to_hold_out_by() -> None:
    rows = [Recording(f"{i:03d}", (), "train") for i in range(9)]
    rows += [Recording(f"t{i}", (0,), "test") for i in range(9)]
    manifest = Manifest("n", "audio", NAMES, tuple(rows), "1")
    with pytest.raises(UserError, match=r"validation_fraction=0\.2: no training recording of 'n'"):
        ClassIncrementalConfig(num_experiences=1, validation_fraction=0.2).build(manifest, 1)
