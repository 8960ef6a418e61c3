"""Signals of several modalities in one table come back, to the bit, as their adapters give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.encoders import ENCODERS
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.several import SeveralAdapter, unpacked
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache

SMALL = {"train_per_class": 3, "test_per_class": 2, "num_classes": 3}
NAMES = ("audio", "ecg", "xray", "video")
RATES = {"audio": {"sample_rate": 16_000}, "ecg": {"sample_rate": 100}}
SPOKEN = tuple(
    Recording(
        f"{i}",
        (i % 2,),
        "test" if i > 3 else "train",
        make=lambda i=i: np.full((1, 900 + 200 * i), 0.1, np.float32),
    )
    for i in range(6)
)


def part(name: str) -> Manifest:
    config = DATASETS.parse({"name": f"synthetic_{name}", **SMALL})
    assert isinstance(config, DatasetConfig)
    return config.build(Path())


def together(names: tuple[str, ...] = NAMES) -> Manifest:
    parts = [{"name": f"synthetic_{name}", **SMALL} for name in names]
    config = DATASETS.parse({"name": "several", "parts": parts})
    assert isinstance(config, DatasetConfig)
    return config.build(Path())


def adapter(names: tuple[str, ...] = NAMES) -> SeveralAdapter:
    parts = [{"name": name, **RATES.get(name, {})} for name in names]
    return MODALITIES.parse({"name": "several", "parts": parts}).build()  # pyright: ignore


def encoder(made: SeveralAdapter, **settings: Any) -> Any:
    small = {"name": "compact", "width": 16, "depth": 1, "heads": 2}
    config: Any = ENCODERS.parse({"name": "several", "default": small, "width": 24, **settings})
    torch.manual_seed(0)
    return config.build(made).eval()


def rows_of(manifest: Manifest, modality: str) -> np.ndarray:
    uids = manifest.columns.column("uid")
    return np.array([i for i, uid in enumerate(uids) if uid.startswith(f"{modality}: ")])


@pytest.mark.parametrize("folder", [False, True])
def test_signals_come_back_as_they_were(tmp_path, folder: bool) -> None:
    made, whole = adapter(), together()
    cache = SignalCache(whole, made, folder=tmp_path if folder else None, progress=False)
    mixed = np.random.default_rng(0).permutation(len(whole))
    batch = cache.gather(mixed)
    seen = 0
    for number, at, found in unpacked(batch.inputs, batch.lengths, list(made.parts.values())):
        name = NAMES[number]
        alone = SignalCache(part(name), made.parts[name], progress=False)
        order = rows_of(whole, name)
        own = np.searchsorted(order, mixed[at.numpy()])
        expected = alone.gather(own)
        assert found.inputs.dtype == expected.inputs.dtype
        assert torch.equal(found.inputs, expected.inputs)
        assert torch.equal(found.lengths, expected.lengths)
        seen += len(at)
    assert seen == len(whole)


def test_each_tower_reads_its_own_signals() -> None:
    made, whole = adapter(), together()
    tower, cache = encoder(made), SignalCache(whole, made, progress=False)
    front, mixed = made.front_end(), np.random.default_rng(1).permutation(len(whole))
    read = front(cache.gather(mixed))
    with torch.no_grad():
        found = tower(read.values, read.lengths)
    assert found.pooled.shape == (len(whole), 24)
    assert not found.tokens[~found.mask].any()
    for name in NAMES:
        own, order = tower.towers[name], rows_of(whole, name)
        alone = SignalCache(part(name), made.parts[name], progress=False)
        features = own["front_end"](alone.gather(np.arange(len(order))))
        with torch.no_grad():
            expected = own["projection"](own["encoder"](features.values, features.lengths).pooled)
        at = np.flatnonzero(np.isin(mixed, order))
        own_rows = np.searchsorted(order, mixed[at])
        torch.testing.assert_close(found.pooled[at], expected[own_rows], atol=1e-5, rtol=1e-4)


def test_features_in_the_cache_give_the_same_to_the_bit() -> None:
    whole = Manifest(
        "spoken",
        "several",
        ("speech: a", "speech: b"),
        tuple(Recording(f"speech: {r.uid}", r.labels, r.split, make=r.make) for r in SPOKEN),
        "1",
    )
    plain = adapter(("speech", "xray"))
    featured, rows = plain.with_features(), np.arange(len(whole))
    results: list[Tensor] = []
    for made in (plain, featured):
        cache = SignalCache(whole, made, progress=False)
        read = made.front_end()(cache.gather(rows))
        with torch.no_grad():
            results.append(encoder(made)(read.values, read.lengths).pooled)
    assert torch.equal(*results)


def test_only_the_towers_of_a_batch_learn_from_it() -> None:
    made, whole = adapter(), together()
    tower, cache = encoder(made).train(), SignalCache(whole, made, progress=False)
    read = made.front_end()(cache.gather(rows_of(whole, "ecg")))
    tower(read.values, read.lengths).pooled.square().sum().backward()
    for name in NAMES:
        grads = [p.grad for p in tower.towers[name].parameters() if p.requires_grad]
        assert all((g is not None) == (name == "ecg") for g in grads)


def test_classes_and_groups_are_called_after_their_modality() -> None:
    whole = together()
    names = [n for name in NAMES for n in (f"{name}: {c}" for c in part(name).class_names)]
    assert list(whole.class_names) == names
    for row, recording in enumerate(whole):
        modality = recording.uid.partition(": ")[0]
        assert whole.class_names[whole.labels[row]].startswith(f"{modality}: ")
        assert recording.group.startswith(f"{modality}: ")
    assert whole.synthetic
    assert whole.made_rates == {"audio": 16_000, "ecg": 100}


class TestRefusals:
    def test_two_of_one_modality(self) -> None:
        with pytest.raises(UserError, match="another of modality 'audio'; name one of each"):
            together(("audio", "audio"))

    def test_several_labels(self) -> None:
        parts = [{"name": "synthetic_xray", **SMALL, "multi_label": True}, "synthetic_video"]
        config: Any = DATASETS.parse({"name": "several", "parts": parts})
        with pytest.raises(UserError, match="has several labels a recording"):
            config.build(Path())

    @pytest.mark.parametrize(
        ("parts", "words"),
        [
            (["audio"], "at least 2"),
            (["audio", "audio"], "audio is listed twice"),
            (["audio", "text"], "text is no modality of recordings"),
            (["audio", {"name": "xray", "augment": {"shift": 0.1}}], "are not augmented"),
        ],
    )
    def test_parts(self, parts: list[Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            MODALITIES.parse({"name": "several", "parts": parts})

    def test_a_recording_of_no_part(self) -> None:
        cache = SignalCache(together(), adapter(("audio", "ecg")), progress=False)
        with pytest.raises(UserError, match="modality 'video' is none of audio, ecg; list it"):
            cache.ensure(np.arange(len(cache.manifest)))

    def test_a_tower_of_no_part(self) -> None:
        with pytest.raises(UserError, match=r"encoder.towers: speech stands in no part"):
            encoder(adapter(), towers={"speech": "compact"})

    def test_several_within_several(self) -> None:
        with pytest.raises(ValidationError, match="a tower is of one modality"):
            ENCODERS.parse({"name": "several", "default": {"name": "several"}})
