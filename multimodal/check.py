"""Is this data set fit for use? What ``medley datasets check NAME --root DIR`` prints."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from multimodal.datasets.extensions import SIGNALS
from multimodal.datasets.likely_sources import sources_in_names
from multimodal.datasets.slots import slot_notes
from multimodal.datasets.splits import Unverified, look_alikes, shown
from multimodal.errors import UserError
from multimodal.modalities import Adapter
from multimodal.recordings import SPLITS, Manifest, Recording, shared_groups

Item = TypeVar("Item")
Result = TypeVar("Result")
LISTED = 20


class Signal(NamedTuple):
    """What decoding one recording showed; length in steps of the canonical signal, 0 if none."""

    length: int = 0
    error: str = ""
    warning: str = ""


@dataclass
class Report:
    """What a check found.

    counts: split -> one number a class (position = class id). sizes: split -> recordings.
    lengths: shortest and longest decoded signal in steps, None if nothing could be decoded.
    rate: steps a second, or None where the adapter does not say.
    errors: the data cannot be used as they are. warnings: they can, with care. notes: for
    information.
    """

    name: str
    version: str
    split_rule: str
    class_names: tuple[str, ...]
    counts: dict[str, list[int]]
    sizes: dict[str, int]
    lengths: tuple[int, int] | None = None
    rate: float | None = None
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No errors; there may be warnings."""
        return not self.errors

    def lines(self) -> list[str]:
        """The report as plain text; at most ``LISTED`` messages of a kind are written out."""
        total = sum(self.sizes.values())
        lines = [f"{self.name} ({self.version}): {total:,} recordings", f"split: {self.split_rule}"]
        lines += ["", *self._table(), ""]
        if self.lengths is not None:
            lines.append(f"length: {self._span(*self.lengths)}")
        for kind, messages in (
            ("note", self.notes),
            ("warning", self.warnings),
            ("error", self.errors),
        ):
            lines += [f"{kind}: {message}" for message in messages[:LISTED]]
            if len(messages) > LISTED:
                lines.append(f"{kind}: ... and {len(messages) - LISTED:,} more")
        verdict = "ready to use" if self.ok else "not fit for use"
        found = f"{len(self.errors):,} error(s), {len(self.warnings):,} warning(s)"
        return [*lines, f"{verdict}: {found}"]

    def _table(self) -> list[str]:
        names = [*self.class_names, "all"]
        width = max(len(name) for name in ["class", *names])
        rows = [f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
        for i, name in enumerate(self.class_names):
            cells = "".join(f"{self.counts[split][i]:>12,}" for split in SPLITS)
            rows.append(f"{name:<{width}}{cells}")
        cells = "".join(f"{self.sizes[split]:>12,}" for split in SPLITS)
        return [*rows, f"{'all':<{width}}{cells}"]

    def _span(self, low: int, high: int) -> str:
        steps = f"{low:,} to {high:,} steps"
        if self.rate is None:
            return steps
        return f"{low / self.rate:.2f} to {high / self.rate:.2f} s ({steps} at {self.rate:g} Hz)"


def check(
    manifest: Manifest,
    adapter: Adapter,
    *,
    workers: int | None = None,
    expected: Mapping[str, int] | None = None,
    progress: bool = True,
) -> Report:
    """Decode every recording of ``manifest`` and look for what would spoil an experiment.

    Errors: missing, undecodable, empty or non-finite recordings; a class without any recording;
    no train or no test split, unless 0 is expected; a split's count other than ``expected``.
    Warnings: constant (silent) signals; the same content on both sides of a split; classes without
    train or test recordings; a single class; classes whose names look alike; files left out beside
    the recordings that may be signals; counts that differ from an ``Unverified`` expectation;
    speakers or patients in files' names that a drawn split shares.

    adapter: decodes; its UserError becomes an error of the report. Any other exception is a fault
    of the program and is raised, with the recording's name added to it.
    workers: threads; None: one a core, at most 8. expected: split -> official count (a config's
    ``expected_counts()``). progress: show a bar on standard error.

    Raises UserError if ``workers`` is less than 1.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers {workers} must be at least 1.")
    pool_size = workers or min(8, os.cpu_count() or 1)
    report = Report(
        name=manifest.name,
        version=manifest.version,
        split_rule=manifest.split_rule or "not described",
        class_names=manifest.class_names,
        counts=_class_counts(manifest),
        sizes={split: len(manifest.indices(split)) for split in SPLITS},
        # Not every modality has a rate, so the protocol has none; those that do keep it here.
        rate=getattr(getattr(adapter, "config", None), "sample_rate", None),
    )
    _check_expected(report, expected or {})
    _check_classes(report, expected or {})
    _check_groups(report, manifest)
    _check_left_out(report, manifest.left_out)
    report.notes += [*manifest.notes, *slot_notes(manifest)]

    rows, examine = manifest.recordings, partial(_examine, adapter=adapter)
    signals = _in_threads(examine, rows, "decoding", workers=pool_size, progress=progress)
    report.errors += [s.error for s in signals if s.error]
    report.warnings += [s.warning for s in signals if s.warning]
    lengths = [s.length for s in signals if s.length]
    report.lengths = (min(lengths), max(lengths)) if lengths else None

    candidates = _same_size(rows)
    digests = _in_threads(_digest, candidates, "comparing", workers=pool_size, progress=progress)
    _check_duplicates(report, manifest, dict(zip(candidates, digests, strict=True)))
    return report


def _class_counts(manifest: Manifest) -> dict[str, list[int]]:
    counts = {split: [0] * manifest.num_classes for split in SPLITS}
    for split, labels in zip(manifest.splits, manifest.columns.column("labels"), strict=True):
        for label in labels:
            counts[split][label] += 1
    return counts


def _check_expected(report: Report, expected: Mapping[str, int]) -> None:
    for split, number in expected.items():
        found = report.sizes[split]
        if found == number:
            continue
        message = f"split {split!r}: {found:,} recordings"
        if isinstance(number, Unverified):
            report.warnings.append(f"{message}; {number:,} are reported (unverified)")
        else:
            report.errors.append(f"{message}; the complete official data have {number:,}")


def _check_classes(report: Report, expected: Mapping[str, int]) -> None:
    for split in ("train", "test"):
        if not report.sizes[split] and expected.get(split) != 0:
            report.errors.append(f"no {split} recordings")
    if len(report.class_names) == 1:
        report.warnings.append(
            f"{report.class_names[0]!r} is the only class: nothing to tell apart"
        )
    for i, name in enumerate(report.class_names):
        if not any(report.counts[split][i] for split in SPLITS):
            report.errors.append(f"class {name!r} has no recordings")
            continue
        for split in ("train", "test"):
            if report.sizes[split] and not report.counts[split][i]:
                report.warnings.append(f"class {name!r} has no {split} recordings")
    report.warnings += [
        f"the classes {shown(names)} look alike; if they are one, give them one name"
        for names in look_alikes(report.class_names)
    ]


def _check_left_out(report: Report, left_out: Mapping[str, int]) -> None:
    """A warning if such files may be signals, else a note."""
    if left_out:
        ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{number:,} {kind or 'without extension'}" for kind, number in ordered)
        message = f"{sum(left_out.values()):,} file(s) beside the recordings were left out: {kinds}"
        if SIGNALS & left_out.keys():
            report.warnings.append(f"{message}; to read them, set extensions or move them")
        else:
            report.notes.append(message)


def _check_groups(report: Report, manifest: Manifest) -> None:
    shared = shared_groups(manifest)
    if not manifest.columns.has("group"):
        report.notes.append(
            "speakers, patients or sources are unknown, so leaks between splits cannot be seen"
        )
        report.warnings[:0] = sources_in_names(manifest)  # first: long lists are cut short
    elif shared:
        # A manifest without an official reason refuses shared groups when it is made.
        assert manifest.group_overlap
        report.notes.append(
            f"{len(shared):,} group(s) stand on both sides of a split: {manifest.group_overlap}"
        )
    else:
        report.notes.append("no group stands on both sides of a split")


def _examine(recording: Recording, adapter: Adapter) -> Signal:
    # A path may be the stem of several files, so it is the adapter that says whether it opens.
    try:
        signal = adapter.load(recording)
    except (UserError, OSError) as error:
        if recording.path is not None and not recording.path.exists():
            return Signal(error=f"{recording.where}: missing")
        text = " ".join(str(error).split())
        return Signal(error=text if recording.where in text else f"{recording.where}: {text}")
    except Exception as error:
        error.add_note(f"while decoding {recording.where}")
        raise
    if signal.numel() == 0:
        return Signal(error=f"{recording.where}: empty")
    axis = adapter.length_axis
    length = 1 if axis is None else signal.shape[axis]
    if not bool(signal.isfinite().all()):
        return Signal(length, error=f"{recording.where}: has NaN or infinite values")
    if bool((signal == signal.flatten()[0]).all()):
        return Signal(length, warning=f"{recording.where}: constant (silent or blank)")
    return Signal(length)


def _same_size(rows: Sequence[Recording]) -> list[Path]:
    """Distinct files that share their size with another one or are used more than once."""
    uses = Counter(r.path for r in rows if r.path is not None and r.path.is_file())
    sizes = {path: path.stat().st_size for path in uses}
    alike: Counter[int] = Counter()
    for path, count in uses.items():
        alike[sizes[path]] += count
    return [path for path in uses if alike[sizes[path]] > 1]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_duplicates(report: Report, manifest: Manifest, digests: Mapping[Path, str]) -> None:
    alike: dict[tuple[str, float, float | None], list[Recording]] = defaultdict(list)
    for r in manifest:
        if r.path is not None and r.path in digests:
            alike[digests[r.path], r.start, r.duration].append(r)
    for rows in alike.values():
        first, other = rows[0], next((r for r in rows if r.split != rows[0].split), None)
        if other is not None:
            report.warnings.append(
                f"{first.where} ({first.split}) and {other.where} ({other.split}) have the same "
                "content: a leak between splits"
            )


def _in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    label: str,
    *,
    workers: int,
    progress: bool,
) -> list[Result]:
    """``[function(i) for i in items]`` in a thread pool, under a progress bar."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    with ThreadPoolExecutor(workers) as pool:
        bar = track(
            pool.map(function, items),
            description=label,
            total=len(items),
            console=console,
            transient=True,
            disable=not (progress and console.is_terminal),
        )
        return list(bar)
