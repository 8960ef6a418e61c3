"""Where an encoder's first weights come from: an earlier run, or an adapter that is trained on.

A run is opened as ``medley predict`` opens it, so that its encoder is the one that answered there:
beside the frozen weights that it was trained with, its adapters merged.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from benchmarks.commands.align import reopen as align
from benchmarks.commands.align.parts import tower_of
from benchmarks.commands.bench import reopen as bench
from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.start import Start, digest_of, start_of
from benchmarks.results.files import load_result, only_run
from benchmarks.results.model_folder import (
    ADAPTER_FILES,
    ENCODER_FILE,
    HEAD_FILE,
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
from multimodal.encoders import EncoderConfig
from multimodal.encoders.lora import LoraConfig
from multimodal.errors import UserError
from multimodal.modalities import Adapter

CPU = torch.device("cpu")
OTHERWISE = "set encoder and modality as they were there, without init"


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


def open_run(folder: Path, wanted: str) -> Start:
    """Of ``medley align`` or ``medley bench``. wanted: of a run over cases, the modality whose
    encoder is taken.
    """
    if not (folder / RESULT_FILE).exists():
        raise UserError(f"init={folder}: this run is not finished; run it to its end first.")
    command = load_result(folder / RESULT_FILE).command
    if command == "finetune":
        raise UserError(f"init={folder}: its model is gone; run it again with --fresh.")
    if command not in ("bench", "align"):
        raise UserError(
            f"init={folder}: a run of `medley {command}` trains no encoder; give one of `medley "
            "align`, `medley bench` or `medley finetune`."
        )
    try:
        return _open_bench(folder) if command == "bench" else _open_align(folder, wanted)
    except UserError as error:
        raise UserError(f"init={error}") from error


def _open_bench(folder: Path) -> Start:
    found = bench.reopen(folder, CPU)
    learner, encoder = found.learner, found.config.encoder
    name = found.config.learners[0].registered_name
    tower = learner.tower()
    if tower is None:
        why = (
            "what it adds to its encoder is not in the encoder" if learner.reads else "it has none"
        )
        raise UserError(
            f"{folder}: learner {name!r} leaves no encoder to start from ({why}); give a run of a "
            f"learner that trains its encoder, or {OTHERWISE}."
        )
    assert isinstance(encoder, EncoderConfig)
    trained = learner.trains and _is_trained(tower.front_end, tower.encoder)
    if not trained and found.config.warm_up is None:
        _refuse_untrained(folder, encoder)
    return start_of(
        folder, encoder, found.config.modality, front_end=tower.front_end, built=tower.encoder
    )


def _open_align(folder: Path, wanted: str) -> Start:
    found = align.reopen(folder, CPU)
    towers = found.config.towers
    name = wanted if found.config.views else next(iter(towers))
    if name not in towers:
        raise UserError(
            f"{folder}: it has no {wanted} encoder but of {', '.join(towers)}; set modality and "
            "dataset of one of these."
        )
    view, tower = towers[name], tower_of(found.model, name)
    assert isinstance(view.encoder, EncoderConfig)
    if not _is_trained(tower.front_end, tower.encoder):
        _refuse_untrained(folder, view.encoder)
    return start_of(
        folder, view.encoder, view.modality, front_end=tower.front_end, built=tower.encoder
    )


def _is_trained(*modules: nn.Module) -> bool:
    return any(p.requires_grad for module in modules for p in module.parameters())


def _refuse_untrained(folder: Path, encoder: EncoderConfig, *, random: bool = False) -> None:
    checkpoint = getattr(getattr(encoder, "base", encoder), "checkpoint", None)
    if random or checkpoint is None:
        still, instead = "has random weights", "leave init out"
    else:
        still, instead = f"is still checkpoint {checkpoint!r}", OTHERWISE
    raise UserError(
        f"{folder}: its encoder was not trained there and {still}, so there is nothing to start "
        f"from; {instead}."
    )


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
    files = [folder / ADAPTER_FILES[1], folder / HEAD_FILE]
    digest = digest_of({str(i): t for i, f in enumerate(files) for t in read_part(f).values()})
    return Start(folder, encoder, facts.modality, weights, digest + digest_of(weights), facts)


def _open_finetuned(folder: Path) -> Start:
    """The encoder of a fine-tuned model, its adapter merged."""
    folder = find_model(folder)
    facts = read_facts(folder)
    if facts.base is not None:
        refuse_other_base(folder, facts.base)
    method, encoder = facts.method.get("name"), located(facts.encoder, folder)
    if method == "random" or (method == "head" and not facts.training.get("before")):
        _refuse_untrained(Path(f"init={folder}"), encoder, random=method == "random")
    adapter: Adapter = facts.modality.build()  # pyright: ignore[reportAttributeAccessIssue]
    with torch.random.fork_rng():
        model = build_model(facts, adapter, folder)
    return start_of(folder, encoder, facts.modality, front_end=model.front_end, built=model.encoder)
