"""Task ``align``: the encoder learns to meet texts, as in ``medley align``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.commands.align.config import AlignConfig, CasePromptsConfig
from benchmarks.commands.align.data import AlignData, View
from benchmarks.commands.align.parts import (
    caption_texts,
    count_recordings,
    meanings_of,
    signal_source,
    text_notes,
    tower_of,
)
from benchmarks.commands.align.scoring import Scorer
from benchmarks.commands.finetune.classify import WHITE_EPS, some_rows
from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.encoder import Parts
from benchmarks.commands.finetune.scoring import HALF, best_thresholds
from benchmarks.runs.data import Data
from multimodal.evaluation.class_vectors import class_vectors
from multimodal.evaluation.embeddings import embed_rows
from multimodal.evaluation.prompts import Prompts
from multimodal.evaluation.scores import Scores
from multimodal.loader import Loader
from multimodal.models.align_task import AlignTask, numbered
from multimodal.models.captions import Captions
from multimodal.models.cosine_head import CosineHead
from multimodal.models.refusals import refuse_objective
from multimodal.models.towers import Reader, build_aligned
from multimodal.models.whitening import Whitening
from multimodal.objectives.views import ViewsConfig
from multimodal.recordings import Manifest

ALIGNMENT = "alignment"


class AlignTexts:
    """One cell's model, task and scores. rows: of each split; those without a text are taken out
    of training if the config says so.
    """

    scenario = ALIGNMENT

    def __init__(
        self,
        config: FinetuneConfig,
        data: Data,
        parts: Parts,
        manifest: Manifest,
        rows: dict[str, np.ndarray],
        device: torch.device,
    ) -> None:
        self.config, self.manifest, self.rows, self.device = config, manifest, rows, device
        self.as_align = align_config(config)
        texts, objective = config.texts, config.texts.objective
        assert isinstance(objective, ViewsConfig)
        reader = Reader(parts.front_end, parts.encoder)  # pyright: ignore[reportArgumentType]
        modality = config.modality.registered_name
        self.module = build_aligned(
            {modality: reader}, texts.text, width=texts.width, **objective.start
        )
        refuse_objective(objective, self.module)
        self.reader = tower_of(self.module, modality)
        if config.whiten:
            self.reader.whitening = Whitening(parts.encoder.width, eps=WHITE_EPS)  # pyright: ignore
        self.module.to(device)
        self.module.share_encoded(data.encoded)
        self.prompts = texts.prompts.load(modality)
        self.captions = Captions(
            caption_texts(self.as_align, manifest),
            self.module,
            settings=texts.text.dump(),
            folder=data.folder,
            known=data.embeddings,
        )
        if texts.skip_uncaptioned:
            rows["train"] = rows["train"][self.captions.has_text(rows["train"])]
        self.captions.refuse_missing(rows["train"], manifest)
        every = np.concatenate(list(rows.values()))
        read = AlignData(manifest, {modality: View(data)}, embeddings=data.embeddings)
        source = signal_source(self.as_align, read, self.module, modality, every, device=device)
        self.source, sources = source.signals, {modality: source}
        self.task = AlignTask(
            self.module, sources, self.captions, objective, groups=numbered(manifest.groups)
        )
        self.scorer = Scorer(
            self.as_align,
            self.module,
            read,
            manifest,
            rows,
            tuple(range(manifest.num_classes)),
            self.prompts,
            sources,
            device,
        )

    def prepare(self) -> None:
        """Before the first step: texts, and mean and covariance of what the projection reads."""
        train = self.rows["train"]
        self.captions.ensure(train)
        self.source.ensure(train)
        count_recordings(self.reader, self.source, train, device=self.device)

    def validation_score(self) -> float:
        return self.scorer.validation_score()

    def meanings(self) -> list[str] | None:
        return meanings_of(self.as_align, self.manifest, self.rows["train"])

    def scores(self, split: str) -> Scores:
        return self.scorer.scores(split)

    def head(self) -> nn.Module:
        """Cosines with the class prompts; the projection as it reads embeddings not whitened."""
        names = self.manifest.class_names
        vectors = class_vectors(names, self._headline(), self.module.embed_texts).vectors.float()
        projection, white = self.reader.projection, self.reader.whitening
        assert isinstance(projection, nn.Linear)
        weight = projection.weight.detach().cpu()
        shift = torch.zeros(len(weight))
        if white is not None:
            weight, shift = white.cpu().folded(weight, shift)
            white.to(self.device)
        head = CosineHead(weight, shift, vectors, self.module.scale.detach().cpu())
        if not self.manifest.multi_label:
            return head
        return CosineHead(**head.state_dict(), offset=self._offset(head))

    @torch.no_grad()
    def _offset(self, head: CosineHead) -> torch.Tensor:
        """(C,) the cosine that separates a class best: of the validation recordings, or, without
        any, of those it was trained on; the mean cosine for a class that they cannot tell of.
        """
        rows = self.rows["validation"]
        rows = some_rows(rows if len(rows) else self.rows["train"])
        self.module.eval()
        self.source.ensure(rows)
        loader, size = Loader(self.source.gather, self.device), self.config.training.eval_batch_size
        embedded = embed_rows(self.reader.encode, loader, rows, batch_size=size)
        cosines = head.cosines(embedded).numpy()
        found = best_thresholds(
            cosines, self.manifest.targets[rows], lowest=-1.0, otherwise=cosines.mean(axis=0)
        )
        return torch.tensor(found, dtype=torch.float64)

    def facts(self) -> dict[str, Any]:
        """Of ``ModelFacts``."""
        names, multi = self.manifest.class_names, self.manifest.multi_label
        words = self._headline().texts(names)
        return {
            "task": "align",
            "multi_label": multi,
            "class_names": names,
            # The head's offset is where a class begins.
            "thresholds": (HALF,) * len(names) if multi else None,
            "texts": {name: list(each) for name, each in zip(names, words, strict=True)},
        }

    def notes(self) -> list[str]:
        objective, train = self.config.texts.objective, self.rows["train"]
        assert isinstance(objective, ViewsConfig)
        distinct = len(np.unique(self.captions.of_row[train]))
        return text_notes(self.module.tokenizer, len(train), distinct, objective)

    def _headline(self) -> Prompts:
        """The prompts by which zero-shot accuracy is told."""
        return self.prompts.headline(ensemble=self.config.texts.prompts.ensemble)


def align_config(config: FinetuneConfig) -> AlignConfig:
    """The cell as ``medley align`` would say it, for the parts that the two commands share."""
    shared: Mapping[str, Any] = {
        name: getattr(config, name)
        for name in ("experiment", "dataset", "modality", "encoder", "seeds", "training", "cache")
    }
    texts = {k: getattr(config.texts, k) for k in ("text", "width", "captions")}
    prompts = CasePromptsConfig(**config.texts.prompts.dump())
    return AlignConfig(
        **shared,
        **texts,
        prompts=prompts,
        objectives=(config.texts.objective,),
        skip_uncaptioned=config.texts.skip_uncaptioned,
        output_dir=config.output_dir,
        validation_fraction=config.validation_fraction,
    )
