"""Gradient x attention rollout: against matrices written out, on every encoder that has maps."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import gelu

from multimodal.batch import Features
from multimodal.encoders.compact import CompactEncoder
from multimodal.encoders.ecg_transformer import EcgTransformer
from multimodal.encoders.lora import LoraEncoder
from multimodal.encoders.pretrained import PretrainedConfig
from multimodal.encoders.vit import XrayViT
from multimodal.errors import UserError
from multimodal.evaluation.attention_maps import attention_maps, rollout, toward
from multimodal.evaluation.attention_pictures import picture, resized, spread
from multimodal.modalities.audio import AudioConfig
from multimodal.modalities.video import VideoConfig
from multimodal.modalities.xray import XrayConfig
from tests.multimodal.encoders import audio_checkpoints
from tests.multimodal.encoders.checkpoints import save_image_checkpoint, save_video_checkpoint

Made = tuple[Any, Features]
N = 3
SIZES: Any = {"width": 24, "depth": 2, "heads": 2}


def features_of(values: Tensor, axis: int = 2) -> Features:
    return Features(values, torch.full((len(values),), values.shape[axis]))


def vit(folder: Path) -> Made:
    return XrayViT(image=32, patch=8, **SIZES), features_of(torch.randn(N, 1, 32, 32))


def ecg(folder: Path) -> Made:
    lengths = torch.tensor([200, 120, 30])
    values = torch.randn(N, 12, 200) * (torch.arange(200) < lengths[:, None])[:, None]
    return EcgTransformer(samples=200, **SIZES), Features(values, lengths)


def compact(axes: int, folder: Path) -> Made:
    shape = {1: (N, 5, 26), 2: (N, 1, 12, 16), 3: (N, 3, 4, 8, 8)}[axes]
    return CompactEncoder(shape[1], axes=axes, **SIZES), features_of(torch.randn(shape))


def around_vit(folder: Path) -> Made:
    base, features = vit(folder)
    return LoraEncoder(base, rank=2), features


def image(kind: str, folder: Path) -> Made:
    save_image_checkpoint(folder, kind)
    encoder = PretrainedConfig(checkpoint=str(folder)).build(XrayConfig(size=32).build())
    return encoder, features_of(torch.randn(N, 3, 28, 28))


def video(folder: Path) -> Made:
    save_video_checkpoint(folder)
    encoder = PretrainedConfig(checkpoint=str(folder)).build(VideoConfig(frames=4, size=16).build())
    return encoder, features_of(torch.randn(N, 3, 4, 16, 16))


def sound(save: Callable[..., Any], lengths: tuple[int, ...], folder: Path) -> Made:
    folder.mkdir(exist_ok=True)
    save(folder)
    rate = json.loads((folder / "preprocessor_config.json").read_text())["sampling_rate"]
    adapter, config = AudioConfig(sample_rate=rate).build(), PretrainedConfig
    batch = audio_checkpoints.batch_of(audio_checkpoints.clips_of(lengths))
    front_end = config(checkpoint=str(folder)).front_end(adapter)
    return config(checkpoint=str(folder)).build(adapter), front_end(batch)


SHORT = (9000, 4321, 700)
ENCODERS: dict[str, Callable[[Path], Made]] = {
    "vit": vit,
    "ecg_transformer": ecg,
    **{f"compact {axes}": partial(compact, axes) for axes in (1, 2, 3)},
    "lora": around_vit,
    **{
        f"checkpoint {kind}": partial(image, kind)
        for kind in ("vit", "deit", "dinov2_with_registers")
    },
    "videomae": video,
    "ast": partial(sound, audio_checkpoints.ast, SHORT),
    "whisper": partial(sound, audio_checkpoints.whisper, SHORT),
    "wav2vec2": partial(sound, audio_checkpoints.waveform, SHORT),
}


def made(name: str, folder: Path) -> Made:
    torch.manual_seed(0)
    encoder, features = ENCODERS[name](folder)
    with torch.no_grad():  # larger weights, so that attention is not the same everywhere
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder, features


def rows(features: Features, *which: int) -> Features:
    return Features(features.values[list(which)], features.lengths[list(which)])


@pytest.mark.parametrize("name", ENCODERS)
def test_maps_of_every_encoder(name: str, tmp_path: Path) -> None:
    encoder, features = made(name, tmp_path)
    encoder.train()
    needing = [p.requires_grad for p in encoder.parameters()]
    modes = [m.training for m in encoder.modules()]
    target = torch.randn(encoder.width)
    real = functional.scaled_dot_product_attention
    maps = attention_maps({"signal": (encoder, features)}, toward(target))
    assert functional.scaled_dot_product_attention is real
    assert [p.requires_grad for p in encoder.parameters()] == needing
    assert [m.training for m in encoder.modules()] == modes
    assert all(p.grad is None for p in encoder.parameters())
    plain = encoder.eval()(*features)
    torch.testing.assert_close(maps.encoded["signal"].pooled, plain.pooled, rtol=1e-3, atol=1e-4)
    expected = functional.cosine_similarity(plain.pooled, target, dim=-1)
    torch.testing.assert_close(maps.scores, expected, rtol=1e-3, atol=1e-4)
    tokens = maps.tokens["signal"]
    assert tokens.values.isfinite().all()
    assert tokens.values.min() >= 0
    assert (tokens.values.sum(1) > 0).all()
    assert not tokens.values[:, : tokens.extra].any()
    shown = picture(encoder, features, tokens)
    axes = features.values.shape[1:] if name == "ast" else features.values.shape[2:]
    assert shown.shape == (N, *axes)
    assert shown.min() >= 0
    for n in range(N):
        one = rows(features, n)
        alone = attention_maps({"signal": (encoder, one)}, toward(target))
        found = picture(encoder, one, alone.tokens["signal"])
        scale = float(shown[n].max())
        torch.testing.assert_close(found[0] / scale, shown[n] / scale, rtol=0, atol=2e-3)


def test_padding_has_no_relevance(tmp_path: Path) -> None:
    encoder, features = made("ecg_transformer", tmp_path)
    maps = attention_maps({"ecg": (encoder, features)}, toward(torch.randn(24)))
    assert not maps.tokens["ecg"].values[~maps.encoded["ecg"].mask].any()
    shown = picture(encoder, features, maps.tokens["ecg"])
    beyond = torch.arange(200) >= features.lengths[:, None]
    assert not shown[beyond].any()


def by_hand(encoder: XrayViT, values: Tensor, target: Tensor, rows_sum_to_1: bool) -> np.ndarray:
    """(P,) of one image: blocks written out, whole matrices, no shortcuts."""
    encoder = encoder.eval()
    x = encoder.stem(values.expand(-1, 3, -1, -1)).flatten(2).transpose(1, 2)[0]
    x = torch.cat([encoder.class_token[None], x]) + encoder.positions
    attention = []
    for block in encoder.blocks:
        inner: Any = block
        q, k, v = inner.attention.qkv(inner.norm1(x)).view(len(x), 3, 2, 12).permute(1, 2, 0, 3)
        weights = (q @ k.transpose(1, 2) / 12**0.5).softmax(-1)
        weights.retain_grad()
        attention.append(weights)
        x = x + inner.attention.out((weights @ v).transpose(0, 1).reshape(len(x), 24))
        x = x + inner.narrow(gelu(inner.wide(inner.norm2(x))))
    pooled = encoder.norm(x)[0]
    (pooled @ target / pooled.norm() / target.norm()).backward()
    whole = np.eye(len(x))
    for weights in attention:
        c = np.maximum((weights.grad * weights).detach().double().numpy(), 0).mean(0)
        step = np.eye(len(x)) + c
        whole = (step / step.sum(1, keepdims=True) if rows_sum_to_1 else step) @ whole
    return whole[0, 1:]


@pytest.mark.parametrize("normalize_rows", [False, True])
def test_maps_are_those_of_the_formula(normalize_rows: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoder, features = vit(tmp_path)
    target = torch.randn(24)
    maps = attention_maps(
        {"xray": (encoder, features)}, toward(target), normalize_rows=normalize_rows
    )
    for n in range(N):
        expected = by_hand(encoder, features.values[n : n + 1], target, normalize_rows)
        ours = maps.tokens["xray"].values[n, 1:].double().numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-7)


def test_rollout_of_a_mean_leaves_the_tokens_themselves_out() -> None:
    layers = [torch.rand(2, 4, 4) for _ in range(3)]
    start = torch.full((2, 4), 0.25)
    whole = torch.eye(4).expand(2, 4, 4)
    for layer in layers:
        whole = (torch.eye(4) + layer) @ whole
    expected = (whole - torch.eye(4)).mean(1)
    torch.testing.assert_close(rollout(layers, start), expected)


def test_one_score_through_two_encoders(tmp_path: Path) -> None:
    image_encoder, images = vit(tmp_path)
    signal_encoder, signals = ecg(tmp_path)
    towers = {"xray": (image_encoder, images), "ecg": (signal_encoder, signals)}
    head = nn.Linear(48, 1)
    both = attention_maps(towers, lambda p: head(torch.cat([p["xray"], p["ecg"]], dim=1))[:, 0])
    torch.testing.assert_close(both.shares["xray"] + both.shares["ecg"], torch.ones(N))
    ignoring = attention_maps(towers, lambda p: p["ecg"][:, 0])
    assert ignoring.shares["xray"].tolist() == [0.0] * N
    assert not ignoring.tokens["xray"].values.any()
    projections = {"xray": nn.Linear(24, 5), "ecg": nn.Linear(24, 5)}
    each = attention_maps(towers, toward(torch.randn(N, 5), projections))
    assert each.scores.shape == (N,)


def test_other_weights_give_another_map(tmp_path: Path) -> None:
    encoder, features = vit(tmp_path)
    target = torch.randn(24)
    first = attention_maps({"x": (encoder, features)}, toward(target)).tokens["x"].values
    torch.manual_seed(9)
    encoder.initialise()
    second = attention_maps({"x": (encoder, features)}, toward(target)).tokens["x"].values
    alike = functional.cosine_similarity(first, second)
    assert alike.max() < 0.95


def test_encoders_that_read_windows_have_none(tmp_path: Path) -> None:
    encoder, features = sound(audio_checkpoints.ast, (17000, 9000), tmp_path)
    with pytest.raises(
        UserError, match=r"^sound: .* made 4 attention maps with its 2 blocks; maps"
    ):
        attention_maps({"sound": (encoder, features)}, toward(torch.randn(32)))
    assert encoder.training
    assert functional.scaled_dot_product_attention.__name__ == "scaled_dot_product_attention"


def test_tokens_of_an_ecg_are_spread_over_their_samples() -> None:
    values = torch.rand(2, 16)
    expected = np.zeros((2, 103))
    for n in range(2):
        for t in range(103):
            reads = [float(values[n, k]) for k in range(16) if 5 * k <= t <= 5 * k + 24]
            expected[n, t] = np.mean(reads) if reads else 0
    np.testing.assert_allclose(spread(values, 103, 25, 5).numpy(), expected, rtol=1e-5)


def test_places_between_tokens() -> None:
    grid = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    shown = resized(grid, (2, 2), (4, 4))[0]
    assert shown[0, 0] == 0
    assert shown[3, 3] == 3
    assert shown[1, 1] == pytest.approx(0.75)
    assert resized(grid, (4,), (8,)).shape == (1, 8)
    assert resized(torch.rand(2, 8), (2, 2, 2), (4, 6, 6)).shape == (2, 4, 6, 6)
