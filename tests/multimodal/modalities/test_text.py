"""Token ids against transformers' own; truncation is counted and told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.batch import Batch
from multimodal.encoders.compact import CompactConfig
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.text import TextAdapter, TextConfig
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache
from tests.multimodal.encoders.checkpoints import WORDS, save_tokenizer

PLAIN = [w for w in WORDS if w.isalpha()]
LONG = "heart of a dog sound of rain"  # 7 words and 2 special tokens
SPECIAL = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(path, "bert")
    return path


def adapter_of(folder: Path, max_length: int = 8) -> TextAdapter:
    return TextConfig(tokenizer=str(folder), max_length=max_length).build()


def recording(text: str, uid: str = "r") -> Recording:
    return Recording(uid, (0,), "train", text=text)


def test_it_is_a_modality_of_yaml_files(folder: Path) -> None:
    config = MODALITIES.parse({"name": "text", "tokenizer": str(folder), "max_length": 16})
    adapter: Any = config.build()  # pyright: ignore
    assert (adapter.length_axis, adapter.dtype, adapter.axes) == (-1, torch.int64, 1)
    assert adapter.config == config
    assert adapter.augment() is None


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.lists(st.sampled_from(PLAIN), max_size=10), min_size=1, max_size=5))
def test_ids_are_the_tokenizers_own(folder: Path, texts: list[list[str]]) -> None:
    adapter, sentences = adapter_of(folder), [" ".join(words) for words in texts]
    ids, lengths = adapter.tokenize(sentences)
    assert lengths.tolist() == [min(8, len(words) + SPECIAL) for words in texts]
    assert ids.shape == (len(texts), max(lengths))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for row, length, sentence in zip(ids, lengths, sentences, strict=True):
        expected = theirs(sentence, truncation=True, max_length=8).input_ids
        assert row[:length].tolist() == expected
        assert not row[length:].any()
        if sentence:
            assert adapter.load(recording(sentence)).tolist() == expected
    assert adapter.truncated == sum(len(w) + SPECIAL > 8 for w in texts) + sum(
        len(w) + SPECIAL > 8 for w in texts if w
    )


def test_truncation_is_told_in_one_line(folder: Path) -> None:
    adapter = adapter_of(folder)
    adapter.load(recording("rain"))
    assert adapter.truncation_report() == "none of 1 texts was cut to 8 tokens"
    assert adapter.load(recording(LONG)).shape == (8,)
    assert adapter.load(recording(LONG))[-1] == adapter.vocabulary["[SEP]"]
    assert adapter.truncation_report() == (
        "2 of 3 texts were cut to 8 tokens (the longest has 9); raise modality.max_length if the "
        "ends matter"
    )


def test_threads_count_and_cut_correctly(folder: Path) -> None:
    adapter, texts = adapter_of(folder), [LONG, "rain", LONG, "dog"] * 50
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda text: len(adapter.load(recording(text))), texts))
    assert loaded == [8, 3, 8, 3] * 50
    assert (adapter.seen, adapter.truncated) == (200, 100)


def test_batches_pass_through_the_signal_cache(folder: Path) -> None:
    texts = ["rain", LONG, "a dog"]
    rows = tuple(recording(t, uid=str(i)) for i, t in enumerate(texts))
    adapter = adapter_of(folder)
    cache = SignalCache(Manifest("texts", "text", ("all",), rows, "1"), adapter, progress=False)
    batch = cache.gather([2, 1, 0])
    values, lengths = adapter.front_end()(batch)
    ids, counts = adapter.tokenize([texts[i] for i in (2, 1, 0)])
    assert torch.equal(values, ids)
    assert torch.equal(lengths, counts)
    assert isinstance(batch, Batch)
    assert values.dtype == torch.int64


def test_the_fingerprint_is_of_the_tokenizer_and_the_length(folder: Path, tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "same", "bert")
    save_tokenizer(tmp_path / "other", "bert", words=WORDS[::-1])
    mine = adapter_of(folder)
    before = mine.fingerprint
    mine.tokenize([LONG])
    assert before == mine.fingerprint == adapter_of(tmp_path / "same").fingerprint
    assert before != adapter_of(tmp_path / "other").fingerprint
    assert before != adapter_of(folder, max_length=9).fingerprint


def test_prompts_have_the_bare_words_first(folder: Path) -> None:
    prompts = adapter_of(folder).describe("Pleural_Effusion")
    assert prompts[0] == "pleural effusion"
    assert all("pleural effusion" in p for p in prompts)


@pytest.mark.parametrize("text", ["", " \n"])
def test_recordings_without_text_are_named(folder: Path, text: str) -> None:
    with pytest.raises(UserError, match="clip-7: the recording has no text"):
        adapter_of(folder).load(recording(text, uid="clip-7"))


def test_compact_does_not_read_token_ids(folder: Path) -> None:
    with pytest.raises(UserError, match="modality 'text' has token ids, no channels"):
        CompactConfig().build(adapter_of(folder))


@pytest.mark.parametrize("changes", [{"max_length": 4}, {"revision": "main"}, {"lower": True}])
def test_bad_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TextConfig(**changes)


def test_a_length_that_the_tokenizer_forbids_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"modality\.max_length=64: .* at most 32"):
        adapter_of(folder, max_length=64).tokenize(["rain"])


@pytest.mark.parametrize("contents", [None, "{", "{}"])
def test_folders_without_a_tokenizer_are_named(tmp_path: Path, contents: str | None) -> None:
    if contents is not None:
        (tmp_path / "tokenizer.json").write_text(contents)
    with pytest.raises(UserError, match=f"{tmp_path} holds none that can be read") as caught:
        adapter_of(tmp_path).tokenize(["rain"])
    assert "\n" not in str(caught.value)
