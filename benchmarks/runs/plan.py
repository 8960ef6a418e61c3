"""What a command would do: its runs, where each goes, and which of them are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.config.base import CommandConfig
from benchmarks.runs.states import STATES, state_of
from multimodal.datasets import DatasetConfig


def print_plan(cells: Sequence[CommandConfig], out: Console, *, fresh: bool = False) -> None:
    """One row a run; recordings are not opened and no file is written.

    fresh: what is there already would be deleted. UserError: the dataset cannot be read.
    """
    data = {cell.dataset.model_dump_json(): cell for cell in cells}
    for cell in data.values():
        if isinstance(cell.dataset, DatasetConfig):
            streamed = getattr(cell, "scenario", None) is not None
            build = cell.dataset.build_for_stream if streamed else cell.dataset.build
            manifest = build(cell.dataset_root())
            words = f"{manifest.name}: {len(manifest):,} recordings, {manifest.num_classes} classes"
            out.print(words, markup=False, soft_wrap=True, highlight=False)
    table = Table(title="runs")
    for name in ("hash", "run", "state", "folder"):
        table.add_column(name, no_wrap=name == "hash", overflow="fold")
    states = ["new" if fresh else state_of(cell.folder) for cell in cells]
    for cell, state in zip(cells, states, strict=True):
        table.add_row(*map(Text, (cell.hash, _title(cell), state, str(cell.folder))))
    out.print(table)
    counts = Counter(states)
    told = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    quick = "; quick: a short run of each" if any(cell.quick for cell in cells) else ""
    out.print(f"{len(cells)} runs: {told}{quick}. Nothing was run (--dry-run).", highlight=False)


def _title(cell: CommandConfig) -> str:
    try:
        return cell.title
    except NotImplementedError:
        model = getattr(cell, "model", None)
        return getattr(model, "row_name", cell.command)
