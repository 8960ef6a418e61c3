"""Images that the tests of the X-ray adapter write, and how they read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian

from multimodal.errors import UserError
from multimodal.modalities.xray import XrayConfig
from multimodal.recordings import Recording

SIDE = 32
CONFIG = XrayConfig(size=SIDE)


def grey(height: int = SIDE, width: int = SIDE, top: int = 255, seed: int = 0) -> np.ndarray:
    """(H, W) random integers in [0, top]."""
    dtype = np.uint8 if top < 256 else np.uint16
    return np.random.default_rng(seed).integers(0, top + 1, (height, width)).astype(dtype)


def load(path: Path, config: XrayConfig = CONFIG) -> np.ndarray:
    """(H, W)."""
    signal = config.build().load(Recording(path.name, (0,), "train", path=path))
    assert (signal.shape, signal.dtype) == ((1, config.size, config.size), torch.float32)
    return signal[0].numpy()


def load_made(array: np.ndarray, config: XrayConfig = CONFIG) -> np.ndarray:
    return config.build().load(Recording("made", (0,), "train", make=lambda: array))[0].numpy()


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def save(array: np.ndarray, path: Path, mode: str = "") -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


def dicom(path: Path, pixels: np.ndarray, *, bits: int = 12, **fields: object) -> Path:
    """An uncompressed grey DICOM file; ``fields`` are set last, None removes."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID("1.2.3")
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.itemsize, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for name, value in fields.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def compressed(path: Path, syntax: UID, frame: bytes) -> Path:
    """The DICOM file ``path`` with ``frame``, compressed elsewhere, in place of its pixels."""
    data = dcmread(path)
    data.PixelData = encapsulate([frame])
    data["PixelData"].VR = "OB"
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path, enforce_file_format=True)
    return path
