"""LoRA against its formula in NumPy, on transformers checkpoints and on compact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from multimodal.encoders import ENCODERS
from multimodal.encoders.lora import LoraConfig, LoraEncoder, linear_layers
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from tests.multimodal.encoders.lora_bases import (
    ALPHA,
    BASES,
    RANK,
    compact,
    pooled,
    text,
    update,
    wrap,
)


@pytest.mark.parametrize("name", BASES)
def test_it_begins_as_its_base_and_trains_only_a_and_b(tmp_path: Path, name: str) -> None:
    make, targets = BASES[name]
    base, values = make(tmp_path)
    assert isinstance(base, nn.Module)
    expected, width = pooled(base.eval(), values).detach(), base.width
    encoder = wrap(base)
    assert encoder.width == width
    torch.testing.assert_close(pooled(encoder.eval(), values), expected, atol=1e-5, rtol=0)
    trained = [n for n, p in encoder.named_parameters() if p.requires_grad]
    assert {n.split(".lora_")[0].rsplit(".", 1)[-1] for n in trained} == targets
    assert all(".lora_A." in n or ".lora_B." in n for n in trained)
    update(encoder)
    pooled(encoder.train(), values).square().sum().backward()
    assert {n for n, p in encoder.named_parameters() if p.grad is not None} == set(trained)


@pytest.mark.parametrize("name", ["compact", "bert", "t5", "vit", "wavlm", "clap"])
def test_updates_are_alpha_over_rank_times_b_a(tmp_path: Path, name: str) -> None:
    base, values = BASES[name][0](tmp_path / "one")
    encoder = wrap(base).eval()
    update(encoder)
    before = pooled(encoder, values).detach()
    # A fresh base whose weights are changed by hand.
    plain, _ = BASES[name][0](tmp_path / "two")
    assert isinstance(plain, nn.Module)
    changed = dict(plain.eval().named_parameters())
    found = {n: p.detach().numpy() for n, p in encoder.named_parameters()}
    start, adapted = "peft.base_model.model.", 0
    for place in [n.split(".lora_A.")[0] for n in found if ".lora_A." in n]:
        a, b = (found[f"{place}.lora_{x}.default.weight"] for x in "AB")
        weight = changed[place.removeprefix(start) + ".weight"]
        merged = weight.detach().numpy() + np.float32(ALPHA / RANK) * (b @ a)
        with torch.no_grad():
            weight.copy_(torch.from_numpy(merged))
        adapted += 1
    assert adapted >= 4
    expected = pooled(plain, values).detach()
    torch.testing.assert_close(before, expected, atol=1e-4, rtol=1e-4)
    # In eval mode without gradients, torch would rather use a fused kernel that knows no update.
    with torch.no_grad():
        torch.testing.assert_close(pooled(encoder, values), expected, atol=1e-4, rtol=1e-4)
        merged = encoder.merge()
        torch.testing.assert_close(pooled(merged, values), expected, atol=1e-4, rtol=1e-4)
    assert type(merged) is type(plain)
    assert {n for n, _ in merged.named_parameters()} == set(changed)


def test_only_the_updates_have_dropout_in_training(tmp_path: Path) -> None:
    base, values = compact(tmp_path)
    encoder = wrap(base, dropout=0.5).train()
    update(encoder)
    active = {n for n, m in encoder.named_modules() if m.training and isinstance(m, nn.Dropout)}
    assert len(active) == 4
    assert all("lora_dropout" in name for name in active)
    assert not torch.equal(pooled(encoder, values), pooled(encoder, values))
    assert torch.equal(pooled(encoder.eval(), values), pooled(encoder, values))


def test_adapters_are_saved_without_the_base(tmp_path: Path) -> None:
    base, ids = text("bert")(tmp_path / "bert")
    encoder = wrap(base).eval()
    update(encoder)
    encoder.save_adapter(tmp_path / "adapter")
    names = {p.name for p in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 20_000
    again = wrap(text("bert")(tmp_path / "bert")[0]).eval()
    assert not torch.allclose(pooled(again, ids), pooled(encoder, ids))
    again.load_adapter(tmp_path / "adapter")
    assert torch.equal(pooled(again, ids), pooled(encoder, ids))
    trained = [n for n, p in again.named_parameters() if p.requires_grad]
    assert trained == [n for n, p in encoder.named_parameters() if p.requires_grad]


def test_peft_itself_reads_a_saved_adapter(tmp_path: Path) -> None:
    import peft

    base, ids = text("bert")(tmp_path)
    encoder = wrap(base).eval()
    update(encoder)
    encoder.save_adapter(tmp_path / "adapter")
    plain: Any = text("bert")(tmp_path)[0]
    peft.PeftModel.from_pretrained(plain.model, str(tmp_path / "adapter"))  # changes it in place
    torch.testing.assert_close(pooled(plain, ids), pooled(encoder, ids))


def remove(folder: Path) -> str:
    (folder / "adapter_model.safetensors").unlink()
    return "no adapter_model.safetensors"


def cut(folder: Path) -> str:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    return "damaged adapter"


def rescale(folder: Path) -> str:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 99}))
    return "saved with lora_alpha=99, the encoder has 4.0"


def other_targets(folder: Path) -> str:
    wrap(compact(folder)[0], target_modules=["linear1"]).save_adapter(folder)
    return "other target_modules (linear1, not linear1, linear2)"


@pytest.mark.parametrize("damage", [remove, cut, rescale, other_targets])
def test_adapters_that_do_not_fit_are_refused(tmp_path: Path, damage: Any) -> None:
    encoder = wrap(compact(tmp_path)[0])
    encoder.save_adapter(tmp_path)
    words = damage(tmp_path)
    with pytest.raises(UserError) as caught:
        encoder.load_adapter(tmp_path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}: ")


def test_longer_ends_of_names_choose_fewer_layers(tmp_path: Path) -> None:
    base, _ = text("bert")(tmp_path)
    encoder = wrap(base, target_modules=["attention.output.dense", "layer.0.attention.self.key"])
    adapted = {n.split(".lora_")[0] for n, _ in encoder.named_parameters() if ".lora_" in n}
    assert len(adapted) == 3 + 1


@pytest.mark.parametrize("name", ["queri", "attention", "LayerNorm", "uery"])
def test_wrong_names_are_answered_with_the_candidates(tmp_path: Path, name: str) -> None:
    base, _ = text("bert")(tmp_path)
    with pytest.raises(UserError) as caught:
        wrap(base, target_modules=["query", name])
    assert str(caught.value) == (
        f"encoder.target_modules: {name!r} is not a linear layer of the base that can be adapted. "
        "Valid: dense, key, query, value; or longer ends of their names."
    )


def test_layers_that_torch_reads_without_calling_are_no_candidates(tmp_path: Path) -> None:
    base, _ = compact(tmp_path)
    assert isinstance(base, nn.Module)
    assert {n.rsplit(".", 1)[-1] for n in linear_layers(base)} == {"linear1", "linear2"}
    with pytest.raises(UserError, match="'out_proj' is not a linear layer of the base"):
        wrap(base, target_modules=["out_proj"])


def test_it_is_an_encoder_of_yaml_files() -> None:
    base = {"name": "compact", "width": 16, "depth": 1, "heads": 2}
    config = ENCODERS.parse({"name": "lora", "base": base, "target_modules": ["linear1"]})
    assert isinstance(config, LoraConfig)
    assert ENCODERS.parse(config.dump()) == config
    adapter = SpeechConfig().build()
    assert repr(config.front_end(adapter)) == repr(adapter.front_end())
    assert isinstance(config.build(adapter), LoraEncoder)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"base": "compact", "rank": 0},
        {"base": "compact", "alpha": 0},
        {"base": "compact", "dropout": 1},
        {"base": "compact", "target_modules": []},
        {"base": {"name": "lora", "base": "compact"}},
        {"base": {"name": "pretrained", "checkpoint": "a", "train": "all"}},
    ],
)
def test_bad_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LoraConfig.parse(fields)
