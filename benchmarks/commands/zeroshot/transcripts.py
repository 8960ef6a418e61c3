"""What a model heard: a file that can be read, counts, and the word error rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results.result import write_lines
from multimodal.evaluation.scores import Scores
from multimodal.evaluation.word_errors import word_error_rate
from multimodal.recordings import Manifest

FILE = "transcripts.jsonl"


def tell(
    scores: Scores, heard: Mapping[str, str], manifest: Manifest, rows: np.ndarray, *, seed: int
) -> None:
    """Add to the scores what the transcripts are worth, and warn of what makes them worth less.

    heard: name of a recording -> its transcript. Word errors are counted where a recording has a
    text of its own. Note that a dataset's text need not be a transcript: words of an order without
    "can I have", say; then they count as insertions.
    """
    recordings = [manifest.recordings[i] for i in rows]
    texted = [r for r in recordings if r.text.strip()]
    empty = sum(not heard[r.uid] for r in recordings)
    numerals = sum(_numeral(heard[r.uid]) and not _numeral(r.text) for r in texted)
    told: dict[str, Any] = {"file": FILE, "empty": empty, "numerals": numerals}
    scores.metrics["empty_transcripts"] = empty / len(recordings)
    found = word_error_rate([r.text for r in texted], [heard[r.uid] for r in texted], seed=seed)
    if found is not None:
        scores.metrics["word_error_rate"] = found.rate
        scores.intervals |= found.intervals
        told |= {"words": found.words, **found.errors._asdict()}
    scores.details["transcription"] = told
    warnings = scores.details.setdefault("warnings", [])
    if empty:
        warnings.append(f"{empty} of {len(recordings)} transcripts are empty")
    if numerals:
        warnings.append(
            f"{numerals} of {len(texted)} transcripts have numerals where the recording's own text "
            "has words; as word errors they count whatever was heard"
        )


def write(heard: Mapping[str, str], manifest: Manifest, rows: np.ndarray, folder: Path) -> None:
    """``transcripts.jsonl``: a line a recording, its path, its own text and what was heard."""
    recordings = [manifest.recordings[i] for i in rows]
    lines = ({"path": r.uid, "text": r.text, "heard": heard[r.uid]} for r in recordings)
    write_lines(folder / FILE, lines)


def _numeral(text: str) -> bool:
    return any(c.isdigit() for c in text)
