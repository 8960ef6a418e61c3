"""Trained models of every command, opened to name recordings; the training data is not needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.commands.align.naming import naming
from benchmarks.commands.align.parts import tower_of
from benchmarks.commands.align.reopen import reopen
from benchmarks.commands.align.start import MODEL_FILE
from benchmarks.commands.bench import reopen as bench
from benchmarks.results import model_folder
from benchmarks.results.files import load_result, only_run
from benchmarks.results.model_folder import is_model_folder
from benchmarks.results.result import RESULT_FILE, Result
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.evaluation.embeddings import unit_texts
from multimodal.modalities import Adapter
from multimodal.registry import Config


class Answer(NamedTuple):
    """labels: (N,) int64 class ids, -1 where a decoded text names none, or (N, C) bool of
    multi-label models. probabilities: (N, C). texts: N decoded texts, of models that write.
    """

    labels: Tensor
    probabilities: Tensor
    texts: Sequence[str] | None = None


@dataclass(frozen=True)
class Opened:
    """A trained model. modality: its config. answer: called in evaluation mode, on its device.

    tower: the front end and the encoder that make its embeddings, or None. score: a batch and what
    ``tower`` makes of it (N, D) -> (N, C) scores, with gradients; rank as probabilities do.
    texts: texts -> (n, D) unit vectors in the space of ``projected`` embeddings, of aligned models.
    digest: of the file of its weights, of prompts, and of the classes that were asked for. longest:
    steps of the longest signal that it was trained on, or None where that is not known.
    """

    modality: Config
    adapter: Adapter
    class_names: tuple[str, ...]
    multi_label: bool
    module: nn.Module
    answer: Callable[[Batch], Answer]
    tower: tuple[nn.Module, nn.Module] | None
    score: Callable[[Batch, Tensor], Tensor]
    digest: str
    longest: int | None
    texts: Callable[[Sequence[str]], Tensor] | None = None
    projected: Callable[[Batch, Tensor], Tensor] | None = None


class Asked(NamedTuple):
    """Of aligned models. classes: names to choose among; None: those of the training data. view:
    the modality, of a model that reads several.
    """

    classes: Sequence[str] | None = None
    view: str | None = None


def open_model(path: Path, device: torch.device, asked: Asked) -> Opened:
    """The model of a run folder, of an experiment's folder with one run, or of a folder that
    ``medley finetune`` and ``medley merge`` write.

    UserError: no finished run there, several of them, one without a model, damaged files, and
    ``asked`` for a model that can name its own classes of its own modality only.
    """
    if is_model_folder(path):
        _refuse_asked(path, "finetune", asked)
        return _open_finetuned(path, device)
    folder = only_run(path)
    result = load_result(folder / RESULT_FILE)
    opener = OPENERS.get(result.command)
    if opener is None:
        raise UserError(
            f"{folder}: a run of `medley {result.command}` has no model of its own; give one of "
            f"{', '.join(f'`medley {name}`' for name in OPENERS)}."
        )
    if opener is not _open_align:
        _refuse_asked(folder, result.command, asked)
    return opener(folder, result, device, asked)


def _refuse_asked(folder: Path, command: str, asked: Asked) -> None:
    if asked != Asked():
        raise UserError(
            f"{folder}: --classes and --view are for models of `medley align`; this one of `medley "
            f"{command}` reads one modality, and names the classes that it was trained on."
        )


# ---- bench ------------------------------------------------------------------------------


def _open_bench(folder: Path, result: Result, device: torch.device, asked: Asked) -> Opened:
    """The learner after its last experience."""
    found = bench.reopen(folder, device)
    learner, names = found.learner, found.class_names

    def answer(batch: Batch) -> Answer:
        prediction = learner.predict(batch)
        shares = learner.probabilities(batch, prediction)
        return Answer(prediction.labels, shares, prediction.texts)

    def score(batch: Batch, embeddings: Tensor) -> Tensor:
        scores = learner.predict(replace(batch, embeddings=embeddings)).scores
        return embeddings.new_zeros(len(batch), len(names)) if scores is None else scores

    tower = learner.tower()
    return Opened(
        modality=found.config.modality,
        adapter=found.adapter,
        class_names=names,
        multi_label=found.multi_label,
        module=learner.model,
        answer=answer,
        tower=None if tower is None else (tower.front_end, tower.encoder),
        score=score,
        digest=_digest(found.weights),
        longest=_longest(found.words),
    )


# ---- align ------------------------------------------------------------------------------


def _open_align(folder: Path, result: Result, device: torch.device, asked: Asked) -> Opened:
    """Zero-shot with class prompts, see ``align/naming.py``."""
    run = reopen(folder, device)
    model = run.model
    view = asked.view or next(iter(run.adapters))
    if view not in run.adapters or (len(run.adapters) > 1 and asked.view is None):
        raise UserError(
            f"{folder}: the model reads {', '.join(run.adapters)}; name one of them with --view."
        )
    names = naming(run, result, view, asked.classes, device)
    prompts = (repr(run.config.prompts.dump()), run.config.prompts.load(view).hash)
    tower = tower_of(model, view)

    def projected(batch: Batch, embeddings: Tensor) -> Tensor:
        signals = model.embed_signals(replace(batch, embeddings=embeddings), view)
        return nn.functional.normalize(signals.double(), dim=1)

    def answer(batch: Batch) -> Answer:
        signals = nn.functional.normalize(model.embed_signals(batch, view).double(), dim=1)
        shares = names.shares(signals)
        return Answer(names.labels(shares), shares.float())

    return Opened(
        modality=run.config.towers[view].modality,
        adapter=run.adapters[view],
        class_names=names.class_names,
        multi_label=names.multi_label,
        module=model,
        answer=answer,
        tower=(tower.front_end, tower.encoder),
        score=lambda batch, embeddings: names.scores(projected(batch, embeddings)),
        texts=lambda texts: unit_texts(texts, model.embed_texts).to(device),
        projected=projected,
        digest=_digest(folder / MODEL_FILE, *(asked.classes or ()), view, *prompts),
        longest=_longest(run.words, f"longest.{view}"),
    )


# ---- finetune ---------------------------------------------------------------------------


def _open_finetuned(folder: Path, device: torch.device) -> Opened:
    found = model_folder.open_model(folder, device)
    model, thresholds = found.model, found.thresholds or ()
    least = torch.tensor(thresholds, dtype=torch.float64, device=device)

    def answer(batch: Batch) -> Answer:
        shares = model.probabilities(batch)
        labels = shares >= least if found.multi_label else shares.argmax(1)
        return Answer(labels, shares.float())

    longest = found.facts.training.get("longest")
    return Opened(
        modality=found.facts.modality,
        adapter=found.adapter,
        class_names=found.class_names,
        multi_label=found.multi_label,
        module=model,
        answer=answer,
        tower=(model.front_end, model.encoder),
        score=lambda batch, embeddings: model(replace(batch, embeddings=embeddings)),
        digest=_digest(
            found.folder / model_folder.FACTS_FILE,
            *(_digest(file) for file in sorted(found.folder.glob("*.safetensors"))),
        ),
        longest=longest if isinstance(longest, int) else None,
    )


Opener = Callable[[Path, Result, torch.device, Asked], Opened]
OPENERS: Mapping[str, Opener] = {
    "bench": _open_bench,
    "align": _open_align,
    "finetune": lambda folder, result, device, asked: _open_finetuned(folder, device),
}


def _longest(words: Mapping[str, str], key: str = "longest") -> int | None:
    return int(words[key]) if words.get(key, "").isdecimal() else None


def _digest(file: Path, *more: str) -> str:
    digest = hashlib.sha256(repr(more).encode())
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]
