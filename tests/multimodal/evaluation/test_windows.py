"""Windows cover recordings, and a recording's embedding is its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multimodal.evaluation.prompts import load_prompts
from multimodal.evaluation.protocols import PROTOCOLS
from multimodal.evaluation.windows import crop_starts, embed_windows, through_int16

torch.manual_seed(0)
WEIGHTS = torch.randn(10, 4)


def embed(windows: Tensor, lengths: Tensor) -> Tensor:
    """A model that hears ten samples, and knows how many were given."""
    padded = torch.zeros(len(windows), 10)
    padded[:, : windows.shape[2]] = windows[:, 0]
    return padded @ WEIGHTS + lengths[:, None]


@given(st.integers(1, 500), st.integers(1, 60))
def test_windows_cover_everything_and_stay_inside(length: int, window: int) -> None:
    starts = crop_starts(length, window, "windows")
    covered = np.zeros(length, bool)
    for start in starts:
        assert start == 0 or start + window <= length
        covered[start : start + window] = True
    assert covered.all()
    assert len(starts) == max(1, -(-length // window))
    assert starts == sorted(set(starts))


def test_other_crops() -> None:
    assert crop_starts(25, 10, "start") == [0]
    assert crop_starts(25, 10, "centre") == [7]
    assert crop_starts(9, 10, "random", uid="a", draws=5) == [0]
    drawn = crop_starts(10_000, 10, "random", uid="a", seed=1, draws=5)
    assert drawn == crop_starts(10_000, 10, "random", uid="a", seed=1, draws=5)
    assert len(set(drawn)) > 1
    assert drawn != crop_starts(10_000, 10, "random", uid="b", seed=1, draws=5)
    assert drawn != crop_starts(10_000, 10, "random", uid="a", seed=2, draws=5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 45), min_size=1, max_size=6),
    st.sampled_from(["windows", "start", "centre", "random"]),
    st.integers(1, 7),
)
def test_equals_one_recording_at_a_time(lengths: list[int], crop, at_once: int) -> None:
    rng = np.random.default_rng(sum(lengths))
    signals = torch.zeros(len(lengths), 1, max(lengths) + 3)
    for row, length in zip(signals, lengths, strict=True):
        row[0, :length] = torch.from_numpy(rng.normal(size=length))
    uids = [f"r{i}" for i in range(len(lengths))]
    settings_of = {"window": 10, "crop": crop, "seed": 3, "draws": 5}
    together = embed_windows(
        embed, signals, torch.tensor(lengths), uids, at_once=at_once, **settings_of
    )
    for i, length in enumerate(lengths):
        vectors = []
        for start in crop_starts(length, 10, crop, uid=uids[i], seed=3, draws=5):
            cut = signals[i : i + 1, :, start : min(start + 10, length)]
            vector = embed(cut, torch.tensor([cut.shape[2]]))[0]
            vectors.append(vector / vector.norm())
        mean = torch.stack(vectors).sum(0)
        torch.testing.assert_close(together[i], mean / mean.norm(), atol=1e-5, rtol=0)


def test_int16_round_trip() -> None:
    x = torch.tensor([0.0, 1.0, -1.5, 0.5, 1e-6])
    expected = (np.clip(x.numpy(), -1, 1) * 32767).astype(np.int16) / 32767
    np.testing.assert_allclose(through_int16(x), expected, atol=1e-7)


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_protocols_pin_what_their_harness_does(name: str) -> None:
    protocol = PROTOCOLS[name]
    pins = protocol.pins("esc50")
    assert {"templates", "crop", "fill", "draws", "int16", "channels", "resampler"} <= set(pins)
    (text,) = load_prompts(protocol.templates_of("esc50")).texts(["Sea_Waves"])
    assert (
        text[0]
        == {
            "medley": "This is a sound of sea waves.",
            "mteb": "This is a sound of sea_waves",
            "laion": "This is a sound of sea waves.",
            "open_clip": "This is a sound of sea waves.",
            "microsoft": "this is the sound of sea waves",
        }[name]
    )
    assert (protocol.crop == "random") == (protocol.draws >= 5)


def test_mteb_words_its_sets_differently() -> None:
    mteb = PROTOCOLS["mteb"]
    words = load_prompts(mteb.templates_of("speech_commands")).texts(["yes"])
    assert words == [("Yes",)]
    sound = load_prompts(mteb.templates_of("urbansound8k")).texts(["dog_bark"])
    assert sound == [("This is a sound of dog bark",)]
