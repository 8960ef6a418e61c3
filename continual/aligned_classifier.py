"""AlignedClassifier: a signal tower whose classes are known by what their prompts mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from multimodal.batch import Batch
from multimodal.evaluation.findings import none_text
from multimodal.models.towers import Aligned, Tower


class LabelSets:
    """Texts of sets of labels: "heading: A, B", without any "no heading".

    words: of each of C classes. ``encoded`` (M, W): by a frozen text encoder, which reads each set
    once, those of the sets met so far, in that order; the first is the empty one.
    """

    def __init__(self, aligned: Aligned, words: Sequence[str], heading: str) -> None:
        self.aligned, self.words, self.heading = aligned, tuple(words), heading
        self._numbers: dict[tuple[int, ...], int] = {}
        self.encoded = torch.empty(0)
        self.numbers(torch.zeros(1, len(words), dtype=torch.bool))

    def text(self, classes: Sequence[int]) -> str:
        if not classes:
            return none_text(self.heading)
        return f"{self.heading}: {', '.join(self.words[c] for c in classes)}"

    def numbers(self, positive: Bool[Tensor, "batch classes"]) -> Int[Tensor, " batch"]:
        """(N,) number of each recording's set; Python looks at the batch's distinct sets only."""
        sets, owner = positive.cpu().unique(dim=0, return_inverse=True)
        keys = [tuple(row.nonzero()[:, 0].tolist()) for row in sets]
        new = [key for key in keys if key not in self._numbers]
        if new and self.aligned.text_frozen:
            # Each alone: in company its last bits depend on which others are met at once, and a
            # stream that goes on from a checkpoint meets them in other groups.
            found = torch.cat([self.aligned.encode_texts([self.text(key)]) for key in new])
            self.encoded = torch.cat([self.encoded.to(found).reshape(-1, found.shape[1]), found])
        self._numbers |= {key: len(self._numbers) + i for i, key in enumerate(new)}
        known = torch.tensor([self._numbers[key] for key in keys])
        return known[owner].to(positive.device)

    def read(self, positive: Bool[Tensor, "batch classes"]) -> tuple[Tensor, Tensor]:
        """Encoded texts (N, W) of each recording's set, and its number (N,)."""
        number = self.numbers(positive)
        if self.aligned.text_frozen:
            return self.encoded.to(positive.device)[number], number
        sets, owner = positive.unique(dim=0, return_inverse=True)
        texts = [self.text(row.nonzero()[:, 0].tolist()) for row in sets.cpu()]
        return self.aligned.read_texts(texts)[owner], number

    def none(self, *, learn: bool = False) -> Float[Tensor, "1 width"]:
        """What the text of the empty set is encoded to. learn: with a gradient of the encoder."""
        if self.aligned.text_frozen:
            return self.encoded[:1]
        read = self.aligned.read_texts if learn else self.aligned.encode_texts
        return read([self.text(())])


class AlignedClassifier(nn.Module):
    """``forward(batch) -> cosines (N, C)`` with the class vectors, -inf for classes not exposed.

    A loss scales ``all_scores`` and masks afterwards: an infinity times a learned scale has no
    gradient but NaN.

    prompts: of each class, as many as templates, or one's own; a class vector is the normalised
    mean of its normalised prompts. A frozen text encoder reads them once; one that is trained reads
    them whenever class vectors are asked for, since what it said a step ago is out of date.
    label_sets: of multi-label data, what its recordings go with. ``exposed`` (C,) bool is part of
    the state.
    """

    exposed: Tensor
    prompts_PW: Tensor
    first_C: Tensor
    number_C: Tensor

    def __init__(
        self,
        aligned: Aligned,
        prompts: Sequence[tuple[str, ...]],
        label_sets: LabelSets | None = None,
    ) -> None:
        super().__init__()
        self.aligned, self.label_sets = aligned, label_sets
        numbers = torch.tensor([len(texts) for texts in prompts])
        self.prompts = tuple(text for texts in prompts for text in texts)
        frozen = aligned.text_frozen
        encoded = aligned.encode_texts(self.prompts) if frozen else torch.empty(0)
        self.register_buffer("exposed", torch.zeros(len(prompts), dtype=torch.bool))
        self.register_buffer("prompts_PW", encoded, persistent=False)
        self.register_buffer("first_C", numbers.cumsum(0) - numbers, persistent=False)
        self.register_buffer("number_C", numbers, persistent=False)

    @property
    def modality(self) -> str:
        (name,) = self.aligned.signals
        return name

    @property
    def tower(self) -> Tower:
        tower = self.aligned.signals[self.modality]
        assert isinstance(tower, Tower)
        return tower

    @property
    def front_end(self) -> nn.Module:
        return self.tower.front_end

    @property
    def encoder(self) -> nn.Module:
        return self.tower.encoder

    @property
    def frozen(self) -> bool:
        return self.tower.frozen

    def expose(self, classes: Iterable[int]) -> None:
        """From now on these classes are candidates too."""
        self.exposed[list(classes)] = True

    def meet(self, labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"]) -> None:
        """Expose the classes of labels (N,), or those with a positive in targets (N, C)."""
        if self.label_sets is not None:
            self.exposed |= (labels == 1).any(0)
        else:
            self.exposed[labels] = True

    def embed(self, batch: Batch) -> Float[Tensor, "batch dim"]:
        """(N, D) of length 1, in the joint space."""
        return normalize(self.aligned.embed_signals(batch), dim=1)

    def texts_of(
        self,
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
        rows: Int[Tensor, " batch"],
        exposed: Bool[Tensor, " classes"] | None = None,
    ) -> tuple[Float[Tensor, "batch width"], Int[Tensor, " batch"]]:
        """What recordings go with: encoded texts (N, W), and a number for each text.

        A prompt of the class, its templates in turn by row; of targets (N, C) the text of the
        exposed classes that are positive. exposed: None: its own; a teacher's are out of date.
        """
        if self.label_sets is not None:
            shown = self.exposed if exposed is None else exposed
            return self.label_sets.read((labels == 1) & shown)
        number = self.first_C[labels] + rows % self.number_C[labels]
        if self.aligned.text_frozen:
            return self.prompts_PW[number], number
        distinct, owner = number.unique(return_inverse=True)
        texts = [self.prompts[i] for i in distinct.tolist()]
        return self.aligned.read_texts(texts)[owner], number

    def class_vectors(self, *, learn: bool = False) -> Float[Tensor, "classes dim"]:
        """(C, D) of length 1. learn: a text encoder that is trained gets a gradient too."""
        aligned = self.aligned
        if aligned.text_frozen:
            prompts_PW = self.prompts_PW
        else:
            read = aligned.read_texts if learn else aligned.encode_texts
            prompts_PW = read(self.prompts)
        unit_PD = normalize(self.aligned.text.projection(prompts_PW), dim=1)
        owner = torch.repeat_interleave(self.number_C)
        sums = unit_PD.new_zeros(len(self.number_C), unit_PD.shape[1])
        return normalize(sums.index_add_(0, owner, unit_PD), dim=1)

    def all_scores(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """(N, C) cosines with every class, exposed or not."""
        return self.embed(batch) @ self.class_vectors().T

    def forward(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        return self.mask(self.all_scores(batch))

    def mask(self, scores: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
        """-inf for classes that are not exposed, once some are."""
        return scores.masked_fill(~self.exposed & self.exposed.any(), float("-inf"))

    def no_label(self, *, learn: bool = False) -> Float[Tensor, " dim"]:
        """(D,) of length 1: what a recording without any label goes with (multi-label data).
        learn: as of ``class_vectors``.
        """
        assert self.label_sets is not None
        none = self.label_sets.none(learn=learn).to(self.exposed.device)
        return normalize(self.aligned.text.projection(none), dim=1)[0]
