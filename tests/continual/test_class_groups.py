"""Published class splits: by sizes in natural order, and by whole groups of classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from continual.scenarios import SCENARIOS, Stream
from multimodal.datasets.fluent_speech_commands import INTENTS, class_name
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording
from tests.toy import toy_chords

SCENARIOS_OF_SLURP = [
    *("alarm", "audio", "calendar", "cooking", "datetime", "email", "general", "iot", "lists"),
    *("music", "news", "play", "qa", "recommendation", "social", "takeaway", "transport"),
    "weather",
]
# 18 scenarios, one to three intents each, in the alphabetical order of the reader.
SLURP = sorted(
    f"{scenario}_{action}"
    for i, scenario in enumerate(SCENARIOS_OF_SLURP)
    for action in ("set", "hue_light_off", "remove")[: 1 + i % 3]
)


def manifest(names: Iterable[str], *absent: tuple[str, str]) -> Manifest:
    """Two train, one validation and one test recording a class, without those that are absent."""
    names = tuple(names)
    rows = tuple(
        Recording(f"{c:03d}/{split}/{i}", (c,), split, make=lambda: np.zeros((1, 8)))
        for c, name in enumerate(names)
        for split, count in (("train", 2), ("validation", 1), ("test", 1))
        for i in range(count)
        if (name, split) not in absent
    )
    return Manifest("m", "speech", names, rows, "1")


def build(names: Manifest | Iterable[str], seed: int = 0, **fields: object) -> Stream:
    config = SCENARIOS.parse({"name": "class_incremental", **fields})
    table = names if isinstance(names, Manifest) else manifest(names)
    return config.build(table, seed)  # type: ignore[attr-defined]


def grouped(names: Manifest | Iterable[str], seed: int = 0, **fields: Any) -> Stream:
    return build(names, seed, group_classes_by="prefix", **fields)


@pytest.mark.parametrize(
    ("count", "sizes"), [(3, [11, 10, 10]), (6, [6, 5, 5, 5, 5, 5]), (10, [4, *[3] * 9])]
)
def test_fluent_speech_commands_in_natural_order(count: int, sizes: list[int]) -> None:
    stream = build(map(class_name, INTENTS), num_experiences=count, shuffle=False)
    assert [len(e.classes) for e in stream.experiences] == sizes
    assert [c for e in stream.experiences for c in e.classes] == list(range(31))


@pytest.mark.parametrize("count", [3, 6])
def test_slurp_is_split_by_scenario_and_scored_by_intent(count: int) -> None:
    stream = grouped(SLURP, num_experiences=count, shuffle=False)
    size = 18 // count
    table = stream.manifest
    assert table.num_classes == len(SLURP) == 36
    for i, e in enumerate(stream.experiences):
        scenarios = SCENARIOS_OF_SLURP[i * size : (i + 1) * size]
        assert e.name == f"{i + 1}: {', '.join(scenarios)}"
        intents = [name for name in SLURP if name.split("_")[0] in scenarios]
        assert [table.class_names[c] for c in e.classes] == intents
        for rows in (e.train, e.validation, e.test):
            assert {table.class_names[c] for c in table.labels[rows]} == set(intents)


def test_shuffling_keeps_groups_together() -> None:
    order = [name.split(" ", 1)[1] for name in (e.name for e in experiences(seed=1))]
    assert sorted(", ".join(order).split(", ")) == SCENARIOS_OF_SLURP
    assert [e.name for e in experiences(seed=1)] != [e.name for e in experiences(seed=2)]
    for e in experiences(seed=1):
        scenarios = {SLURP[c].split("_")[0] for c in e.classes}
        assert len(e.classes) == sum(name.split("_")[0] in scenarios for name in SLURP)


def experiences(seed: int):
    return grouped(SLURP, seed, num_experiences=6).experiences


def test_groups_can_be_counted_and_listed() -> None:
    names = ("b_2", "a_1", "c", "b_1", "a_2_3", "_x")
    stream = grouped(names, num_experiences=3, first_experience=2, shuffle=False)
    assert [e.classes for e in stream.experiences] == [(0, 3, 1, 4), (2,), (5,)]
    listed = grouped(names, classes=[["c", "a"], ["", "b"]])
    assert [e.classes for e in listed.experiences] == [(2, 1, 4), (5, 0, 3)]
    held = grouped(names, num_experiences=3, shuffle=False, held_out=["b_2", "c"])
    assert [e.classes for e in held.experiences] == [(1, 4), (3,), (5,)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"num_experiences": 19},
            "not fit the 18 groups of classes of .* at least one group",
        ),
        ({"classes": [["alarm_set"]]}, "no group of classes 'alarm_set'; did you mean 'alarm'"),
        (
            {"classes": [["alarm"], ["alarm"]]},
            r"each group of classes of 'm' at most once; .*'alarm'",
        ),
    ],
)
def test_groups_that_do_not_fit_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        grouped(SLURP, **fields)


def test_intents_that_one_split_lacks_do_not_stop_a_grouped_stream() -> None:
    """SLURP has intents that are only in devel, and only in test: no recording is dropped."""
    table = manifest(SLURP, ("audio_set", "test"), ("audio_hue_light_off", "train"))
    untested, untrained = SLURP.index("audio_set"), SLURP.index("audio_hue_light_off")
    first = grouped(table, num_experiences=6, shuffle=False).experiences[0]
    assert untested in first.classes
    assert untrained not in first.classes  # nothing can name it, so it is always a mistake
    assert untrained in table.labels[first.test]
    for absent in (("audio_set", "test"), ("audio_hue_light_off", "train")):
        with pytest.raises(UserError, match=f"no {absent[1]}.* recording of class {absent[0]}"):
            build(manifest(SLURP, absent), num_experiences=6, shuffle=False)


def test_a_group_without_training_or_test_recordings_is_refused() -> None:
    for split, kind in (("train", "training"), ("test", "test")):
        table = manifest(SLURP, ("alarm_set", split))
        with pytest.raises(UserError, match=f"'1: alarm': no {kind} recording of class alarm_set"):
            grouped(table, num_experiences=18, shuffle=False)


def test_multi_label_data_can_be_grouped() -> None:
    stream = grouped(toy_chords(), num_experiences=1)  # tone_0 to tone_3
    assert stream.experiences[0].classes == (0, 1, 2, 3)
    assert len(stream.experiences[0].train) == 24


def test_the_setting_is_told_only_where_it_is_made() -> None:
    """Hashes of configs written before there was any stay."""
    plain = SCENARIOS.parse({"name": "class_incremental", "num_experiences": 2})
    assert "group_classes_by" not in plain.dump()
    config = SCENARIOS.parse({**plain.dump(), "group_classes_by": "prefix"})
    assert SCENARIOS.parse(config.dump()) == config != plain
    with pytest.raises(ValidationError, match="group_classes_by"):
        SCENARIOS.parse({**plain.dump(), "group_classes_by": "suffix"})


def test_drawn_orders_are_those_of_earlier_versions() -> None:
    """Golden: the permutation of class ids by NumPy's generator, held-out classes left out."""
    order = np.random.default_rng(5).permutation([0, 2, 3, 4, 6, 7]).tolist()
    names = [f"c{i}" for i in range(8)]
    stream = build(names, 5, num_experiences=2, held_out=["c1", "c5"])
    assert [c for e in stream.experiences for c in e.classes] == order
