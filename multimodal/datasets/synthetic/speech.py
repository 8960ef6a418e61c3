"""Synthetic spoken commands, made with espeak-ng: the embedded speech dataset.

No person speaks in it and its numbers are not those of any real dataset. Train and test differ in
phrasing and in voice: a voice is an accent and a speaker variant, and no variant stands in both.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.synthetic.phrase_slots import slots_of
from multimodal.datasets.synthetic.phrases import PHRASES
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
    "train": ("f1", "f2", "f4", "f5", "m1", "m2", "m4", "m5", "m6", "m8"),
    "test": ("f3", "m3", "m7"),
}


@DATASETS.register("synthetic_speech")
class SyntheticSpeechConfig(DatasetConfig):
    """Spoken commands of a smart home; 16 kHz mono PCM16 wav, 0.5 to 3 seconds each.

    The same config gives the same bytes, with the same espeak-ng, soxr and NumPy. num_intents:
    the first so many of ``PHRASES``. A set is made once, in ``root/<hash of the config>``.
    slots: tell what the phrases name, by the lexicon of ``phrase_slots``; the files are the same.
    """

    synthetic: ClassVar[bool] = True
    modalities: ClassVar[tuple[str, ...]] = ("speech",)
    summary: ClassVar[str] = (
        f"{len(PHRASES)} spoken commands by synthetic voices (espeak-ng); train and test differ "
        "in voice and phrasing"
    )
    licence: ClassVar[str] = LICENCE
    how_to_get: ClassVar[str] = f"made on first use; {how_to_install('offline')}"

    seed: int = Field(default=0, ge=0, lt=2**32)
    num_intents: int = Field(default=len(PHRASES), ge=2, le=len(PHRASES))
    train_per_intent: int = Field(default=60, ge=1, le=400)
    test_per_intent: int = Field(default=15, ge=1, le=60)
    slots: bool = Field(default=False, exclude_if=lambda on: not on)

    def build(self, root: Path) -> Manifest:
        """The manifest; makes the wav files first if ``root`` does not hold them yet.

        Raises UserError without the extra ``offline``, if ``root`` cannot be written, and if the
        set in ``root`` was damaged.
        """
        folder = Path(root) / self.cache_key
        if not folder.exists():
            make_set(folder, plan(self), dataset=self.registered_name, version=GENERATOR_VERSION)
        names = tuple(PHRASES)[: self.num_intents]
        rule = "synthetic: phrasings and voices of train and test are disjoint"
        lexicon = {"slots_of": slots_of} if self.slots else {}
        return read_set(folder, names, dataset=self.registered_name, split_rule=rule, **lexicon)

    @property
    def cache_key(self) -> str:
        """16 hex digits that name the set: every field that its files depend on, generator too."""
        fields = {**self.model_dump(exclude={"root", "slots"}), "generator": GENERATOR_VERSION}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def plan(config: SyntheticSpeechConfig) -> list[Utterance]:
    """What will be said, in the order of making; no (phrasing, voice) of a split comes twice."""
    counts = {"train": config.train_per_intent, "test": config.test_per_intent}
    rows = []
    for label, intent in enumerate(tuple(PHRASES)[: config.num_intents]):
        for side, (split, count) in enumerate(counts.items()):
            rng = np.random.default_rng([config.seed, label, side])
            voices = [f"{a}+{v}" for a in ACCENTS for v in VARIANTS[split]]
            pairs = [(text, voice) for text in PHRASES[intent][side] for voice in voices]
            for number, pair in enumerate(rng.permutation(len(pairs))[:count]):
                text, voice = pairs[pair]
                rows.append(Utterance(intent, split, number, text, voice, *draw_manner(rng)))
    return rows
