"""Synthetic spoken requests by a grammar: many meanings, some of which are never trained on.

Made with espeak-ng as ``synthetic_speech``. 304 meanings in 6 domains; the words of a held-out
meaning are heard in training, the meaning itself never.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.synthetic.requests_grammar import MEANINGS, Meaning, held_out, say
from multimodal.datasets.synthetic.spoken import (
    ACCENTS,
    LICENCE,
    Utterance,
    draw_manner,
    make_set,
    read_set,
)
from multimodal.errors import how_to_install
from multimodal.recordings import Manifest

GENERATOR_VERSION = "1"  # raise it whenever the same config would give other files
VARIANTS = {
    "train": ("f1", "f2", "f4", "m1", "m2", "m4", "m5", "m6"),
    "validation": ("f5", "m8"),
    "test": ("f3", "m3", "m7"),
}


@DATASETS.register("synthetic_requests")
class SyntheticRequestsConfig(DatasetConfig):
    """Spoken requests of 304 meanings; 16 kHz mono PCM16 wav, 0.7 to 4 seconds each.

    held_out: meanings of each domain that only the test split has; validation_meanings: others
    that only the validation split has (choose settings on these). train_utterances: of the other
    meanings, drawn evenly. test_per_meaning: utterances of each held-out one. The three splits
    share no voice. The same config gives the same bytes, with the same espeak-ng, soxr and NumPy.
    """

    synthetic: ClassVar[bool] = True
    modalities: ClassVar[tuple[str, ...]] = ("speech",)
    summary: ClassVar[str] = (
        f"spoken requests of {len(MEANINGS)} meanings by synthetic voices (espeak-ng); the test "
        "split has meanings and voices that training has not"
    )
    licence: ClassVar[str] = LICENCE
    how_to_get: ClassVar[str] = f"made on first use; {how_to_install('offline')}"

    seed: int = Field(default=0, ge=0, lt=2**32)
    held_out: int = Field(default=4, ge=1, le=6)
    validation_meanings: int = Field(default=4, ge=1, le=6)
    train_utterances: int = Field(default=6000, ge=300, le=100_000)
    test_per_meaning: int = Field(default=20, ge=1, le=200)

    def build(self, root: Path) -> Manifest:
        """The manifest; makes the wav files first if ``root`` does not hold them yet.

        UserError: as ``synthetic_speech``.
        """
        folder = Path(root) / self.cache_key
        if not folder.exists():
            make_set(folder, plan(self), dataset=self.registered_name, version=GENERATOR_VERSION)
        names = tuple(meaning.name for meaning in MEANINGS)
        rule = "synthetic: train, validation and test share neither meanings nor voices"
        return read_set(folder, names, dataset=self.registered_name, split_rule=rule)

    @property
    def cache_key(self) -> str:
        """16 hex digits that name the set: every field but ``root``, and the generator version."""
        fields = {**self.model_dump(exclude={"root"}), "requests": GENERATOR_VERSION}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def splits_of(config: SyntheticRequestsConfig) -> dict[str, list[Meaning]]:
    """The meanings of each split, in the order of ``MEANINGS``."""
    rng = np.random.default_rng([config.seed, 1])
    test = held_out(rng, config.held_out, frozenset())
    validation = held_out(rng, config.validation_meanings, frozenset(test))
    train = set(MEANINGS) - set(test) - set(validation)
    sides = {"train": train, "validation": set(validation), "test": set(test)}
    return {name: [m for m in MEANINGS if m in side] for name, side in sides.items()}


def plan(config: SyntheticRequestsConfig) -> list[Utterance]:
    """What will be said, in the order of making."""
    rows = []
    for number, (split, meanings) in enumerate(splits_of(config).items()):
        rng = np.random.default_rng([config.seed, 2, number])
        count = config.test_per_meaning * len(meanings)
        if split == "train":
            count = config.train_utterances
        voices = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS[split]]
        for i in range(count):
            meaning, voice = meanings[i % len(meanings)], voices[rng.integers(len(voices))]
            text = say(meaning, rng)
            number_of = i // len(meanings)
            rows.append(Utterance(meaning.name, split, number_of, text, voice, *draw_manner(rng)))
    return rows
