"""What ``medley predict`` does."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.commands.predict.book import Book, as_csv
from benchmarks.commands.predict.inputs import Part, parts_of
from benchmarks.commands.predict.model import Model, Predicted, load_model


def run_predict(
    model: Path,
    given: Sequence[Path],
    *,
    out: Path | None = None,
    overwrite: bool = False,
    classes: str | None = None,
    view: str | None = None,
    top: int = 3,
    batch_size: int = 32,
    window: float | None = None,
    hop: float | None = None,
    device: str = "auto",
) -> bool:
    """False if a file could not be read: its row says why, the others are there.

    UserError: as ``load_model``, ``Model.predict`` and ``Book``.
    """
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    opened = load_model(model, classes=names, view=view, device=device)
    parts = parts_of(given, opened.modality)
    how: dict[str, Any] = {"window": window, "hop": hop, "batch_size": batch_size}
    begin = time.perf_counter()
    if out is None:
        found = [rows for done in opened.stream(parts, **how) for rows in done.values()]
        rows = [row for own in found for row in own]
        print(as_csv(rows, opened.class_names, top), end="")
    else:
        book = Book(out, {"model": opened.digest, **how}, overwrite=overwrite)
        rows = _write(opened, parts, how, book, top)
    _tell(opened, rows, time.perf_counter() - begin, out)
    return not any(row.error for row in rows)


def _write(
    model: Model, parts: list[Part], how: dict[str, Any], book: Book, top: int
) -> list[Predicted]:
    """All rows, also those of an earlier run that was stopped."""
    missing = book.missing(parts)
    if len(missing) < len(parts):
        done = len(parts) - len(missing)
        print(f"{done} of {len(parts)} were done before; going on", file=sys.stderr)
    for found in model.stream(missing, **how):
        book.add(found)
    return book.finish(parts, model.class_names, top)


def _tell(model: Model, rows: list[Predicted], seconds: float, out: Path | None) -> None:
    """A summary on standard error, with what took the time."""
    bad = [row for row in rows if row.error]
    decoding, thinking = (model.seconds[key] for key in ("decoding", "model"))
    words = f"{len(rows)} rows in {seconds:.1f} s (decoding {decoding:.1f}, model {thinking:.1f})"
    print(f"{words}{f'; see {out}' if out else ''}", file=sys.stderr)
    if bad:
        print(
            f"{len(bad)} of {len(rows)} could not be read, such as {bad[0].error}", file=sys.stderr
        )
