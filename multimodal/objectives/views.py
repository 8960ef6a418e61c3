"""Named views: the same cases seen by any number of modalities, one of which is the text.

Two views, a signal and its text, are the common case. A case may lack a modality; what stands in
its row then is never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from multimodal.objectives import Loss
from multimodal.objectives.tools.samples import SampleTables
from multimodal.registry import Config

TEXT = "text"
SHARED = ("scale", "bias")


class Extra(NamedTuple):
    """K more texts or signals of each case, seen by that case only. embeddings: (N, K, D) of any
    length; allowed: (N, K) bool, those that are there; what stands in for others is never read.
    """

    embeddings: Tensor
    allowed: Tensor


class Labels(NamedTuple):
    """The classes of a data set as texts. texts: (C, D) of any length; targets: (N, C) of the
    cases, 1 present, 0 absent, NaN unknown; shown: (C,) bool, classes that were met so far.
    """

    texts: Tensor
    targets: Tensor
    shown: Tensor


class Own(nn.Module):
    """What an objective trains of its own (heads, a scale), beside the model that it aligns: part
    of the training and its checkpoints, not of the model that is kept.
    """

    def after_step(self) -> None:
        """After every update, e.g. to clamp a scale."""


class Pairs(NamedTuple):
    """Two views of N cases. signals, texts: (N, D). source: (N, W) frozen text encoder's output
    before any projection. ids: (N,) int64, equal where the texts are. scale, bias: the model's,
    scalars. present: (N,) bool, cases that have both views; None: all have. extras, keys, numbers,
    tables, own: as in ``Views``. name: of the signal view. features: of its signals.
    averaged: of its signals and of the texts.
    """

    signals: Tensor
    texts: Tensor
    source: Tensor
    ids: Tensor
    scale: Tensor
    bias: Tensor
    present: Tensor | None = None
    extras: Mapping[str, Extra] = MappingProxyType({})
    keys: Tensor | None = None
    name: str = ""
    numbers: Tensor | None = None
    tables: SampleTables | None = None
    features: Tensor | None = None
    own: Own | None = None
    averaged: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Views:
    """N cases. embeddings: name -> (N, D); the text's name is ``TEXT``, all others are signals.

    present: name -> (N,) bool, cases that have it; without an entry all have. source: (N, W) text
    encoder's output before any projection. ids: (N,) int64, equal where the texts are. groups: (N,)
    int64, equal where patients (speakers, sources) are, or None. scale, bias: the model's, scalars.
    extras: more texts of each case, true ones ("positives") and false ones ("negatives") of its
    signals, and signals that its text is false of ("negative_signals"); K may differ. keys: (N,)
    int64, equal where the texts mean the same in other words too, or None. labels: of the cases,
    where an objective asks for them. numbers: (N,) int64 >= 0, the same of a case whenever it comes
    back. tables: what the objective keeps of each (``ViewsConfig.tables``), which it renews. own:
    what it trains of its own (``ViewsConfig.own``). features: where it has that, signal view ->
    (N, 1 + A, E), what a projection reads of the recording as it is and of ``augmented`` others.
    averaged: the same of the running mean of its encoder, and (N, W) of that of the texts, where
    the objective asks for them.

    Of several processes all must have an entry for a view or an extra, or none.
    """

    embeddings: Mapping[str, Tensor]
    source: Tensor
    ids: Tensor
    scale: Tensor
    bias: Tensor
    present: Mapping[str, Tensor] = field(default_factory=dict)
    groups: Tensor | None = None
    extras: Mapping[str, Extra] = field(default_factory=dict)
    keys: Tensor | None = None
    labels: Labels | None = None
    numbers: Tensor | None = None
    tables: SampleTables | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    own: Own | None = None
    averaged: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def signals(self) -> tuple[str, ...]:
        """The names of all views but the text."""
        return tuple(name for name in self.embeddings if name != TEXT)

    def both(self, a: str, b: str) -> Tensor | None:
        """(N,) bool, cases that have both views; None: all have."""
        masks = [self.present[name] for name in (a, b) if name in self.present]
        return torch.stack(masks).all(0) if masks else None

    def pairs(self, name: str) -> Pairs:
        """A signal view and the text."""
        views, present = self.embeddings, self.both(name, TEXT)
        texts = views[TEXT]
        return Pairs(
            views[name],
            texts,
            self.source,
            self.ids,
            self.scale,
            self.bias,
            present=present,
            extras=self.extras,
            keys=self.keys,
            name=name,
            numbers=self.numbers,
            tables=self.tables,
            features=self.features.get(name),
            own=self.own,
            averaged=(self.averaged[name], self.averaged[TEXT]) if self.averaged else None,
        )


class ViewsConfig(Config):
    """Base of the configs of objectives of named views, each of which stands beside its function.

    needs_frozen_text: it takes weights from the text encoder's output. masks: it leaves out what is
    absent; without, it is given complete cases only. spares_equal_texts (a property): cases of
    equal text are no negatives of each other. sparing: the settings that make it so, in words.
    extra_texts, extra_signals, needs_keys (properties): the ``extras`` that its views must have,
    name -> how many a case is to have at most, and whether they must have ``keys``. needs_labels (a
    property): they must have ``labels``, which only a learner gives. augmented (a property): the A
    of ``features``; without any ``own`` they are not given. averaged (a property): the share by
    which a running mean of the encoders stays in a step, if there is to be one.
    """

    masks: ClassVar[bool] = False
    needs_frozen_text: ClassVar[bool] = False
    sparing: ClassVar[str] = ""

    @property
    def spares_equal_texts(self) -> bool:
        return False

    @property
    def extra_texts(self) -> dict[str, int]:
        return {}

    @property
    def extra_signals(self) -> dict[str, int]:
        return {}

    @property
    def needs_keys(self) -> bool:
        return False

    @property
    def needs_labels(self) -> bool:
        return False

    @property
    def augmented(self) -> int:
        return 0

    @property
    def averaged(self) -> float | None:
        return None

    @property
    def start(self) -> dict[str, Any]:
        """What the aligned model takes of these settings."""
        raise NotImplementedError

    def tables(self) -> SampleTables | None:
        """Empty ones for what it keeps of each sample; a run keeps them in its checkpoints. None:
        it keeps nothing.
        """
        return None

    def own(self, widths: Mapping[str, int]) -> Own | None:
        """Untrained, what it trains of its own; None: nothing. widths: view -> E of ``features``,
        of the text that of ``source``.
        """
        return None

    def check_views(self, names: Sequence[str]) -> None:
        """ValueError unless it fits views of these names, the text's among them."""

    def of_views(self, views: Views, *, gather: bool) -> Loss:
        """gather: the batch is that of all processes."""
        raise NotImplementedError


class Term(NamedTuple):
    """The loss of one pair of views. present: (N,) bool, cases that have both; None: all have."""

    name: str
    weight: float
    loss: Loss
    present: Tensor | None


def total(found: Sequence[Term]) -> Loss:
    """The sum of weight * value, not divided. Terms of several pairs are ``name/term``, and those
    of a pair of which this process has no case are left out; the model's scale and bias are one.
    """
    if len(found) == 1 and found[0].present is None and found[0].weight == 1:
        return found[0].loss
    terms = dict[str, Tensor]()
    for name, _, loss, present in found:
        if present is None or present.any():
            alone = len(found) == 1
            whole = {k: k if alone or k in SHARED else f"{name}/{k}" for k in loss.terms}
            terms |= {whole[k]: value for k, value in loss.terms.items()}
    return Loss(torch.stack([weight * loss.value for _, weight, loss, _ in found]).sum(), terms)
