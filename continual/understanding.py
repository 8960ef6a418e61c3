"""What decoded strings are worth: words, slots and intents against what was said."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from continual.learner import Prediction
from multimodal.evaluation.slu import slu_f1
from multimodal.evaluation.word_errors import word_errors
from multimodal.models.targets import normalise, read_target, write_target
from multimodal.recordings import Manifest


class Heard(NamedTuple):
    """A test recording: its uid, what should have been written, and what was; right: its intent."""

    path: str
    said: str
    heard: str
    right: bool


def understood(predicted: Prediction, manifest: Manifest, rows: np.ndarray) -> dict[str, float]:
    """Scores of the strings that were written of the test recordings ``rows``, in their order.

    intent_accuracy; word_error_rate: of the transcripts alone, word_error_rate_full: of whole
    strings, markers and all, both over all words together; slu_f1: where the data has slots, as
    ``slu_f1``; no_intent: the share of strings whose intent is no class. Recordings without a text
    of their own count for the intent alone.
    """
    assert predicted.texts is not None
    recordings = [manifest.recordings[row] for row in rows]
    found = [read_target(text) for text in predicted.texts]
    labels = predicted.labels.numpy()
    scores = {
        "intent_accuracy": float(np.mean(labels == manifest.labels[rows])),
        "no_intent": float(np.mean(labels == -1)),
    }
    texted = [i for i, recording in enumerate(recordings) if normalise(recording.text)]
    if texted:
        said = [normalise(recordings[i].text) for i in texted]
        scores["word_error_rate"] = _rate(said, [found[i].transcript for i in texted])
        whole = [_target(manifest, rows[i]) for i in texted]
        scores["word_error_rate_full"] = _rate(whole, [predicted.texts[i] for i in texted])
    if manifest.slots is not None:
        pairs = ([(kind, normalise(value)) for kind, value in r.slots] for r in recordings)
        gold = [[pair for pair in own if pair[1]] for own in pairs]  # "&" is no word to be heard
        scores["slu_f1"] = slu_f1(gold, [each.slots for each in found]).f1
    return scores


def heard(predicted: Prediction, manifest: Manifest, rows: np.ndarray) -> list[Heard]:
    """What was written of each of the rows."""
    assert predicted.texts is not None
    right = (predicted.labels.numpy() == manifest.labels[rows]).tolist()
    triples = zip(rows, predicted.texts, right, strict=True)
    return [
        Heard(manifest.recordings[row].uid, _target(manifest, row), text, ok)
        for row, text, ok in triples
    ]


def by_experience(records: list[dict[str, float]]) -> dict[str, Any]:
    """Metrics of a stream, from the scores after each experience on the classes met so far: those
    after the last one, their means, and the lists that these are of.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(key for record in records for key in record):
        series = [record[name] for record in records]
        found[name] = series[-1]
        found[f"average_{name}"] = sum(series) / len(series)
        found[f"{name}_by_experience"] = series
    return found


def _target(manifest: Manifest, row: int) -> str:
    recording = manifest.recordings[row]
    name = manifest.class_names[recording.label]
    return write_target(name, recording.slots, recording.text)


def _rate(said: list[str], written: list[str]) -> float:
    pairs = [(one.split(), other.split()) for one, other in zip(said, written, strict=True)]
    errors = sum(word_errors(one, other).total for one, other in pairs)
    return errors / sum(len(one) for one, _ in pairs)
