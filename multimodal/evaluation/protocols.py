"""Protocols of zero-shot evaluation on sound: all that a published number depends on.

``medley`` is ours: nothing random, the whole of every recording is heard. The others set what the
harness of that name pins, as far as it can be known; a figure under another protocol is another
figure. What stays the checkpoint's own: sample rate, window length and feature extraction.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from multimodal.evaluation.windows import Crop, Fill

RESAMPLER = "soxr HQ"


@dataclass(frozen=True)
class Protocol:
    """templates: a shipped file; by_dataset: those of some datasets instead.

    crop: which windows of a recording that is longer than the checkpoint's are embedded. fill: what
    follows a shorter one. draws: of crop "random"; their normalised embeddings are averaged.
    int16: samples make a round trip through 16 bits. channels: how several become one.
    """

    name: str
    templates: str
    crop: Crop
    fill: Fill
    draws: int = 1
    int16: bool = False
    channels: Literal["mean"] = "mean"
    by_dataset: dict[str, str] = field(default_factory=dict)

    def templates_of(self, dataset: str) -> str:
        return self.by_dataset.get(dataset, self.templates)

    def pins(self, dataset: str) -> dict[str, Any]:
        """Plain data for a result; ``dataset``: a reader's name."""
        plain = {k: v for k, v in asdict(self).items() if k != "by_dataset"}
        return {**plain, "templates": self.templates_of(dataset), "resampler": RESAMPLER}


MTEB_FILES = {"urbansound8k": "mteb_spaces", "speech_commands": "mteb_words"}
# Random crops are drawn from (recording, seed) and averaged over 5 draws, where the harnesses draw
# anew at every call. MTEB leaves crop and fill to each model's wrapper: ours are the checkpoint
# extractor's fill and the start.
PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("medley", "audio", "windows", "repeatpad"),
        Protocol("mteb", "mteb", "start", "repeatpad", by_dataset=MTEB_FILES),
        Protocol("laion", "clap", "random", "repeatpad", draws=5, int16=True),
        Protocol("open_clip", "clap", "random", "repeatpad", draws=5),
        Protocol("microsoft", "microsoft_clap", "random", "repeat", draws=5),
    )
}
