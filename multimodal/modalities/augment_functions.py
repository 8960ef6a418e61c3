"""What augmentation does to the recordings of a batch, all at once; draws differ between them."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from multimodal.batch import Batch


def moved(images: Tensor, degrees: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(N, C, S, S) turned counter-clockwise about the centre, enlarged, then moved; bilinear.

    degrees, scale: (N, 1). shift: (N, 2), to the right and down, in sides of the image. Beyond the
    given image lie zeros.
    """
    angle = degrees.deg2rad()
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # The grid leads from places in the result back to places in the image, on [-1, 1].
    back_N22 = torch.cat([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    offset_N21 = -back_N22 @ (2 * shift)[:, :, None]
    grid = nn.functional.affine_grid(
        torch.cat([back_N22, offset_N21], dim=2), list(images.shape), align_corners=False
    )
    return nn.functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def cropped(batch: Batch, seconds: float | None, sample_rate: int) -> Batch:
    """(N, C, T): a random window of each recording that is longer than ``seconds``.

    None: the batch itself, as where no recording is longer.
    """
    *others, longest = batch.inputs.shape
    steps = longest if seconds is None else max(1, round(seconds * sample_rate))
    if longest <= steps:
        return batch
    spare = (batch.lengths - steps).clamp(min=0)
    drawn = uniform(0, 1, batch.inputs).flatten()
    first = torch.minimum((drawn * (spare + 1)).long(), spare)  # a product may round up
    rows_NC = torch.arange(math.prod(others), device=first.device).view(others)
    signal = _runs(batch.inputs, rows_NC * longest + first[:, None], steps)
    return replace(batch, inputs=signal, lengths=batch.lengths.clamp(max=steps))


def shifted(clips: Tensor, pixels: int) -> Tensor:
    """(N, F, 3, H, W) moved by up to ``pixels`` along both axes, black beyond."""
    *others, height, width = clips.shape
    padded = nn.functional.pad(clips, [pixels] * 4)
    top, left = torch.randint(2 * pixels + 1, (2, len(clips), 1, 1, 1), device=clips.device)
    images_NFC1 = torch.arange(math.prod(others), device=clips.device).view(*others, 1)
    lines = images_NFC1 * padded.shape[3] + top + torch.arange(height, device=clips.device)
    return _runs(padded, lines * padded.shape[4] + left, width)


def _runs(values: Tensor, starts: Tensor, steps: int) -> Tensor:
    """(*starts.shape, steps): what stands in the flattened values from each start on.

    Much faster than gathering single elements: whole runs are copied.
    """
    windows = values.reshape(-1).unfold(0, steps, 1)
    return windows.index_select(0, starts.flatten()).view(*starts.shape, steps)


def white_noise(batch: Batch, deviation: Tensor) -> Tensor:
    """(N, C, T): white noise of that deviation (N, C or 1, 1), zero beyond the lengths."""
    return torch.randn_like(batch.inputs).mul_(deviation).mul_(valid(batch, axis=2))


def half_flipped(images: Tensor) -> Tensor:
    """(N, ..., W), each recording mirrored along the last axis with probability 1 / 2."""
    return torch.where(uniform(0, 1, images) < 0.5, images.flip(-1), images)


def toned(values: Tensor, mean: Tensor, contrast: float, brightness: float) -> Tensor:
    """(N, ...) float32: differences from ``mean`` times a random factor, then all times another.

    values: (N, ...) of any type. mean: one for each recording, shaped for broadcasting.
    """
    differences = uniform(1 - contrast, 1 + contrast, values)
    all_values = uniform(1 - brightness, 1 + brightness, values)
    # (x - mean) * d + mean, times a, in one pass over x.
    return (values * (differences * all_values)).add_(mean * ((1 - differences) * all_values))


def valid(batch: Batch, axis: int) -> Tensor:
    """(N, 1, ..., steps, ..., 1) bool, to multiply inputs by: False beyond the lengths."""
    ones = [1] * (batch.inputs.ndim - 1)
    steps = torch.arange(batch.inputs.shape[axis], device=batch.inputs.device)
    shape = [1, *ones]
    shape[axis] = len(steps)
    return steps.view(shape) < batch.lengths.view(-1, *ones)


def uniform(low: float, high: float, like: Tensor, *shape: int) -> Tensor:
    """(N, *shape) float32 draws on the device of ``like`` (N, ...), by default (N, 1, ..., 1)."""
    shape = shape or (1,) * (like.ndim - 1)
    return torch.empty(len(like), *shape, device=like.device).uniform_(low, high)
