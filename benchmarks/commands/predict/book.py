"""The table of predictions, and what is kept of it on the way, so that a stopped run goes on.

While a run is under way, ``<out>.partial`` holds a line of JSON for each part of a file that is
done. A file that has changed since, or that could not be read, is asked for again.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.commands.predict.inputs import Part
from benchmarks.commands.predict.model import Predicted
from multimodal.contents import stamp
from multimodal.errors import UserError
from multimodal.files import replacing, sweep_beside, write_atomically, writing

VERSION = 2  # of the lines; another one is begun anew
KINDS = (".csv", ".jsonl", ".parquet")


class Book:
    """out: .csv, .jsonl or .parquet. begun_with: the model and the options; a partial file of
    other ones is refused. overwrite: begin anew, whatever is there.

    UserError: another ending, a file that exists, a partial one of another run, no such folder.
    """

    def __init__(self, out: Path, begun_with: dict[str, Any], *, overwrite: bool = False) -> None:
        self.out, self.partial = out, out.with_name(f"{out.name}.partial")
        self.begun_with = json.loads(json.dumps({"version": VERSION, **begun_with}))
        if out.suffix.lower() not in KINDS:
            raise UserError(f"--out {out}: unknown kind of table; valid: {', '.join(KINDS)}.")
        if not out.parent.is_dir():
            raise UserError(f"--out {out}: there is no folder {out.parent}; make it first.")
        if overwrite:
            self.partial.unlink(missing_ok=True)
        elif out.exists():
            raise UserError(f"--out {out}: exists already; give --overwrite, or another name.")
        sweep_beside(out)
        self.done: dict[tuple[Any, ...], list[Predicted]] = {}
        self._stamps: dict[Path, str] = {}
        if self.partial.exists():
            self._read()

    def _read(self) -> None:
        """What an earlier run has done; a line that it was stopped in is cut off."""
        whole, _, rest = self.partial.read_bytes().rpartition(b"\n")
        if not whole and json.dumps(self.begun_with).encode().startswith(rest):
            self.partial.unlink()  # stopped in its first line
            return
        try:
            first, *lines = (json.loads(line) for line in whole.split(b"\n"))
            if first != self.begun_with:
                raise UserError(
                    f"{self.partial}: was begun with another model, other options or another "
                    "version of Medley; give --overwrite to begin anew."
                )
            for line in lines:
                self.done[tuple(line["part"])] = [_read_row(row) for row in line["rows"]]
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{self.partial}: damaged; give --overwrite to begin anew.") from error
        if rest:
            os.truncate(self.partial, len(whole) + 1)

    def missing(self, parts: Sequence[Part]) -> list[Part]:
        """Those that are not done yet."""
        return [part for part in parts if self._key(part) not in self.done]

    def add(self, done: Mapping[Part, list[Predicted]]) -> None:
        """Keep what is done; errors are kept for this run only."""
        with writing(self.partial), self.partial.open("a", encoding="utf-8") as file:
            if not file.tell():
                file.write(json.dumps(self.begun_with) + "\n")
            for part, rows in done.items():
                self.done[self._key(part)] = rows
                if not any(row.error for row in rows):
                    line = {"part": self._key(part), "rows": [asdict(row) for row in rows]}
                    file.write(json.dumps(line) + "\n")

    def _key(self, part: Part) -> tuple[Any, ...]:
        # As the file lay there before it was read: what changes meanwhile is asked for again.
        if part.path not in self._stamps:
            self._stamps[part.path] = stamp(part.path)
        return (str(part.path), part.start, part.duration, self._stamps[part.path])

    def finish(
        self, parts: Sequence[Part], class_names: Sequence[str], top: int
    ) -> list[Predicted]:
        """Write the table, in the order of ``parts``, replaced atomically; gives its rows."""
        rows = [row for part in parts for row in self.done[self._key(part)]]
        if self.out.suffix.lower() == ".jsonl":
            lines = [json.dumps(nested(row, top), ensure_ascii=False) for row in rows]
            write_atomically(self.out, "".join(f"{line}\n" for line in lines))
        elif self.out.suffix.lower() == ".csv":
            write_atomically(self.out, as_csv(rows, class_names, top))
        else:
            self._write_parquet(table(rows, class_names, top))
        self.partial.unlink(missing_ok=True)
        return rows

    def _write_parquet(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow
        import pyarrow.parquet

        with replacing(self.out) as temporary:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), temporary)


def as_csv(rows: Sequence[Predicted], class_names: Sequence[str], top: int) -> str:
    """With a line of columns: those of ``table``."""
    text = io.StringIO()
    found = table(rows, class_names, top)
    columns = list(found[0] if found else flat(Predicted(""), class_names, top))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def table(rows: Sequence[Predicted], class_names: Sequence[str], top: int) -> list[dict[str, Any]]:
    """``flat`` of each; of a model that writes texts with a column text at the end."""
    writes = any(row.text is not None for row in rows)
    return [flat(row, class_names, top) | ({"text": row.text} if writes else {}) for row in rows]


def flat(row: Predicted, class_names: Sequence[str], top: int) -> dict[str, Any]:
    """Columns file, start, seconds, class, probability, top, p_CLASS of every class, error."""
    several = isinstance(row.label, tuple)
    best = row.top(top)
    return {
        "file": row.file,
        "start": row.start,
        "seconds": row.seconds,
        "class": "|".join(row.label) if isinstance(row.label, tuple) else row.label,
        "probability": None if several or row.label is None else row.probabilities[str(row.label)],
        "top": "; ".join(f"{name} {share:.4g}" for name, share in best),
        **{f"p_{name}": row.probabilities.get(name) for name in class_names},
        "error": row.error or None,
    }


def nested(row: Predicted, top: int) -> dict[str, Any]:
    """The same as an object of JSON, probabilities by class name."""
    probability = row.probabilities.get(row.label) if isinstance(row.label, str) else None
    return {
        "file": row.file,
        "start": row.start,
        "seconds": row.seconds,
        "class": row.label,
        "probability": probability,
        "top": row.top(top),
        "probabilities": row.probabilities,
        "error": row.error or None,
        **({} if row.text is None else {"text": row.text}),
    }


def _read_row(row: dict[str, Any]) -> Predicted:
    label = row["label"]
    return Predicted(**{**row, "label": tuple(label) if isinstance(label, list) else label})
