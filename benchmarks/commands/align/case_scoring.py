"""Scores of a run over cases: each modality zero-shot and probed, retrieval in all directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.data import AlignData
from benchmarks.commands.align.parts import build_model, split_rows
from benchmarks.runs.data import chosen_classes
from multimodal.datasets.splits import hold_out_validation
from multimodal.errors import UserError
from multimodal.evaluation.diagnostics import diagnose
from multimodal.evaluation.embeddings import embed_rows
from multimodal.evaluation.linear_probe import multi_label_probe
from multimodal.evaluation.multi_label import macro
from multimodal.evaluation.prompt_sets import score_prompt_sets
from multimodal.evaluation.scores import FEWEST_PAIRS, Scores
from multimodal.evaluation.view_retrieval import CUTOFFS, View, view_retrieval
from multimodal.loader import Loader
from multimodal.models.align_task import ABSENT, Source
from multimodal.models.towers import Aligned
from multimodal.recordings import SPLITS, Manifest

TEXT = "text"
REPLICATES = 1_000
LYING = ("signal_uniformity", "centroid_distance", "signal_effective_rank")  # means over these too
SHOWN = ("macro_auroc", "mean_average_precision")  # of zero-shot: means over the modalities
SEARCHED = (*(f"recall_at_{k}" for k in CUTOFFS), "median_rank")  # from the text: likewise


def refuse_unscored(config: AlignConfig, data: AlignData) -> None:
    """UserError for cases that could not be scored once the training is over: prompts that lack a
    class, and a split with less than two of modalities and text.
    """
    manifest = hold_out_validation(data.manifest, config.validation_fraction, seed=config.seeds[0])
    wanted = [manifest.class_names[c] for c in chosen_classes(manifest, config.classes)]
    for name, view in data.views.items():
        known = [n for n in wanted if n in view.data.manifest.class_names]
        if known:
            config.prompts.sets_for(name, known).refuse_gaps(known)
    rows = {split: split_rows(config, data, manifest, split) for split in SPLITS}
    scored = {"validation", "test"} if len(rows["test"]) else {"validation", "train"}
    for split in sorted(scored):
        cases = rows[split]
        there = [name for name, view in data.views.items() if len(view.recordings(cases))]
        if any(manifest.recordings[case].text.strip() for case in cases):
            there.append(TEXT)
        if len(cases) and len(there) < 2:
            raise UserError(
                f"dataset {manifest.name!r}: the {len(cases)} {split} cases have only "
                f"{', '.join(there)}, and retrieval is between two of modalities and text; let its "
                "reader take texts, or move patients who have another modality into the split."
            )


@dataclass(frozen=True)
class CaseScorer:
    """manifest: of the cases, with validation held out. rows: cases of each split. classes: the
    candidates. sources: of the signals.

    Metrics of modality M: M_zero_shot_macro_auroc (and what else ``score_prompt_sets`` measures),
    M_linear_probe_macro_auroc, M_random_encoder_macro_auroc (the same probe of the towers as they
    were before training), and what ``diagnose`` says of M and the texts; of each direction what
    ``view_retrieval`` measures. Those without a
    prefix are means over modalities.
    """

    config: AlignConfig
    model: Aligned
    data: AlignData
    manifest: Manifest
    rows: Mapping[str, np.ndarray]
    classes: tuple[int, ...]
    sources: Mapping[str, Source]
    device: torch.device

    def scores(self, split: str, *, whole: bool = True) -> Scores:
        """Of the cases of a split; whole: with probes and intervals."""
        cases = self.rows[split]
        embedded = {name: self._embed(self.model, name, cases) for name in self.sources}
        scores = Scores(details={"per_class": {}, "protocol": {}})
        for name, vectors in embedded.items():
            self._zero_shot(scores, name, vectors, cases, REPLICATES if whole else 0)
            if whole and split == "test":
                self._probe(scores, name, vectors, cases)
        self._retrieval(scores, embedded, cases, REPLICATES if whole else 0)
        return scores

    def validation_score(self) -> float:
        """Mean over modalities of the zero-shot macro AUROC, or of the recall at 10 of texts."""
        metrics = self.scores("validation", whole=False).metrics
        for key in ("macro_auroc", "recall_at_10"):
            if metrics.get(key) is not None:
                return float(metrics[key] or 0.0)
        raise UserError(
            "validation cases have neither classes nor texts to score them by; set "
            "validation_fraction=0, or none of them in the dataset."
        )

    def _zero_shot(
        self, scores: Scores, name: str, vectors: Tensor, cases: np.ndarray, replicates: int
    ) -> None:
        names, targets = self._targets(name, cases)
        if not names:
            return
        found = score_prompt_sets(
            vectors,
            targets,
            names,
            self.config.prompts.sets_for(name, names),
            self.model.embed_texts,
            groups=self._patients(name, cases),
            replicates=replicates,
            seed=self.config.seeds[0],
        )
        prefix = f"{name}_zero_shot_"
        scores.metrics |= {f"{prefix}{key}": value for key, value in found.metrics.items()}
        scores.intervals |= {f"{prefix}{key}": value for key, value in found.intervals.items()}
        scores.details["per_class"][name] = found.per_class
        scores.details["protocol"][name] = found.protocol
        _average(scores, SHOWN, [f"{m}_zero_shot_" for m in self.sources])

    def _probe(self, scores: Scores, name: str, vectors: Tensor, cases: np.ndarray) -> None:
        names, truth = self._targets(name, cases)
        train = self.rows["train"]
        _, known = self._targets(name, train)
        if not names or not len(known):
            return
        for kind, model in (("linear_probe", self.model), ("random_encoder", self._untrained())):
            tested = vectors if model is self.model else self._embed(model, name, cases)
            key = f"{name}_{kind}_macro_auroc"
            found = multi_label_probe(
                self._embed(model, name, train),
                known,
                tested,
                truth,
                groups=self._patients(name, cases),
                replicates=REPLICATES,
                seed=self.config.seeds[0],
            )
            scores.metrics[key] = macro(found.areas)
            if "macro_auroc" in found.intervals:
                scores.intervals[key] = found.intervals["macro_auroc"]

    def _retrieval(
        self, scores: Scores, embedded: dict[str, Tensor], cases: np.ndarray, replicates: int
    ) -> None:
        views = {
            name: View(self._items(name, cases), vectors) for name, vectors in embedded.items()
        }
        texts = [self.manifest.recordings[case].text for case in cases]
        unique = sorted({text for text in texts if text.strip()})
        if unique:
            place = {text: i for i, text in enumerate(unique)}
            items = np.array([place.get(text, ABSENT) for text in texts], dtype=np.int64)
            views[TEXT] = View(items, self.model.embed_texts(unique))
        found = view_retrieval(
            {name: view for name, view in views.items() if (view.items != ABSENT).any()},
            groups=[self.manifest.recordings[case].group for case in cases],
            targets=self.manifest.targets[cases][:, list(self.classes)],
            replicates=replicates,
            seed=self.config.seeds[0],
        )
        scores.metrics |= found.metrics
        scores.intervals |= found.intervals
        if replicates and TEXT in views:
            self._diagnose(scores, views)
        _average(scores, SEARCHED, [f"{TEXT}_to_{name}_" for name in self.sources])

    def _diagnose(self, scores: Scores, views: dict[str, View]) -> None:
        """How each modality and the texts lie, over the cases that have both."""
        texts = views[TEXT]
        for name in self.sources:
            own = views[name]
            both = (own.items != ABSENT) & (texts.items != ABSENT)
            if both.sum() >= FEWEST_PAIRS:
                signals, said = (view.embeddings[view.items[both]] for view in (own, texts))
                found = diagnose(signals, said).metrics
                scores.metrics |= {f"{name}_{key}": value for key, value in found.items()}
        _average(scores, LYING, [f"{name}_" for name in self.sources])

    # ---- recordings of cases ------------------------------------------------------------

    def _recordings(self, name: str, cases: np.ndarray) -> tuple[Manifest, np.ndarray]:
        """The manifest of a modality, and the distinct recordings of these cases."""
        view = self.data.views[name]
        return view.data.manifest, view.recordings(cases)

    def _patients(self, name: str, cases: np.ndarray) -> list[str]:
        """Of each of those recordings."""
        manifest, rows = self._recordings(name, cases)
        return [manifest.recordings[row].group for row in rows]

    def _targets(self, name: str, cases: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Those of the candidate classes that the modality knows, and (recordings, C) of them."""
        manifest, rows = self._recordings(name, cases)
        wanted = [self.manifest.class_names[c] for c in self.classes]
        names = [n for n in wanted if n in manifest.class_names]
        columns = [manifest.class_names.index(n) for n in names]
        return names, manifest.targets[rows][:, columns]

    def _items(self, name: str, cases: np.ndarray) -> np.ndarray:
        """(cases,) place of each case's recording among the distinct ones."""
        rows = self.data.views[name].rows
        assert rows is not None
        own, distinct = rows[cases], self._recordings(name, cases)[1]
        return np.where(own == ABSENT, ABSENT, np.searchsorted(distinct, own))

    def _embed(self, model: Aligned, name: str, cases: np.ndarray) -> Tensor:
        """(recordings, D) of the distinct ones of these cases."""
        signals, rows = self.sources[name].signals, self._recordings(name, cases)[1]
        if not len(rows):
            return torch.zeros(0, model.text.width)
        signals.ensure(rows)
        training = model.training
        model.eval()
        found = embed_rows(
            lambda batch: model.embed_signals(batch, name),
            Loader(signals.gather, self.device),
            rows,
            batch_size=self.config.training.eval_batch_size,
        )
        model.train(training)
        return found

    def _untrained(self) -> Aligned:
        """The towers as the run began with them."""
        adapters: dict[str, Any] = {n: view.data.adapter for n, view in self.data.views.items()}
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seeds[0])
            return build_model(self.config, adapters).to(self.device)


def _average(scores: Scores, keys: tuple[str, ...], prefixes: list[str]) -> None:
    """Keys without a prefix: the mean over those that have them."""
    for key in keys:
        found = [scores.metrics.get(f"{prefix}{key}") for prefix in prefixes]
        values = [value for value in found if value is not None and np.isfinite(value)]
        if values:
            scores.metrics[key] = float(np.mean(values))
