"""The result folder of a run: ``<run>/model/``, whole or not there at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmarks.commands.finetune.card import card
from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.encoder import Parts
from benchmarks.results.model_folder import (
    ADAPTER_FILES,
    CARD_FILE,
    ENCODER_FILE,
    FACTS_FILE,
    HEAD_FILE,
    MODEL_FOLDER,
    Base,
    ModelFacts,
    adapter_digest,
    read_facts,
    refuse_changed_adapter,
    write_facts,
    write_head,
)
from benchmarks.results.result import Result
from multimodal.digests import write_tensors
from multimodal.encoders.lora import LoraConfig, LoraEncoder
from multimodal.encoders.plain import place_within
from multimodal.encoders.pretrained import PretrainedConfig, PretrainedEncoder, weights_digest
from multimodal.errors import UserError
from multimodal.files import replacing_folder
from multimodal.hub import local_folder

TOLD = (
    "name",
    "version",
    "content_hash",
    "files_hash",
    "split_rule",
    "licence",
    "citation",
    "synthetic",
)


def write_model(
    config: FinetuneConfig, parts: Parts, head: nn.Module, own: dict[str, Any], result: Result
) -> Path:
    """Write the folder anew. own: of ``ModelFacts``, what the task knows; result: of the run."""
    facts = model_facts(config, parts, own, result)
    run = config.folder
    target = run / MODEL_FOLDER
    with replacing_folder(target, over=True) as made:
        if isinstance(parts.encoder, LoraEncoder):
            # An adapter on weights of our own stands on no checkpoint that could be named.
            base = facts.base if parts.from_checkpoint else None
            name, revision = (base.checkpoint, base.revision) if base else (None, None)
            parts.encoder.save_adapter(made, base=name, revision=revision)
            (made / CARD_FILE).unlink(missing_ok=True)
        if not parts.from_checkpoint:
            write_tensors(made / ENCODER_FILE, plain_weights(parts))
        write_head(made / HEAD_FILE, head)
        facts = facts.model_copy(update={"adapter_digest": adapter_digest(made)})
        write_facts(made, facts)
        (made / CARD_FILE).write_text(card(facts, sorted(p.name for p in made.iterdir())), "utf-8")
        readable(made)
    return target


def refuse_lost_model(run: Path) -> None:
    """UserError unless a finished run's model is there, and whole as far as its facts tell."""
    folder = run / MODEL_FOLDER
    again = "restore it, or train it again with --fresh"
    try:
        facts = read_facts(folder)
    except UserError as error:
        if (folder / FACTS_FILE).exists():
            raise
        raise UserError(f"{folder}: this run is done, but its model is gone; {again}.") from error
    needed = [HEAD_FILE, *ADAPTER_FILES] if isinstance(facts.encoder, LoraConfig) else [HEAD_FILE]
    needed += [ENCODER_FILE] if facts.base is None else []
    for name in needed:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: this run is done, but the file is gone; {again}.")
    refuse_changed_adapter(folder, facts.adapter_digest)


def readable(folder: Path) -> None:
    """For others too: libraries make their files this user's only."""
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)


def plain_weights(parts: Parts) -> dict[str, Tensor]:
    """Of front end and encoder; of LoRA, of its base."""
    encoder = parts.encoder
    own = encoder.base_state() if isinstance(encoder, LoraEncoder) else encoder.state_dict()
    front_end = {f"front_end.{k}": t for k, t in parts.front_end.state_dict().items()}
    return front_end | {f"encoder.{k}": t for k, t in own.items()}


def model_facts(
    config: FinetuneConfig, parts: Parts, own: dict[str, Any], result: Result
) -> ModelFacts:
    inner = parts.config.base if isinstance(parts.config, LoraConfig) else parts.config
    encoder, method = parts.config, config.methods[0].dump()
    if isinstance(inner, PretrainedConfig):
        inner = inner.model_copy(update={"checkpoint": lasting(inner.checkpoint)})
        encoder = inner
        if isinstance(parts.config, LoraConfig):
            encoder = parts.config.model_copy(update={"base": inner})
    numbers = {k: v for k, v in result.metrics.items() if isinstance(v, int | float)}
    intervals = result.evaluation.get("intervals", {})
    data = {
        **own,
        "modality": config.modality,
        "encoder": encoder,
        "front_end": " ".join(repr(parts.front_end).split()),
        "method": method,
        "target_modules": parts.target_modules,
        "base": _base(inner, parts) if isinstance(inner, PretrainedConfig) else None,
        "dataset": {key: result.dataset.get(key) for key in TOLD},
        "metrics": json.loads(json.dumps(numbers)),
        "intervals": {key: list(pair) for key, pair in intervals.items()},
        "training": {
            "experiment": result.experiment,
            "config_hash": result.config_hash,
            "seed": result.seed,
            "num_train": result.evaluation.get("num_train"),
            "longest": result.evaluation.get("longest"),
            "split": result.evaluation.get("split"),
            "num_recordings": result.evaluation.get("num_recordings"),
            "resampled": result.evaluation.get("resampled", "recordings"),
            "num_groups": result.evaluation.get("num_groups"),
            "before": _before(config),
            "redrawn": getattr(config.methods[0], "redraws", False),
            "packages": result.packages,
            "command": f"medley finetune {config.folder}/config.yaml",
        },
    }
    return ModelFacts(**data)


def _before(config: FinetuneConfig) -> str | None:
    """In words, where the encoder's first weights come from beside its checkpoint."""
    if config.warm_up is not None:
        return f"a warm-up on {config.warm_up.dataset.registered_name}"
    folder = config.init or config.from_adapter
    return None if folder is None else f"the run {folder}"


def lasting(checkpoint: str) -> str:
    """A folder's name from the root, so that it is found from anywhere on this machine."""
    folder = Path(checkpoint).expanduser()
    return str(folder.resolve()) if folder.is_dir() else checkpoint


def _base(config: PretrainedConfig, parts: Parts) -> Base:
    folder = local_folder(config.checkpoint, config.revision)
    encoder: Any = parts.encoder
    if isinstance(encoder, LoraEncoder):
        encoder = encoder.peft.base_model.model
    assert isinstance(encoder, PretrainedEncoder)
    return Base(
        checkpoint=config.checkpoint,
        revision=config.revision,
        digest=weights_digest(folder),
        model_class=type(encoder.model).__name__,
        within=place_within(encoder, folder) or "",
    )
