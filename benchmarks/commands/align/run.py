"""``medley align``: one run an objective and seed, resumable at any step.

A run folder holds ``config.yaml``, ``metrics.jsonl``, ``checkpoint/``, ``model.safetensors`` and,
when the run is done, ``result.json``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.commands.align.case_scoring import CaseScorer
from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.data import AlignData
from benchmarks.commands.align.lesson import Lesson, composed, recorded, recorded_captions
from benchmarks.commands.align.parts import (
    build_model,
    count_recordings,
    meanings_of,
    signal_source,
    split_rows,
    text_notes,
    tower_of,
)
from benchmarks.commands.align.scoring import Scorer
from benchmarks.commands.align.start import MODEL_FILE, start_folder, start_inputs
from benchmarks.results.metric_names import VALIDATION
from benchmarks.results.result import Result
from benchmarks.runs import machine
from benchmarks.runs.composed import Composed, item_scores
from benchmarks.runs.data import chosen_classes, seed_everything
from benchmarks.runs.facts import dataset_facts, row_pins, text_pins
from benchmarks.runs.fitted import FittedRun
from benchmarks.runs.session import Session
from benchmarks.runs.shared_sound import told
from multimodal.datasets.splits import hold_out_validation
from multimodal.evaluation.embeddings import embed_rows
from multimodal.loader import Loader
from multimodal.models.align_task import AlignTask, Source
from multimodal.objectives.views import ViewsConfig
from multimodal.training.fit import Fit
from multimodal.training.processes import is_first, start_processes
from multimodal.weights import save_weights

ALIGNMENT = "alignment"
VALIDATED = (
    "zero_shot_top1",
    "macro_auroc",
    "mean_average_precision",
    "map_at_10",
    "recall_at_10",
)


class AlignRun(FittedRun):
    """One cell in progress. data: of the dataset; its ``manifest`` is also the evaluation's."""

    def __init__(self, config: AlignConfig, data: AlignData, *, observer: Any = None) -> None:
        assert len(config.objectives) == len(config.seeds) == 1
        self.config, self.data, self.observer = config, data, observer
        self.seed = config.seeds[0]
        self.session = Session(
            config,
            data.manifest,
            learner=config.objectives[0].registered_name,
            scenario=ALIGNMENT,
            seed=self.seed,
            writes=is_first(),
            more=data.inputs | start_inputs(config),
        )
        self.device = start_processes(cpu=machine.pick_device(config.training.device).type == "cpu")
        seed_everything(self.seed)
        self.manifest = hold_out_validation(
            data.manifest, config.validation_fraction, seed=self.seed
        )
        self.classes = chosen_classes(self.manifest, config.classes)
        adapters = {name: view.data.adapter for name, view in data.views.items()}
        start = start_folder(config)
        self.model = build_model(config, adapters, start=start).to(self.device)
        total = machine.size_of(self.model)
        machine.use_threads(config.training.threads, parameters=total, device=self.device)
        if start is None:  # else its text encoder may be another one than the config's
            self.model.share_encoded(data.encoded)
        self.rows = {
            split: split_rows(config, data, self.manifest, split)
            for split in ("train", "validation", "test")
        }
        self.uncaptioned = 0
        self.lesson = self._composed() if config.compose is not None else self._recorded()
        parts = (config, self.model, data, self.manifest, self.rows, self.classes)
        if config.views:
            self.scorer = CaseScorer(*parts, self.sources, self.device)
        else:
            prompts = config.prompts.load(self.manifest.modality)
            self.scorer = Scorer(*parts, prompts, self.sources, self.device)
        self.fit = self._fit()

    def _recorded(self) -> Lesson:
        config, manifest, train = self.config, self.manifest, self.rows["train"]
        captions = recorded_captions(config, self.data, manifest, self.model)
        if config.skip_uncaptioned:
            self.rows["train"] = train[captions.has_text(train)]
        self.uncaptioned = len(train) - len(self.rows["train"])
        captions.refuse_missing(self.rows["train"], manifest)
        self.sources = self._sources()
        return recorded(self.data, manifest, captions, self.sources, self.rows["train"])

    def _composed(self) -> Lesson:
        self.sources = self._sources()
        return composed(self.config, self.data, self.model, device=self.device)

    def _sources(self) -> dict[str, Source]:
        """Of the dataset's own recordings."""
        config, every = self.config, np.concatenate(list(self.rows.values()))
        return {
            name: signal_source(config, self.data, self.model, name, every, device=self.device)
            for name in config.towers
        }

    def _fit(self) -> Fit:
        config, objective, lesson = self.config, self.config.objectives[0], self.lesson
        assert isinstance(objective, ViewsConfig)
        training = config.training
        if config.quick:
            training = training.model_copy(update={"epochs": 1})
        task = AlignTask(
            self.model,
            lesson.sources,
            lesson.captions,
            objective,
            groups=lesson.groups,
            beside=lesson.beside,
        )
        return Fit(
            task,
            training,
            rows=lesson.rows,
            lengths=lesson.lengths,
            seed=self.seed,
            meaning_of=meanings_of(config, self.manifest, lesson.rows),
            near=self._near(),
            validate=self.validate if self._validated else None,
            after_step=self.after_step,
            name_of=lambda row: lesson.of[row].uid,
        )

    @property
    def _validated(self) -> bool:
        return len(self.rows["validation"]) > 0 and self.config.compose is None

    def _near(self) -> np.ndarray | None:
        """Neighbours by the model as training starts: before a checkpoint is read."""
        batch = self.config.training.batch
        if batch is None or batch.neighbours is None:
            return None
        self._ready()
        return self.lesson.near(self.model, batch.neighbours, device=self.device)

    # ---- the run ------------------------------------------------------------------------

    def execute(self) -> Result:
        """Train, evaluate and save; UserError if the folder belongs to other data."""
        session = self.session
        facts = dataset_facts(self.data.manifest, self.manifest, self.data.skipped)
        facts |= self.data.facts()
        with session.open() as state:
            if state is not None:
                with session.restoring():
                    self.fit.load_state_dict(state["fit"])
            session.track(facts)
            self._train()
            longest = self.data.longest(self.rows["train"])
            if self.config.compose is not None:
                longest = dict.fromkeys(longest, str(self.lesson.lengths.max()))
            save_weights(self.model, session.folder / MODEL_FILE, longest)
            session.tracker.log_model(MODEL_FILE.partition(".")[0], session.folder / MODEL_FILE)
            result = self._result(facts)
            session.finish(result)
        session.stop_if_interrupted()
        return result

    def _train(self) -> None:
        self._ready()
        self.follow()

    def _ready(self) -> None:
        """Everything is decoded and embedded, and what is counted before the first step counted."""
        lesson = self.lesson
        lesson.ensure()
        for name, source in lesson.sources.items():
            composed = self.config.compose is not None
            own = lesson.rows if composed else self.data.views[name].recordings(lesson.rows)
            source.signals.ensure(own)
            tower = tower_of(self.model, name)
            count_recordings(tower, source.signals, own, device=self.device)

    def _result(self, facts: dict[str, Any]) -> Result:
        split = "test" if len(self.rows["test"]) else "train"
        scores = self.scorer.scores(split)
        items = self.data.items
        if items is not None:
            known = items.signals.manifest
            found = item_scores(*self._embedded(items), items.items, known, seed=self.seed)
            scores.metrics |= found.metrics
            scores.intervals |= found.intervals
            scores.details |= found.details
        names = [self.manifest.class_names[c] for c in self.classes]
        evaluation = {
            "num_train": len(self.lesson.rows),
            "num_train_without_text": self.uncaptioned,
            "num_train_texts": self.lesson.distinct_texts,
            "multi_label": bool(self.config.views) or self.manifest.multi_label,
            **row_pins(self.manifest, self.rows[split], split),
            **({} if self.data.shared_sound is None else {"shared_sound": self.data.shared_sound}),
            **self._text_pins(names),
        }
        training = {
            "recordings_per_second": self.fit.throughput,
            "data_wait_share": self.fit.data_wait,
            **self._validation(),
        }
        return self.session.result(
            self.fit.device,
            dataset=facts,
            experiences=[],
            metrics={**scores.metrics, **training},
            evaluation={**evaluation, **scores.details, "intervals": scores.intervals},
        )

    def _validation(self) -> dict[str, float]:
        """Of the held-out recordings, with what the training left: by this settings are chosen."""
        if not self._validated:
            return {}
        found = self.scorer.scores("validation", whole=False).metrics
        known = {key: found.get(key) for key in VALIDATED}
        return {f"{VALIDATION}{key}": v for key, v in known.items() if v is not None}

    def _embedded(self, items: Composed) -> tuple[Tensor, Tensor]:
        """Scenes of items, and their captions."""
        self.model.eval()
        rows, size = np.arange(len(items.scenes)), self.config.training.eval_batch_size
        loader = Loader(items.signals.gather, self.device)
        signals = embed_rows(self.model.embed_signals, loader, rows, batch_size=min(size, 64))
        return signals, self.model.embed_texts(items.scenes.captions)

    def _text_pins(self, names: list[str]) -> dict[str, Any]:
        """Of several modalities the first's, and those of each as ``views``."""
        of = {name: text_pins(self.config.prompts.load(name), names) for name in self.config.towers}
        first, *others = of.values()
        return {**first, "views": of} if others else first

    def notes(self) -> list[str]:
        """What a user should know of the texts: cut ones, shared ones; and of shared sound."""
        objective = self.config.objectives[0]
        assert isinstance(objective, ViewsConfig)
        count, distinct = len(self.lesson.rows), self.lesson.distinct_texts
        notes = text_notes(self.model.tokenizer, count, distinct, objective)
        shared = told(self.data.shared_sound) if self.data.shared_sound is not None else ""
        return [*notes, shared] if shared else notes

    def validation_score(self) -> float:
        return self.scorer.validation_score()
