"""``medley align``: one run an objective and seed, resumable at any step.

A run folder holds ``config.yaml``, ``metrics.jsonl``, ``checkpoint/``, ``model.safetensors`` and,
when the run is done, ``result.json``.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.parts import (
    MODEL_FILE,
    build_model,
    caption_texts,
    signal_source,
    text_notes,
)
from benchmarks.commands.align.result import align_result, align_tags
from benchmarks.reports.page import REPORT_FILE, write_html
from benchmarks.reports.pictures import draw_pictures
from benchmarks.results.journal import Journal
from benchmarks.results.result import Result, write_atomically
from benchmarks.runs import checkpoint, machine
from benchmarks.runs.data import Data, cache_folder, chosen_classes, seed_everything
from benchmarks.runs.facts import align_facts, public, row_pins, started, text_pins
from benchmarks.runs.workspace import check_same_run, on_stop_signal, run_lock
from benchmarks.tracking.tracker import NullTracker, Tracker
from multimodal.datasets.splits import hold_out_validation
from multimodal.errors import UserError
from multimodal.evaluation.embeddings import embed_rows
from multimodal.evaluation.linear_probe import LabelledSet, probe_metrics
from multimodal.evaluation.scores import Scores, Wanted, score
from multimodal.models.align_task import AlignTask
from multimodal.models.captions import Captions
from multimodal.objectives.pairs import AlignmentConfig
from multimodal.training.fit import Fit
from multimodal.training.processes import is_first, start_processes
from multimodal.weights import save_weights

MOST_PROBED = 20_000  # training recordings; a probe of more takes too long


class AlignRun:
    """One cell in progress. data: of the dataset; its ``manifest`` is also the evaluation's."""

    def __init__(
        self,
        config: AlignConfig,
        data: Data,
        *,
        tracker: Tracker | None = None,
        observer: Any = None,
    ) -> None:
        assert len(config.objectives) == len(config.seeds) == 1
        self.config, self.data, self.observer = config, data, observer
        self.tracker: Tracker = tracker or NullTracker()
        self.seed = config.seeds[0]
        # Only the first of several processes has the run's folder; the others' is thrown away.
        self.thrown_away = None if is_first() else tempfile.TemporaryDirectory()
        self.folder = Path(self.thrown_away.name) if self.thrown_away else config.folder
        self.device = start_processes(cpu=machine.pick_device(config.training.device).type == "cpu")
        if config.training.threads is not None:
            torch.set_num_threads(config.training.threads)
        seed_everything(self.seed)
        self.manifest = hold_out_validation(
            data.manifest, config.validation_fraction, seed=self.seed
        )
        self.classes = chosen_classes(self.manifest, config.classes)
        self.prompts = config.prompts.load(config.modality.registered_name)
        self.model = build_model(config, data.adapter).to(self.device)
        self.captions = Captions(
            caption_texts(config, self.manifest),
            self.model,
            settings=config.text.dump(),
            folder=cache_folder(config),
        )
        self.rows = {s: self._rows_of(s) for s in ("train", "validation", "test")}
        train = self.rows["train"]
        if config.skip_uncaptioned:
            self.rows["train"] = train[self.captions.has_text(train)]
        self.uncaptioned = len(train) - len(self.rows["train"])
        self.captions.refuse_missing(self.rows["train"], self.manifest)
        every = np.concatenate(list(self.rows.values()))
        self.source = signal_source(config, data, self.model, every, device=self.device)
        self.fit = self._fit()
        self.journal = Journal(self.folder / "metrics.jsonl")
        self.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.seconds_before, self.clock = 0.0, time.perf_counter()
        self.interrupted = False

    def _rows_of(self, split: str) -> np.ndarray:
        rows = self.manifest.indices(split)
        if self.config.classes is not None:
            rows = rows[np.isin(self.manifest.labels[rows], self.classes)]
        return self.data.signals.usable(rows)

    def _distinct_texts(self) -> int:
        return len(np.unique(self.captions.of_row[self.rows["train"]]))

    def _fit(self) -> Fit:
        config, objective = self.config, self.config.objectives[0]
        assert isinstance(objective, AlignmentConfig)
        training = config.training
        if config.quick:
            training = training.model_copy(update={"epochs": 1})
        task = AlignTask(
            self.model,
            config.modality.registered_name,
            self.source,
            self.captions,
            objective,
            augment=self.data.adapter.augment(),
        )
        train, recordings = self.rows["train"], self.manifest.recordings
        return Fit(
            task,
            training,
            rows=train,
            lengths=self.data.signals.lengths(train),
            seed=self.seed,
            validate=self._validate if len(self.rows["validation"]) else None,
            after_step=self._after_step,
            name_of=lambda row: recordings[row].uid,
        )

    # ---- the run ------------------------------------------------------------------------

    def execute(self) -> Result:
        """Train, evaluate and save; UserError if the folder belongs to other data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with run_lock(self.folder), on_stop_signal(self._interrupt):
            self._open()
            try:
                result = self._train()
            except BaseException:
                self.tracker.fail()
                raise
            finally:
                self.journal.close()
            return result

    def _open(self) -> None:
        state = checkpoint.load(self.config.folder / "checkpoint")
        check_same_run(self.folder, self.config, self.data.manifest.content_hash, state)
        text = yaml.safe_dump(public(self.config), sort_keys=False, allow_unicode=True)
        write_atomically(self.folder / "config.yaml", text)
        if state is None:
            self.journal.truncate(0)
        else:
            self.fit.load_state_dict(state["fit"])
            self.started, self.seconds_before = state["started"], state["seconds"]
            self.journal.truncate(state["journal"])
            checkpoint.restore_random_state(state["random"])
        facts = align_facts(self.manifest, len(self.data.signals.damaged))
        tags = align_tags(self.config, self.manifest)
        self.tracker = started(self.tracker, self.config, tags, facts, self.folder)
        self.clock = time.perf_counter()

    def _train(self) -> Result:
        self.captions.ensure(self.rows["train"])
        self.source.ensure(self.rows["train"])
        if self.observer is not None:
            self.observer.begin(self.fit.total, self.fit.total_steps)
        self.fit.run()
        if self.interrupted:
            raise KeyboardInterrupt
        if self.fit.total_steps % self.config.training.log_every:
            self._log()
        save_weights(self.model, self.folder / MODEL_FILE)
        split = "test" if len(self.rows["test"]) else "train"
        scores = self.evaluate(split)
        names = [self.manifest.class_names[c] for c in self.classes]
        result = align_result(
            self.config,
            self.data,
            self.manifest,
            scores,
            evaluation={
                "num_train": len(self.rows["train"]),
                "num_train_without_text": self.uncaptioned,
                "num_train_texts": self._distinct_texts(),
                **row_pins(self.manifest, self.rows[split], split),
                **text_pins(self.prompts, names),
            },
            fit=self.fit,
            started=self.started,
            seconds=self._seconds(),
        )
        result.save(self.folder)
        pictures = draw_pictures(result, self.folder)
        page = write_html([result], self.folder / REPORT_FILE)
        self.tracker.finish(result, [page, *pictures])
        return result

    def notes(self) -> list[str]:
        """What a user should know of the texts: cut ones, shared ones."""
        objective = self.config.objectives[0]
        assert isinstance(objective, AlignmentConfig)
        count = len(self.rows["train"])
        return text_notes(self.model.tokenizer, count, self._distinct_texts(), objective)

    def evaluate(self, split: str, *, whole: bool = True) -> Scores:
        """Scores of the recordings of a split; whole: with every part of the report."""
        rows, embedded = self.rows[split], self._embed(self.rows[split])
        wanted = Wanted(
            self.classes,
            ensemble=self.config.prompts.ensemble,
            robustness=whole,
            retrieval=self.config.captions == "text",
            diagnostics=whole and self.config.captions == "text",
        )
        scores = score(
            embedded,
            self.model.embed_texts,
            self.manifest,
            rows,
            prompts=self.prompts,
            wanted=wanted,
            seed=self.seed,
        )
        if whole and split == "test":
            scores.metrics |= self._probes(embedded)
        return scores

    def _probes(self, embedded: torch.Tensor) -> dict[str, float]:
        """What labels would make of the same test embeddings: the upper reference of a table."""
        train, labels = self.rows["train"], self.manifest.labels
        if self.manifest.multi_label or not 2 <= len(train) <= MOST_PROBED:
            return {}
        known = LabelledSet(self._embed(train), labels[train])
        tested = LabelledSet(embedded, labels[self.rows["test"]])
        return probe_metrics(known, tested, self.manifest.num_classes)

    def _embed(self, rows: np.ndarray) -> torch.Tensor:
        self.model.eval()
        self.source.ensure(rows)
        embedded = embed_rows(
            self.model.embed_signals,
            self.source.gather,
            rows,
            device=self.device,
            batch_size=self.config.training.eval_batch_size,
        )
        self.model.train()
        return embedded

    def _validate(self) -> float:
        """Zero-shot top-1 accuracy of the validation recordings, or their text-to-signal mAP@10."""
        metrics = self.evaluate("validation", whole=False).metrics
        keys = ("zero_shot_top1", "mean_average_precision", "map_at_10")
        found = [metrics[key] for key in keys if metrics.get(key) is not None]
        if not found:
            raise UserError(
                "validation recordings have neither two classes nor texts to score them by; set "
                "validation_fraction=0."
            )
        value = float(found[0] or 0.0)
        self.journal.write({"validation_score": value}, self.fit.total_steps)
        return value

    def _after_step(self, fit: Fit) -> None:
        steps, training = fit.total_steps, self.config.training
        if steps % training.log_every == 0:
            self._log()
        if self.observer is not None:
            self.observer.step(fit)
        if self.interrupted or steps % training.checkpoint_every == 0:
            self._save_checkpoint()
        if self.interrupted:
            raise KeyboardInterrupt

    def _log(self) -> None:
        self.journal.write(self.fit.log(), self.fit.total_steps)
        self.tracker.grow(self.journal)

    def _save_checkpoint(self) -> None:
        state = {
            "config_hash": self.config.hash,
            "content_hash": self.data.manifest.content_hash,
            "fit": self.fit.state_dict(),
            "journal": self.journal.flush(),
            "started": self.started,
            "seconds": self._seconds(),
        }
        checkpoint.save(self.folder / "checkpoint", state)

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.clock

    def _interrupt(self) -> None:
        self.interrupted = True
