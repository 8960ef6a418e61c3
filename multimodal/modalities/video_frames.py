"""The front end of video: normalised frames."""

from __future__ import annotations

import torch
from torch import nn

from multimodal.batch import Batch, Features

LEAST = 0.02


class VideoFrames(nn.Module):
    """(N, F, 3, H, W) uint8 -> Features (N, 3, F, H, W), zero beyond a clip's length.

    y = (x - mean of the clip's channel) / max(standard deviation of the whole clip, ``LEAST``),
    x in [0, 1]: a small object on a plain ground stands out as much as a rich scene.
    """

    def forward(self, batch: Batch) -> Features:
        values = batch.inputs.transpose(1, 2).float() / 255
        frames = torch.arange(values.shape[2], device=values.device)
        valid = (frames < batch.lengths[:, None])[:, None, :, None, None]
        pixels = batch.lengths.view(-1, 1, 1, 1, 1) * values[0, 0, 0].numel()
        mean = (values * valid).sum((2, 3, 4), keepdim=True) / pixels
        values = (values - mean) * valid
        variance = values.square().sum((1, 2, 3, 4), keepdim=True) / (3 * pixels)
        return Features(values / variance.sqrt().clamp(min=LEAST), batch.lengths)
