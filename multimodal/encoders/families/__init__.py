"""Families of pretrained architectures: how the checkpoints of each are loaded, fed and read.

A module of this package registers its families when it is imported; ``family_of`` imports them all
when it is first asked. The package itself, and the modules, import no transformers at the top.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from multimodal.encoders.checkpoint_files import attention, checked_config
from multimodal.errors import UserError, did_you_mean
from multimodal.modalities import Adapter


@dataclass(frozen=True)
class Family:
    """Architectures that are loaded, fed and read in the same way.

    model_types: values of ``model_type`` in a checkpoint's config.json, e.g. "vit", "whisper".
    modalities: registered names of the adapters whose signals it reads, e.g. ("speech", "audio").
    load: (folder, config) -> the bare encoder in float32 and eval mode, from safetensors only. Of a
    model with two towers or a decoder, only the encoder that reads the modality.
    front_end: (folder, config, adapter) -> module ``forward(Batch) -> Features`` on the batch's
    device, vectorised over it, equal to the checkpoint's own extractor. UserError names the
    adapter's setting that does not fit, its value and the right one. ``extra_repr`` prints the
    whole FeatureSpec: caches of features key on ``repr(front_end)``.
    forward: (model, values, lengths) -> tokens (N, L, D) and mask (N, L), True where a token is
    real. Tokens of a row must not depend on how far its batch is padded.
    layers: model -> its transformer blocks, first to last.
    tail: model -> what comes behind the last block (a final norm); it is trained with that block.
    width: config -> D. pooling: the default, the mean of the real tokens or the first token.
    cut: of an architecture that always reads one long window, the same family without the silence
    behind a recording (its features, positions and attention end with the recording); None: there
    is no such form.

    ``config`` is the checkpoint's transformers config, whole (of CLAP: of both towers).
    """

    model_types: tuple[str, ...]
    modalities: tuple[str, ...]
    load: Callable[[Path, Any], nn.Module]
    front_end: Callable[[Path, Any, Adapter], nn.Module]
    forward: Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
    layers: Callable[[nn.Module], list[nn.Module]]
    tail: Callable[[nn.Module], list[nn.Module]]
    width: Callable[[Any], int]
    pooling: Literal["mean", "cls"]
    cut: Family | None = None


_FAMILIES: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Make the family's model types loadable."""
    _FAMILIES.update(dict.fromkeys(family.model_types, family))
    return family


def family_of(model_type: str, checkpoint: str) -> Family:
    """The family of a ``model_type``; UserError with all known ones if there is none."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    if model_type not in _FAMILIES:
        raise UserError(
            f"checkpoint {checkpoint!r}: no encoder for model type {model_type!r}"
            f"{did_you_mean(model_type, list(_FAMILIES))}"
        )
    return _FAMILIES[model_type]


def keep_blocks(model: nn.Module, family: Family, count: int) -> None:
    """Take the blocks behind the first ``count`` out of the model, and what follows the last one.

    What the model then answers is what block ``count`` answers (a hidden state of transformers).
    UserError: it has fewer.
    """
    layers = family.layers(model)
    if count > len(layers):
        raise UserError(
            f"encoder.layer={count}: the checkpoint has {len(layers)} blocks; set 1 to "
            f"{len(layers)}, or leave it out for the last."
        )
    if count == len(layers):
        return
    tail = family.tail(model)
    blocks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and list(m) == layers]
    if len(blocks) != 1:
        raise UserError(
            f"encoder.layer={count}: the blocks of {type(model).__name__} differ in size, so only "
            "the last can be read; leave encoder.layer out."
        )
    del blocks[0][count:]
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if any(child is end for end in tail):
                setattr(parent, name, nn.Identity())


def load_model(model_class: Any, folder: Path, *, absent: tuple[str, ...] = (), **kw: Any) -> Any:
    """A transformers model from the safetensors in a folder: float32, eval mode, on the CPU.

    absent: parameters that checkpoints may lack, because only pre-training uses them. kw: further
    arguments of ``from_pretrained``. UserError names the folder: damaged files, other shapes, and
    missing parameters, which transformers would draw at random.
    """
    import torch

    config = checked_config(str(folder), folder)
    try:
        with quiet_transformers():
            model, report = model_class.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                attn_implementation=attention(config),
                **kw,
            )
    # Of settings that no model has, transformers raises what they happen to end in.
    except Exception as error:
        raise UserError(
            f"{folder}: the checkpoint cannot be loaded ({_one_line(error)}); copy it again."
        ) from error
    missing = sorted(k for k in report["missing_keys"] if not k.endswith(absent))
    if missing:
        raise UserError(
            f"{folder}: the checkpoint lacks {len(missing)} parameters of {type(model).__name__} "
            f"({', '.join(missing[:3])} ...); give a checkpoint of this architecture."
        )
    return model.eval()


def load_processor(loader: Any, folder: Path, wanted: str) -> Any:
    """The checkpoint's own extractor or config. UserError names the file ``wanted``."""
    try:
        with quiet_transformers():
            return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # Of values of other types, transformers raises what they happen to end in.
    except Exception as error:
        raise UserError(
            f"{folder}: {wanted} is missing or cannot be read ({_one_line(error)}); copy it from "
            "the checkpoint's page into this folder."
        ) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without loading bars and reports of weights that an encoder leaves out on purpose."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _one_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= 200 else words[:200] + " ..."
