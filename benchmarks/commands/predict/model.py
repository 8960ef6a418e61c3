"""``load_model(path).predict(files)``: what ``medley predict`` does, in Python."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.commands.predict.inputs import Given, Part, parts_of, recording_of
from benchmarks.commands.predict.opened import Asked, Opened, open_model
from benchmarks.commands.predict.windows import Cutter
from benchmarks.runs.machine import pick_device
from multimodal.bars import bar
from multimodal.datasets.extensions import EXTENSIONS, extensions_of
from multimodal.errors import UserError
from multimodal.loader import Loader
from multimodal.recordings import Manifest
from multimodal.signals import SignalCache

DEVICES = ("auto", "cpu", "cuda")
AT_ONCE = 64  # files that are decoded before they are named
LONGER = 4.0  # times the longest recording of the training data: what is longer is an error


@dataclass(frozen=True)
class Predicted:
    """What a model says of a file, or of a part of it.

    start, seconds: the part; seconds None: to its end. label: a class name; of multi-label models
    a tuple of those that are present, perhaps none; None where there is an ``error``, or where the
    text names no class. probabilities: by class name, in [0, 1]; 0 for classes that the model has
    not met. text: what a model that writes texts has written; None of others.
    """

    file: str
    start: float = 0.0
    seconds: float | None = None
    label: str | tuple[str, ...] | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str = ""
    text: str | None = None

    def top(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes, best first; equally probable ones in the order of ids."""
        return sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:count]


class Model:
    """A trained model. class_names: C. multi_label: any number of them may be present at once.

    seconds: of all calls so far, spent on decoding and in the model.
    """

    def __init__(self, opened: Opened, device: torch.device) -> None:
        self._opened, self._device = opened, device
        self.modality = opened.modality.registered_name
        self.class_names, self.multi_label = opened.class_names, opened.multi_label
        self.digest = opened.digest
        self.seconds = {"decoding": 0.0, "model": 0.0}
        opened.module.to(device).eval()

    def predict(
        self,
        files: str | Path | Sequence[str | Path],
        *,
        window: float | None = None,
        hop: float | None = None,
        batch_size: int = 32,
    ) -> list[Predicted]:
        """One Predicted a file, in the order of ``files``; with ``window`` one for each of them.

        files: files, folders (all files of the model's modality in them and below) and tables
        (.csv, .tsv, .jsonl, .parquet with a column ``path``, relative to the table, and perhaps
        ``start`` and ``duration``). window, hop: seconds; each file is cut into windows that begin
        every ``hop`` seconds (default: window) and fit whole; a shorter file is one window. A file
        that cannot be read has its ``error``. UserError: nothing to name, all of it of another
        modality, a window for a modality without a time axis.
        """
        given = [files] if isinstance(files, str | Path) else list(files)
        found: list[Predicted] = []
        for done in self.stream(
            parts_of(given, self.modality), window=window, hop=hop, batch_size=batch_size
        ):
            found += [row for rows in done.values() for row in rows]
        return found

    def predict_signals(
        self, signals: Sequence[np.ndarray], *, batch_size: int = 32
    ) -> list[Predicted]:
        """One Predicted a signal, in their order; its ``file`` is its place, "0", "1", ...

        signals: in the canonical form of the model's modality and at its rate (speech: (1, T) or
        (T,) in [-1, 1] at 16 kHz), any number type.
        """
        parts = [Part(Path(str(i)), str(i), signal=Given(s)) for i, s in enumerate(signals)]
        answers = self._answers(parts, batch_size, time.perf_counter()) if parts else {}
        return [answers[part] for part in parts]

    def stream(
        self,
        parts: Sequence[Part],
        *,
        window: float | None = None,
        hop: float | None = None,
        batch_size: int = 32,
    ) -> Iterator[dict[Part, list[Predicted]]]:
        """The same, some parts at a time, each with its rows."""
        cut = Cutter(self._opened, window, hop)
        self._refuse_others(parts)
        with bar("predicting", len(parts)) as advance:
            for start in range(0, len(parts), AT_ONCE):
                yield self._name(parts[start : start + AT_ONCE], cut, batch_size, advance)

    def _refuse_others(self, parts: Sequence[Part]) -> None:
        """UserError if no file can be of the model's modality."""
        wrong = [part for part in parts if other_modality(part.path, self.modality)]
        if parts and len(wrong) == len(parts):
            raise UserError(wrong_modality(wrong[0].path, self.modality))

    def _name(
        self, parts: Sequence[Part], cut: Cutter, batch_size: int, advance: Callable[[], None]
    ) -> dict[Part, list[Predicted]]:
        begin = time.perf_counter()
        pieces: dict[Part, list[Part]] = {}
        problems: dict[Part, str] = {}
        for part in parts:
            try:
                if other_modality(part.path, self.modality):
                    raise UserError(wrong_modality(part.path, self.modality))
                pieces[part] = cut(part)
            except UserError as error:
                pieces[part], problems[part] = [part], str(error)
        readable = [p for part, own in pieces.items() if part not in problems for p in own]
        answers = self._answers(readable, batch_size, begin) if readable else {}
        for part, error in problems.items():
            answers[part] = Predicted(part.name, part.start, part.duration, error=error)
        for _ in parts:
            advance()
        return {part: [answers[piece] for piece in own] for part, own in pieces.items()}

    def _answers(
        self, pieces: Sequence[Part], batch_size: int, begin: float
    ) -> dict[Part, Predicted]:
        """begin: when the work on them began."""
        opened, rows = self._opened, dict[Part, Predicted]()
        signals = SignalCache(manifest_of(opened, pieces), opened.adapter, skip_damaged=True)
        usable = signals.usable(np.arange(len(pieces)))
        problems = dict(signals.damaged)
        for row, steps in zip(usable.tolist(), signals.lengths(usable), strict=True):
            if problem := too_long(opened, pieces[row], steps):
                problems[row] = problem
        usable = usable[~np.isin(usable, list(problems))]
        for row, error in problems.items():
            part = pieces[row]
            rows[part] = Predicted(part.name, part.start, part.duration, error=error)
        decoded = time.perf_counter()
        loader = Loader(signals.gather, self._device)
        with torch.inference_mode():
            for batch in loader.alike(usable, batch_size, signals.lengths(usable)):
                answer = opened.answer(batch)
                texts = answer.texts or [None] * len(batch)
                told = zip(
                    batch.indices.tolist(),
                    answer.labels.cpu(),
                    answer.probabilities.cpu().tolist(),
                    texts,
                    strict=True,
                )
                for row, label, own, text in told:
                    rows[pieces[row]] = self._predicted(pieces[row], label, own, text)
        self.seconds["decoding"] += decoded - begin
        self.seconds["model"] += time.perf_counter() - decoded
        return rows

    def _predicted(
        self, part: Part, label: torch.Tensor, shares: list[float], text: str | None
    ) -> Predicted:
        names = self.class_names
        if self.multi_label:
            named: Any = tuple(names[i] for i in label.nonzero()[:, 0].tolist())
        else:
            named = names[int(label)] if int(label) >= 0 else None
        probabilities = dict(zip(names, shares, strict=True))
        return Predicted(part.name, part.start, part.duration, named, probabilities, text=text)


def load_model(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    view: str | None = None,
    device: str = "auto",
) -> Model:
    """The model of a finished run: of ``medley bench``, after its last experience, of ``medley
    finetune``, or of ``medley align``, with class prompts.

    path: the run's folder, or the experiment's if it holds one run, or a folder that ``medley
    finetune`` or ``medley merge`` wrote. classes: of aligned models, the names to choose among;
    None: those of the training data, each by itself where several may be present. view: of models
    that read several modalities, the one of the files. device: auto, cpu or cuda.
    UserError: no such run, one without a model, damaged files, classes that cannot be chosen.
    The data that the model was trained on is not needed.
    """
    if device not in DEVICES:
        raise UserError(f"device={device!r}: valid: {', '.join(DEVICES)}.")
    found = pick_device(device, setting="device")
    return Model(open_model(Path(path), found, Asked(classes, view)), found)


def manifest_of(opened: Opened, pieces: Sequence[Part]) -> Manifest:
    return Manifest(
        name="predicted",
        modality=opened.modality.registered_name,
        class_names=opened.class_names,
        recordings=tuple(recording_of(part, i) for i, part in enumerate(pieces)),
        version="1",
    )


def other_modality(path: Path, modality: str) -> str | None:
    """The modality that a file's name speaks of, if the model's is another."""
    ending = path.suffix.lower()
    if ending in extensions_of(modality):
        return None
    return next((name for name, ends in EXTENSIONS.items() if ending in ends), None)


def wrong_modality(path: Path, modality: str) -> str:
    other = other_modality(path, modality)
    return f"{path}: a file of modality {other}; the model reads {modality}."


def refuse_others(parts: Sequence[Part], modality: str) -> None:
    """UserError for the first file of another modality."""
    for part in parts:
        if other_modality(part.path, modality):
            raise UserError(wrong_modality(part.path, modality))


def too_long(opened: Opened, part: Part, steps: Any, *, windows: bool = True) -> str | None:
    """What is wrong with a recording of so many steps that is far longer than those of the
    training, or None. windows: whether the command can cut it.
    """
    if not opened.longest or steps <= LONGER * opened.longest:
        return None
    rate = getattr(opened.modality, "sample_rate", None)
    unit, per = ("s", rate) if rate else ("steps", 1)
    own, most = float(steps) / per, opened.longest / per
    remedy = f"give --window {most:.4g}, or a" if windows else "name a part of it in a"
    return (
        f"{part.path}: lasts {own:.4g} {unit}, and the model was trained on recordings of up to "
        f"{most:.4g} {unit}; {remedy} table with start and duration."
    )
