"""X-ray and other grey images: JPEG, PNG, BMP or DICOM -> (1, size, size) float32 in [0, 1].

Left and right are never exchanged when decoding: the heart's side is a finding.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from multimodal.batch import Batch, Features
from multimodal.errors import UserError, how_to_install
from multimodal.modalities import MODALITIES
from multimodal.modalities.augment import XrayAugmentConfig
from multimodal.recordings import Recording
from multimodal.registry import Config

if TYPE_CHECKING:
    from pydicom import Dataset

# Other formats of Pillow start programs (EPS) or hold several images.
FORMATS = ("JPEG", "PNG", "BMP")
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
        return f"xray/1 size={c.size} stretch={c.stretch} clahe={c.clahe}"

    def load(self, recording: Recording) -> Tensor:
        """Decode, scale to [0, 1], fit into the square with zeros around the shorter side.

        8 and 16 bit images are divided by 255 and 65,535; colour becomes luminance (ITU-R 601-2),
        transparency is dropped. DICOM: modality LUT or rescale, then VOI LUT or first window, over
        the range which that gives to the stored bits; MONOCHROME1 is inverted. An array from
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
    return _read_dicom(path, where) if dicom else _read_image(path, where)


def _read_image(path: Path, where: str) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise _not_installed(where, "Pillow") from error
    try:
        with Image.open(path, formats=FORMATS) as image:
            # convert("L") would cut 16 bit values off at 255.
            wide = image.mode.startswith("I")
            pixels = np.asarray(image if wide else image.convert("L"))
    except Image.UnidentifiedImageError as error:
        raise UserError(
            f"{where}: damaged or no image that can be read; use {', '.join(FORMATS)} or DICOM."
        ) from error
    # Pillow answers broken PNG chunks with SyntaxError.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: damaged or truncated image ({error}); copy it again.") from error
    return pixels.astype(np.float32) / (65535 if wide else 255)


def _read_dicom(path: Path, where: str) -> np.ndarray:
    try:
        import pydicom
        from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
    except ImportError as error:
        raise _not_installed(where, "pydicom") from error
    # The decoders answer damage with exceptions of many kinds, AttributeError among them, and
    # repair some of it with no more than a warning.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path)
            _refuse_other_dicom(data, where)
            stored = data.pixel_array
            if stored.ndim != 2:
                raise ValueError(f"pixels have {stored.ndim} axes")
            shown = apply_voi_lut(apply_modality_lut(stored, data), data)
            ends = apply_voi_lut(apply_modality_lut(_stored_ends(data), data), data)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{where}: damaged, truncated or undecodable DICOM ({reason}); copy it again, or "
            "convert it to uncompressed DICOM or PNG."
        ) from error
    low, high = float(ends.min()), float(ends.max())
    image = np.clip((shown - low) / ((high - low) or 1.0), 0, 1).astype(np.float32)
    return 1 - image if data.PhotometricInterpretation == "MONOCHROME1" else image


def _refuse_other_dicom(data: Dataset, where: str) -> None:
    if "PixelData" not in data:
        raise UserError(
            f"{where}: this DICOM file has no pixel data (a report or a header only); remove it."
        )
    kind = str(data.get("PhotometricInterpretation", "missing"))
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise UserError(
            f"{where}: PhotometricInterpretation {kind} is not a grey image; convert it to PNG."
        )
    frames = int(data.get("NumberOfFrames") or 1)
    if frames != 1:
        raise UserError(f"{where}: {frames} frames in one file; an X-ray has one. Split the file.")


def _stored_ends(data: Any) -> np.ndarray:
    """(1, 2): the smallest and the largest value that the stored bits can hold."""
    bits = int(data.BitsStored)
    if data.PixelRepresentation == 1:
        return np.array([[-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]], dtype=np.int32)
    return np.array([[0, 2**bits - 1]], dtype=np.int32)


def _not_installed(where: str, name: str) -> UserError:
    return UserError(
        f"{where}: reading it needs {name}, which is not there; {how_to_install('medical')}."
    )
