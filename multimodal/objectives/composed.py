"""What the objectives of composed cases have in common: what stands beside each case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from multimodal.objectives import Loss
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.views import TEXT, Views


class ComposedConfig(AlignmentConfig):
    """Base of the configs of objectives that compare a case with ``Views.extras`` of its own.

    negatives: texts a case that are false of its signal. negative_audio: signals a case that its
    text is false of, the same events composed otherwise (ours; of one modality only). Both are what
    the data is asked for; a case may have fewer, or none. mask_equal_compositions: cases whose
    texts mean the same in other words too are no negatives of each other (ours).
    """

    masks: ClassVar[bool] = True

    negatives: int = Field(default=3, ge=0, le=64)
    negative_audio: int = Field(default=0, ge=0, le=1)
    mask_equal_compositions: bool = False

    @property
    def row_name(self) -> str:
        fields, common = type(self).model_fields, super().named
        other = [
            f", {name}={getattr(self, name)}"
            for name in self.named
            if name not in common and getattr(self, name) != fields[name].default
        ]
        return f"{self.registered_name} (reconstruction){''.join(other)}{self.scale_words}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "negatives", "negative_audio", "mask_equal_compositions")

    @property
    def extra_texts(self) -> dict[str, int]:
        return {"negatives": self.negatives} if self.negatives else {}

    @property
    def extra_signals(self) -> dict[str, int]:
        return {"negative_signals": self.negative_audio} if self.negative_audio else {}

    @property
    def needs_keys(self) -> bool:
        return self.mask_equal_compositions

    def check_views(self, names: Sequence[str]) -> None:
        signals = [name for name in names if name != TEXT]
        if self.negative_audio and len(signals) > 1:
            raise ValueError(
                f"negative_audio={self.negative_audio} is of one modality, and there are "
                f"{', '.join(signals)}; set negative_audio=0, or take one of them."
            )

    def of_views(self, views: Views, *, gather: bool) -> Loss:
        """ValueError: the data does not give what the settings ask for."""
        self.check_views(tuple(views.embeddings))
        asked = {**self.extra_texts, **self.extra_signals}
        missing = [f"{name} ({n} a case)" for name, n in asked.items() if name not in views.extras]
        if self.needs_keys and views.keys is None:
            missing.append("keys (mask_equal_compositions)")
        if missing:
            raise ValueError(
                f"objective {self.registered_name!r}: the data gives no {', no '.join(missing)}; "
                "take composed data, or an objective that needs none, such as clip."
            )
        return super().of_views(views, gather=gather)

    def options(self, pairs: Pairs) -> dict[str, Any]:
        """What all such objectives take, by the names of their arguments."""
        return {
            "ids": pairs.ids if self.mask_duplicates else None,
            "keys": pairs.keys if self.mask_equal_compositions else None,
            "present": pairs.present,
            "tile": self.tile,
        }

    def asked(self, pairs: Pairs, name: str) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Embeddings (N, K, D) and which are there, (N, K) bool; None if they are not asked for."""
        asked = name in self.extra_texts or name in self.extra_signals
        return pairs.extras[name] if asked else (None, None)
