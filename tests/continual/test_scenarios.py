from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from continual.scenarios import SCENARIOS, Stream
from multimodal.datasets.splits import hold_out_validation
from multimodal.errors import UserError
from multimodal.recordings import Manifest, shared_groups
from tests.toy import ToyConfig, toy_manifest


def build(manifest: Manifest, seed: int = 0, **fields: object) -> Stream:
    config = SCENARIOS.parse({"name": "class_incremental", **fields})
    return config.build(manifest, seed)  # type: ignore[attr-defined]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), classes=st.integers(1, 12), seed=st.integers(0, 5))
def test_every_class_and_recording_is_in_exactly_one_experience(data, classes, seed) -> None:
    manifest = toy_manifest(num_classes=classes, train=2, test=1)
    count = data.draw(st.integers(1, classes))
    first = data.draw(st.none() | st.integers(1, max(1, classes - count + 1)))
    if count == 1 and first is not None:
        first = classes
    stream = build(manifest, seed, num_experiences=count, first_experience=first)
    met = [c for e in stream.experiences for c in e.classes]
    assert sorted(met) == list(range(classes))
    assert len(stream) == count
    for split in ("train", "test"):
        rows = np.concatenate([getattr(e, split) for e in stream.experiences])
        assert sorted(rows) == manifest.indices(split).tolist()
    sizes = [len(e.classes) for e in stream.experiences]
    assert first is None or sizes[0] == first
    rest = sizes if first is None else sizes[1:]
    assert not rest or max(rest) - min(rest) <= 1


def test_an_experience_holds_the_recordings_of_its_classes_only() -> None:
    manifest = toy_manifest(num_classes=5)
    for e in build(manifest, num_experiences=3).experiences:
        assert set(manifest.labels[e.train]) == set(manifest.labels[e.test]) == set(e.classes)
        assert set(manifest.splits[e.train]) == {"train"}


def test_class_order_is_seeded_and_leaves_global_random_state_alone() -> None:
    manifest = toy_manifest(num_classes=8)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    orders = [
        [e.classes for e in build(manifest, s, num_experiences=4).experiences] for s in (1, 1, 2)
    ]
    assert torch.equal(before, torch.get_rng_state())
    assert orders[0] == orders[1] != orders[2]
    fixed = build(manifest, 2, num_experiences=4, class_order_seed=1)
    assert [e.classes for e in fixed.experiences] == orders[0]
    plain = build(manifest, num_experiences=4, shuffle=False)
    assert [e.classes for e in plain.experiences] == [(0, 1), (2, 3), (4, 5), (6, 7)]


def test_explicit_class_lists() -> None:
    manifest = toy_manifest(num_classes=3)
    stream = build(manifest, classes=[["tone_2"], ["tone_0", "tone_1"]])
    assert [e.classes for e in stream.experiences] == [(2,), (0, 1)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_experiences": 5}, r"num_experiences=5 does not fit the 4 classes of dataset 'toy'"),
        ({"num_experiences": 3, "first_experience": 3}, "with first_experience=3 does not fit"),
        ({"num_experiences": 1, "first_experience": 3}, "every class an experience"),
        ({"classes": [["tone_9"]]}, "no class 'tone_9'; did you mean"),
        ({"classes": [["tone_0", "tone_0"]]}, r"repeated: \['tone_0'\], missing: \['tone_1'"),
    ],
)
def test_streams_that_do_not_fit_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build(toy_manifest(), **fields)


@pytest.mark.parametrize(
    "fields",
    [{}, {"num_experiences": 2, "classes": [["a"]]}, {"classes": [], "first_experience": 1}],
)
def test_contradicting_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SCENARIOS.parse({"name": "class_incremental", **fields})


def test_a_class_without_test_recordings_is_refused() -> None:
    manifest = toy_manifest()
    keep = [i for i, r in enumerate(manifest) if not (r.label == 2 and r.split == "test")]
    with pytest.raises(UserError, match="no test recording of class tone_2"):
        build(manifest.select(keep), num_experiences=2)


def test_validation_is_held_out_by_whole_groups() -> None:
    manifest = hold_out_validation(toy_manifest(), 0.25, seed=0)
    assert shared_groups(manifest) == []
    assert len(manifest.indices("validation")) == 8
    assert len(manifest.indices("test")) == len(toy_manifest().indices("test"))
    stream = build(toy_manifest(), num_experiences=2, validation_fraction=0.25)
    for e in stream.experiences:
        assert set(stream.manifest.labels[e.validation]) == set(e.classes)


def test_domain_incremental_is_one_group_an_experience() -> None:
    manifest = ToyConfig(shared_groups=True).build(root=None)  # type: ignore[arg-type]
    config = SCENARIOS.parse({"name": "domain_incremental", "order": ["2", "0", "1", "3"]})
    stream = config.build(manifest, 0)  # type: ignore[attr-defined]
    assert [e.name for e in stream.experiences] == ["2", "0", "1", "3"]
    for e in stream.experiences:
        assert set(manifest.groups[np.concatenate([e.train, e.test])]) == {e.name}
        assert e.classes == (0, 1, 2, 3)


def test_domain_incremental_needs_groups_on_both_sides() -> None:
    config = SCENARIOS.parse({"name": "domain_incremental"})
    with pytest.raises(UserError, match=r"has no train recording|has no test recording"):
        config.build(toy_manifest(), 0)  # type: ignore[attr-defined]
    config = SCENARIOS.parse({"name": "domain_incremental", "order": ["0"]})
    manifest = ToyConfig(shared_groups=True).build(root=None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="must list each group"):
        config.build(manifest, 0)  # type: ignore[attr-defined]
