"""``medley finetune``: one run a method and seed, resumable at any step.

A run folder holds ``config.yaml``, ``metrics.jsonl``, ``checkpoint/``, ``model/`` (the fine-tuned
model, see ``results/model_folder.py``) and, when the run is done, ``result.json``.
"""

from __future__ import annotations

from typing import Any

from benchmarks.commands.finetune.align_texts import AlignTexts
from benchmarks.commands.finetune.also import Other, Probed, cost, probe
from benchmarks.commands.finetune.classify import Classify, tensor_bytes
from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.encoder import build_parts
from benchmarks.commands.finetune.folder import write_model
from benchmarks.commands.finetune.start import Start
from benchmarks.results.result import Result
from benchmarks.runs import machine
from benchmarks.runs.data import Data, seed_everything
from benchmarks.runs.facts import dataset_facts, row_pins
from benchmarks.runs.fitted import FittedRun
from benchmarks.runs.session import Session
from multimodal.datasets.splits import hold_out_validation
from multimodal.training.fit import Fit
from multimodal.training.processes import is_first, start_processes

SPLITS = ("train", "validation", "test")
MODEL = "fine_tuned"  # in the store
MIB = 2**20


class FinetuneRun(FittedRun):
    """One cell in progress. data: of the dataset; others: those of ``evaluate_also``."""

    def __init__(
        self,
        config: FinetuneConfig,
        data: Data,
        start: Start | None,
        others: list[Other],
        *,
        observer: Any = None,
    ) -> None:
        assert len(config.methods) == len(config.seeds) == 1
        self.config, self.data, self.others, self.observer = config, data, others, observer
        self.seed = config.seeds[0]
        self.device = start_processes(cpu=machine.pick_device(config.training.device).type == "cpu")
        machine.reset_peak_memory(self.device)
        seed_everything(self.seed)
        self.manifest = hold_out_validation(
            data.manifest, config.validation_fraction, seed=self.seed
        )
        self.rows = {s: data.signals.usable(self.manifest.indices(s)) for s in SPLITS}
        self.parts = build_parts(config, data.adapter, start)
        total = machine.size_of(self.parts.front_end, self.parts.encoder)
        machine.use_threads(config.training.threads, parameters=total, device=self.device)
        what = (self.manifest, self.rows, self.device)
        self.kind: Classify | AlignTexts = (
            AlignTexts(config, data, self.parts, *what)
            if config.task == "align"
            else Classify(config, data, self.parts, start, *what)
        )
        self.session = Session(
            config,
            data.manifest,
            learner=config.methods[0].registered_name,
            scenario=self.kind.scenario,
            seed=self.seed,
            writes=is_first(),
            more=data.inputs,
        )
        self.fit = self._fit()
        self.before: Probed = {}

    def _fit(self) -> Fit:
        training = self.config.training
        if self.config.quick:
            training = training.model_copy(update={"epochs": 1})
        rate = getattr(self.config.methods[0], "learning_rate", None)
        if rate is not None:
            training = training.model_copy(update={"learning_rate": rate})
        train, recordings = self.rows["train"], self.manifest.recordings
        return Fit(
            self.kind.task,
            training,
            rows=train,
            lengths=self.data.signals.lengths(train),
            seed=self.seed,
            meaning_of=self.kind.meanings(),
            validate=self.validate if len(self.rows["validation"]) else None,
            after_step=self.after_step,
            name_of=lambda row: recordings[row].uid,
        )

    # ---- the run ------------------------------------------------------------------------

    def execute(self) -> Result:
        """Train, evaluate and save; UserError if the folder belongs to other data."""
        session, data = self.session, self.data
        facts = dataset_facts(data.manifest, self.manifest, len(data.signals.damaged))
        with session.open() as state:
            if state is None:
                self.before = self._probe()
            else:
                with session.restoring():
                    self.fit.load_state_dict(state["fit"])
                    self.before = {k: tuple(v) for k, v in state["before"].items()}
            session.track(facts)
            self._train()
            result = self._result(facts)
            self._keep_model(result)
            session.finish(result)
        session.stop_if_interrupted()
        return result

    def _train(self) -> None:
        self.kind.prepare()
        self.follow()

    def _result(self, facts: dict[str, Any]) -> Result:
        split = "test" if len(self.rows["test"]) else "train"
        scores = self.kind.scores(split)
        paid, details = cost(self.others, self.before, self._probe())
        memory = machine.peak_memory(self.device)
        measured = {
            **tensor_bytes(self.kind.module),
            "peak_memory_mib": memory.get("device", memory["process"]) / MIB,
            "recordings_per_second": self.fit.throughput,
            "data_wait_share": self.fit.data_wait,
        }
        evaluation = {
            "num_train": len(self.rows["train"]),
            "longest": int(self.data.signals.lengths(self.rows["train"]).max()),
            "num_validation": len(self.rows["validation"]),
            "target_modules": list(self.parts.target_modules),
            **row_pins(self.manifest, self.rows[split], split),
            **scores.details,
            **details,
            "intervals": scores.intervals,
        }
        return self.session.result(
            self.fit.device,
            dataset=facts,
            experiences=[],
            metrics={**scores.metrics, **paid, **measured},
            evaluation=evaluation,
        )

    def _keep_model(self, result: Result) -> None:
        if not is_first():
            return
        folder = write_model(self.config, self.parts, self.kind.head(), self.kind.facts(), result)
        shown = ("accuracy", "macro_auroc", "zero_shot_top1")
        values = {k: result.metrics[k] for k in shown if result.metrics.get(k) is not None}
        self.session.tracker.log_model(MODEL, folder, values)

    def _probe(self) -> Probed:
        size = self.config.training.eval_batch_size
        return probe(self.kind.reader, self.others, size=size, device=self.device)

    def notes(self) -> list[str]:
        """What a user should know of the run, each once."""
        layers = self.parts.target_modules
        told = [f"adapted layers: {', '.join(layers)}"] if layers else []
        return told + self.kind.notes()

    def validation_score(self) -> float:
        return self.kind.validation_score()

    def state(self) -> dict[str, Any]:
        before = {name: list(values) for name, values in self.before.items()}
        return {**super().state(), "before": before}
