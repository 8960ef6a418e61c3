"""``medley zeroshot``: models that know texts, on a dataset that they were not trained on.

Each model has a run folder with ``config.yaml``, ``result.json`` and pictures; a finished one is
not evaluated again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from benchmarks.commands.zeroshot import transcripts
from benchmarks.commands.zeroshot.config import ZeroShotConfig
from benchmarks.commands.zeroshot.items import Items, items_for, items_of_dataset
from benchmarks.commands.zeroshot.models import ModelConfig, OpenModel
from benchmarks.commands.zeroshot.pool import pool_manifest, tell_shared
from benchmarks.commands.zeroshot.rows import chosen
from benchmarks.results.result import Result
from benchmarks.runs import machine
from benchmarks.runs.composed import item_scores
from benchmarks.runs.data import build_manifest, cache_folder
from benchmarks.runs.facts import dataset_facts, row_pins, text_pins
from benchmarks.runs.finished import complete, finished
from benchmarks.runs.inputs import digests_file
from benchmarks.runs.session import Session
from benchmarks.runs.workspace import check_writable, clear
from benchmarks.tracking.store import check_store
from multimodal.batch import Batch
from multimodal.contents import digest
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.evaluation.embeddings import embed_rows
from multimodal.evaluation.prompts import Prompts, load_prompts
from multimodal.evaluation.protocols import PROTOCOLS, Protocol
from multimodal.evaluation.scores import Scores, Wanted, score
from multimodal.loader import Loader, Signals
from multimodal.models.towers import Tower
from multimodal.signals import SignalCache
from multimodal.weights import frozen_digest

ZERO_SHOT = "zero_shot"


def single_models(config: ZeroShotConfig) -> list[ZeroShotConfig]:
    """One config a model; UserError if there is none."""
    assert isinstance(config.model, ModelConfig)
    models = config.model.single(Path(config.output_dir).expanduser())
    return [config.model_copy(update={"model": model}) for model in models]


class ZeroShotCells:
    """One cell a model, checked; making it opens no signal. UserError for all that can be known."""

    def __init__(self, config: ZeroShotConfig, *, fresh: bool = False) -> None:
        self.config, self.output_dir = config, Path(config.output_dir).expanduser()
        self.device = machine.pick_device(config.device, setting="device")
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        check_writable(config.folder.parent)
        self.protocol: Protocol = PROTOCOLS[config.protocol]
        self.items = items_of_dataset(config)
        self.manifest = build_manifest(config)
        self.pool = pool_manifest(config, self.manifest)
        self.chosen = chosen(config, self.manifest)
        self.cells = single_models(config)
        self.signals: dict[str, SignalCache] = {}
        self.embeddings: dict[str, EmbeddingCache] = {}
        self.encoded: dict[str, dict[str, torch.Tensor]] = {}
        check_store(config.tracking, self.output_dir)
        if fresh:
            for cell in self.cells:
                clear(cell.folder)

    def run_cell(self, number: int, progress: Progress | None = None) -> Result:
        """Evaluate a model, or return its result if it is done already."""
        cell = self.cells[number]
        assert isinstance(cell.model, ModelConfig)
        files = cell.model.files(self.output_dir)
        more = {"model": digest(files, digests_file(cell))} if files else {}
        if self.pool is not None:
            more["training_pool"] = self.pool.content_hash + self.pool.files_hash
        done = finished(cell, self.manifest, more)
        if done is not None:
            complete(cell, done)
            return done
        since, cpu_since = time.perf_counter(), time.process_time()
        model = cell.model.open(self.output_dir, self.protocol, device=self.device, seed=cell.seed)
        self._check_model(model)
        # Runs of one experiment differ by seed; what else they differ by tells their rows apart.
        told = cell.dump()
        told["model"] = {"name": told["model"]["name"], "settings": model.settings}
        session = Session(
            cell,
            self.manifest,
            learner=model.label,
            scenario=ZERO_SHOT,
            seed=model.seed,
            told=told,
            since=since,
            cpu_since=cpu_since,
            more=more,
        )
        with session.open(between_steps=False):
            return self._evaluate(cell, model, session, progress)

    def _evaluate(
        self, cell: ZeroShotConfig, model: OpenModel, session: Session, progress: Progress | None
    ) -> Result:
        prompts, signals = self._prompts(model), self._signals(model)
        rows = signals.usable(self.chosen.rows)
        if model.aligned is not None and model.aligned.text.frozen:
            # A run with ``init`` has the text encoder of another one, frozen from there on.
            weights = frozen_digest(model.aligned.text.encoder)
            key = json.dumps([model.settings["text"], weights], sort_keys=True)
            model.aligned.share_encoded(self.encoded.setdefault(key, {}))
        facts = dataset_facts(self.manifest, self.manifest, len(signals.damaged))
        session.track(facts)
        if cell.task == "compositional":
            items = items_for(cell, self.items, signals, prompts)
            scores = self._told_apart(cell, model, items, progress)
            read = items.signals.manifest, items.rows
        else:
            read = self.manifest, rows
            scores = self._named(cell, model, prompts, rows, progress)
        if self.pool is not None:
            tell_shared(scores, cell, self.pool, model.adapter, signals, rows)
        if model.heard is not None:
            transcripts.tell(scores, model.heard, *read, seed=cell.seed)
            transcripts.write(model.heard, *read, session.folder)
        pins = self._pins(cell, model, prompts, rows)
        result = session.result(
            self.device,
            dataset=facts,
            experiences=[],
            metrics=dict(scores.metrics),
            evaluation={**pins, **scores.details, "intervals": scores.intervals},
        )
        session.finish(result)
        return result

    def _named(
        self,
        cell: ZeroShotConfig,
        model: OpenModel,
        prompts: Prompts,
        rows: np.ndarray,
        progress: Progress | None,
    ) -> Scores:
        return score(
            self._embed(model, self._signals(model), rows, progress),
            model.embed_texts,
            self.manifest,
            rows,
            prompts=prompts,
            wanted=Wanted(
                self.chosen.classes,
                ensemble=cell.prompts is not None and cell.prompts.ensemble,
                robustness=cell.robustness,
                retrieval=cell.retrieval,
                diagnostics=cell.diagnostics,
            ),
            seed=cell.seed,
        )

    def _told_apart(
        self, cell: ZeroShotConfig, model: OpenModel, found: Items, progress: Progress | None
    ) -> Scores:
        manifest, rows = found.signals.manifest, found.rows
        place = {row: number for number, row in enumerate(rows.tolist())}
        return item_scores(
            self._embed(model, found.signals, rows, progress),
            model.embed_texts([manifest.recordings[row].text for row in rows]),
            [tuple(place[row] for row in item) for item in found.items],
            manifest,
            names=found.names,
            mode=cell.mode,
            seed=cell.seed,
        )

    def _check_model(self, model: OpenModel) -> None:
        manifest, adapter = self.manifest, model.adapter
        if manifest.modality not in model.modalities:
            raise UserError(
                f"dataset {manifest.name!r} holds {manifest.modality} recordings, and the model "
                f"{model.facts['name']} reads {' or '.join(model.modalities)}; choose another one."
            )
        rate = getattr(getattr(adapter, "config", None), "sample_rate", None)
        if manifest.made_rate is not None and manifest.made_rate != rate:
            raise UserError(
                f"dataset {manifest.name!r} makes its signals at {manifest.made_rate} Hz, and the "
                f"model {model.facts['name']} reads {rate} Hz; choose another dataset."
            )

    def _prompts(self, model: OpenModel) -> Prompts:
        """The config's own, else a foreign protocol's, else the model's, else the modality's."""
        if self.config.prompts is not None:
            return self.config.prompts.load(self.manifest.modality)
        if self.config.protocol != "medley":
            return load_prompts(self.protocol.templates_of(self.manifest.name))
        return model.prompts or load_prompts(self.manifest.modality)

    def _signals(self, model: OpenModel) -> SignalCache:
        """Shared by the models that decode alike."""
        key = model.adapter.fingerprint
        if key not in self.signals:
            self.signals[key] = SignalCache(
                self.manifest,
                model.adapter,
                folder=cache_folder(self.config),
                skip_damaged=self.config.skip_damaged,
            )
        return self.signals[key]

    def _source(
        self, model: OpenModel, signals: Signals, rows: np.ndarray
    ) -> Signals | EmbeddingCache:
        """Signals, or the embeddings of a frozen tower, made once for all models that have it."""
        if model.aligned is None:
            return signals
        (tower,) = model.aligned.signals.values()
        assert isinstance(tower, Tower)
        if not tower.frozen:
            return signals
        cache = EmbeddingCache(
            signals,
            tower.front_end,
            tower.encoder,
            rows=rows,
            settings=[model.facts["config"]["modality"], model.settings["encoder"]],
            folder=cache_folder(self.config),
            device=self.device,
        )
        return self.embeddings.setdefault(cache.key, cache)

    def _embed(
        self, model: OpenModel, signals: Signals, rows: np.ndarray, progress: Progress | None
    ) -> torch.Tensor:
        size, source = self._batch_size(model), self._source(model, signals, rows)
        task = None
        if progress is not None:
            task = progress.add_task(
                f"{model.label} seed {model.seed}", total=-(-len(rows) // size)
            )

        def counted(part: np.ndarray) -> Any:
            if progress is not None and task is not None:
                progress.advance(task)
            return source.gather(part)

        recordings = signals.manifest.recordings

        def embed(batch: Batch) -> torch.Tensor:
            return model.embed(batch, [recordings[i].uid for i in batch.indices.tolist()])

        return embed_rows(embed, Loader(counted, self.device), rows, batch_size=size)

    def _batch_size(self, model: OpenModel) -> int:
        return min(self.config.batch_size, model.at_once or self.config.batch_size)

    def _pins(
        self, cell: ZeroShotConfig, model: OpenModel, prompts: Prompts, rows: np.ndarray
    ) -> dict[str, Any]:
        """All that the scores depend on; see the specification of a result."""
        names = [self.manifest.class_names[c] for c in self.chosen.classes]
        return {
            "model": model.facts,
            **row_pins(self.manifest, rows, self.chosen.split),
            "candidates": names,
            **(text_pins(prompts, names) if names else {}),
            "signals": {
                "adapter": model.adapter.fingerprint,
                **self.protocol.pins(self.manifest.name),
            },
            "numerics": {
                "device": str(self.device),
                "dtype": "float32",
                "autocast": False,
                "batch_size": self._batch_size(model),
                "threads": torch.get_num_threads(),
            },
            "seed": cell.seed,
        }
