"""MoRE's encoders: shapes, parameter counts, padding, positions, DropKey in them, LoRA around."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from multimodal.batch import Features
from multimodal.encoders import ENCODERS
from multimodal.encoders.ecg_transformer import EcgTransformer, tokens_of
from multimodal.encoders.projection import ProjectionHead
from multimodal.encoders.tokens import TokenAccess
from multimodal.encoders.vit import XrayViT
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES, Adapter

VIT_B: Any = {"width": 768, "depth": 12, "heads": 12}
SMALL = {"width": 24, "depth": 3, "heads": 2}
Made = tuple[Any, Features]


def adapter(name: str, **fields: Any) -> Adapter:
    return MODALITIES.parse({"name": name, **fields}).build()  # type: ignore[attr-defined]


XRAY, ECG = adapter("xray", size=32), adapter("ecg", sample_rate=100)


def build(name: str, place: Adapter, **fields: Any) -> Any:
    torch.manual_seed(0)
    return ENCODERS.parse({"name": name, **SMALL, **fields}).build(place)  # type: ignore[attr-defined]


def xray(**fields: Any) -> Made:
    encoder = build("vit", XRAY, patch=8, **fields)
    return encoder, Features(torch.randn(3, 1, 32, 32), torch.full((3,), 32))


def ecg(**fields: Any) -> Made:
    encoder = build("ecg_transformer", ECG, samples=200, **fields)
    lengths = torch.tensor([200, 120, 25])
    values = torch.randn(3, 12, 200) * (torch.arange(200) < lengths[:, None])[:, None]
    return encoder, Features(values, lengths)


BOTH = pytest.mark.parametrize("make", [xray, ecg])


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_published_form() -> None:
    with torch.device("meta"):
        image = XrayViT(**VIT_B)
        signal, normed = EcgTransformer(norm="batch", **VIT_B), EcgTransformer(**VIT_B)
        heads = [ProjectionHead(768, norm="batch"), ProjectionHead(768, norm="layer")]
    assert count(image.blocks[0]) == 7_085_568
    assert count(image) == 85_771_008
    assert count(signal) == count(normed) == 86_181_888
    assert [count(head) for head in heads] == [689_920] * 2


def test_tokens_of_the_published_form() -> None:
    image, signal = build("vit", adapter("xray", size=224)), build("ecg_transformer", ECG)
    out = image.eval()(torch.randn(1, 1, 224, 224), torch.tensor([224]))
    assert [tuple(t.shape) for t in out] == [(1, 197, 24), (1, 197), (1, 24)]
    out = signal.eval()(torch.randn(1, 12, 1000), torch.tensor([1000]))
    assert [tuple(t.shape) for t in out] == [(1, 197, 24), (1, 197), (1, 24)]
    assert out.mask.all()


def test_a_token_of_an_ecg_reads_its_25_samples() -> None:
    encoder, _ = ecg()
    stem = encoder.stem
    values = torch.randn(1, 12, 200, requires_grad=True)
    made = stem[1](stem[0](values).relu())  # type: ignore[operator]
    assert made.shape[2] == tokens_of(200) == 36
    for k in (0, 7, 35):
        (seen,) = torch.autograd.grad(made[0, :, k].sum(), values, retain_graph=True)
        samples = seen[0].abs().sum(0).nonzero()[:, 0]
        assert (int(samples.min()), int(samples.max())) == (5 * k, 5 * k + 24)


@BOTH
def test_pooled_is_the_class_token(make) -> None:
    encoder, features = make()
    out = encoder.eval()(*features)
    assert torch.equal(out.pooled, out.tokens[:, 0])
    assert out.mask[:, 0].all()
    assert out.pooled.shape == (3, 24)


def test_ecg_embeddings_do_not_depend_on_padding_or_batch() -> None:
    encoder, (values, lengths) = ecg(norm="layer")
    encoder.eval()
    together = encoder(values, lengths)
    assert together.mask.sum(1).tolist() == [1 + 36, 1 + 20, 1 + 1]
    longer = torch.cat([values, torch.zeros(3, 12, 300)], dim=2)
    torch.testing.assert_close(encoder(longer, lengths).pooled, together.pooled)
    for n in range(3):
        one = encoder(values[n : n + 1, :, : lengths[n]], lengths[n : n + 1])
        torch.testing.assert_close(one.pooled[0], together.pooled[n], rtol=1e-4, atol=1e-5)


def test_padding_of_an_ecg_gets_no_gradient() -> None:
    encoder, (values, lengths) = ecg()
    values.requires_grad_()
    encoder(values, lengths).pooled.square().sum().backward()
    assert values.grad is not None
    beyond = torch.arange(200) >= 5 * (lengths[:, None] // 5)
    assert values.grad.masked_select(beyond[:, None]).abs().max() == 0


def test_positions_are_interpolated_for_longer_ecgs_and_other_images() -> None:
    encoder, _ = ecg()
    table = encoder.positions[1:].detach()
    ends = encoder._places(torch.tensor([71, 36]), 71)
    torch.testing.assert_close(ends[0, ::2], table)
    torch.testing.assert_close(ends[0, 1], (table[0] + table[1]) / 2)
    torch.testing.assert_close(ends[1, :36], table)
    encoder.eval()
    values = torch.randn(2, 12, 400)
    lengths = torch.tensor([400, 200])
    values[1, :, 200:] = 0
    both = encoder(values, lengths).pooled
    alone = encoder(values[1:, :, :200], lengths[1:]).pooled
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)
    image, _ = xray()
    assert image._places(4, 4) is not None
    assert torch.equal(image._places(4, 4), image.positions[1:])
    assert image(torch.randn(1, 1, 48, 64), torch.tensor([48])).tokens.shape == (1, 49, 24)


@BOTH
def test_dropkey_acts_in_training_only_and_not_in_the_last_layer(make, monkeypatch) -> None:
    encoder, features = make(dropkey=0.4)
    assert [b.attention.ratio for b in encoder.blocks] == pytest.approx([0.4, 0.2, 0.0])
    plain, _ = make(dropkey=0.0)
    plain.load_state_dict(encoder.state_dict())
    for form in (encoder, plain):
        form.eval()
    assert torch.equal(encoder(*features).pooled, plain(*features).pooled)
    encoder.train()
    torch.manual_seed(3)
    first, second = encoder(*features).pooled, encoder(*features).pooled
    assert not torch.allclose(first, second)
    torch.manual_seed(3)
    assert torch.equal(encoder(*features).pooled, first)
    assert first.isfinite().all()
    constant, _ = make(dropkey=0.3, schedule="constant")
    assert {b.attention.ratio for b in constant.blocks} == {0.3}


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(make, dtype: torch.dtype) -> None:
    encoder, features = make(dropkey=0.9)
    encoder.to(dtype).train()
    out = encoder(features.values.to(dtype), features.lengths)
    assert out.pooled.dtype == dtype
    assert out.pooled.isfinite().all()


@BOTH
def test_lora_adapts_the_fused_projections(make) -> None:
    encoder, features = make(train="none")
    place, rest = (XRAY, {"patch": 8}) if make is xray else (ECG, {"samples": 200})
    base = {"name": "vit" if make is xray else "ecg_transformer", **SMALL, **rest}
    torch.manual_seed(0)
    wrapped: Any = ENCODERS.parse({"name": "lora", "base": base, "rank": 2}).build(place)  # type: ignore[attr-defined]
    trained = [name for name, p in wrapped.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 3
    assert all("qkv.lora_" in name for name in trained)
    before = encoder.eval()(*features).pooled
    torch.testing.assert_close(wrapped.eval()(*features).pooled, before)
    wrapped.train()(*features).pooled.sum().backward()
    for name, p in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.1)
            assert p.grad is not None
            assert p.grad.abs().max() > 0
    adapted = wrapped.eval()(*features).pooled
    assert not torch.allclose(adapted, before, atol=1e-3)
    torch.testing.assert_close(wrapped.merge()(*features).pooled, adapted, rtol=0, atol=1e-5)


@BOTH
def test_prompts_reach_the_blocks(make) -> None:
    """As on other encoders: appended, valid in the mask, taken out again."""
    encoder, features = make(train="none")
    encoder.eval()
    access = TokenAccess(encoder)
    assert (access.depth, access.class_token) == (3, True)
    plain = encoder(*features)
    torch.testing.assert_close(access.run(features, {}).pooled, plain.pooled)
    prompts = {0: torch.randn(3, 2, 24), 2: torch.randn(3, 1, 24)}
    out = access.run(features, prompts)
    assert out.tokens.shape == plain.tokens.shape
    assert not torch.allclose(out.pooled, plain.pooled, atol=1e-3)
    assert access.run_through(features, torch.randn(3, 2, 24)).shape == (3, 2, 24)
    assert access.query(features).shape == (3, 24)


def test_paper_code_is_one_flag() -> None:
    image = ENCODERS.parse({"name": "vit", "paper_code": True})
    signal = ENCODERS.parse({"name": "ecg_transformer", "paper_code": True})
    assert (image.dump()["dropkey"], image.dump()["schedule"]) == (0.3, "constant")
    assert signal.dump()["norm"] == "batch"
    assert ENCODERS.parse(signal.dump()) == signal
    with pytest.raises(ValidationError, match=r"paper_code means dropkey=0\.3, not 0\.1"):
        ENCODERS.parse({"name": "vit", "paper_code": True, "dropkey": 0.1})
    norms = build("ecg_transformer", ECG, paper_code=True).stem_norms
    assert all(isinstance(norm, nn.BatchNorm1d) for norm in norms)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"modality\.size=32 is no multiple .* modality\.size=40"):
        build("vit", XRAY, patch=20)
    for name, place in (("vit", ECG), ("ecg_transformer", XRAY)):
        with pytest.raises(UserError, match=r"encoder .* reads .*; use compact"):
            build(name, place)
    with pytest.raises(ValidationError, match=r"width 24 must be a multiple of heads \(5\)"):
        build("vit", XRAY, heads=5)
    encoder, _ = ecg()
    with pytest.raises(
        UserError, match=r"an ECG of 24 samples is too short .* of 25; leave it out"
    ):
        encoder(torch.randn(2, 12, 100), torch.tensor([100, 24]))


def oracle(head: ProjectionHead, pooled: Tensor) -> Tensor:
    """In training, without learned norms (which begin as none)."""
    axis = 0 if isinstance(head.last, nn.BatchNorm1d) else 1

    def norm(x: Tensor) -> Tensor:
        deviation = (x.var(axis, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return (x - x.mean(axis, keepdim=True)) / deviation

    return norm(norm(pooled @ head.first.weight.T).clamp(min=0) @ head.third.weight.T)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_projection_heads(norm: Any) -> None:
    head, pooled = ProjectionHead(12, 20, 5, norm=norm), torch.randn(7, 12)
    torch.testing.assert_close(head(pooled), oracle(head, pooled), rtol=1e-4, atol=1e-5)
    if norm == "layer":
        assert head(pooled[:1]).shape == (1, 5)
        return
    with pytest.raises(UserError, match="cannot train on a batch that has one recording"):
        head(pooled[:1])
    assert head.eval()(pooled[:1]).isfinite().all()
