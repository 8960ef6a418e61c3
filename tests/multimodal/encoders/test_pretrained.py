"""Settings, freezing and errors of pretrained encoders; parity is tested family by family."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from multimodal.encoders import ENCODERS
from multimodal.encoders.pretrained import PretrainedConfig, PretrainedEncoder
from multimodal.errors import UserError
from multimodal.modalities.audio import AudioConfig
from multimodal.modalities.speech import SpeechConfig
from multimodal.modalities.text import TextConfig
from multimodal.modalities.xray import XrayConfig
from tests.multimodal.encoders.audio_checkpoints import SAVERS, batch_of, clips_of
from tests.multimodal.encoders.checkpoints import save_image_checkpoint, save_text_checkpoint

XRAY = XrayConfig(size=32)
PIXELS = (torch.randn(2, 3, 28, 28), torch.tensor([28, 28]))


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    save_image_checkpoint(folder, "vit")
    return folder


def build(folder: Path, **settings: Any) -> PretrainedEncoder:
    return PretrainedConfig(checkpoint=str(folder), **settings).build(XRAY.build())


def trained(encoder: nn.Module) -> set[str]:
    """Blocks ("layers.2") and other parts ("layernorm") with a parameter that is trained."""
    names = [n.split(".")[1:3] for n, p in encoder.named_parameters() if p.requires_grad]
    return {".".join(n if n[0] == "layers" else n[:1]) for n in names}


def test_it_is_an_encoder_of_yaml_files() -> None:
    config = ENCODERS.parse({"name": "pretrained", "checkpoint": "packaged-minilm", "train": 2})
    assert isinstance(config, PretrainedConfig)
    assert ENCODERS.parse(config.dump()) == config


@pytest.mark.parametrize(
    ("train", "parts"),
    [
        ("none", set()),
        (1, {"layers.2", "layernorm"}),
        (3, {"layers.0", "layers.1", "layers.2", "layernorm"}),
        ("all", {"embeddings", "layers.0", "layers.1", "layers.2", "layernorm"}),
    ],
)
def test_only_what_is_asked_for_is_trained(vit: Path, train: Any, parts: set[str]) -> None:
    encoder = build(vit, train=train)
    assert (encoder.width, len(encoder.layers)) == (32, 3)
    assert trained(encoder) == parts
    if parts:
        before = {n: p.detach().clone() for n, p in encoder.named_parameters()}
        encoder(*PIXELS).pooled.square().sum().backward()
        torch.optim.SGD(encoder.parameters(), lr=1.0).step()
        moved = {n for n, p in encoder.named_parameters() if not torch.equal(p, before[n])}
        # The patches of an image shift every key alike, which attention does not notice.
        asked = {n for n, p in encoder.named_parameters() if p.requires_grad}
        assert {n for n in asked if "k_proj.bias" not in n} <= moved <= asked


def test_frozen_parts_stay_in_eval_mode(vit: Path) -> None:
    encoder = nn.Sequential(build(vit, train=1)).train()[0]
    assert isinstance(encoder, PretrainedEncoder)
    assert encoder.training
    modes = [{m.training for m in layer.modules()} for layer in encoder.layers]
    assert modes == [{False}, {False}, {True}]
    assert not any(m.training for m in encoder.eval().modules())
    assert all(m.training for m in build(vit, train="all").train().modules())


def test_too_many_layers_are_refused(vit: Path) -> None:
    with pytest.raises(UserError, match=r"encoder\.train=4: .* only 3 layers"):
        build(vit, train=4)


@pytest.mark.parametrize(
    "kind", ["vit", "dinov2", "bert", "t5", "whisper", "wav2vec2-layer", "ast"]
)
def test_an_inner_layer_is_transformers_hidden_state(tmp_path: Path, kind: str) -> None:
    adapter, features, depth = saved(tmp_path, kind)
    whole = PretrainedConfig(checkpoint=str(tmp_path)).build(adapter)
    with torch.no_grad():
        states = seen_behind_blocks(whole, features)
        for layer in range(1, depth + 1):
            config = PretrainedConfig(checkpoint=str(tmp_path), layer=layer, train=1)
            encoder = config.build(adapter).eval()
            assert len(encoder.layers) == layer
            tokens = encoder(*features).tokens
            expected = states[layer - 1] if layer < depth else whole(*features).tokens
            if kind == "ast":  # its two first tokens are made one
                tokens, expected = tokens[:, 1:], expected[:, -tokens.shape[1] + 1 :]
            torch.testing.assert_close(tokens, expected)
    with pytest.raises(UserError, match=rf"layer={depth + 1}: the checkpoint has {depth} blocks"):
        PretrainedConfig(checkpoint=str(tmp_path), layer=depth + 1).build(adapter)


def saved(folder: Path, kind: str) -> tuple[Any, tuple[torch.Tensor, torch.Tensor], int]:
    """A checkpoint, an adapter for it, two recordings' features, and how many blocks it has."""
    torch.manual_seed(0)
    if kind in ("vit", "dinov2"):
        save_image_checkpoint(folder, kind)
        return XRAY.build(), PIXELS, 3
    if kind in ("bert", "t5"):
        save_text_checkpoint(folder, kind)
        ids = torch.randint(5, 9, (2, 6)), torch.tensor([6, 6])
        return TextConfig(tokenizer=str(folder), max_length=32).build(), ids, 3
    SAVERS[kind](folder)
    adapter = SpeechConfig().build()
    front_end = PretrainedConfig(checkpoint=str(folder)).front_end(adapter)
    # Shorter than the window of Whisper.
    return adapter, tuple(front_end(batch_of(clips_of()[1:3]))), 2


def seen_behind_blocks(
    encoder: PretrainedEncoder, features: tuple[torch.Tensor, torch.Tensor]
) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(keep) for layer in encoder.layers]
    encoder(*features)
    for handle in handles:
        handle.remove()
    return seen


def test_layers_of_several_sizes_are_not_cut(tmp_path: Path) -> None:
    SAVERS["clap"](tmp_path)
    config = PretrainedConfig(checkpoint=str(tmp_path), layer=1)
    with pytest.raises(UserError, match="differ in size, so only the last can be read"):
        config.build(AudioConfig(sample_rate=8000).build())


def test_only_whisper_can_be_cut(vit: Path) -> None:
    with pytest.raises(UserError, match=r"encoder\.window=cut: .* \(vit\) has no such form"):
        build(vit, window="cut")


def test_masked_rows_give_zeros_not_nan(tmp_path: Path) -> None:
    save_text_checkpoint(tmp_path, "bert")
    adapter = TextConfig(tokenizer=str(tmp_path), max_length=32).build()
    encoder = PretrainedConfig(checkpoint=str(tmp_path)).build(adapter)
    pooled = encoder(torch.zeros(2, 4, dtype=torch.int64), torch.tensor([4, 0])).pooled
    assert torch.isfinite(pooled).all()
    assert not pooled[1].any()


def test_weights_become_float32_and_loading_is_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_image_checkpoint(tmp_path, "vit").half().save_pretrained(tmp_path)
    capfd.readouterr()
    encoder = build(tmp_path)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"revision": "main"},
        {"pooling": "max"},
        {"train": 0},
        {"layer": 0},
        {"train": "last"},
        {"code": True},
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PretrainedConfig(**{"checkpoint": "a/b", **changes})


def test_another_modality_is_refused(vit: Path) -> None:
    config = PretrainedConfig(checkpoint=str(vit))
    for use in (config.front_end, config.build):
        with pytest.raises(UserError, match=r"\(vit\) reads xray, not modality 'speech'"):
            use(SpeechConfig().build())


def damage_type(folder: Path) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "vitt"}))
    return "no encoder for model type 'vitt'; did you mean 'vit'?"


def damage_config(folder: Path) -> str:
    (folder / "config.json").write_text("{")
    return "config.json is missing or damaged"


def damage_setting(folder: Path) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_size": "wide"}))
    return "config.json is missing or cannot be read"


def remove_config(folder: Path) -> str:
    (folder / "config.json").unlink()
    return "config.json is missing or damaged"


def only_pickles(folder: Path) -> str:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return "no *.safetensors, and pickled weights (pytorch_model.bin) are not opened"


def cut_weights(folder: Path) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return "the checkpoint cannot be loaded"


def drop_weights(folder: Path) -> str:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {k: w for k, w in weights.items() if "layer.1" not in k and "layers.1" not in k}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return "the checkpoint lacks 16 parameters of ViTModel"


def other_shape(folder: Path) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "intermediate_size": 48}))
    return "the checkpoint cannot be loaded"


@pytest.mark.parametrize(
    "damage",
    [
        damage_type,
        damage_config,
        damage_setting,
        remove_config,
        only_pickles,
        cut_weights,
        drop_weights,
        other_shape,
    ],
)
def test_unusable_checkpoints_are_refused(tmp_path: Path, damage: Any) -> None:
    save_image_checkpoint(tmp_path, "vit")
    words = damage(tmp_path)
    with pytest.raises(UserError) as caught:
        build(tmp_path)
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_registry_imports_no_transformers() -> None:
    code = (
        "import sys; from multimodal.encoders import ENCODERS; "
        "from multimodal.modalities import MODALITIES; ENCODERS.names(); MODALITIES.names(); "
        "sys.exit(str({'transformers', 'peft', 'huggingface_hub'} & set(sys.modules) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "0"
