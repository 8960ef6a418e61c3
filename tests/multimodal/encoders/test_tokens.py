"""Prompts between the blocks: against encoders rebuilt with the prompts in their own sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from multimodal.batch import Features
from multimodal.encoders.compact import CompactEncoder
from multimodal.encoders.tokens import QueryEncoder, TokenAccess
from multimodal.errors import UserError

N, D, STEPS = 3, 16, 40


@pytest.fixture
def encoder() -> CompactEncoder:
    torch.manual_seed(0)
    return CompactEncoder(5, width=D, depth=3, heads=2).eval().requires_grad_(False)


@pytest.fixture
def features() -> Features:
    lengths = torch.tensor([STEPS, 25, 9])
    values = torch.randn(N, 5, STEPS) * (torch.arange(STEPS) < lengths[:, None])[:, None]
    return Features(values, lengths)


def by_hand(encoder, features: Features, plan: dict[int, torch.Tensor]):
    """Blocks called one by one, each recording alone and without padding."""
    pooled, queries = [], []
    for i in range(N):
        length = int(features.lengths[i])
        values = features.values[i : i + 1, :, :length]
        seen: list[torch.Tensor] = []
        handle = encoder.blocks[0].register_forward_pre_hook(
            lambda m, a, seen=seen: seen.append(a[0])
        )
        encoder(values, torch.tensor([length]))
        handle.remove()
        tokens = seen[0]
        size = tokens.shape[1]
        for b, block in enumerate(encoder.blocks):
            if b == len(encoder.blocks) - 1:
                queries.append(tokens.mean(1))
            if b in plan:
                tokens = torch.cat([tokens, plan[b][i : i + 1]], dim=1)
            tokens = block(tokens)[:, :size]
        pooled.append(encoder.norm(tokens).mean(1))
    return torch.cat(pooled), torch.cat(queries)


def test_prompts_are_appended_for_the_length_of_a_block(encoder, features) -> None:
    plan = {0: torch.randn(N, 2, D), 1: torch.randn(N, 4, D)}
    found, (pooled, _) = TokenAccess(encoder).run(features, plan), by_hand(encoder, features, plan)
    torch.testing.assert_close(found.pooled, pooled, rtol=1e-4, atol=1e-5)
    plain = encoder(features.values, features.lengths)
    assert found.tokens.shape == plain.tokens.shape
    assert torch.equal(found.mask, plain.mask)
    assert not torch.allclose(found.pooled, plain.pooled, atol=1e-3)
    torch.testing.assert_close(TokenAccess(encoder).run(features, {}).pooled, plain.pooled)


def test_the_query_is_the_mean_before_the_last_block(encoder, features) -> None:
    access, (_, queries) = TokenAccess(encoder), by_hand(encoder, features, {})
    torch.testing.assert_close(access.query(features), queries, rtol=1e-4, atol=1e-5)
    last = access.query(features, use_last_layer=True)
    torch.testing.assert_close(last, encoder(*features).pooled)
    cached = QueryEncoder(encoder, use_last_layer=False)(*features).pooled
    assert torch.equal(cached, access.query(features))


def test_prompts_that_stay_to_the_end(encoder, features) -> None:
    prompt = torch.randn(N, 4, D)
    outputs = TokenAccess(encoder).run_through(features, prompt)
    assert outputs.shape == (N, 4, D)
    for i in range(N):
        length = int(features.lengths[i])
        alone = Features(features.values[i : i + 1, :, :length], torch.tensor([length]))
        seen: list[torch.Tensor] = []
        handle = encoder.blocks[0].register_forward_pre_hook(
            lambda m, a, seen=seen: seen.append(a[0])
        )
        encoder(*alone)
        handle.remove()
        tokens = torch.cat([seen[0], prompt[i : i + 1]], dim=1)
        for block in encoder.blocks:
            tokens = block(tokens)
        expected = encoder.norm(tokens[:, -4:])[0]
        torch.testing.assert_close(outputs[i], expected, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_prompts_and_nothing_else(encoder, features) -> None:
    prompt = torch.randn(N, 2, D, requires_grad=True)
    TokenAccess(encoder).run(features, {1: prompt}).pooled.square().sum().backward()
    assert prompt.grad is not None
    assert (prompt.grad.abs().sum((1, 2)) > 0).all()
    direction = torch.randn_like(prompt)
    value = lambda p: TokenAccess(encoder).run(features, {1: p}).pooled.square().sum()  # noqa: E731
    slope = (value(prompt + 1e-2 * direction) - value(prompt - 1e-2 * direction)) / 2e-2
    assert slope.item() == pytest.approx(float((prompt.grad * direction).sum()), rel=2e-2)
    assert all(p.grad is None for p in encoder.parameters())
    hooks = [h for b in encoder.blocks for h in (*b._forward_hooks, *b._forward_pre_hooks)]
    assert not hooks


def test_an_encoder_without_blocks_is_refused() -> None:
    with pytest.raises(UserError, match="no access to the tokens"):
        TokenAccess(torch.nn.Linear(2, 2))


def tiny(kind: str, folder: Path) -> tuple[Any, Features]:
    """A random checkpoint's encoder and some features of its family."""
    import transformers as t

    from multimodal.encoders.families import family_of
    from multimodal.encoders.pretrained import PretrainedEncoder

    small = {"hidden_size": D, "num_hidden_layers": 3, "num_attention_heads": 2}
    small |= {"intermediate_size": 32}
    conv = {"conv_dim": (8, 8), "conv_kernel": (10, 3), "conv_stride": (5, 2)}
    conv |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    conv |= {"num_feat_extract_layers": 2}
    waves = Features(torch.randn(N, 1, 400), torch.tensor([400, 250, 100]))
    image = Features(torch.randn(N, 3, 8, 8), torch.full((N,), 8))
    whisper = {"d_model": D, "encoder_layers": 3, "encoder_attention_heads": 2}
    whisper |= {"encoder_ffn_dim": 32, "num_mel_bins": 8, "max_source_positions": 20}
    makers: dict[str, Any] = {
        "vit": lambda: (t.ViTModel(t.ViTConfig(**small, image_size=8, patch_size=4)), image),
        "dinov2": lambda: (
            t.Dinov2Model(t.Dinov2Config(**small, image_size=8, patch_size=4)),
            image,
        ),
        "audio-spectrogram-transformer": lambda: (
            t.ASTModel(
                t.ASTConfig(
                    **small,
                    patch_size=4,
                    num_mel_bins=8,
                    max_length=16,
                    frequency_stride=4,
                    time_stride=4,
                )
            ),
            Features(torch.randn(N, 8, 16), torch.tensor([16, 12, 6])),
        ),
        "wav2vec2": lambda: (t.Wav2Vec2Model(t.Wav2Vec2Config(**small, **conv)), waves),
        "hubert": lambda: (t.HubertModel(t.HubertConfig(**small, **conv)), waves),
        "wavlm": lambda: (t.WavLMModel(t.WavLMConfig(**small, **conv)), waves),
        "whisper": lambda: (
            t.models.whisper.modeling_whisper.WhisperEncoder(t.WhisperConfig(**whisper)),
            Features(torch.randn(N, 8, 40), torch.tensor([40, 30, 11])),
        ),
        "videomae": lambda: (
            t.VideoMAEModel(
                t.VideoMAEConfig(**small, image_size=8, patch_size=4, num_frames=4, tubelet_size=2)
            ),
            Features(torch.randn(N, 3, 4, 8, 8), torch.full((N,), 4)),
        ),
    }
    torch.manual_seed(0)
    model, features = makers[kind]()
    family = family_of(kind, "tiny")
    return PretrainedEncoder(model.eval(), family, width=D, pooling=family.pooling), features


@pytest.mark.parametrize(
    "kind",
    ["vit", "dinov2", "audio-spectrogram-transformer", "wav2vec2", "hubert", "whisper", "videomae"],
)
def test_checkpoints_take_prompts_whatever_the_padding(kind: str, tmp_path) -> None:
    encoder, features = tiny(kind, tmp_path)
    access, plain = TokenAccess(encoder), encoder(*features)
    prompt = torch.randn(N, 3, D)
    for first in range(access.depth):
        found = access.run(features, {first: prompt})
        assert found.tokens.shape == plain.tokens.shape
        assert not torch.allclose(found.pooled, plain.pooled, atol=1e-4)
        # A recording's embedding asks for its own prompt only.
        other = access.run(features, {first: torch.cat([prompt[:1], prompt[1:] + 1])})
        torch.testing.assert_close(other.pooled[0], found.pooled[0], rtol=1e-4, atol=1e-5)
    assert access.query(features).shape == (N, D)
    assert access.run_through(features, prompt).shape == (N, 3, D)
    # Prompts that no token attends to change nothing: the plain pass is their limit.
    torch.testing.assert_close(access.run(features, {}).pooled, plain.pooled)


def test_relative_positions_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="wavlm"):
        TokenAccess(tiny("wavlm", tmp_path)[0])


def test_a_prompted_vit_is_its_blocks_called_by_hand(tmp_path) -> None:
    encoder, features = tiny("vit", tmp_path)
    prompt = torch.randn(N, 3, D)
    found = TokenAccess(encoder).run(features, {1: prompt})
    tokens = encoder.model.embeddings(features.values)
    for b, block in enumerate(encoder.layers):
        extended = torch.cat([tokens, prompt], dim=1) if b == 1 else tokens
        out = block(extended)
        tokens = (out[0] if isinstance(out, tuple) else out)[:, : tokens.shape[1]]
    expected = encoder.model.layernorm(tokens)
    torch.testing.assert_close(found.tokens, expected, rtol=1e-4, atol=1e-5)
