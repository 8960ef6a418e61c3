from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from continual.scenarios import SCENARIOS, Stream
from multimodal.datasets.splits import hold_out_validation, seeded_split
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording, shared_groups
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


def test_a_subset_of_the_classes_leaves_the_others_out() -> None:
    manifest = toy_manifest(num_classes=4)
    stream = build(manifest, classes=[["tone_3"], ["tone_1"]])
    assert [e.classes for e in stream.experiences] == [(3,), (1,)]
    assert set(manifest.labels[stream.rows].tolist()) == {1, 3}
    for e in stream.experiences:
        whole = np.flatnonzero(manifest.labels == e.classes[0])
        assert np.array_equal(np.sort(np.concatenate([e.train, e.test])), whole)
    assert stream.manifest is manifest


@pytest.mark.parametrize("value", [["a", "b"], [["a"], "b"], [1, 2]])
def test_a_flat_list_of_classes_is_explained(value: list[object]) -> None:
    words = (
        r"a list for each experience is needed, such as \[\[a, b\], \[c\]\]; .*(b|2) stands alone"
    )
    with pytest.raises(ValidationError, match=words):
        SCENARIOS.parse({"name": "class_incremental", "classes": value})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_experiences": 5}, r"num_experiences=5 does not fit the 4 classes of dataset 'toy'"),
        ({"num_experiences": 3, "first_experience": 3}, "with first_experience=3 does not fit"),
        ({"num_experiences": 1, "first_experience": 3}, "every class an experience"),
        ({"classes": [["tone_9"]]}, "no class 'tone_9'; did you mean"),
        ({"classes": [["tone_8", "tone_9"]]}, "no class 'tone_8', 'tone_9'"),
        ({"classes": [["tone_0", "tone_0"]]}, r"at most once; repeated: \['tone_0'\]"),
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
    with pytest.raises(UserError, match=r"groups 'test-0', .* have no train recording"):
        config.build(toy_manifest(), 0)  # type: ignore[attr-defined]
    config = SCENARIOS.parse({"name": "domain_incremental", "order": ["0"]})
    manifest = ToyConfig(shared_groups=True).build(root=None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="must list each group"):
        config.build(manifest, 0)  # type: ignore[attr-defined]


def spoken(counts: dict[str, dict[str, int]], *, drawn: bool = True) -> Manifest:
    """counts: recordings of each class of each speaker; drawn by whole groups, or as given."""
    names = sorted({name for each in counts.values() for name in each})
    who = [(g, c) for g, each in counts.items() for c, n in each.items() for _ in range(n)]
    uids = [f"{i:03d}" for i in range(len(who))]
    groups, labels = [g for g, _ in who], [c for _, c in who]
    splits = seeded_split(uids, labels, groups=groups)
    rows = [
        Recording(uid, (names.index(c),), split, group=g)
        for uid, (g, c), split in zip(uids, who, splits, strict=True)
    ]
    rule = "seeded: whole groups, test_fraction 0.2, seed 0" if drawn else "named by column 'split'"
    return Manifest("own", "speech", tuple(names), rows, "1", split_rule=rule)


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_where_no_split_is_given_one_is_drawn_inside_each_group(fraction: float) -> None:
    manifest = spoken({g: {"a": 10, "b": 5, "c": 1} for g in ("ann", "bob", "eve")})
    config = SCENARIOS.parse({"name": "domain_incremental", "test_fraction": fraction})
    stream, again = (config.build(manifest, seed) for seed in (0, 1))  # type: ignore[attr-defined]
    for e in stream.experiences:
        train, test = (np.bincount(manifest.labels[r], minlength=3) for r in (e.train, e.test))
        expected = [int(fraction * n + 0.5) for n in (10, 5)]
        assert test.tolist() == [*expected, 0]
        assert (train + test).tolist() == [10, 5, 1]
        assert set(manifest.groups[np.concatenate([e.train, e.test])]) == {e.name}
    # The test recordings are the same whatever the seed of the run.
    sides = [{e.name: e.test.tolist() for e in s.experiences} for s in (stream, again)]
    assert sides[0] == sides[1]
    rule = f"seeded: inside each group, test_fraction {fraction:g}, seed 0"
    assert stream.manifest.split_rule == rule
    assert shared_groups(stream.manifest) == ["ann", "bob", "eve"]
    assert stream.manifest.group_overlap


def test_a_given_split_is_kept_and_all_one_sided_groups_are_named() -> None:
    manifest = spoken({g: {"a": 5, "b": 5} for g in ("ann", "bob", "eve")}, drawn=False)
    config = SCENARIOS.parse({"name": "domain_incremental"})
    with pytest.raises(
        UserError, match=r"group '\w+' of 'own' has no train rec.*split_column=null"
    ):
        config.build(manifest, 0)  # type: ignore[attr-defined]
    lone = spoken({"ann": {"a": 5, "b": 5}, "bob": {"a": 1, "b": 1}, "eve": {"a": 1}})
    with pytest.raises(UserError, match=r"2 group\(s\) .* with two recordings.*'bob', 'eve'"):
        config.build(lone, 0)  # type: ignore[attr-defined]


def test_settings_of_drawn_splits_change_no_old_config() -> None:
    plain = SCENARIOS.parse("domain_incremental").dump()
    assert set(plain) == {"name", "order", "validation_fraction"}
