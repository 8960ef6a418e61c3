"""The settings of ``compose``: what does not go together, and what the page shows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError

from benchmarks.commands.align.config import AlignConfig
from benchmarks.runs.composed import ComposeConfig, Composed, training_scenes
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES as ADAPTERS
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache
from tests.benchmarks.commands.align.test_composed import COMPOSE, results


@pytest.mark.parametrize(
    ("modality", "augment", "false"),
    [
        ("xray", {"flip": True}, True),
        ("xray", {"rotate_degrees": 90.0}, True),
        ("xray", {"rotate_degrees": 10.0}, False),
        ("xray", {"shift": 0.1}, False),
        ("video", {"flip": True}, False),
        ("video", {"shift": 2}, False),
        ("ecg", {"crop_seconds": 2.0}, True),
        ("ecg", {"gain": 0.1}, False),
        ("audio", {"crop_seconds": 2.0}, True),
        ("audio", {"gain_db": 3.0}, False),
        ("speech", {"crop_seconds": 2.0}, True),
        ("speech", {"noise_db": 20.0}, False),
    ],
)
def test_no_change_of_batches_makes_captions_false(modality, augment, false) -> None:
    """Where words are of place nothing is flipped or laid on its side; nothing loses an event."""
    data = {
        "experiment": "x",
        "dataset": "synthetic_audio",
        "modality": {"name": modality, "augment": augment},
        "objectives": ["clip"],
        "compose": {"composer": modality},
    }
    if not false:
        assert AlignConfig.parse(data).compose is not None
        return
    with pytest.raises(ValidationError, match=f"modality.augment.{next(iter(augment))} makes"):
        AlignConfig.parse(data)


def test_items_of_a_dataset_without_a_test_split(medley, tones) -> None:
    """Items are of test_splits, whatever split the other task would name."""
    for split in ("train", "validation"):
        shutil.copytree(tones / "clips", tones / "parts" / split)
    rows = [
        f"{part.relative_to(tones / 'parts')},{part.parent.name},{part.parts[-3]}"
        for part in (tones / "parts").rglob("*.wav")
    ]
    (tones / "parts/all.csv").write_text("\n".join(["path,label,split", *rows]))
    assert medley("align", "align.yaml", "objectives=[clip]", "training.epochs=1").code == 0
    compose = {**COMPOSE, "test_splits": ["validation"]}
    (tones / "zero.yaml").write_text(
        "experiment: zero\n"
        "dataset: {name: table, root: parts, file: all.csv, modality: speech}\n"
        "model: {name: aligned, experiment: tones}\n"
        f"task: compositional\ncompose: {json.dumps(compose)}\n"
        "tracking: {store: none}\n"
    )
    outcome = medley("zeroshot", "zero.yaml")
    assert outcome.code == 0, outcome.err
    (result,) = results(tones, "zero")
    assert result.evaluation["split"] == "validation"
    assert result.metrics["num_items"] == 6
    outcome = medley("zeroshot", "zero.yaml", "experiment=other", "classes=[low]")
    assert (outcome.code, "classes: of task=classes" in outcome.err) == (2, True)
    outcome = medley("zeroshot", "zero.yaml", "experiment=other", "compose.test_splits=[test]")
    assert (outcome.code, "test_splits=test: dataset 'table'" in outcome.err) == (2, True)


MODALITIES = ("audio", "speech", "ecg", "xray", "video")
SOUND = ("audio", "speech")


def toy(modality: str) -> SignalCache:
    """Two tones of a second; zeros of other modalities."""
    time = np.arange(8_000) / 8_000
    tones = [np.sin(2 * np.pi * f * time)[None].astype(np.float32) for f in (100, 2_000)]
    if modality not in SOUND:
        shape = {"ecg": (12, 900), "xray": (1, 8, 8), "video": (4, 3, 8, 8)}[modality]
        tones = [np.zeros(shape, np.uint8 if modality == "video" else np.float32)] * 2
    rows = tuple(
        Recording(f"{split}{i}", (i,), split, make=lambda tone=tone: tone)
        for split in ("train", "test")
        for i, tone in enumerate(tones)
    )
    rate = {"sample_rate": 8_000} if modality in SOUND else {}
    adapter = ADAPTERS.parse({"name": modality, **rate}).build()  # pyright: ignore
    return SignalCache(Manifest("toy", modality, ("low", "high"), rows, "1"), adapter)


def scenes(composer: str, modality: str) -> Composed:
    """Of settings that are the same for both composers of sound."""
    named: dict[str, Any] = {"name": composer}
    if composer in SOUND:
        named |= {"snippet_seconds": [0.5, 2.0], "sources": "any", "expressions": {"A+B": 1.0}}
        named |= {"gap": [0.0, 0.1], "fade": 0.01, "loop": False}
    compose = ComposeConfig.parse({"composer": named, "scenes": 2})
    return training_scenes(compose, toy(modality), {"low": "low", "high": "high"}, paired=False)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("composer", MODALITIES)
def test_a_composer_refuses_signals_of_others(composer: str, modality: str) -> None:
    if composer in SOUND and modality in SOUND:
        assert len(scenes(composer, modality).scenes) == 2
        return
    if composer == modality:
        return  # tests/multimodal/composition
    with pytest.raises(UserError, match=f"composer '{composer}': .* {modality} recordings"):
        scenes(composer, modality)


def test_scenes_that_sound_otherwise_are_told_apart_by_their_manifests() -> None:
    """Embeddings of scenes are kept by the manifest's hash."""
    one, two, again = (scenes(name, "audio").signals for name in ("audio", "speech", "audio"))
    rows = np.arange(2)
    assert not torch.equal(one.gather(rows).inputs, two.gather(rows).inputs)
    assert one.manifest.content_hash != two.manifest.content_hash
    assert torch.equal(one.gather(rows).inputs, again.gather(rows).inputs)
    assert one.manifest.content_hash == again.manifest.content_hash


def test_the_page_s_settings_are_valid() -> None:
    page = (Path(__file__).parents[4] / "docs/compa.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    compose = ComposeConfig.parse(yaml.safe_load(block)["compose"])
    assert compose.test_splits == ("validation", "test")
