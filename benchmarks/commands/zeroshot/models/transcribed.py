"""Whisper writes down what it hears, and a text encoder embeds that: the two-step pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from benchmarks.commands.zeroshot.models import MODELS, ModelConfig, OpenModel
from multimodal.batch import Batch
from multimodal.evaluation.protocols import Protocol
from multimodal.evaluation.word_errors import plain_words
from multimodal.hub import local_folder
from multimodal.hub.packaged import WHISPER
from multimodal.models.towers import TextTowerConfig, build_aligned

AT_ONCE = 8  # recordings: a bar that moves is worth more than a large batch


def _as_it_comes(text: TextTowerConfig) -> TextTowerConfig:
    if text.train != "none":
        raise ValueError(f"train={text.train}: nothing is trained here; leave it out")
    return text


@MODELS.register("transcribed")
class TranscribedModelConfig(ModelConfig):
    """Transcripts by Whisper, embedded as texts: what alignment of signals is measured against.

    checkpoint: packaged-whisper-tiny-en (extra "offline"), a folder, or a name on the hub with
    revision, its commit's 40 hexadecimal digits; with decoder and tokenizer. Decoding is greedy.
    language: that checkpoints of several languages are told. text: the text encoder. form: how a
    transcript is embedded, as it was written ("written") or in lower case without punctuation
    ("plain"). Numerals stay numerals: a spoken "seven" may be written "7.".
    """

    checkpoint: str = WHISPER
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    language: str = "en"
    text: Annotated[TextTowerConfig, AfterValidator(_as_it_comes)] = TextTowerConfig()
    form: Literal["written", "plain"] = "written"

    def single(self, output_dir: Path) -> list[ModelConfig]:
        return [self]

    def open(
        self, output_dir: Path, protocol: Protocol, *, device: torch.device, seed: int
    ) -> OpenModel:
        from multimodal.encoders.pretrained import weights_digest
        from multimodal.encoders.transcriber import open_transcriber
        from multimodal.encoders.transcripts import Transcripts

        words = build_aligned({}, self.text).to(device).eval()
        transcriber, adapter = open_transcriber(self.checkpoint, self.revision, self.language)
        transcripts = Transcripts(transcriber.to(device), output_dir / "cache" / "transcripts")
        heard: dict[str, str] = {}

        def embed(batch: Batch, uids: Sequence[str]) -> Tensor:
            texts = transcripts.of(batch)
            heard.update(zip(uids, texts, strict=True))
            return words.embed_texts([self._shaped(text) for text in texts])

        text = {
            "name": self.text.checkpoint,
            "revision": self.text.revision,
            "weights": weights_digest(local_folder(self.text.checkpoint, self.text.revision)),
            "width": words.text.width,
            "max_length": self.text.max_length,
        }
        return OpenModel(
            label="transcribed",
            seed=0,
            adapter=adapter,
            modalities=("speech",),
            embed=embed,
            embed_texts=words.embed_texts,
            prompts=None,
            facts={**transcriber.facts(), "form": self.form, "text": text},
            settings=self.dump(),
            at_once=AT_ONCE,
            heard=heard,
        )

    def _shaped(self, transcript: str) -> str:
        return " ".join(plain_words(transcript)) if self.form == "plain" else transcript
