"""Where an encoder's first weights come from: an earlier run, or an adapter that is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.methods import AdapterConfig
from benchmarks.results.files import only_run
from benchmarks.results.model_folder import (
    ENCODER_FILE,
    HEAD_FILE,
    ModelFacts,
    build_model,
    find_model,
    is_model_folder,
    located,
    read_facts,
    read_part,
    refuse_changed_adapter,
    refuse_other_base,
)
from benchmarks.results.result import RESULT_FILE
from multimodal.digests import memory_of, read_tensors
from multimodal.encoders import ENCODERS, EncoderConfig
from multimodal.encoders.lora import LoraConfig, LoraEncoder
from multimodal.encoders.pretrained import PretrainedConfig, weights_digest
from multimodal.errors import UserError
from multimodal.hub import local_folder
from multimodal.modalities import MODALITIES, Adapter
from multimodal.registry import Config

ALIGNED_FILE = "model.safetensors"
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
        for start, module in (("front_end.", front_end), ("encoder.", encoder)):
            _load(module, self.weights, start, self.folder)


def open_start(config: FinetuneConfig) -> Start | None:
    """That of a config, but for one that is warmed up.

    UserError: no such run, damaged, or nothing in it was trained.
    """
    if config.from_adapter is not None:
        return _open_adapter(Path(config.from_adapter).expanduser())
    if config.init is None:
        return None
    folder = _the_run(Path(config.init).expanduser())
    if is_model_folder(folder):
        return _open_finetuned(folder)
    return open_run(folder, config.modality.registered_name)


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


def _the_run(folder: Path) -> Path:
    """The folder itself, or the only finished run of an experiment's folder."""
    if (folder / "config.yaml").exists() or is_model_folder(folder):
        return folder
    try:
        return only_run(folder)
    except UserError as error:
        raise UserError(f"init={error}") from error


def _open_adapter(folder: Path) -> Start:
    folder = find_model(folder)
    facts = read_facts(folder)
    if not isinstance(facts.encoder, LoraConfig):
        raise UserError(
            f"from_adapter={folder}: was fine-tuned by method {facts.method.get('name')!r} and has "
            "no adapter; give it as init."
        )
    if facts.base is not None:
        refuse_other_base(folder, facts.base)
    refuse_changed_adapter(folder, facts.adapter_digest)
    encoder = located(facts.encoder.base, folder)
    weights = read_part(folder / ENCODER_FILE) if (folder / ENCODER_FILE).exists() else {}
    files = [folder / "adapter_model.safetensors", folder / HEAD_FILE]
    digest = _digest({str(i): t for i, f in enumerate(files) for t in read_part(f).values()})
    return Start(folder, encoder, facts.modality, weights, digest + _digest(weights), facts)


def _open_finetuned(folder: Path) -> Start:
    """The encoder of a fine-tuned model, its adapter merged."""
    folder = find_model(folder)
    facts = read_facts(folder)
    if facts.base is not None:
        refuse_other_base(folder, facts.base)
    adapter: Adapter = facts.modality.build()  # pyright: ignore[reportAttributeAccessIssue]
    with torch.random.fork_rng():
        model = build_model(facts, adapter, folder)
    return _start(folder, located(facts.encoder, folder), facts.modality, model)


def open_run(folder: Path, wanted: str) -> Start:
    """Of ``medley align`` or ``medley bench``. wanted: of a run over cases, the modality whose
    encoder is taken.
    """
    encoder, modality = _settings(folder, wanted)
    aligned, stages = folder / ALIGNED_FILE, sorted((folder / "models").glob("*.safetensors"))
    if not (folder / RESULT_FILE).exists() or not (aligned.exists() or stages):
        raise UserError(
            f"init={folder}: this run is not finished, or kept no model (tracking.log_models); run "
            "it to its end first."
        )
    tensors = read_tensors(aligned if aligned.exists() else stages[-1]).tensors
    starts = (f"signals.{modality.registered_name}.", "")
    start = next((s for s in starts if any(n.startswith(f"{s}encoder.") for n in tensors)), "")
    own = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
    adapter: Adapter = modality.build()  # pyright: ignore[reportAttributeAccessIssue]
    with torch.random.fork_rng():
        model = nn.Module()
        model.front_end = encoder.front_end(adapter)
        model.encoder = encoder.build(adapter)  # pyright: ignore[reportArgumentType]
    for part in ("front_end.", "encoder."):
        _load_trained(model.get_submodule(part[:-1]), own, part, folder, encoder)
    return _start(folder, encoder, modality, model)


def _settings(folder: Path, wanted: str) -> tuple[EncoderConfig, Config]:
    """Encoder and modality of a run's config; of one over cases, those of the wanted modality."""
    try:
        data = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        views = data.get("views") or {wanted: data}
        own = views.get(wanted)
        parsed = own and (ENCODERS.parse(own["encoder"]), MODALITIES.parse(own["modality"]))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(f"init={folder}: config.yaml cannot be read ({words}).") from error
    if not parsed:
        raise UserError(
            f"init={folder}: it has no {wanted} encoder but of {', '.join(views)}; set modality "
            "and dataset of one of these."
        )
    encoder, modality = parsed
    assert isinstance(encoder, EncoderConfig)
    return encoder, modality


def _start(folder: Path, encoder: EncoderConfig, modality: Config, model: nn.Module) -> Start:
    """Of front end and encoder with their weights; LoRA is merged."""
    built = model.get_submodule("encoder")
    if isinstance(built, LoraEncoder):
        assert isinstance(encoder, LoraConfig)
        built, encoder = built.merge(), encoder.base
    front_end = model.get_submodule("front_end")
    weights = {f"front_end.{k}": t for k, t in front_end.state_dict().items()}
    weights |= {f"encoder.{k}": t for k, t in built.state_dict().items()}
    return Start(folder, encoder, modality, weights, _digest(weights))


def _load_trained(
    module: nn.Module, tensors: Mapping[str, Tensor], start: str, folder: Path, config: Config
) -> None:
    """What a run saved: all weights, or all but those that its checkpoint gives."""
    wanted = module.state_dict()
    own = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
    own = {k: t for k, t in own.items() if k in wanted}
    given = getattr(getattr(config, "base", config), "checkpoint", None) is not None
    if not given and wanted.keys() - own.keys():
        raise UserError(
            f"init={folder}: its encoder was not trained there (encoder.train=none), so there are "
            "no weights to start from."
        )
    _load(module, {f"{start}{k}": t for k, t in {**wanted, **own}.items()}, start, folder)


def _load(module: nn.Module, tensors: Mapping[str, Tensor], start: str, folder: Path) -> None:
    own = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
    wanted = module.state_dict()
    if not own:
        return
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


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(memory_of(tensors[name]))
    return digest.hexdigest()[:16]
