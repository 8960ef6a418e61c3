"""Streams that bring one modality after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from continual.scenarios import SCENARIOS, Stream
from multimodal.datasets import DATASETS
from multimodal.errors import UserError
from tests.multimodal.modalities.test_several import NAMES, part, together


def stream(seed: int = 1, **settings: Any) -> Stream:
    config: Any = SCENARIOS.parse({"name": "modality_incremental", **settings})
    return config.build(together(), seed)


def test_an_experience_brings_all_of_a_modality() -> None:
    found, manifest = stream(order=list(NAMES)), together()
    assert [e.name for e in found.experiences] == list(NAMES)
    for number, experience in enumerate(found.experiences):
        assert experience.classes == tuple(range(3 * number, 3 * number + 3))
        for rows, split in ((experience.train, "train"), (experience.test, "test")):
            own = manifest.indices(split)
            assert rows.tolist() == own[np.isin(manifest.labels[own], experience.classes)].tolist()
    assert found.held_out is None
    assert not found.parts


def test_the_seed_draws_the_order() -> None:
    orders = {tuple(e.name for e in stream(seed).experiences) for seed in range(20)}
    assert len(orders) > 5
    assert all(sorted(order) == sorted(NAMES) for order in orders)
    first, again = stream(7), stream(7)
    assert [e.name for e in first.experiences] == [e.name for e in again.experiences]


def test_classes_that_no_experience_shows() -> None:
    config: Any = SCENARIOS.parse({"name": "modality_incremental", "held_out_classes": 2})
    wide = together_of(5)
    found = config.build(wide, 3)
    assert [p.name for p in found.parts] == [e.name for e in found.experiences]
    for experience, hidden in zip(found.experiences, found.parts, strict=True):
        assert (len(experience.classes), len(hidden.classes)) == (3, 2)
        assert not set(experience.classes) & set(hidden.classes)
        assert not len(hidden.train)
        assert set(wide.labels[hidden.test]) == set(hidden.classes)
        assert not np.isin(wide.labels[experience.train], hidden.classes).any()
    assert found.held_out is not None
    assert len(found.held_out.test) == sum(len(p.test) for p in found.parts)
    drawn = [config.build(wide, seed).held_out.classes for seed in range(8)]
    assert len(set(drawn)) > 1


def together_of(classes: int) -> Any:

    sizes = {"num_classes": classes, "train_per_class": 2, "test_per_class": 1}
    parts = [{"name": f"synthetic_{name}", **sizes} for name in ("audio", "xray", "video")]
    config: Any = DATASETS.parse({"name": "several", "parts": parts})

    return config.build(Path())


class TestRefusals:
    def test_data_of_one_modality(self) -> None:
        config: Any = SCENARIOS.parse("modality_incremental")
        with pytest.raises(UserError, match="holds audio recordings alone; use dataset several"):
            config.build(part("audio"), 1)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"order": ["audio", "radio"]}, "no modality 'radio' in the data"),
            ({"order": ["audio", "video"]}, "name each of audio, ecg, xray, video once"),
            ({"held_out_classes": 1}, "hold out at least two"),
            ({"held_out_classes": 2}, "has 3 classes"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], words: str) -> None:
        with pytest.raises(UserError, match=words):
            stream(**settings)
