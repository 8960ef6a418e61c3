"""Multi-label streams: main and unknown labels, experiences, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continual.scenarios import SCENARIOS, Stream
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording
from tests.toy import toy_chords


def manifest(*labels: tuple[int, ...], classes: int = 3, split: str = "train") -> Manifest:
    rows = [
        Recording(f"{i:02d}", own, split, make=lambda: np.zeros((1, 160), np.float32))
        for i, own in enumerate(labels)
    ]
    return Manifest("m", "speech", tuple("abc"[:classes]), tuple(rows), "1")


def test_the_main_label_is_the_one_with_the_fewest_recordings_so_far() -> None:
    # "a" never stands alone, yet it gets a recording.
    data = manifest((0, 1), (0, 1), (1,), (), (0, 1, 2))
    assert data.multi_label
    assert data.labels.tolist() == [0, 1, 1, -1, 2]
    assert data.targets.tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.integers(0, 2), max_size=3), min_size=1, max_size=20))
def test_main_labels_are_labels(sets) -> None:
    data = manifest(*(tuple(sorted(s)) for s in sets))
    for main, own in zip(data.labels.tolist(), sets, strict=True):
        assert main in own if own else main == -1


def test_unknown_labels_are_nan_and_part_of_the_content() -> None:
    rows = [Recording("0", (0,), "train", unknown=(2,)), Recording("1", (1,), "train")]
    data = Manifest("m", "xray", ("a", "b", "c"), tuple(rows), "1")
    assert np.array_equal(data.targets, [[1, 0, np.nan], [0, 1, 0]], equal_nan=True)
    certain = Manifest("m", "xray", ("a", "b", "c"), (Recording("0", (0,), "train"), rows[1]), "1")
    assert data.content_hash != certain.content_hash
    assert data.multi_label
    assert not certain.multi_label


def class_incremental(data: Manifest, count: int, seed: int = 0) -> Stream:
    config = SCENARIOS.parse({"name": "class_incremental", "num_experiences": count})
    return config.build(data, seed)  # type: ignore[attr-defined]


def test_every_training_recording_stands_in_one_experience_and_all_are_tested_in_each() -> None:
    data = toy_chords()
    stream = class_incremental(data, 2)
    train = np.concatenate([e.train for e in stream.experiences])
    assert sorted(train.tolist()) == data.indices("train").tolist()
    for experience in stream.experiences:
        assert experience.test.tolist() == data.indices("test").tolist()
        main = set(data.labels[experience.train].tolist())
        assert main <= {*experience.classes, -1}
    bare = [int((data.labels[e.train] < 0).sum()) for e in stream.experiences]
    assert max(bare) - min(bare) <= 1
    assert sum(bare) > 0


def test_an_experience_without_a_class_that_can_be_scored_is_refused() -> None:
    rows = [Recording(str(i), (i,), "train") for i in range(3)]
    rows += [Recording("t0", (0, 1), "test"), Recording("t1", (0,), "test")]
    data = Manifest("m", "xray", ("a", "b", "c"), tuple(rows), "1")
    with pytest.raises(UserError, match="no test recording of class"):
        class_incremental(data, 3)


def test_main_labels_balance_within_a_split() -> None:
    rows = [Recording(f"a{i}", (0,), "test") for i in range(10)]
    rows += [Recording(f"b{i}", (0, 1), "train") for i in range(6)]
    data = Manifest("m", "xray", ("a", "b"), tuple(rows), "1")
    assert sorted(data.labels[data.indices("train")].tolist()) == [0, 0, 0, 1, 1, 1]


def test_an_experience_without_labels_is_refused() -> None:
    rows = [
        Recording(f"{s}{i}", (i,), s, group=f"g{i}") for i in range(2) for s in ("train", "test")
    ]
    rows += [Recording(f"n{s}", (), s, group="none") for s in ("train", "test")]
    data = Manifest("m", "xray", ("a", "b"), tuple(rows), "1", group_overlap="on purpose")
    config = SCENARIOS.parse("domain_incremental")
    with pytest.raises(UserError, match="none of its training recordings has a label"):
        config.build(data, 0)  # type: ignore[attr-defined]


def test_one_recording_without_labels_is_no_narrow_class() -> None:
    data = toy_chords(train=24)
    bare = [i for i in data.indices("train") if data.labels[i] < 0]
    data = data.select([i for i in range(len(data)) if i not in bare[1:]])
    config = SCENARIOS.parse(
        {"name": "class_incremental", "num_experiences": 2, "validation_fraction": 0.3}
    )
    stream = config.build(data, 0)  # type: ignore[attr-defined]
    assert len(stream.experiences[0].validation)
