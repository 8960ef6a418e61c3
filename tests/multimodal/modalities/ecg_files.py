"""WFDB records that the tests of the ECG adapter write, and how they read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wfdb

from multimodal.errors import UserError
from multimodal.modalities.ecg import EcgConfig
from multimodal.recordings import Recording

RATE = 250


def write(
    folder: Path,
    digital: np.ndarray,
    names: list[str],
    *,
    rate: int = RATE,
    form: str = "16",
    unit: str = "mV",
    gain: float = 1000.0,
    name: str = "rec",
) -> Path:
    """Digital samples (T, k) as a WFDB record with baseline 0."""
    count = len(names)
    options: dict[str, Any] = {
        "fs": rate,
        "units": [unit] * count,
        "sig_name": names,
        "d_signal": digital.astype(np.int64),
        "fmt": [form] * count,
        "adc_gain": [gain] * count,
        "baseline": [0] * count,
        "write_dir": str(folder),
    }
    wfdb.wrsamp(name, **options)
    return folder / f"{name}.dat"


def noise(steps: int = 1000, leads: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-900, 900, (steps, leads))


def recording(path: Path, **fields: Any) -> Recording:
    return Recording(path.name, (0,), "train", path=path, **fields)


def load(path: Path, config: EcgConfig | None = None, **fields: Any) -> torch.Tensor:
    return (config or EcgConfig()).build().load(recording(path, **fields))


def refused(path: Path, config: EcgConfig | None = None, **fields: float) -> str:
    with pytest.raises(UserError) as caught:
        (config or EcgConfig()).build().load(recording(path, **fields))
    message = str(caught.value)
    assert "\n" not in message
    assert path.stem in message
    return message


def write_text(folder: Path, lines: str | bytes, name: str = "rec", **files: np.ndarray) -> Path:
    """A header as it stands, and the signal files ``{key}.dat`` of the arrays' bytes."""
    path = folder / f"{name}.hea"
    path.write_bytes(lines.encode() if isinstance(lines, str) else lines)
    for key, array in files.items():
        (folder / f"{key}.dat").write_bytes(array.tobytes())
    return path
