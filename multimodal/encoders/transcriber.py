"""Speech to text by a whole Whisper checkpoint (Radford et al. 2022, arXiv:2212.04356).

Decoding is greedy: the likeliest token at each step, no beam, no second try at another temperature,
no timestamps. So equal signals give equal texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.batch import Batch
from multimodal.encoders.checkpoint_files import checkpoint_faults
from multimodal.encoders.families import (
    family_of,
    load_model,
    load_processor,
    quiet_transformers,
)
from multimodal.encoders.families.audio_features import WhisperFeatures
from multimodal.encoders.pretrained import read_config, refuse_pickles, weights_digest
from multimodal.errors import UserError, did_you_mean
from multimodal.hub import local_folder
from multimodal.modalities.speech import SpeechAdapter, SpeechConfig
from multimodal.modalities.text import load_tokenizer

WINDOWS_AT_ONCE = 8
MOST_TOKENS = 224  # of 30 s, as in the authors' own decoder
VERSION = 1  # raise it whenever the same checkpoint would give other texts


class Transcriber(nn.Module):
    """``transcribe(batch)`` -> one text a recording.

    model: transformers' WhisperForConditionalGeneration. front_end: the checkpoint's. tokenizer:
    its own. prefix: the tokens that ask for a transcription without timestamps. facts: of the
    checkpoint.
    """

    def __init__(
        self,
        model: Any,
        front_end: WhisperFeatures,
        tokenizer: Any,
        *,
        prefix: list[int],
        facts: dict[str, Any],
    ) -> None:
        super().__init__()
        self.model, self.front_end, self.tokenizer = model, front_end, tokenizer
        self.prefix, self._facts = prefix, facts
        self.most_tokens = min(MOST_TOKENS, model.config.max_target_positions - len(prefix))

    @property
    def fingerprint(self) -> str:
        """Equal where, and only where, equal signals give equal texts."""
        words = self.tokenizer.backend_tokenizer.to_str()
        own = [VERSION, self._facts["weights"], self.prefix, self.most_tokens, self._settings()]
        plain = json.dumps([*own, repr(self.front_end), words], sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """What a result pins: name, revision, digest of the weights, and how it decodes."""
        spec = self.front_end.spec
        return {
            **self._facts,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "sample_rate": spec.sample_rate,
            "window_seconds": spec.seconds,
            "decoding": "greedy",
            "prefix": self.tokenizer.decode(self.prefix),
            "most_tokens": self.most_tokens,
        }

    @torch.no_grad()
    def transcribe(self, batch: Batch) -> list[str]:
        """N texts, stripped; "" where nothing is heard. Each as if its recording were alone.

        Recordings longer than the checkpoint's window are heard in as few windows of equal length
        as cover them (so that no rest of some milliseconds is heard by itself), and their texts
        are joined.
        """
        spec = self.front_end.spec
        parts = windows(batch.inputs, batch.lengths, spec.seconds * spec.sample_rate)
        texts: list[list[str]] = [[] for _ in range(len(batch))]
        for start in range(0, len(parts), WINDOWS_AT_ONCE):
            some = parts[start : start + WINDOWS_AT_ONCE]
            for (owner, _), text in zip(some, self._heard([s for _, s in some]), strict=True):
                texts[owner].append(text)
        return [" ".join(text for text in own if text) for own in texts]

    def _heard(self, signals: Sequence[Tensor]) -> list[str]:
        lengths = torch.tensor([len(s) for s in signals], device=signals[0].device)
        padded = nn.utils.rnn.pad_sequence(list(signals), batch_first=True)[:, None]
        nothing = torch.zeros_like(lengths)
        values = self.front_end(Batch(padded, lengths, nothing, nothing)).values
        ids = self._generate(values)[:, len(self.prefix) :]
        return [t.strip() for t in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _generate(self, values: Tensor) -> Tensor:
        from transformers import GenerationConfig, GenerationMixin

        start = torch.tensor([self.prefix], device=values.device).repeat(len(values), 1)
        settings = GenerationConfig(
            **self._settings(),
            max_length=len(self.prefix) + self.most_tokens,
            do_sample=False,
            num_beams=1,
        )
        # Not Whisper's own ``generate``: that tries again at other temperatures.
        plain: Any = GenerationMixin
        with quiet_transformers():
            found = plain.generate(
                self.model, values, generation_config=settings, decoder_input_ids=start
            )
        assert isinstance(found, Tensor)
        return found

    def _settings(self) -> dict[str, Any]:
        """Special tokens, and those that are never written, timestamps among them."""
        own = self.model.generation_config
        last = self.prefix[-1]  # timestamps stand behind <|notimestamps|>
        stamps = range(last + 1, self.model.config.vocab_size)
        return {
            "decoder_start_token_id": self.prefix[0],
            "eos_token_id": own.eos_token_id,
            "pad_token_id": own.pad_token_id,
            "begin_suppress_tokens": own.begin_suppress_tokens,
            "suppress_tokens": sorted({*(own.suppress_tokens or []), *stamps}) or None,
        }


def windows(inputs: Tensor, lengths: Tensor, longest: int) -> list[tuple[int, Tensor]]:
    """(row, samples (T,)) of (N, 1, T) recordings, in order; T at most ``longest``."""
    found = []
    for row, length in enumerate(lengths.tolist()):
        count = max(1, -(-length // longest))
        ends = [length * i // count for i in range(count + 1)]
        found += [(row, inputs[row, 0, a:b]) for a, b in pairwise(ends)]
    return found


def open_transcriber(
    checkpoint: str, revision: str | None, language: str
) -> tuple[Transcriber, SpeechAdapter]:
    """The transcriber and an adapter that decodes at its rate.

    language: that checkpoints of several languages are told; others know English alone.
    UserError: no such checkpoint, another architecture, no safetensors, lacking decoder, extractor,
    tokenizer or generation_config.json, a language that it does not know.
    """
    folder = local_folder(checkpoint, revision)
    family, config = read_config(checkpoint, folder)
    if family is not family_of("whisper", checkpoint):
        raise UserError(
            f"checkpoint {checkpoint!r} is of type {config.model_type!r}, which writes no "
            "transcripts; give a Whisper checkpoint, such as packaged-whisper-tiny-en."
        )
    refuse_pickles(checkpoint, folder)
    from transformers import GenerationConfig, WhisperForConditionalGeneration

    with checkpoint_faults(checkpoint, folder):
        own = load_processor(GenerationConfig, folder, "generation_config.json")
        adapter = SpeechConfig(sample_rate=_sample_rate(folder)).build()
        front_end = family.front_end(folder, config, adapter)
        assert isinstance(front_end, WhisperFeatures)
        transcriber = Transcriber(
            load_model(WhisperForConditionalGeneration, folder),
            front_end,
            load_tokenizer(checkpoint, revision),
            prefix=_prefix(folder, own, language),
            facts={"name": checkpoint, "revision": revision, "weights": weights_digest(folder)},
        )
    return transcriber.eval(), adapter


def _sample_rate(folder: Path) -> int:
    from transformers import AutoFeatureExtractor

    return load_processor(AutoFeatureExtractor, folder, "preprocessor_config.json").sampling_rate


def _prefix(folder: Path, own: Any, language: str) -> list[int]:
    """<|startoftranscript|>, of several languages <|en|> <|transcribe|>, then <|notimestamps|>."""
    start = own.decoder_start_token_id
    last = getattr(own, "no_timestamps_token_id", None)
    if start is None or last is None:
        raise UserError(
            f"{folder}: generation_config.json names no no_timestamps_token_id, so this is no "
            "Whisper checkpoint that transcribes; copy that file from the checkpoint's page."
        )
    if not getattr(own, "is_multilingual", False):
        if language != "en":
            raise UserError(
                f"model.language={language}: {folder} knows English alone; set model.language=en, "
                "or give a checkpoint of several languages."
            )
        return [start, last]
    known = {name.strip("<|>"): token for name, token in own.lang_to_id.items()}
    if language not in known:
        raise UserError(f"model.language={language}: unknown{did_you_mean(language, list(known))}")
    return [start, known[language], own.task_to_id["transcribe"], last]
