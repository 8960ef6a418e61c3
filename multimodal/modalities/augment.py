"""Augmentation: a training Batch -> a Batch of the same recordings, randomly changed.

Each modality's setting ``augment`` and the module that it builds. All recordings of a batch are
changed at once, on its device. Draws differ between recordings and come from the device's global
generator: a run that is seeded, or resumed with the generator's state, draws the same again.
Labels and texts stay, steps beyond ``lengths`` stay zero, and the given batch is not changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import nn

from multimodal.batch import Batch
from multimodal.modalities.augment_functions import (
    cropped,
    half_flipped,
    moved,
    shifted,
    toned,
    uniform,
    valid,
    white_noise,
)
from multimodal.registry import Config

# Signal-to-noise ratios are drawn from this many decibels above the lowest one.
NOISE_RANGE_DB = 20.0


class AugmentConfig(Config):
    """Base of every modality's setting ``augment``: all options are off by default."""

    @model_validator(mode="after")
    def _something_is_on(self) -> Self:
        fields = type(self).model_fields
        if all(getattr(self, name) == field.default for name, field in fields.items()):
            raise ValueError(f"nothing is on: set one of {', '.join(fields)}, or remove augment")
        return self


class SoundAugmentConfig(AugmentConfig):
    """What happens to audio and speech, in this order.

    crop_seconds: a random window of this length out of longer recordings (evaluation hears all of
    them). Texts and labels are not cut: a crop may lose the words that a transcript has.
    gain_db: louder or softer by up to this, uniform in [-gain_db, gain_db]; [0, 40], 0: off.
    noise_db: white noise at a signal-to-noise ratio uniform in [noise_db, noise_db + 20], where
    the signal is the mean power of the valid part (so digital silence stays silent); [-20, 100].
    After a gain or noise, samples are clipped to [-1, 1], the range of the canonical signal.
    """

    crop_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    gain_db: float = Field(default=0.0, ge=0, le=40)
    noise_db: float | None = Field(default=None, ge=-20, le=100)

    def build(self, sample_rate: int) -> SoundAugment:
        return SoundAugment(self, sample_rate)


class EcgAugmentConfig(AugmentConfig):
    """What happens to ECGs, in this order.

    crop_seconds: a random window of this length, the same in all leads, out of longer recordings.
    gain: one factor for all leads, whose proportions are findings, uniform in [1 - gain, 1 + gain];
    [0, 1), 0: off.
    noise_mv: white noise in the leads that are there, of a standard deviation uniform in
    [0, noise_mv]; [0, 10], 0: off.
    lead_dropout: probability that a lead is set to zero, which means missing; one of the leads
    that are there always stays; [0, 1), 0: off.
    """

    crop_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    gain: float = Field(default=0.0, ge=0, lt=1)
    noise_mv: float = Field(default=0.0, ge=0, le=10)
    lead_dropout: float = Field(default=0.0, ge=0, lt=1)

    def build(self, sample_rate: int) -> EcgAugment:
        return EcgAugment(self, sample_rate)


class XrayAugmentConfig(AugmentConfig):
    """What happens to images, in this order. Results are clamped to [0, 1].

    flip: exchange left and right of half the images. Wrong for chest X-rays: the heart's side is a
    finding, and reports say "left" and "right".
    rotate_degrees: turn about the centre by up to this, either way; [0, 180], 0: off. scale:
    enlarge by a factor uniform in [1 - scale, 1 + scale]; [0, 1). shift: move by up to this
    fraction of a side along both axes; [0, 1). What comes in from outside is black.
    contrast: differences from the image's mean times a factor uniform in [1 - contrast, 1 +
    contrast]; brightness: all values times one in [1 - brightness, 1 + brightness]; both [0, 1).
    """

    flip: bool = False
    rotate_degrees: float = Field(default=0.0, ge=0, le=180)
    scale: float = Field(default=0.0, ge=0, lt=1)
    shift: float = Field(default=0.0, ge=0, lt=1)
    contrast: float = Field(default=0.0, ge=0, lt=1)
    brightness: float = Field(default=0.0, ge=0, lt=1)

    def build(self) -> XrayAugment:
        return XrayAugment(self)


class VideoAugmentConfig(AugmentConfig):
    """What happens to clips, in this order; all frames of a clip are changed alike.

    flip: exchange left and right of half the clips. Wrong where classes have a direction ("moving
    to the left"), as many do; there is no reversal of time for the same reason.
    shift: move by up to this many whole pixels along both axes, black beyond; less than the
    frames' size, 0: off. This is the crop at a random place of frames padded with black.
    contrast, brightness: as of X-rays, about the clip's mean over all colours and frames; results
    are rounded to whole values in 0..255.
    """

    flip: bool = False
    shift: int = Field(default=0, ge=0)
    contrast: float = Field(default=0.0, ge=0, lt=1)
    brightness: float = Field(default=0.0, ge=0, lt=1)

    def build(self) -> VideoAugment:
        return VideoAugment(self)


class SoundAugment(nn.Module):
    """(N, 1, T) float in [-1, 1] at ``sample_rate`` -> the same, cropped to (N, 1, T')."""

    def __init__(self, config: SoundAugmentConfig, sample_rate: int) -> None:
        super().__init__()
        self.config, self.sample_rate = config, sample_rate

    def forward(self, batch: Batch) -> Batch:
        c = self.config
        batch = cropped(batch, c.crop_seconds, self.sample_rate)
        signal = batch.inputs
        if c.gain_db:
            signal = signal * 10 ** (uniform(-c.gain_db, c.gain_db, signal) / 20)
        if c.noise_db is not None:
            snr_db = uniform(c.noise_db, c.noise_db + NOISE_RANGE_DB, signal)
            norm = torch.linalg.vector_norm(signal, dim=(1, 2), keepdim=True)
            level = norm / batch.lengths[:, None, None].sqrt()
            signal = signal + white_noise(batch, level / 10 ** (snr_db / 20))
        if c.gain_db or c.noise_db is not None:
            signal = signal.clamp(-1, 1)
        return replace(batch, inputs=signal)


class EcgAugment(nn.Module):
    """(N, 12, T) float mV at ``sample_rate``, missing leads zero -> the same, cropped in time."""

    def __init__(self, config: EcgAugmentConfig, sample_rate: int) -> None:
        super().__init__()
        self.config, self.sample_rate = config, sample_rate

    def forward(self, batch: Batch) -> Batch:
        c = self.config
        batch = cropped(batch, c.crop_seconds, self.sample_rate)
        signal = batch.inputs
        present_NL1 = (signal != 0).any(-1, keepdim=True)
        if c.gain:
            signal = signal * uniform(1 - c.gain, 1 + c.gain, signal)
        if c.noise_mv:
            deviation = uniform(0, c.noise_mv, signal) * present_NL1
            signal = signal + white_noise(batch, deviation)
        if c.lead_dropout:
            luck_NL1 = uniform(0, 1, signal, signal.shape[1], 1) * present_NL1
            luckiest_N11 = luck_NL1.amax(1, keepdim=True)
            signal = signal * ((luck_NL1 >= c.lead_dropout) | (luck_NL1 == luckiest_N11))
        return replace(batch, inputs=signal)


class XrayAugment(nn.Module):
    """(N, 1, S, S) float in [0, 1] -> the same."""

    def __init__(self, config: XrayAugmentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, batch: Batch) -> Batch:
        c, image = self.config, batch.inputs
        if c.flip:
            image = half_flipped(image)
        if c.rotate_degrees or c.scale or c.shift:
            degrees = uniform(-c.rotate_degrees, c.rotate_degrees, image, 1)
            scale = uniform(1 - c.scale, 1 + c.scale, image, 1)
            image = moved(image, degrees, scale, uniform(-c.shift, c.shift, image, 2))
        if c.contrast or c.brightness:
            mean = image.mean((1, 2, 3), keepdim=True)
            image = toned(image, mean, c.contrast, c.brightness)
        return replace(batch, inputs=image.clamp(0, 1))


class VideoAugment(nn.Module):
    """(N, F, 3, H, W) uint8 -> the same."""

    def __init__(self, config: VideoAugmentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, batch: Batch) -> Batch:
        c, clip = self.config, batch.inputs
        if c.flip:
            clip = half_flipped(clip)
        if c.shift:
            clip = shifted(clip, c.shift)
        if c.contrast or c.brightness:
            total = clip.sum((1, 2, 3, 4), keepdim=True, dtype=torch.float32)
            mean = total / (batch.lengths.view(-1, 1, 1, 1, 1) * clip[0, 0].numel())
            values = toned(clip, mean * valid(batch, axis=1), c.contrast, c.brightness)
            clip = values.round_().clamp_(0, 255).to(torch.uint8)
        return replace(batch, inputs=clip)


def refuse_idle_crop(
    augment: SoundAugmentConfig | EcgAugmentConfig | None, name: str, seconds: float | None
) -> None:
    """ValueError if no recording of at most ``seconds``, the setting ``name``, would be cropped."""
    crop = None if augment is None else augment.crop_seconds
    if crop is not None and seconds is not None and crop >= seconds:
        raise ValueError(
            f"augment.crop_seconds={crop} crops nothing out of recordings of at most "
            f"{name}={seconds}: use a shorter crop, or a longer {name}"
        )
