"""What an encoder starts from: weights of an earlier run, and whether a config fits them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.methods import AdapterConfig
from benchmarks.results.model_folder import ModelFacts
from multimodal.digests import memory_of
from multimodal.encoders import EncoderConfig
from multimodal.encoders.lora import LoraConfig, LoraEncoder
from multimodal.encoders.pretrained import PretrainedConfig, weights_digest
from multimodal.errors import UserError
from multimodal.hub import local_folder
from multimodal.registry import Config

FREE = ("train", "dropout")  # settings of an encoder that may differ from the start's
NAMES = ("checkpoint", "revision")


@dataclass(frozen=True)
class Start:
    """encoder: the config of the plain encoder, without LoRA. weights: ``front_end.*`` and
    ``encoder.*`` of it, none where its checkpoint gives them. adapter: the facts of the model whose
    adapter is trained on. digest: of everything that is taken.
    """

    folder: Path
    encoder: EncoderConfig
    modality: Config
    weights: dict[str, Tensor] = field(repr=False)
    digest: str
    adapter: ModelFacts | None = None

    def load(self, front_end: nn.Module, encoder: nn.Module) -> None:
        """Put the weights into parts of the same settings; UserError if they do not fit."""
        if not self.weights:
            return
        for start, module in (("front_end.", front_end), ("encoder.", encoder)):
            _load(module, self.weights, start, self.folder)


def resolved(config: FinetuneConfig, start: Start | None) -> FinetuneConfig:
    """The config with the encoder and modality of its start; UserError where it says others."""
    if isinstance(config.encoder, LoraConfig):
        raise UserError(
            "encoder: name the base here; what is wrapped around it is said under methods, such as "
            "methods=[lora]."
        )
    if start is None:
        return config
    what = "init" if config.from_adapter is None else "from_adapter"
    changes: dict[str, Any] = {}
    if config.modality.registered_name != start.modality.registered_name:
        raise UserError(
            f"{what}: {start.folder} reads modality {start.modality.registered_name}, and this "
            f"config is of {config.modality.registered_name}; give a run of the same modality."
        )
    if not config.modality.model_fields_set:
        changes["modality"] = start.modality
    if "encoder" not in config.model_fields_set:
        changes["encoder"] = start.encoder
    elif (other := _difference(config.encoder, start.encoder)) is not None:
        raise UserError(
            f"{what}: {start.folder} belongs to another base, {other}; leave encoder out, or set "
            "it as it was there."
        )
    if start.adapter is not None:
        changes["methods"] = (_same_method(config, start),)
    return config.model_copy(update=changes)


def _same_method(config: FinetuneConfig, start: Start) -> Config:
    """The config's only method, with the layers that the adapter has."""
    (first, *more), assumed = config.methods, start.adapter
    assert assumed is not None
    if more or not isinstance(first, AdapterConfig):
        raise UserError(
            f"from_adapter: {start.folder} goes on by its own method; set methods=[{{name: "
            f"{assumed.method.get('name')}, rank: {assumed.method.get('rank')}}}]."
        )
    for name, value in (("name", first.registered_name), ("rank", first.rank)):
        if assumed.method.get(name) != value:
            raise UserError(
                f"from_adapter: {start.folder} has {name} {assumed.method.get(name)}, the config's "
                f"method {value}; set it as it was."
            )
    if first.target_modules is None:
        return first.model_copy(update={"target_modules": assumed.target_modules})
    return first


def start_of(
    folder: Path,
    encoder: EncoderConfig,
    modality: Config,
    *,
    front_end: nn.Module,
    built: nn.Module,
) -> Start:
    """Of front end and encoder (built) with their weights, on the CPU; LoRA is merged."""
    if isinstance(built, LoraEncoder):
        assert isinstance(encoder, LoraConfig)
        built, encoder = built.merge(), encoder.base
    weights = {f"front_end.{k}": t for k, t in front_end.state_dict().items()}
    weights |= {f"encoder.{k}": t for k, t in built.state_dict().items()}
    return Start(folder, encoder, modality, weights, digest_of(weights))


def _load(module: nn.Module, tensors: Mapping[str, Tensor], start: str, folder: Path) -> None:
    own = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
    wanted = module.state_dict()
    wrong = [k for k in wanted if k not in own or own[k].shape != wanted[k].shape]
    if wrong:
        raise UserError(
            f"init={folder}: its {start}{wrong[0]} does not fit this encoder and modality; leave "
            "encoder and modality out, or set them as they were there."
        )
    module.load_state_dict(own)


def _difference(one: Config, other: Config) -> str | None:
    """In words, how two encoders differ beside what may; None: they do not."""
    first, second = ({k: v for k, v in c.dump().items() if k not in FREE} for c in (one, other))
    keys = [k for k in {**first, **second} if first.get(k) != second.get(k)]
    if set(keys) & set(NAMES) and _weights(one) == _weights(other) is not None:
        keys = [k for k in keys if k not in NAMES]  # the same checkpoint under another name
    if not keys:
        return None
    return ", ".join(f"{k} {second.get(k)} there, {first.get(k)} here" for k in keys)


def _weights(config: Config) -> str | None:
    """The digest of the checkpoint that an encoder's config names; None: it names none."""
    if not isinstance(config, PretrainedConfig):
        return None
    return weights_digest(local_folder(config.checkpoint, config.revision))


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(memory_of(tensors[name]))
    return digest.hexdigest()[:16]
