"""A tiny random Whisper checkpoint that transcribes, of windows of 1 s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.multimodal.encoders.audio_checkpoints import whisper
from tests.multimodal.encoders.checkpoints import save_tokenizer

START, NO_TIMESTAMPS, END, WORDS = 4, 54, 3, tuple(f"word{i}" for i in range(5, 60))


def save_whisper(folder: Path, **generation: Any) -> None:
    """Tokens 5 to 53 are words (their texts are word5, ...), those from 55 on timestamps."""
    torch.manual_seed(0)
    whisper(folder)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    with torch.no_grad():  # else it writes the same whatever it hears
        for weight in model.model.decoder.parameters():
            weight.add_(0.6 * torch.randn_like(weight))
    model.save_pretrained(folder)
    tokenizer = save_tokenizer(folder, "bert", WORDS)
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    tokenizer.add_special_tokens(special)
    tokenizer.save_pretrained(folder)
    fields = {
        "decoder_start_token_id": START,
        "eos_token_id": END,
        "pad_token_id": 1,
        "no_timestamps_token_id": NO_TIMESTAMPS,
        "begin_suppress_tokens": [6, END],
        **generation,
    }
    transformers.GenerationConfig(**fields).save_pretrained(folder)
