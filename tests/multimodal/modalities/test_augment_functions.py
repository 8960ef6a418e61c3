"""What augmentation does to each signal, against NumPy and SciPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform
from torch import Tensor

from multimodal.batch import Batch
from multimodal.modalities.augment import (
    EcgAugmentConfig,
    SoundAugmentConfig,
    VideoAugmentConfig,
    XrayAugmentConfig,
)
from multimodal.modalities.augment_functions import moved, shifted

RATE = 100


def batch_of(inputs: Tensor, lengths: list[int] | None = None) -> Batch:
    """The time axis of ``inputs`` is the last, or (video) the second; zero beyond the lengths."""
    axis = 1 if inputs.ndim == 5 else inputs.ndim - 1
    steps = torch.tensor(lengths or [inputs.shape[axis]] * len(inputs))
    shape = [1] * inputs.ndim
    shape[axis] = -1
    keep = torch.arange(inputs.shape[axis]).view(shape) < steps.view(-1, *[1] * (inputs.ndim - 1))
    rows = torch.arange(len(inputs))
    return Batch(inputs * keep, steps, torch.zeros_like(rows), rows)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Uniform in [-0.5, 0.5]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    steps=st.integers(1, 70),
    channels=st.sampled_from([1, 12]),
    seed=st.integers(0, 99),
)
def test_a_crop_is_one_window_of_all_channels(
    lengths: list[int], steps: int, channels: int, seed: int
) -> None:
    before = batch_of(noise(len(lengths), channels, max(lengths)), lengths)
    torch.manual_seed(seed)
    crop = {"crop_seconds": steps / RATE}
    config = SoundAugmentConfig(**crop) if channels == 1 else EcgAugmentConfig(**crop)
    after = config.build(RATE)(before)
    assert after.inputs.shape[-1] == min(steps, max(lengths))
    assert after.lengths.tolist() == [min(n, steps) for n in lengths]
    for old, new, length in zip(before.inputs, after.inputs, lengths, strict=True):
        kept = min(length, steps)
        windows = old[:, :length].unfold(-1, kept, 1).movedim(1, 0)
        assert any(window.equal(new[:, :kept]) for window in windows)
        assert not new[:, kept:].any()


def test_all_windows_are_as_likely() -> None:
    ramp = torch.arange(1, 9).float().div(8).expand(8000, 1, 8)
    crop = SoundAugmentConfig(crop_seconds=5 / RATE).build(RATE)
    torch.manual_seed(0)
    first = crop(batch_of(ramp)).inputs[:, 0, 0] * 8 - 1
    counts = np.bincount(first.int().numpy())
    np.testing.assert_allclose(counts / 8000, [0.25] * 4, atol=0.02)


def test_gain_is_one_factor_a_recording_and_clips() -> None:
    before = batch_of(noise(400, 1, 50), [50] * 200 + [30] * 200)
    torch.manual_seed(0)
    after = SoundAugmentConfig(gain_db=12.0).build(RATE)(before).inputs.numpy()
    old = before.inputs.numpy()
    row = np.arange(400)
    quietest = np.abs(np.where(old == 0, 9, old)).argmin(-1)[:, 0]
    factor = after[row, 0, quietest] / old[row, 0, quietest]
    expected = np.clip(old * factor[:, None, None], -1, 1)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    assert (np.abs(after) == 1).any()
    decibels = 20 * np.log10(factor)
    assert -12.001 < decibels.min() < -11
    assert 11 < decibels.max() < 12.001
    assert abs(decibels.mean()) < 1


def test_noise_has_the_ratio_that_was_asked_for() -> None:
    lengths = [4000] * 30 + [2000] * 30
    before = batch_of(noise(60, 1, 4000) * 0.1, lengths)
    before.inputs[0] = 0
    torch.manual_seed(0)
    after = SoundAugmentConfig(noise_db=10.0).build(RATE)(before).inputs
    added = (after - before.inputs).square().sum((1, 2))[1:]
    ratios = 10 * (before.inputs.square().sum((1, 2))[1:] / added).log10()
    assert 9.5 < ratios.min() < 12
    assert 28 < ratios.max() < 30.5
    assert not after[0].any()
    assert not after[30:, :, 2000:].any()
    drawn = (after - before.inputs)[1]
    assert abs(torch.corrcoef(torch.stack([drawn[0, 1:], drawn[0, :-1]]))[0, 1]) < 0.1


def test_ecg_gain_keeps_the_proportions_of_leads() -> None:
    before = batch_of(noise(200, 12, 40) * 10)
    torch.manual_seed(0)
    after = EcgAugmentConfig(gain=0.2).build(RATE)(before).inputs
    factors = after[:, 0, 0] / before.inputs[:, 0, 0]
    torch.testing.assert_close(after, before.inputs * factors[:, None, None])
    assert 0.8 <= factors.min() < 0.82
    assert 1.18 < factors.max() <= 1.2


def test_ecg_noise_spares_missing_leads() -> None:
    before = batch_of(noise(50, 12, 800))
    before.inputs[:, [2, 7]] = 0
    torch.manual_seed(0)
    after = EcgAugmentConfig(noise_mv=0.2).build(RATE)(before).inputs
    assert not after[:, [2, 7]].any()
    deviation = (after - before.inputs)[:, [0, 1, 3, 11]].std((1, 2))
    assert deviation.max() < 0.21
    assert deviation.max() > 0.15
    assert deviation.min() < 0.05


@settings(max_examples=25, deadline=None)
@given(
    present=st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True),
    probability=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_lead_dropout_leaves_a_lead(present: list[int], probability: float, seed: int) -> None:
    inputs = torch.zeros(20, 12, 9)
    inputs[:, present] = noise(20, len(present), 9) + 1
    torch.manual_seed(seed)
    after = EcgAugmentConfig(lead_dropout=probability).build(RATE)(batch_of(inputs)).inputs
    stays = after.any(-1)
    assert stays.any(1).all()
    assert after.equal(inputs * stays[:, :, None])


def test_lead_dropout_has_its_probability() -> None:
    torch.manual_seed(0)
    after = EcgAugmentConfig(lead_dropout=0.3).build(RATE)(batch_of(noise(2000, 12, 3)))
    share = after.inputs.any(-1).float().mean(0)
    np.testing.assert_allclose(share.numpy(), 0.7, atol=0.05)


def test_moving_nothing_is_the_identity() -> None:
    image = noise(3, 1, 33, 33) + 0.5
    same, still = torch.ones(3, 1), torch.zeros(3, 2)
    torch.testing.assert_close(moved(image, 0 * same, same, still), image, atol=1e-5, rtol=0)


def test_quarter_turns_and_whole_pixels() -> None:
    image = noise(2, 1, 8, 8) + 0.5
    still, same = torch.zeros(2, 2), torch.ones(2, 1)
    turned = moved(image, torch.tensor([[90.0], [-90.0]]), same, still)
    expected = np.stack([np.rot90(image[0, 0]), np.rot90(image[1, 0], -1)])[:, None]
    np.testing.assert_allclose(turned.numpy(), expected, atol=1e-5)
    right_down = moved(image, 0 * same, same, torch.tensor([[2 / 8, 0], [0, 3 / 8]]))
    expected = np.zeros((2, 1, 8, 8), dtype=np.float32)
    expected[0, 0, :, 2:], expected[1, 0, 3:] = image[0, 0, :, :-2], image[1, 0, :-3]
    np.testing.assert_allclose(right_down.numpy(), expected, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    degrees=st.floats(-180, 180),
    scale=st.floats(0.3, 1.9),
    right=st.floats(-0.9, 0.9),
    down=st.floats(-0.9, 0.9),
)
def test_moved_equals_scipy(degrees: float, scale: float, right: float, down: float) -> None:
    side, angle = 16, np.deg2rad(degrees)
    image = noise(1, 1, side, side) + 0.5
    found = moved(
        image, torch.tensor([[degrees]]), torch.tensor([[scale]]), torch.tensor([[right, down]])
    )
    # Rows go down, columns right; from a place in the result back to one in the image.
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    centre = np.full(2, (side - 1) / 2)
    pixels = image[0, 0].numpy().astype(np.float64)
    shift: Any = centre - back @ (centre + side * np.array([down, right]))
    expected = affine_transform(pixels, back, shift, order=1, mode="grid-constant")
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-3)


def test_tones_of_images_are_lines_through_the_right_point() -> None:
    """y = a (m + d (x - m)): the slope is a d, and the mean goes to a m."""
    before = batch_of(noise(300, 1, 8, 8) * 0.4 + 0.5)
    torch.manual_seed(0)
    after = XrayAugmentConfig(contrast=0.3, brightness=0.1).build()(before).inputs.numpy()
    old = before.inputs.numpy()
    axes = (1, 2, 3)
    brightness = after.mean(axes) / old.mean(axes)
    contrast = after.std(axes) / old.std(axes) / brightness
    for values, most in ((brightness, 0.1), (contrast, 0.3)):
        assert 1 - most - 1e-4 < values.min() < 1 - 0.9 * most
        assert 1 + 0.9 * most < values.max() < 1 + most + 1e-4
    mean = old.mean(axes, keepdims=True)
    shaped = (-1, 1, 1, 1)
    expected = brightness.reshape(shaped) * (mean + contrast.reshape(shaped) * (old - mean))
    np.testing.assert_allclose(after, expected, atol=1e-4)
    bright = replace(before, inputs=before.inputs + 0.3)
    clamped = XrayAugmentConfig(brightness=0.5).build()(bright).inputs
    assert clamped.max() == 1


def test_flips_mirror_half_of_the_recordings() -> None:
    for inputs, config in (
        (noise(400, 1, 4, 4) + 0.5, XrayAugmentConfig(flip=True)),
        ((noise(400, 2, 3, 4, 4) * 255 + 128).byte(), VideoAugmentConfig(flip=True)),
    ):
        torch.manual_seed(0)
        after = config.build()(batch_of(inputs)).inputs
        pairs = zip(after, inputs, strict=True)
        flipped = torch.tensor([new.equal(old.flip(-1)) for new, old in pairs])
        assert after[~flipped].equal(inputs[~flipped])
        assert 0.4 < flipped.float().mean() < 0.6


@pytest.mark.parametrize("size", [(6, 6), (5, 8)])
def test_clips_move_by_whole_pixels_as_one(size: tuple[int, int]) -> None:
    clips = (noise(200, 3, 3, *size) * 254 + 128).byte()
    torch.manual_seed(0)
    found = shifted(clips, 2).numpy()
    padded = np.pad(clips.numpy(), [(0, 0)] * 3 + [(2, 2)] * 2)
    seen = set()
    for old, new in zip(padded, found, strict=True):
        places = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(old[:, :, y : y + size[0], x : x + size[1]], new)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25


@pytest.mark.parametrize("option", ["contrast", "brightness"])
def test_tones_of_clips_are_rounded(option: str) -> None:
    """There is a factor in the range that explains every pixel of a clip."""
    clips = (noise(60, 4, 3, 8, 8) * 255.9 + 128).byte()
    before = batch_of(clips, [4, 2, 3] * 20)
    torch.manual_seed(0)
    module = VideoAugmentConfig.parse({option: 0.4}).build()
    after = module(before).inputs.numpy().astype(np.float64)
    factors = []
    for old, new, length in zip(before.inputs, after, before.lengths.tolist(), strict=True):
        assert not new[length:].any()
        values, new = old[:length].numpy().astype(np.float64), new[:length]
        about = values.mean() if option == "contrast" else 0.0
        sure = (np.abs(values - about) > 1) & (new > 0) & (new < 255)
        ends = (new[sure] + np.array([[-0.501], [0.501]]) - about) / (values[sure] - about)
        low, high = ends.min(0).max(), ends.max(0).min()
        assert low <= high
        expected = np.clip(about + (low + high) / 2 * (values - about), 0, 255)
        assert np.abs(new - expected).max() < 1
        factors.append((low + high) / 2)
    assert 0.59 < min(factors) < 0.65
    assert 1.35 < max(factors) < 1.41
