"""The decoder against PyTorch's own layers, and its cache against none."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from multimodal.models.decoder import Attention, Decoder, Layer, positions

VOCABULARY, WIDTH, HEADS, FEED = 13, 24, 4, 40


def decoder(**changes: float) -> Decoder:
    torch.manual_seed(0)
    sizes = {"layers": 2, "heads": HEADS, "width": WIDTH, "feed_forward": FEED, **changes}
    made = Decoder(VOCABULARY, **sizes)  # type: ignore[arg-type]
    for name, parameter in made.named_parameters():
        if name.endswith("bias") or "norm" in name:
            nn.init.normal_(parameter)
    return made


def memory(counts: tuple[int, ...] = (7, 3), dtype: torch.dtype = torch.float64) -> tuple:
    tokens = torch.randn(len(counts), max(counts), WIDTH, dtype=dtype)
    return tokens, torch.arange(max(counts)) < torch.tensor(counts)[:, None]


def copied(ours: Layer) -> nn.TransformerDecoderLayer:
    """PyTorch's layer with our weights."""
    peer = nn.TransformerDecoderLayer(
        WIDTH, HEADS, FEED, dropout=0.0, batch_first=True, norm_first=True
    ).double()

    def attention(mine: Attention, other: nn.MultiheadAttention) -> None:
        other.in_proj_weight.copy_(torch.cat([mine.query.weight, mine.memory.weight]))
        other.in_proj_bias.copy_(torch.cat([mine.query.bias, mine.memory.bias]))
        other.out_proj.load_state_dict(mine.out.state_dict())

    with torch.no_grad():
        attention(ours.own, peer.self_attn)
        attention(ours.cross, peer.multihead_attn)
    for mine, other in [
        (ours.norm1, peer.norm1),
        (ours.norm2, peer.norm2),
        (ours.norm3, peer.norm3),
        (ours.wide, peer.linear1),
        (ours.narrow, peer.linear2),
    ]:
        other.load_state_dict(mine.state_dict())
    return peer


def test_layers_are_pytorchs_with_the_same_weights() -> None:
    made = decoder().double()
    tokens, mask = memory()
    ids = torch.randint(4, VOCABULARY, (2, 6))
    hidden = made.embedding(ids) * math.sqrt(WIDTH) + positions(6, WIDTH)
    causal = nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.float64)
    for layer in made.layers:
        assert isinstance(layer, Layer)
        hidden = copied(layer)(
            hidden, tokens, tgt_mask=causal, memory_key_padding_mask=~mask, tgt_is_causal=True
        )
    expected = made.out(made.norm(hidden))
    torch.testing.assert_close(made(ids, tokens, mask), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("counts", [(7, 3), (5, 5)])
def test_steps_give_the_logits_of_the_whole(counts: tuple[int, ...]) -> None:
    """Two hypotheses of each recording, which change places, and a recording that leaves."""
    made = decoder().double().eval()
    tokens, mask = memory(counts)
    ids = torch.randint(4, VOCABULARY, (2, 2, 40))
    written = made.start(tokens, mask)
    found = [made.step(ids[..., t], written) for t in range(2)]
    written.keep(None, torch.tensor([[1, 0], [1, 0]]))
    found += [made.step(ids[:, [1, 0], t], written)[:, [1, 0]] for t in range(2, 20)]
    written.keep(torch.tensor([1]), torch.tensor([[1, 0]]))
    rest = torch.stack([made.step(ids[1:, :, t], written)[0] for t in range(20, 40)], dim=1)
    for hypothesis in range(2):
        with torch.no_grad():
            whole = made(ids[:, hypothesis], tokens, mask)
        steps = torch.stack([f[:, hypothesis] for f in found], dim=1)
        torch.testing.assert_close(steps, whole[:, :20], atol=1e-6, rtol=0)
        torch.testing.assert_close(rest[hypothesis], whole[1, 20:], atol=1e-6, rtol=0)


def test_no_position_reads_what_comes_later_or_is_padding() -> None:
    made = decoder().double().eval()
    tokens, mask = memory()
    tokens.requires_grad_()
    ids = torch.randint(4, VOCABULARY, (2, 6))
    logits = made(ids, tokens, mask)
    changed = ids.clone()
    changed[:, 4:] = 0
    other = tokens.detach().clone()
    other[1, 3:] = 1e6
    torch.testing.assert_close(made(changed, tokens, mask)[:, :4], logits[:, :4])
    torch.testing.assert_close(made(ids, other, mask), logits)
    (gradient,) = torch.autograd.grad(logits.square().sum(), tokens)
    assert gradient[1, 3:].abs().max() == 0
    assert gradient[1, :3].abs().min(1).values.max() > 0


def test_a_recording_without_a_single_token_gives_numbers() -> None:
    logits = decoder().double()(torch.full((2, 3), 5), memory()[0], torch.zeros(2, 7).bool())
    assert logits.isfinite().all()


def test_positions_are_vaswanis_codes() -> None:
    codes = positions(9, 8)
    for place in (0, 5, 8):
        for i in range(4):
            angle = place / 10_000 ** (2 * i / 8)
            assert codes[place, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert codes[place, 4 + i].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert torch.equal(positions(3, 8), codes[:3])


def test_weights_start_as_xaviers() -> None:
    torch.manual_seed(0)
    made = Decoder(200, layers=1, heads=4, width=96, feed_forward=160)
    layer = made.layers[0]
    assert isinstance(layer, Layer)

    def bound(weight: Tensor) -> float:
        return math.sqrt(6 / sum(weight.shape))

    parts = [*layer.own.memory.weight.chunk(2), *layer.cross.memory.weight.chunk(2)]
    parts += [layer.own.query.weight, layer.wide.weight, made.out.weight, made.embedding.weight]
    for weight in parts:
        largest = weight.abs().max().item()
        assert 0.97 * bound(weight) < largest <= bound(weight)
    assert made.embedding.weight[0].abs().max() == 0
    assert layer.wide.bias.abs().max() == 0


def test_dropout_acts_in_training_alone() -> None:
    made = decoder(dropout=0.4).double()
    tokens, mask = memory()
    ids = torch.full((2, 3), 5)
    assert not torch.equal(made(ids, tokens, mask), made(ids, tokens, mask))
    made.eval()
    assert torch.equal(made(ids, tokens, mask), made(ids, tokens, mask))
