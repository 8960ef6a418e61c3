"""What the training loop needs to align modalities with text: cases, embeddings, objective.

A case is one recording of each of some modalities, and a text; it may lack any of them. Of one
modality every recording is a case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multimodal.batch import Batch
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.loader import Signals
from multimodal.models.captions import Captions
from multimodal.models.case_batch import ABSENT, CaseBatch, Part, there
from multimodal.models.towers import Aligned
from multimodal.objectives import Loss
from multimodal.objectives.tools.gather import world_size
from multimodal.objectives.views import TEXT, Extra, Views, ViewsConfig


@dataclass(frozen=True)
class Source:
    """Where the signals of one modality come from.

    rows: (cases,) row of ``signals`` of each case, ``ABSENT`` where it has none; None: the case's
    own number. augment: as in ``Adapter.augment``.
    """

    signals: Signals | EmbeddingCache
    rows: np.ndarray | None = None
    augment: Callable[[Batch], Batch] | None = None


@dataclass(frozen=True)
class Beside:
    """More of each case than its views: what ``Views.extras`` and ``Views.keys`` are made of.

    texts: name -> (cases, K) int64 numbers of texts, as in ``Captions.of_row``. signals: name ->
    (cases, K) int64 rows of the signals of the only modality. ``ABSENT`` where there is none.
    keys: (cases,) int64.
    """

    texts: Mapping[str, np.ndarray] = field(default_factory=dict)
    signals: Mapping[str, np.ndarray] = field(default_factory=dict)
    keys: np.ndarray | None = None


def refuse_objective(objective: ViewsConfig, model: Aligned) -> None:
    """UserError where an objective needs a frozen text encoder, and the model's is trained, or
    views that the model has not.
    """
    try:
        objective.check_views((*model.signals, TEXT))
    except ValueError as error:
        raise UserError(f"objective {objective.registered_name!r}: {error}") from error
    if objective.needs_frozen_text and not model.text.frozen:
        raise UserError(
            f"objective {objective.registered_name!r} takes its weights from a frozen text "
            "encoder; set text.train=none, without text.lora, or choose clip, siglip or more."
        )


def refuse_lacking(objective: ViewsConfig, beside: Beside) -> None:
    """UserError where an objective needs more of each case than there is."""
    lacking = [n for n in objective.extra_texts if n not in beside.texts]
    lacking += [n for n in objective.extra_signals if n not in beside.signals]
    lacking += ["keys"] if objective.needs_keys and beside.keys is None else []
    if lacking:
        raise UserError(
            f"objective {objective.registered_name!r} compares each case with {', '.join(lacking)} "
            "of its own, and these have captions alone; set compose, or choose clip or cwcl."
        )


def refuse_own(objective: ViewsConfig, who: str) -> None:
    """UserError where an objective trains heads of its own, which ``who`` cannot keep."""
    if objective.own({}) is not None:
        raise UserError(
            f"objective {objective.registered_name!r} trains heads of its own on augmented views, "
            f"and {who} has one view of a recording and no heads of objectives; choose clip or "
            "barlip, or medley align."
        )


def refuse_unaugmented(objective: ViewsConfig, sources: Mapping[str, Source]) -> None:
    """UserError where an objective needs augmented views of a modality that is not augmented."""
    lacking = [name for name, source in sources.items() if source.augment is None]
    if objective.augmented and lacking:
        raise UserError(
            f"objective {objective.registered_name!r} needs {objective.augmented} augmented views "
            f"of each signal, and {', '.join(lacking)} has none: set augment of its modality, or "
            "choose clip."
        )


def numbered(names: Iterable[str]) -> np.ndarray:
    """(N,) int64, equal where names are; each "" has a number of its own, for it is unknown."""
    known: dict[str, int] = {}
    numbers = [known.setdefault(name, len(known)) if name else ABSENT for name in names]
    found = np.array(numbers, dtype=np.int64)
    unknown = found == ABSENT
    found[unknown] = len(known) + np.arange(int(unknown.sum()))
    return found


class AlignTask:
    """The ``Task`` of ``training/fit.py`` that aligns modalities of ``module`` with texts of cases.

    sources: of each modality, all of the same cases. captions: of the cases. groups: (cases,)
    int64, equal where patients are. beside: what the objective may ask of each case. A modality
    that no case lacks has no mask, nor have the texts if no source has ``rows``: rows without a
    text are then never trained on.
    Where the objective has more to train than the model (``ViewsConfig.own``), ``module`` is both,
    ``model`` the model alone; signals then are as they are, and augmented beside that.
    UserError: the objective needs a frozen text encoder and this one is trained, it needs more of
    each case than there is, or it cannot leave out what is absent.
    """

    smallest_batch = 2  # one pair has no negatives

    def __init__(
        self,
        model: Aligned,
        sources: Mapping[str, Source],
        captions: Captions,
        objective: ViewsConfig,
        *,
        groups: np.ndarray | None = None,
        beside: Beside | None = None,
    ) -> None:
        refuse_objective(objective, model)
        refuse_unaugmented(objective, sources)
        self.beside = beside or Beside()
        refuse_lacking(objective, self.beside)
        if objective.needs_labels:
            raise UserError(
                f"objective {objective.registered_name!r} asks for class prompts and labels, and "
                "cases have texts; leave candidates=labels out, or take learner cwcl."
            )
        self.model, self.sources = model, dict(sources)
        towers = {**{name: model.signals[name] for name in sources}, TEXT: model.text}
        self.own = objective.own({name: t.encoder.width for name, t in towers.items()})
        own = {} if self.own is None else {"own": self.own}
        self.module: Any = nn.ModuleDict({"model": model, **own}) if own else model
        self.captions, self.objective, self.groups = captions, objective, groups
        self.tables = objective.tables()
        of_cases = {name: s.rows for name, s in sources.items() if s.rows is not None}
        if of_cases:
            of_cases[TEXT] = captions.of_row
        self._rows = {name: known for name, known in of_cases.items() if (known == ABSENT).any()}
        if self._rows and not objective.masks:
            raise UserError(
                f"objective {objective.registered_name!r} takes no cases that lack a modality; "
                "choose clip, siglip, cwcl or more, or give complete cases only."
            )

    def load(self, rows: np.ndarray) -> CaseBatch:
        parts: dict[str, Part] = {}
        for name, source in self.sources.items():
            theirs = rows if source.rows is None else source.rows[rows]
            parts[name] = self._part(name, theirs, source.signals.gather)
        parts[TEXT] = self._part(TEXT, self.captions.of_row[rows], self.captions.numbered)
        texts, signals = self._asked()
        extras = {n: there(t[rows].ravel(), self.captions.numbered) for n, t in texts.items()}
        for name, of_case in signals.items():
            (source,) = self.sources.values()
            extras[name] = there(of_case[rows].ravel(), source.signals.gather)
        return CaseBatch(parts, extras)

    def _asked(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Texts and signals beside each case, as many as the objective asks for."""
        wanted, beside = self.objective, self.beside
        texts = {n: beside.texts[n][:, :k] for n, k in wanted.extra_texts.items()}
        return texts, {n: beside.signals[n][:, :k] for n, k in wanted.extra_signals.items()}

    def _part(self, name: str, rows: np.ndarray, gather: Callable[[np.ndarray], Batch]) -> Part:
        if name not in self._rows:
            return Part(gather(rows), None, len(rows))
        return there(rows, gather)

    def embed(self, batch: CaseBatch) -> tuple[Tensor, ...]:
        """Of n cases: signals (n, D) of each modality, texts (n, D) and the text encoder's outputs
        (n, W), then what stands beside them (n, K, D), then, if the objective trains heads of its
        own, features (n, (1 + A) E) of each modality; zeros where a case lacks one.
        """
        if self.own is None:
            signals, features = [self._signals(n, batch.parts[n]) for n in self.sources], []
        else:
            both = [self._seen(name, batch.parts[name]) for name in self.sources]
            signals, features = [s for s, _ in both], [f for _, f in both]
        texts, source = self._texts(batch.parts[TEXT])
        extras = []
        for name, part in batch.extras.items():
            if name in self.objective.extra_texts:
                found, _ = self._texts(part)
            else:
                found = self._signals(next(iter(self.sources)), part)
            extras.append(found.unflatten(0, (len(batch), -1)))
        return *signals, texts, source, *extras, *features

    def _texts(self, part: Part) -> tuple[Tensor, Tensor]:
        text = self.model.text
        if part.batch is None:
            width = text.encoder.width
            return self._nothing(part, text), self._nothing(part, text.encoder, width)
        source = text.encode(part.batch)
        return part.spread(text.projection(source)), part.spread(source)

    def _signals(self, name: str, part: Part) -> Tensor:
        tower = self.model.signals[name]
        if part.batch is None:
            return self._nothing(part, tower)
        batch, augment = part.batch, self.sources[name].augment
        if augment is not None and self.model.training:
            batch = augment(batch)
        return part.spread(tower(batch))

    def _seen(self, name: str, part: Part) -> tuple[Tensor, Tensor]:
        """Embeddings of recordings as they are, and features of these and of augmented ones."""
        tower, count = self.model.signals[name], 1 + self.objective.augmented
        if part.batch is None:
            width = count * tower.encoder.width
            return self._nothing(part, tower), self._nothing(part, tower.encoder, width)
        augment, batches = self.sources[name].augment, [part.batch]
        if augment is not None:
            batches += [augment(part.batch) for _ in range(1, count)]
        found = [tower.white(tower.encode(batch)) for batch in batches]
        return part.spread(tower.projection(found[0])), part.spread(torch.cat(found, 1))

    def _nothing(self, part: Part, of: Any, width: int | None = None) -> Tensor:
        """(n, D) zeros, with a gradient where what ``of`` makes of other cases has one: parts of a
        batch are one tensor to ``grad_cache``, and all processes send gradients to each other.
        """
        zeros = self.model.log_scale.new_zeros(part.count, width or self.model.text.width)
        trained = any(p.requires_grad for p in of.parameters())
        return zeros.requires_grad_(trained and torch.is_grad_enabled())

    def views(self, embeddings: tuple[Tensor, ...], rows: np.ndarray) -> Views:
        """Embeddings of the cases ``rows`` by name, with what the objective may know of these."""
        count = len(self.sources)
        signals, (texts, source), others = (
            embeddings[:count],
            embeddings[count:][:2],
            embeddings[count + 2 :],
        )
        beside = {name: of_case for asked in self._asked() for name, of_case in asked.items()}
        extras, features = others[: len(beside)], others[len(beside) :]
        seen = {
            n: f.unflatten(1, (1 + self.objective.augmented, -1))
            for n, f in zip(self.sources, features, strict=self.own is not None)
        }

        def here(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values[rows]).to(texts.device)

        return Views(
            embeddings={**dict(zip(self.sources, signals, strict=True)), TEXT: texts},
            source=source,
            ids=here(self.captions.of_row),
            scale=self.model.scale,
            bias=self.model.bias,
            present={name: here(known != ABSENT) for name, known in self._rows.items()},
            groups=None if self.groups is None else here(self.groups),
            extras={
                name: Extra(found, here(of_case != ABSENT))
                for (name, of_case), found in zip(beside.items(), extras, strict=True)
            },
            keys=None if self.beside.keys is None else here(self.beside.keys),
            numbers=torch.from_numpy(rows).to(texts.device),
            tables=self.tables,
            features=seen,
            own=self.own,
        )

    def loss(self, embeddings: tuple[Tensor, ...], rows: np.ndarray) -> Loss:
        return self.objective.of_views(self.views(embeddings, rows), gather=world_size() > 1)

    def after_step(self) -> None:
        self.model.clamp_scale()
        if self.own is not None:
            self.own.after_step()
