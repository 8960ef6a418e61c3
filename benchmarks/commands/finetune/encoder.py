"""From a cell's config and start to its front end and encoder."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.methods import MethodConfig
from benchmarks.commands.finetune.start import Start
from multimodal.encoders import EncoderConfig
from multimodal.encoders.lora import LoraConfig, LoraEncoder
from multimodal.encoders.pretrained import PretrainedEncoder
from multimodal.errors import UserError
from multimodal.modalities import Adapter


class Parts(NamedTuple):
    """config: of the encoder, with the target modules that it has. from_checkpoint: all weights of
    its base come from the checkpoint that the config names.
    """

    front_end: nn.Module
    encoder: nn.Module
    config: EncoderConfig
    from_checkpoint: bool

    @property
    def target_modules(self) -> tuple[str, ...]:
        return tuple(self.encoder.targets) if isinstance(self.encoder, LoraEncoder) else ()


def build_parts(config: FinetuneConfig, adapter: Adapter, start: Start | None) -> Parts:
    """UserError: a checkpoint that is absent or of another modality, weights that do not fit,
    target modules that the base has not, an adapter of another base.
    """
    method = config.methods[0]
    assert isinstance(method, MethodConfig)
    assert isinstance(config.encoder, EncoderConfig)
    made = method.encoder(config.encoder)
    inner = made.base if isinstance(made, LoraConfig) else made
    front_end, base = inner.front_end(adapter), inner.build(adapter)
    assert isinstance(base, nn.Module)
    if method.redraws:
        draw_anew(base)
    elif start is not None:
        start.load(front_end, base)
    encoder: nn.Module = base
    if isinstance(made, LoraConfig):
        try:
            encoder = made.wrap(base)
        except UserError as error:
            raise UserError(str(error).replace("encoder.target", "methods.target")) from error
        made = made.model_copy(update={"target_modules": tuple(encoder.targets)})
        if start is not None and start.adapter is not None:
            encoder.load_adapter(start.folder)
    elif getattr(made, "train", "all") == "none" or method.registered_name in ("head", "random"):
        base.requires_grad_(False)
        front_end.requires_grad_(False)
    kept = not any(p.requires_grad for p in encoder.parameters()) or isinstance(made, LoraConfig)
    named = hasattr(inner, "checkpoint") and not (start is not None and start.weights)
    return Parts(front_end, encoder, made, kept and named and not method.redraws)


@torch.no_grad()
def draw_anew(encoder: nn.Module) -> None:
    """Random weights in place of a checkpoint's, as its architecture begins; others have them."""
    if not isinstance(encoder, PretrainedEncoder):
        return
    model = encoder.model
    # transformers passes over what it has marked as loaded.
    for part in (*model.modules(), *model.parameters(), *model.buffers()):
        part._is_hf_initialized = False  # pyright: ignore
    model.apply(model._init_weights)  # pyright: ignore
