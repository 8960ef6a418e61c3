"""What the training loop needs to align modalities with text: cases, embeddings, objective.

A case is one recording of each of some modalities, and a text; it may lack any of them. Of one
modality every recording is a case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.models.captions import Captions
from multimodal.models.case_batch import ABSENT, Beside, CaseBatch, Part, Source, there
from multimodal.models.refusals import refuse_lacking, refuse_objective, refuse_unaugmented
from multimodal.models.towers import Aligned
from multimodal.objectives import Loss
from multimodal.objectives.tools.gather import world_size
from multimodal.objectives.tools.running_means import RunningMeans
from multimodal.objectives.views import TEXT, Extra, Views, ViewsConfig


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
        self.own = objective.own({n: e.width for n, e in self._encoders().items()})
        self.means = self._means(objective.averaged)
        beside_it = {"own": self.own, "means": self.means}
        more = {name: part for name, part in beside_it.items() if part is not None}
        self.module: Any = nn.ModuleDict({"model": model, **more}) if more else model
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

    def _encoders(self) -> dict[str, Any]:
        towers: dict[str, Any] = {**{n: self.model.signals[n] for n in self.sources}}
        return {name: tower.encoder for name, tower in (towers | {TEXT: self.model.text}).items()}

    def _means(self, decay: float | None) -> RunningMeans | None:
        return None if decay is None else RunningMeans(self._encoders(), decay)

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
        own, features (n, (1 + A) E) of each modality, and those of running means, also of texts;
        zeros where a case lacks one.
        """
        if self.own is None:
            signals, features = [self._signals(n, batch.parts[n]) for n in self.sources], []
        else:
            seen = [self._seen(name, batch.parts[name]) for name in self.sources]
            signals, *features = (list(of_each) for of_each in zip(*seen, strict=True))
            features = [*chain(*features), *self._averaged_text(batch.parts[TEXT])]
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

    def _seen(self, name: str, part: Part) -> tuple[Tensor, ...]:
        """Embeddings of recordings as they are; features of these and of augmented ones, then what
        the running mean of the encoder makes of the same.
        """
        tower: Any = self.model.signals[name]
        count = 1 + self.objective.augmented
        if part.batch is None:
            width = count * tower.encoder.width
            none = self._nothing(part, tower.encoder, width)
            more = () if self.means is None else (torch.zeros_like(none),)
            return self._nothing(part, tower), none, *more
        augment, batches = self.sources[name].augment, [part.batch]
        if augment is not None:
            batches += [augment(part.batch) for _ in range(1, count)]
        found = [tower.white(tower.encode(batch)) for batch in batches]
        kept = [found]
        if self.means is not None:
            kept.append([tower.white(self._averaged(name, tower, batch)) for batch in batches])
        features = (part.spread(torch.cat(of_views, 1)) for of_views in kept)
        return part.spread(tower.projection(found[0])), *features

    def _averaged(self, name: str, tower: Any, batch: Batch) -> Tensor:
        """(n, E) of the running mean of an encoder, without gradient."""
        if batch.embeddings is not None:
            return batch.embeddings
        assert self.means is not None
        with torch.no_grad():
            features = tower.front_end(batch)
            return self.means.of(name, tower.encoder, features.values, features.lengths).pooled

    def _averaged_text(self, part: Part) -> list[Tensor]:
        if self.means is None:
            return []
        if part.batch is None:
            return [self.model.log_scale.new_zeros(part.count, self.model.text.encoder.width)]
        return [part.spread(self._averaged(TEXT, self.model.text, part.batch))]

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
        features, still = features[:count], features[count:]

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
            features=self._by_view(features),
            averaged=self._by_view(still[:count]) | dict(zip((TEXT,), still[count:], strict=False)),
            own=self.own,
        )

    def _by_view(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Of each modality (N, 1 + A, E), where there are any."""
        apart = [x.unflatten(1, (1 + self.objective.augmented, -1)) for x in features]
        return dict(zip(self.sources, apart, strict=bool(apart)))

    def loss(self, embeddings: tuple[Tensor, ...], rows: np.ndarray) -> Loss:
        return self.objective.of_views(self.views(embeddings, rows), gather=world_size() > 1)

    def after_step(self) -> None:
        self.model.clamp_scale()
        if self.own is not None:
            self.own.after_step()
        if self.means is not None:
            self.means.update(self._encoders())
