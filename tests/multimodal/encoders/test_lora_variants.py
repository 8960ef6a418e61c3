"""Variants of LoRA against their formulas, and adapters that earlier versions wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from multimodal.encoders import ENCODERS
from multimodal.errors import UserError
from tests.multimodal.encoders.lora_bases import (
    ALPHA,
    BASES,
    RANK,
    pooled,
    text,
    update,
    wrap,
)


def test_adapters_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They have the names that our wrapper gives the layers."""
    base, ids = text("bert")(tmp_path)
    encoder = wrap(base).eval()
    update(encoder)
    encoder.peft.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    again = wrap(text("bert")(tmp_path)[0]).eval()
    again.load_adapter(tmp_path / "adapter")
    assert torch.equal(pooled(again, ids), pooled(encoder, ids))


@pytest.mark.parametrize("method", ["rslora", "dora"])
@pytest.mark.parametrize("name", ["compact", "bert", "whisper"])
def test_variants_follow_their_formulas(tmp_path: Path, name: str, method: Any) -> None:
    base, values = BASES[name][0](tmp_path / "one")
    assert isinstance(base, nn.Module)
    expected = pooled(base.eval(), values).detach()
    encoder = wrap(base, method=method).eval()
    torch.testing.assert_close(pooled(encoder, values), expected, atol=1e-5, rtol=0)
    update(encoder)
    found = {n: p.detach().double() for n, p in encoder.named_parameters()}
    for norms in (n for n in found if "lora_magnitude" in n):
        with torch.no_grad():  # other norms than those of W
            dict(encoder.named_parameters())[norms].mul_(1.5)
    before = pooled(encoder, values).detach()
    plain, _ = BASES[name][0](tmp_path / "two")
    assert isinstance(plain, nn.Module)
    changed = dict(plain.eval().named_parameters())
    for place in [n.split(".lora_A.")[0] for n in found if ".lora_A." in n]:
        a, b = (found[f"{place}.lora_{x}.default.weight"] for x in "AB")
        weight = changed[place.removeprefix("peft.base_model.model.") + ".weight"]
        scale = ALPHA / RANK**0.5 if method == "rslora" else ALPHA / RANK
        made = weight.detach().double() + scale * b @ a
        if method == "dora":
            norm = weight.detach().double().norm(dim=1, keepdim=True)
            made = 1.5 * norm * made / made.norm(dim=1, keepdim=True)
        with torch.no_grad():
            weight.copy_(made)
    torch.testing.assert_close(pooled(plain, values).detach(), before, atol=1e-4, rtol=1e-4)
    encoder.save_adapter(tmp_path / "adapter")
    again = wrap(BASES[name][0](tmp_path / "three")[0], method=method).eval()
    again.load_adapter(tmp_path / "adapter")
    assert torch.equal(pooled(again, values), before)
    merged = encoder.merge()
    torch.testing.assert_close(pooled(merged, values), before, atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="set method, rank and alpha as they were"):
        wrap(BASES[name][0](tmp_path / "four")[0]).load_adapter(tmp_path / "adapter")


def test_the_method_is_told_only_where_it_is_another() -> None:
    config = ENCODERS.parse({"name": "lora", "base": "compact"})
    assert "method" not in config.dump()
    other = ENCODERS.parse({"name": "lora", "base": "compact", "method": "dora"})
    assert other.dump()["method"] == "dora"
    assert ENCODERS.parse(other.dump()) == other
