"""The settings of ``compose``: what does not go together, and what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from benchmarks.commands.align.config import AlignConfig
from benchmarks.runs.composed import ComposeConfig


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


def test_the_page_s_settings_are_valid() -> None:
    page = (Path(__file__).parents[4] / "docs/compa.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    compose = ComposeConfig.parse(yaml.safe_load(block)["compose"])
    assert compose.test_splits == ("validation", "test")
