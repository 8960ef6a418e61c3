"""X-ray and other grey images: picture files or DICOM -> (1, size, size) float32 in [0, 1].

Left and right are exchanged only where the file itself says so, by an orientation that every viewer
follows: the heart's side is a finding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from multimodal.batch import Batch, Features
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.augment import XrayAugmentConfig
from multimodal.modalities.budget import within_memory
from multimodal.modalities.dicom import read_dicom
from multimodal.modalities.pictures import read_picture
from multimodal.recordings import Recording
from multimodal.registry import Config

MEAN, DEVIATION = 0.5, 0.25
TILES, CLIP, LEVELS = 8, 2.0, 256


@MODALITIES.register("xray")
class XrayConfig(Config):
    """Grey images, fitted into a square.

    size: pixels of a side, 8 to 1024. stretch: map each image's own darkest and brightest value to
    0 and 1, for files that use only a part of their range, such as 12 of 16 bits.
    clahe: equalise contrast locally (see ``clahe``), after ``stretch`` and before the resize.
    augment: random changes of training batches; None: no changes.
    """

    size: int = Field(default=64, ge=8, le=1024)
    clahe: bool = False
    stretch: bool = False
    augment: XrayAugmentConfig | None = None

    def build(self) -> XrayAdapter:
        return XrayAdapter(self)


@dataclass(frozen=True)
class XrayAdapter:
    """Adapter of grey images: canonical signal (1, size, size) float32 in [0, 1], 1 = bright.

    ``load`` may be called from several threads.
    """

    config: XrayConfig
    length_axis = None
    axes = 2
    channels = 1
    dtype = torch.float32

    @property
    def fingerprint(self) -> str:
        c = self.config
        return f"xray/2 size={c.size} stretch={c.stretch} clahe={c.clahe}"

    @within_memory
    def load(self, recording: Recording) -> Tensor:
        """Decode, scale to [0, 1], fit into the square with zeros around the shorter side.

        Pictures: see ``read_picture``; DICOM: see ``read_dicom``. An array from
        ``recording.make`` is (1, H, W) in [0, 1], of any size.
        Returns (1, size, size). UserError: missing, empty, truncated, no image, several frames, a
        DICOM file without pixels or in colour, Pillow or pydicom not installed.
        """
        image = self._made(recording) if recording.make is not None else _read(recording)
        if self.config.stretch:
            image = image - image.min()
            image = image / (image.max() or 1.0)
        if self.config.clahe:
            image = clahe(image)
        return torch.from_numpy(_fit(image, self.config.size))[None]

    def front_end(self) -> nn.Module:
        """``Normalise``: Batch -> Features (N, 1, size, size)."""
        return Normalise()

    def augment(self) -> nn.Module | None:
        """``XrayAugment``: Batch -> Batch, or None."""
        return None if self.config.augment is None else self.config.augment.build()

    def describe(self, class_name: str) -> list[str]:
        """The bare words first; "PleuralThickening" and "pleural_thickening" are two words."""
        pieces = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", class_name).split()
        words = " ".join(p if p.isupper() else p.lower() for p in pieces)
        return [words, f"An X-ray that shows {words}.", f"Radiology image: {words}."]

    def _made(self, recording: Recording) -> np.ndarray:
        assert recording.make is not None
        array = np.asarray(recording.make(), dtype=np.float32)
        if array.ndim != 3 or array.shape[0] != 1 or array.size == 0:
            raise UserError(
                f"{recording.where}: the made array has shape {array.shape}; an image is (1, H, W)."
            )
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UserError(f"{recording.where}: the made array has values outside [0, 1].")
        return array[0]


class Normalise(nn.Module):
    """Front end without parameters: (x - 0.5) / 0.25, the same for every image and data set."""

    def forward(self, batch: Batch) -> Features:
        """``batch.inputs``: (N, 1, H, W) in [0, 1]. Lengths are the height: nothing is padding."""
        lengths = torch.full_like(batch.lengths, batch.inputs.shape[2])
        return Features((batch.inputs - MEAN) / DEVIATION, lengths)


def clahe(image: np.ndarray) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994).

    image: (H, W) in [0, 1]. Each of 8 x 8 tiles has a histogram of 256 bins; what exceeds twice
    the height of a flat one is spread over all bins once; its cumulative sum maps grey values, and
    pixels mix the maps of the four nearest tiles bilinearly. Returns (H, W) float32 in [0, 1].
    """
    height, width = image.shape
    tile_h, tile_w = -(-height // TILES), -(-width // TILES)
    margins = ((0, tile_h * TILES - height), (0, tile_w * TILES - width))
    levels = np.rint(np.pad(image, margins, mode="symmetric") * (LEVELS - 1)).astype(np.int64)
    area = tile_h * tile_w
    limit = max(CLIP * area / LEVELS, 1.0)
    maps = np.empty((TILES, TILES, LEVELS), dtype=np.float32)
    for row in range(TILES):
        for column in range(TILES):
            tile = levels[row * tile_h :, column * tile_w :][:tile_h, :tile_w]
            counts = np.bincount(tile.ravel(), minlength=LEVELS).astype(np.float64)
            excess = np.maximum(counts - limit, 0).sum()
            counts = np.minimum(counts, limit) + excess / LEVELS
            maps[row, column] = counts.cumsum() / area
    levels = levels[:height, :width]
    mixed = np.zeros((height, width), dtype=np.float32)
    for rows, weight_h in _neighbours(height, tile_h):
        for columns, weight_w in _neighbours(width, tile_w):
            mapped = maps[rows[:, None], columns[None], levels]
            mixed += weight_h[:, None] * weight_w[None] * mapped
    return np.clip(mixed, 0, 1)


def _neighbours(pixels: int, tile: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(tile index, weight) of the nearest tile centre before and after each of ``pixels``."""
    place = (np.arange(pixels) + 0.5) / tile - 0.5
    first = np.floor(place).astype(np.int64)
    weight = (place - first).astype(np.float32)
    last = TILES - 1
    return [(first.clip(0, last), 1 - weight), ((first + 1).clip(0, last), weight)]


def _fit(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W) -> (size, size) float32: the longer side fills it, zeros lie around the shorter."""
    from PIL import Image

    height, width = image.shape
    scale = size / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    # Pillow widens the filter when it shrinks, so fine detail does not alias.
    small = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    out = np.zeros((size, size), dtype=np.float32)
    top, left = (size - height) // 2, (size - width) // 2
    out[top : top + height, left : left + width] = np.clip(np.asarray(small), 0, 1)
    return out


def _read(recording: Recording) -> np.ndarray:
    """(H, W) float32 in [0, 1]."""
    path, where = recording.path, recording.where
    if path is None or not path.is_file():
        raise UserError(f"{where}: no such file; correct the path or restore the file.")
    with path.open("rb") as file:
        head = file.read(132)
    if not head:
        raise UserError(f"{where}: empty file (0 bytes); copy it again or remove it.")
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{where}: a Git LFS pointer, not the image; run 'git lfs pull'.")
    dicom = head[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom")
    return read_dicom(path, where) if dicom else read_picture(path, where)
