"""ViT, DeiT and DINOv2 against transformers' own processors and models."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoImageProcessor

from multimodal.encoders.families.vision import _resized
from multimodal.encoders.pretrained import PretrainedConfig
from multimodal.errors import UserError
from multimodal.modalities.xray import XrayConfig
from tests.multimodal.encoders.checkpoints import batch_of, save_image_checkpoint

TYPES = ["vit", "deit", "dinov2", "dinov2_with_registers"]
PROCESSORS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bicubic": {"resample": 3},
    "nearest": {"resample": 0},
    "half": {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.2, 0.1]},
    "unscaled": {"do_rescale": False, "do_normalize": False},
    "unnormalised": {"do_normalize": False},
}


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("model_type", ["vit", "dinov2"])
def test_features_equal_the_checkpoints_processor(
    tmp_path: Path, model_type: str, processor: str
) -> None:
    save_image_checkpoint(tmp_path, model_type, **PROCESSORS[processor])
    front_end = PretrainedConfig(checkpoint=str(tmp_path)).front_end(XrayConfig(size=45).build())
    images = torch.rand(3, 1, 45, 45)
    values, lengths = front_end(batch_of(images))
    made: Any = AutoImageProcessor.from_pretrained(tmp_path)
    pixels = [image.repeat(3, 1, 1) * 255 for image in images]
    expected = made(images=pixels, return_tensors="pt")["pixel_values"]
    assert values.shape == (3, 3, 28, 28)
    assert lengths.tolist() == [28, 28, 28]
    torch.testing.assert_close(values, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("model_type", TYPES)
def test_embeddings_equal_transformers(tmp_path: Path, model_type: str) -> None:
    whole = save_image_checkpoint(tmp_path, model_type)
    theirs = getattr(whole, whole.base_model_prefix)
    pixels = torch.randn(2, 3, 28, 28)
    expected = theirs(pixel_values=pixels).last_hidden_state
    for pooling in ("auto", "cls", "mean"):
        config = PretrainedConfig(checkpoint=str(tmp_path), pooling=pooling)
        out = config.build(XrayConfig(size=32).build())(pixels, torch.tensor([28, 28]))
        torch.testing.assert_close(out.tokens, expected, atol=1e-5, rtol=0)
        pooled = expected.mean(1) if pooling == "mean" else expected[:, 0]
        torch.testing.assert_close(out.pooled, pooled, atol=1e-5, rtol=0)
        assert out.mask.all()


def test_dinov2_reads_other_sizes(tmp_path: Path) -> None:
    large = {"height": 42, "width": 42}
    save_image_checkpoint(tmp_path, "dinov2", size={"shortest_edge": 48}, crop_size=large)
    config, adapter = PretrainedConfig(checkpoint=str(tmp_path)), XrayConfig(size=48).build()
    features = config.front_end(adapter)(batch_of(torch.rand(1, 1, 48, 48)))
    assert config.build(adapter)(*features).tokens.shape == (1, 1 + 9, 32)


def test_checkpoints_of_grey_images_get_one_channel(tmp_path: Path) -> None:
    save_image_checkpoint(tmp_path, "vit", image_mean=[0.5], image_std=[0.25])
    edit(tmp_path, "config.json", num_channels=1)
    front_end = PretrainedConfig(checkpoint=str(tmp_path)).front_end(XrayConfig(size=28).build())
    images = torch.rand(2, 1, 28, 28)
    expected = (images - 0.5) / 0.25
    torch.testing.assert_close(front_end(batch_of(images)).values, expected)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest-exact"])
def test_bytes_on_a_gpu_are_resized_as_by_torchvision(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    module: Any = importlib.import_module("torchvision.transforms.v2.functional._geometry")
    # What torchvision does on a GPU, done here.
    monkeypatch.setattr(module, "_do_native_uint8_resize_on_cpu", lambda interpolation: False)
    images = torch.randint(0, 256, (4, 3, 33, 33), dtype=torch.uint8)
    expected = module.resize_image(images, [16, 16], module.InterpolationMode(mode))
    assert torch.equal(_resized(images, (16, 16), mode, through_float=True), expected)


def test_the_spec_is_printed_and_changes_with_the_processor(tmp_path: Path) -> None:
    printed = []
    for mean in (0.5, 0.25):
        save_image_checkpoint(tmp_path, "vit", image_mean=[mean] * 3)
        config = PretrainedConfig(checkpoint=str(tmp_path))
        printed.append(repr(config.front_end(XrayConfig(size=28).build())))
    assert "resize=(28, 28), resample='bilinear', crop=None" in printed[0]
    assert printed[0] != printed[1]


@pytest.mark.parametrize(
    ("model_type", "file", "changes", "words"),
    [
        ("vit", "preprocessor_config.json", {"resample": 1}, "resample=1"),
        ("vit", "preprocessor_config.json", {"size": {"longest_edge": 28}}, "size="),
        ("vit", "preprocessor_config.json", {"size": 20}, "images of (20, 20) pixels"),
        (
            "dinov2",
            "preprocessor_config.json",
            {"size": 20},
            "cuts (28, 28) pixels out of (20, 20)",
        ),
        ("vit", "config.json", {"num_channels": 1}, "has 3 means for 1 channels"),
        ("vit", "preprocessor_config.json", None, "preprocessor_config.json is missing"),
        ("dinov2", "preprocessor_config.json", {"size": 64}, "modality.size=40: checkpoint"),
    ],
)
def test_unusable_processors_are_refused(
    tmp_path: Path, model_type: str, file: str, changes: dict[str, Any] | None, words: str
) -> None:
    save_image_checkpoint(tmp_path, model_type)
    if changes is None:
        (tmp_path / file).unlink()
    else:
        edit(tmp_path, file, **changes)
    with pytest.raises(UserError) as caught:
        PretrainedConfig(checkpoint=str(tmp_path)).front_end(XrayConfig(size=40).build())
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_are_never_enlarged(tmp_path: Path) -> None:
    save_image_checkpoint(tmp_path, "vit")
    with pytest.raises(UserError, match=r"modality\.size=16: .* set modality\.size=28"):
        PretrainedConfig(checkpoint=str(tmp_path)).front_end(XrayConfig(size=16).build())
