"""The folder of a fine-tuned model: what it is, as ``medley.json``, and the model opened again.

Beside ``medley.json`` lie, as far as the model has them::

    adapter_config.json, adapter_model.safetensors   LoRA, as PEFT reads it on the plain base
    encoder.safetensors   front end and encoder, where no checkpoint gives these weights: names
                          ``front_end.*`` and ``encoder.*``, of a LoRA encoder those of its base
    head.safetensors      linear: ``weight`` (C, D), ``bias`` (C,); aligned with text:
                          ``projection`` (J, D), ``shift`` (J,), ``classes`` (C, J) of length 1,
                          ``scale`` (), of several labels ``offset`` (C,) (older ones have none)
    README.md             the model card
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from benchmarks.results.files import only_run
from benchmarks.results.result import RESULT_FILE
from multimodal.batch import Batch
from multimodal.digests import DamagedFile, crc32, read_sealed, read_tensors, sealed, write_tensors
from multimodal.encoders import ENCODERS, EncoderConfig
from multimodal.encoders.lora import LoraConfig
from multimodal.encoders.pretrained import weights_digest
from multimodal.errors import UserError
from multimodal.files import write_atomically
from multimodal.hub import local_folder
from multimodal.modalities import MODALITIES, Adapter
from multimodal.models.classify_task import LinearClassifier
from multimodal.models.cosine_head import CosineHead
from multimodal.registry import Config

MODEL_FOLDER = "model"  # within a run's folder
FACTS_FILE, ENCODER_FILE, HEAD_FILE = "medley.json", "encoder.safetensors", "head.safetensors"
CARD_FILE = "README.md"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
FORMAT = 1
HERE = "."  # as a checkpoint: the model's folder itself
REMEDY = "copy the folder again, or fine-tune again with --fresh"


class Base(Config):
    """The checkpoint below the model. digest: of its weights (``weights_digest``). model_class:
    that of transformers on which plain PEFT loads the adapter; within: the attribute of AutoModel
    that holds it, "" if AutoModel gives it itself.
    """

    checkpoint: str
    revision: str | None = None
    digest: str
    model_class: str
    within: str = ""


class ModelFacts(Config):
    """``medley.json``. task: "single_label": a softmax over classes, "multi_label": a sigmoid each,
    "align": a softmax over the cosines with class prompts times a scale, or, multi_label, the
    sigmoid of each, less the head's offset. thresholds: of multi-label probabilities, from the
    validation recordings (0.5 without any, and where the head has an offset). encoder: with its
    checkpoint and resolved target modules. front_end: as it prints itself, for people. base: None
    where the weights are all here. texts: of alignment, the prompts of each class. adapter_digest:
    CRC-32 of adapter_model.safetensors, whose form is PEFT's and has none; "": there is no adapter,
    or it was changed on purpose. dataset, metrics, intervals,
    training: of the run that made it.
    """

    format: Literal[1] = 1
    task: Literal["single_label", "multi_label", "align"]
    multi_label: bool
    class_names: tuple[str, ...] = Field(min_length=1)
    thresholds: tuple[float, ...] | None = None
    modality: Annotated[Config, MODALITIES.choice]
    encoder: Annotated[Config, ENCODERS.choice]
    front_end: str = ""
    method: dict[str, Any] = Field(default_factory=dict)
    target_modules: tuple[str, ...] = ()
    adapter_digest: str = ""
    base: Base | None = None
    texts: dict[str, list[str]] = Field(default_factory=dict)
    dataset: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    intervals: dict[str, list[float]] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class OpenedModel:
    """A model in evaluation mode on ``device``; batches are of ``adapter``'s signals."""

    folder: Path
    facts: ModelFacts
    adapter: Adapter
    model: LinearClassifier
    device: torch.device

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.facts.class_names

    @property
    def multi_label(self) -> bool:
        return self.facts.multi_label

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """One a class; None where there is one label a recording."""
        return self.facts.thresholds

    @torch.no_grad()
    def predict_scores(self, batch: Batch) -> Tensor:
        """(N, C) probabilities on the CPU, float32."""
        return self.model.probabilities(batch.to(self.device)).float().cpu()

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(N, D) of the encoder, on the CPU, float32."""
        return self.model.encode(batch.to(self.device)).float().cpu()


def is_model_folder(folder: Path) -> bool:
    """Whether this folder, or that of a run, has a model of ``medley finetune``."""
    return any((place / FACTS_FILE).is_file() for place in (folder, folder / MODEL_FOLDER))


def find_model(folder: Path) -> Path:
    """The model's folder: this one, or the one in a run's folder, or in that of the only run of an
    experiment's folder; UserError if there is none, or several, which are named.
    """
    if not is_model_folder(folder) and any(folder.glob(f"*/{RESULT_FILE}")):
        folder = only_run(folder)
    for place in (folder, folder / MODEL_FOLDER):
        if (place / FACTS_FILE).is_file():
            return place
    raise UserError(
        f"{folder}: no {FACTS_FILE} in it; name the folder of a finished run of `medley finetune`, "
        f"or its {MODEL_FOLDER}/."
    )


def write_facts(folder: Path, facts: ModelFacts) -> None:
    """``medley.json``, sealed."""
    write_atomically(folder / FACTS_FILE, sealed(json.loads(json.dumps(facts.dump()))))


def read_facts(folder: Path) -> ModelFacts:
    """UserError: no model's folder, damaged, or of a later version."""
    path = find_model(folder) / FACTS_FILE
    try:
        data = read_sealed(path)
    except DamagedFile as error:
        raise DamagedFile(f"{error}; {REMEDY}.") from error
    if data.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {data.get('format')!r}, this version of Medley reads {FORMAT}; use "
            "the version that wrote it."
        )
    try:
        return ModelFacts.parse(data)
    except (ValidationError, UserError) as error:
        words = " ".join(str(error).split())[:200]
        raise DamagedFile(f"{path}: cannot be read ({words}); {REMEDY}.") from error


def open_model(folder: Path, device: torch.device | str = "cpu") -> OpenedModel:
    """UserError: files that are missing or damaged, a base checkpoint that is absent or another."""
    folder = find_model(folder)
    facts, device = read_facts(folder), torch.device(device)
    adapter: Adapter = facts.modality.build()  # pyright: ignore[reportAttributeAccessIssue]
    if facts.base is not None:
        refuse_other_base(folder, facts.base)
    with torch.random.fork_rng():  # weights that are drawn first and then replaced
        model = build_model(facts, adapter, folder)
    return OpenedModel(folder, facts, adapter, model.to(device).eval(), device)


def build_model(facts: ModelFacts, adapter: Adapter, folder: Path) -> LinearClassifier:
    """With all weights of the folder."""
    config = located(facts.encoder, folder)
    front_end = config.front_end(adapter)
    base = (config.base if isinstance(config, LoraConfig) else config).build(adapter)
    assert isinstance(base, nn.Module)
    if (folder / ENCODER_FILE).exists():
        tensors = read_part(folder / ENCODER_FILE)
        load_part(front_end, tensors, "front_end.", folder / ENCODER_FILE)
        load_part(base, tensors, "encoder.", folder / ENCODER_FILE)
    encoder = base
    if isinstance(config, LoraConfig):
        encoder = config.wrap(base)
        refuse_changed_adapter(folder, facts.adapter_digest)
        encoder.load_adapter(folder)
    head = read_head(folder / HEAD_FILE)
    return LinearClassifier(front_end, encoder, head, multi_label=facts.multi_label)


def located(encoder: Config, folder: Path) -> EncoderConfig:
    """The encoder's config with the checkpoint ``.`` as what it is, the model's folder."""
    assert isinstance(encoder, EncoderConfig)
    if isinstance(encoder, LoraConfig):
        return encoder.model_copy(update={"base": located(encoder.base, folder)})
    if getattr(encoder, "checkpoint", None) == HERE:
        return encoder.model_copy(update={"checkpoint": str(folder)})
    return encoder


def refuse_other_base(folder: Path, base: Base) -> None:
    """UserError unless the checkpoint is there and is what the model was tuned from."""
    if base.checkpoint == HERE:
        return
    try:
        found = weights_digest(local_folder(base.checkpoint, base.revision))
    except UserError as error:
        raise UserError(f"{folder}: its base is absent: {error}") from error
    if found != base.digest:
        raise UserError(
            f"{folder}: belongs to another base: the weights of checkpoint {base.checkpoint!r} "
            f"have digest {found} now, {base.digest} when it was fine-tuned; restore them."
        )


def adapter_digest(folder: Path) -> str:
    """Of the adapter's weights; "" without any."""
    path = folder / ADAPTER_FILES[1]
    return crc32(path.read_bytes()) if path.exists() else ""


def refuse_changed_adapter(folder: Path, digest: str) -> None:
    """DamagedFile unless the adapter's weights are as they were written."""
    if digest and adapter_digest(folder) != digest:
        raise DamagedFile(
            f"{folder / ADAPTER_FILES[1]}: is not as it was written; {REMEDY}. If you have trained "
            f'it further, set "adapter_digest" to "" in {FACTS_FILE} and take its line "digest" '
            "out."
        )


def write_head(path: Path, head: nn.Module) -> None:
    """A linear head, or one of cosines."""
    write_tensors(path, head.state_dict())


def read_head(path: Path) -> nn.Module:
    """What ``write_head`` wrote."""
    tensors = read_part(path)
    if tensors.keys() == {"weight", "bias"}:
        classes, width = tensors["weight"].shape
        head: nn.Module = nn.Linear(width, classes)
    elif tensors.keys() - {"offset"} == {"projection", "shift", "classes", "scale"}:
        head = CosineHead(**tensors)
    else:
        raise DamagedFile(f"{path}: is no head ({', '.join(sorted(tensors))}); {REMEDY}.")
    head.load_state_dict(tensors)
    return head


def read_part(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of the folder."""
    try:
        return read_tensors(path).tensors
    except FileNotFoundError as error:
        raise UserError(f"{path}: is missing; {REMEDY}.") from error
    except DamagedFile as error:
        raise DamagedFile(f"{error}; {REMEDY}.") from error


def load_part(module: nn.Module, tensors: Mapping[str, Tensor], start: str, path: Path) -> None:
    """Those whose names begin with ``start``; UserError unless they are all that it has."""
    own = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
    wanted = module.state_dict()
    if {k: t.shape for k, t in own.items()} != {k: t.shape for k, t in wanted.items()}:
        other = sorted(own.keys() ^ wanted.keys()) or [
            k for k in wanted if own[k].shape != wanted[k].shape
        ]
        raise UserError(
            f"{path}: does not fit the encoder of this config ({start}{other[0]} is absent, too "
            "many, or of another shape); give the encoder's own settings."
        )
    module.load_state_dict(own)
