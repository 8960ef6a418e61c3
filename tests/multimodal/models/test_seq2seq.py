"""The whole speaking model: padding, gradients, sizes, embeddings, losses, its state."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from multimodal.batch import Batch
from multimodal.encoders.compact import CompactEncoder
from multimodal.models.seq2seq import DecoderConfig, Seq2Seq, framed
from multimodal.models.targets import read_target, write_target
from multimodal.models.vocabulary import EOS, PAD, SEP_ID, SOS, Vocabulary
from multimodal.objectives.distillation import sequence_cross_entropy
from multimodal.weights import load_weights, save_weights
from tests.multimodal.models import spoken

LENGTHS = [16, 9, 12, 3]
# Texts of 4, 1, 3 and 0 tokens; 6 is an intent.
IDS = torch.tensor([[6, SEP_ID, 8, 9], [6, 0, 0, 0], [7, SEP_ID, 10, 0], [0, 0, 0, 0]])
COUNTS = torch.tensor([4, 1, 3, 0])


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return sequence_cross_entropy(logits, targets, targets != PAD)


def logits_of(model: Seq2Seq, batch: Batch, ids: Tensor = IDS, counts: Tensor = COUNTS) -> Tensor:
    inputs, _ = framed(ids, counts)
    return model.teacher_forced(model.encode(batch), inputs)


def test_framed_texts() -> None:
    inputs, targets = framed(IDS, COUNTS)
    assert inputs[1].tolist() == [SOS, 6, PAD, PAD, PAD]
    assert targets[1].tolist() == [6, EOS, PAD, PAD, PAD]
    assert targets[0].tolist() == [6, SEP_ID, 8, 9, EOS]
    assert targets[3].tolist() == [EOS, PAD, PAD, PAD, PAD]


def test_alone_is_as_in_a_padded_batch() -> None:
    model = spoken.model().eval()
    batch = spoken.batch(LENGTHS)
    with torch.no_grad():
        together = logits_of(model, batch)
        for row, count in enumerate(COUNTS.tolist()):
            one = logits_of(
                model, spoken.alone(batch, row), IDS[row : row + 1, :count], COUNTS[row : row + 1]
            )
            expected = together[row : row + 1, : count + 1]
            torch.testing.assert_close(one, expected, atol=1e-5, rtol=0)


def test_what_is_padding_is_not_read_and_has_no_gradient() -> None:
    model = spoken.model().double()
    batch = spoken.batch(LENGTHS, dtype=torch.float64)
    encoded = model.encode(batch)
    tokens = encoded.tokens.detach().requires_grad_()
    inputs, targets = framed(IDS, COUNTS)
    loss = token_loss(model.teacher_forced(encoded._replace(tokens=tokens), inputs), targets)
    loss.backward()
    assert tokens.grad is not None
    assert tokens.grad[~encoded.mask].abs().max() == 0
    assert (tokens.grad.abs().sum(2) > 0)[encoded.mask].all()
    grad = model.decoder.embedding.weight.grad
    assert grad is not None
    assert grad[PAD].abs().max() == 0
    assert grad[6].abs().max() > 0

    changed = inputs.clone()
    changed[1, 2:], changed[3, 1:] = 9, 10
    other = tokens.detach().clone()
    other[~encoded.mask] = 1e4
    found = model.teacher_forced(encoded._replace(tokens=other), changed)
    again = token_loss(found, targets)
    torch.testing.assert_close(again, loss, atol=1e-12, rtol=0)


def test_gradients_reach_every_part() -> None:
    model = spoken.model()
    batch = spoken.batch(LENGTHS)
    inputs, targets = framed(IDS, COUNTS)
    encoded = model.encode(batch)
    loss = token_loss(model.teacher_forced(encoded, inputs), targets)
    signal, text = model.signal_embedding(encoded), model.text_embedding(IDS)
    (loss + signal.square().sum() + text.square().sum()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_number_of_weights() -> None:
    """The closed form, at the default and (with made-up sizes) for other choices."""
    intents = [f"intent_{i}" for i in range(31)]
    for config in (
        DecoderConfig(),
        DecoderConfig(layers=3, heads=2, width=20, feed_forward=30, merges=9, projection=5),
    ):
        vocabulary = Vocabulary(intents, merges=config.merges)
        encoder = CompactEncoder(40, width=96)
        model = config.build(spoken.Plain(), encoder, vocabulary)
        d, f, v, p = config.width, config.feed_forward, vocabulary.size, config.projection
        layer = 2 * (4 * d * d + 4 * d) + (d * f + f + f * d + d) + 3 * 2 * d
        decoder = v * d + config.layers * layer + 2 * d + d * v + v
        bridge, heads = 96 * d + d, 2 * (d * p + p)
        expected = decoder + bridge + heads + sum(w.numel() for w in encoder.parameters())
        assert sum(w.numel() for w in model.parameters()) == expected


def test_a_decoder_of_the_papers_size() -> None:
    """6 layers, width 768, 1,000 tokens (specs/coconut.md, section 8), worked out by hand: a layer
    has 2 x 2,362,368 in attention, 4,722,432 in its MLP, 4,608 in norms.
    """
    config = DecoderConfig(layers=6, heads=8, width=768, feed_forward=3072, projection=256)
    with torch.device("meta"):
        model = config.build(
            spoken.Plain(), CompactEncoder(40), Vocabulary(["x"], merges=1000 - 256 - 7)
        )
    assert (
        sum(w.numel() for w in model.decoder.parameters())
        == 768_000 + 6 * 9_451_776 + 1_536 + 769_000
    )


@pytest.mark.parametrize("lost", [{"width": 30}, {"dropout": 1.0}, {"longest": 0}, {"beams": 3}])
def test_settings_that_are_refused(lost: dict) -> None:
    with pytest.raises(ValidationError):
        DecoderConfig.parse(lost)


def test_the_signals_embedding_is_the_projected_mean_of_real_tokens() -> None:
    model = spoken.model().double()
    encoded = model.encode(spoken.batch(LENGTHS, dtype=torch.float64))
    found = model.signal_embedding(encoded)
    for row, mask in enumerate(encoded.mask):
        expected = model.signal_projection(encoded.tokens[row][mask].mean(0))
        torch.testing.assert_close(found[row], expected)
    assert encoded.mask.sum(1).tolist() == [8, 5, 6, 2]


def test_text_embeddings_by_hand() -> None:
    model = spoken.model().double()
    table, project = model.decoder.embedding.weight, model.text_projection
    ids = torch.tensor([[6, SEP_ID, 8, 9], [7, 10, SEP_ID, 8], [8, 9, 0, 0], [0, 0, 0, 0]])
    intents = [table[6], (table[7] + table[10]) / 2, (table[8] + table[9]) / 2, 0 * table[6]]
    expected = torch.stack([project(v) for v in intents])
    torch.testing.assert_close(model.text_embedding(ids), expected)
    inputs, _ = framed(ids, torch.tensor([4, 4, 2, 0]))
    torch.testing.assert_close(model.text_embedding(inputs), expected)
    means = [table[[6, SEP_ID, 8, 9]].mean(0), table[[7, 10, SEP_ID, 8]].mean(0)]
    found = model.text_embedding(inputs, pool="mean")[:2]
    torch.testing.assert_close(found, torch.stack([project(m) for m in means]))


def test_a_frozen_encoder_stays_in_evaluation_mode() -> None:
    model = spoken.model(dropout=0.5)
    assert model.train().encoder.training
    model.encoder.requires_grad_(False)
    assert model.frozen
    model.train()
    assert not model.encoder.training
    assert model.decoder.training


def test_weights_come_back_from_a_state_a_copy_and_a_file(tmp_path) -> None:
    model, batch = spoken.model().eval(), spoken.batch(LENGTHS)
    other, third = spoken.model(seed=1).eval(), spoken.model(seed=2).eval()
    assert not torch.equal(logits_of(model, batch), logits_of(other, batch))
    other.load_state_dict(model.state_dict())
    save_weights(model, tmp_path / "model.safetensors")
    load_weights(third, tmp_path / "model.safetensors")
    for same in (other, third, copy.deepcopy(model)):
        assert torch.equal(logits_of(same, batch), logits_of(model, batch))


def test_a_small_model_learns_to_say_what_it_is_shown() -> None:
    """End to end: four signals, their targets, and what beam search reads back."""
    torch.manual_seed(0)
    targets = [
        write_target("light_on", [("place", "kitchen")], "light in the kitchen"),
        write_target("light_on", [], "light"),
        write_target("alarm_set", [("time", "six o'clock")], "wake me at six o'clock"),
        write_target("light_off", [], "dark please"),
    ]
    vocabulary = Vocabulary(["light_on", "light_off", "alarm_set"], merges=40)
    vocabulary.learn(targets[:2])
    config = DecoderConfig(layers=1, heads=2, width=32, feed_forward=64, dropout=0, merges=40)
    encoder = CompactEncoder(spoken.CHANNELS, width=16, depth=1, heads=2, patch=4)
    model = config.build(spoken.Plain(), encoder, vocabulary)
    batch = spoken.batch([16, 12, 14, 10])
    inputs, wanted = framed(*vocabulary.encode_batch(targets))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(100):
        optimiser.zero_grad()
        loss = token_loss(model.teacher_forced(model.encode(batch), inputs), wanted)
        loss.backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        found = model.beam(model.encode(batch), width=3, longest=60)
    said = [read_target(vocabulary.decode(ids)) for ids in found.ids]
    assert said == [read_target(target) for target in targets]
