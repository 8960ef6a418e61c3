from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from multimodal.encoders import ENCODERS
from multimodal.encoders.compact import CompactEncoder
from multimodal.modalities.speech import SpeechConfig

SHAPES = {1: (2, 5, 13), 2: (2, 1, 9, 12), 3: (2, 3, 5, 8, 8)}


def encoder(channels: int, axes: int, **changes: int) -> CompactEncoder:
    torch.manual_seed(0)
    fields = {"patch": 2, **changes}
    return CompactEncoder(channels, axes=axes, width=24, depth=2, heads=2, **fields).eval()


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_input_rank_gives_tokens_mask_and_pooled(axes: int) -> None:
    features = torch.randn(SHAPES[axes])
    lengths = torch.tensor([features.shape[2], features.shape[2] - 3])
    out = encoder(features.shape[1], axes)(features, lengths)
    grid = [-(-size // 2) for size in features.shape[2:]]
    count = torch.tensor(grid).prod().item()
    assert out.tokens.shape == (2, count, 24)
    assert out.pooled.shape == (2, 24)
    rows_valid = -(-(features.shape[2] - 3) // 2)
    assert out.mask.sum(1).tolist() == [count, rows_valid * count // grid[0]]


@pytest.mark.parametrize("axes", [1, 3])
def test_embeddings_do_not_depend_on_padding_or_batch(axes: int) -> None:
    features = torch.randn(SHAPES[axes])
    lengths = torch.tensor([features.shape[2], 3])
    keep = torch.arange(features.shape[2]) < lengths[:, None]
    features = features * keep.view(2, 1, -1, *([1] * (axes - 1)))
    model = encoder(features.shape[1], axes)
    with torch.no_grad():
        together = model(features, lengths).pooled
        padding = [0, 0] * (axes - 1) + [0, 20]
        padded = model(torch.nn.functional.pad(features, padding), lengths).pooled
        alone = model(features[1:, :, :3], lengths[1:]).pooled
    torch.testing.assert_close(padded, together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, together[1:], atol=1e-5, rtol=1e-5)


def test_padding_gets_no_gradient() -> None:
    features = torch.randn(2, 5, 12, requires_grad=True)
    encoder(5, 1, patch=2)(features, torch.tensor([12, 6])).pooled.sum().backward()
    assert features.grad is not None
    # The convolutions of the last valid token read zeros just beyond the end.
    assert features.grad[1, :, 7:].abs().max() == 0
    assert features.grad[1, :, :6].abs().max() > 0


def test_pooled_is_the_mean_of_the_valid_tokens() -> None:
    out = encoder(5, 1)(torch.randn(2, 5, 12), torch.tensor([12, 5]))
    torch.testing.assert_close(out.pooled[1], out.tokens[1][out.mask[1]].mean(0))


def test_blocks_start_with_different_weights() -> None:
    first, second = encoder(5, 1).blocks
    assert not torch.equal(first.linear1.weight, second.linear1.weight)
    assert not torch.equal(first.self_attn.in_proj_weight, second.self_attn.in_proj_weight)


def test_config_refuses_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(ValidationError, match="multiple of 2 x heads"):
        ENCODERS.parse({"name": "compact", "width": 30, "heads": 4})
    built = ENCODERS.parse({"name": "compact", "width": 32}).build(SpeechConfig(n_mels=40).build())  # type: ignore[attr-defined]
    assert built.width == 32
