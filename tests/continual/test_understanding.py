"""What is checked before a training whose test would fail after it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from continual.learner import Prediction
from continual.understanding import understood
from multimodal.errors import UserError
from multimodal.models.said import Said
from multimodal.models.vocabulary import Vocabulary
from multimodal.recordings import Manifest, Recording

NAMES = ("off", "on")


def said(texts: tuple[str, ...], slots: list | None = None) -> Said:
    return Said(Vocabulary(NAMES, merges=4), NAMES, texts, slots, longest=40)


def test_a_text_of_the_test_that_cannot_be_written_is_refused_at_the_start() -> None:
    said(("lights off", "lights on")).check(np.array([0]))
    with pytest.raises(UserError, match="holds _SEP"):
        said(("lights off", "on _SEP on")).check(np.array([0]))
    with pytest.raises(UserError, match="holds _FILL"):
        said(("off", "on"), [(), (("room", "a _FILL b"),)]).check(np.array([0]))


def test_a_slot_without_a_word_is_none_to_be_found() -> None:
    slots = (("room", "kitchen"), ("mark", "&"))
    rows = [Recording("a", (1,), "test", text="lights on", slots=slots, make=lambda: np.zeros(1))]
    manifest = Manifest("x", "speech", NAMES, tuple(rows), version="1")
    written = ("on _SEP room _FILL kitchen _SEP lights on",)
    scores = understood(Prediction(torch.tensor([1]), texts=written), manifest, np.array([0]))
    assert scores["slu_f1"] == scores["intent_accuracy"] == 1
    assert scores["word_error_rate"] == 0
