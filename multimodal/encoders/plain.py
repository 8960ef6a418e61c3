"""transformers' own models below our encoders: where plain transformers and PEFT find them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from multimodal.encoders.families import load_processor, quiet_transformers
from multimodal.encoders.pretrained import PretrainedEncoder
from multimodal.errors import UserError


def place_within(encoder: PretrainedEncoder, folder: Path) -> str | None:
    """The attribute of ``AutoModel.from_pretrained(folder)`` that is the encoder's model.

    "": AutoModel gives it itself. "encoder": of Whisper, "audio_model": of CLAP, whose checkpoints
    hold more than the part that hears. None: AutoModel has no such part.
    """
    from transformers import AutoConfig, AutoModel

    config = load_processor(AutoConfig, folder, "config.json")
    with torch.device("meta"), quiet_transformers():
        whole = AutoModel.from_config(config)
    places = [name for name, part in whole.named_modules() if type(part) is type(encoder.model)]
    return places[0] if len(places) == 1 else None


def save_plain(encoder: PretrainedEncoder, folder: Path, out: Path) -> None:
    """Write the checkpoint in ``folder`` as ``out`` with the weights that ``encoder`` has now.

    Plain transformers reads it: ``AutoModel.from_pretrained(out)``. Parts that the encoder does not
    have (a decoder, a text tower, blocks behind ``encoder.layer``) are the checkpoint's. The files
    of tokenizer and front end are copied. UserError if AutoModel has no such part.
    """
    from transformers import AutoModel

    place = place_within(encoder, folder)
    if place is None:
        raise UserError(
            f"{folder}: transformers' AutoModel has no {type(encoder.model).__name__}, so this "
            "encoder cannot be written as a plain folder."
        )
    with quiet_transformers():
        whole: Any = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        part: nn.Module = whole.get_submodule(place) if place else whole
        own, wanted = encoder.model.state_dict(), part.state_dict()
        strange = sorted(own.keys() - wanted.keys())
        assert not strange, strange
        part.load_state_dict({**wanted, **own})
        whole.save_pretrained(out)
    for file in sorted(folder.iterdir()):
        kept = file.suffix in (".json", ".txt", ".model") and ".safetensors" not in file.name
        if file.is_file() and kept and not (out / file.name).exists():
            (out / file.name).write_bytes(file.read_bytes())
