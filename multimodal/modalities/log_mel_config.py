"""What speech and audio share: the settings of log-mel features and the shape of their signals.

Apart from ``log_mel``, so that reading a signal does not import torchaudio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from multimodal.modalities.augment import SoundAugmentConfig
from multimodal.modalities.features import FeatureAdapter
from multimodal.registry import Config

# Types that carry their limits, so that a subclass that sets its own default keeps them.
SampleRate = Annotated[int, Field(ge=1000, le=192000)]
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Bands = Annotated[int, Field(ge=1, le=512)]
Milliseconds = Annotated[float, Field(gt=0, le=1000)]


class LogMelConfig(Config):
    """Base of the configs of sound; each sets its own defaults and how recordings are cut.

    sample_rate: Hz, 1,000 to 192,000. n_mels: bands, 1 to 512. window_ms: Fourier window,
    (0, 1000]; hop_ms: step between frames, (0, window_ms]; a longer one is refused.
    augment: random changes of training batches; None: no changes.
    """

    sample_rate: SampleRate
    n_mels: Bands
    window_ms: Milliseconds
    hop_ms: Milliseconds = 10.0
    augment: SoundAugmentConfig | None = None

    @model_validator(mode="after")
    def _hop_within_window(self) -> Self:
        if self.hop_ms > self.window_ms:
            raise ValueError(
                f"hop_ms={self.hop_ms} is longer than window_ms={self.window_ms}: samples between "
                "the windows would be ignored; use a shorter hop or a longer window"
            )
        return self


@dataclass(frozen=True)
class LogMelAdapter:
    """Base of the adapters of sound: signals (1, T) float32, features (N, ``channels``, frames)."""

    config: LogMelConfig
    length_axis = -1
    axes = 1
    dtype = torch.float32

    @property
    def channels(self) -> int:
        return self.config.n_mels

    def front_end(self) -> nn.Module:
        raise NotImplementedError

    def with_features(self) -> Any:
        """Of the same recordings; batches hold log-mel frames. Itself, where the front end is of a
        class that does not say itself that its work can be done once (``prepared``): one that
        extends ours may do more. Itself, too, where frames are the larger.
        """
        if not vars(type(self.front_end())).get("prepared"):
            return self
        c = self.config
        if c.n_mels > round(c.sample_rate * c.hop_ms / 1000):  # numbers a hop of either
            return self
        settings = f"frames/1 {self.channels} bands window={c.window_ms} hop={c.hop_ms}"
        return FeatureAdapter(self, self.front_end, settings)  # pyright: ignore

    def augment(self) -> nn.Module | None:
        """``SoundAugment``: Batch -> Batch, or None."""
        c = self.config
        return None if c.augment is None else c.augment.build(c.sample_rate)
