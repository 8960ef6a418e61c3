"""Choosing values of settings by validation recordings; the test is reported of what was chosen.

The protocol. (1) Every choice is tried in a run of its own, in the experiment
``<experiment>_select``, with a part of the training recordings held out (unless the dataset has
validation recordings of its own): whole groups where groups are known, drawn by the run's seed, so
that all choices of a seed see the same ones. (2) Of each choice counts the score on those
recordings: of a stream with all classes met, after the last experience; of an alignment, of its
best epoch. The mean over the seeds that are tried decides, the earlier choice where two are alike.
Nothing else of these runs is read: not what they scored on the test. (3) What was chosen is run in
the experiment itself, with all seeds, on all training recordings (unless the config holds some out
anyway), and that is what is reported. All choices that were tried stand in ``selection.json`` of
the experiment, and in a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.grid.config import SelectConfig
from benchmarks.commands.grid.plan import PlannedCell, entry_of, short
from benchmarks.config.base import PLACES
from benchmarks.results.metric_names import VALIDATION
from benchmarks.results.result import Result
from multimodal.errors import UserError
from multimodal.files import write_atomically

SELECTION_FILE = "selection.json"
SUFFIX = "_select"


class Choice(NamedTuple):
    """values: of the settings that are chosen. cells: of the grid, one a seed; tried: those of them
    whose seed is tried. scores: of validation recordings, one a try that has ended.
    """

    values: Mapping[str, Any]
    cells: list[PlannedCell]
    tried: list[PlannedCell]
    scores: list[float]

    @property
    def mean(self) -> float | None:
        """None unless every try has a score."""
        return fmean(self.scores) if len(self.scores) == len(self.tried) else None


class Selection(NamedTuple):
    """Choices that differ in nothing but what is chosen (and seeds); chosen: the number of one."""

    title: str
    choices: list[Choice]
    chosen: int | None


def asked(cells: Sequence[PlannedCell], select: SelectConfig) -> list[PlannedCell]:
    """Those whose choice is tried, by their seeds; UserError: a seed that no cell has, a cell whose
    choice would be tried with none.
    """
    if select.seeds is None:
        return list(cells)
    unknown = sorted(set(select.seeds) - {cell.seed for cell in cells})
    if unknown:
        raise UserError(
            f"select.seeds={list(select.seeds)}: no cell has seed {unknown[0]}; name some of "
            "`seeds`."
        )
    known = {_choice_of(cell, select) for cell in cells if cell.seed in select.seeds}
    for cell in cells:
        if _choice_of(cell, select) not in known:
            raise UserError(
                f"select.seeds={list(select.seeds)}: {cell.title} has none of them, so its choice "
                "would not be tried; name a seed of every cell, or set `seeds`, which is for all."
            )
    return [cell for cell in cells if cell.seed in select.seeds]


def tried(cell: PlannedCell, select: SelectConfig) -> PlannedCell:
    """The run that tries a cell's choice; UserError where no validation part can be held out."""
    config, changes = cell.config, dict[str, Any]()
    scenario: Any = getattr(config, "scenario", None)
    if isinstance(config, AlignConfig) and config.compose is None:
        changes["validation_fraction"] = config.validation_fraction or select.fraction
    elif isinstance(config, RunConfig) and hasattr(scenario, "validation_fraction"):
        fraction = scenario.validation_fraction or select.fraction
        changes["scenario"] = scenario.model_copy(update={"validation_fraction": fraction})
    else:
        raise UserError(
            f"select: {cell.base} is of `medley {config.command}`; only streams of `medley bench` "
            "and alignments without scenes are selected by validation recordings: leave select or "
            "this base out."
        )
    changes["experiment"] = f"{config.experiment}{SUFFIX}"
    return cell._replace(config=config.model_copy(update=changes))


def choose(
    cells: Sequence[PlannedCell], results: Mapping[Path, Result], select: SelectConfig
) -> list[Selection]:
    """The selections of a grid. results: of runs that tried cells, by the folder of the cell."""
    groups: dict[str, dict[str, Choice]] = {}
    trying = {cell.config.folder for cell in asked(cells, select)}
    for cell in cells:
        kin, name = _choice_of(cell, select)
        values, choices = _values(cell, select), groups.setdefault(kin, {})
        choice = choices.setdefault(name, Choice(values, [], [], []))
        choice.cells.append(cell)
        if cell.config.folder in trying:
            choice.tried.append(cell)
        result = results.get(cell.config.folder)
        score = None if result is None else validation_score(result, select.metrics)
        if score is not None:
            choice.scores.append(score)
    return [_selection(list(choices.values())) for choices in groups.values()]


def _selection(choices: list[Choice]) -> Selection:
    means = [choice.mean for choice in choices]
    known = [mean for mean in means if mean is not None]
    first = choices[0].cells[0]
    data = first.config.dataset.registered_name
    title = f"{data} {first.scenario} {entry_of(first.config).registered_name}"
    return Selection(title, choices, means.index(max(known)) if known else None)


def _values(cell: PlannedCell, select: SelectConfig) -> dict[str, Any]:
    return {key: value_at(cell.config.dump(), key) for key in select.among}


def _choice_of(cell: PlannedCell, select: SelectConfig) -> tuple[str, str]:
    """Of which selection a cell is, and of which of its choices."""
    return _kin(cell, select), json.dumps(_values(cell, select), sort_keys=True)


def _kin(cell: PlannedCell, select: SelectConfig) -> str:
    """What choices of one selection have in common."""
    data = {k: v for k, v in cell.config.dump().items() if k not in (*PLACES, "seeds")}
    for key in select.among:
        _drop(data, key.split("."))
    return json.dumps([data, entry_of(cell.config).registered_name], sort_keys=True)


def _drop(data: Any, keys: Sequence[str]) -> None:
    for key in keys[:-1]:
        data = _below(data, key)
    if isinstance(data, dict):
        data.pop(keys[-1], None)
    elif isinstance(data, list) and keys[-1].isdecimal() and int(keys[-1]) < len(data):
        data[int(keys[-1])] = None


def value_at(data: Any, path: str) -> Any:
    """What stands there in plain config data; None: nothing."""
    for key in path.split("."):
        data = _below(data, key)
    return data


def _below(data: Any, key: str) -> Any:
    if isinstance(data, list):
        return data[int(key)] if key.isdecimal() and int(key) < len(data) else None
    return data.get(key) if isinstance(data, dict) else None


def validation_score(result: Result, metrics: Sequence[str]) -> float | None:
    """On validation recordings, of a stream after the last experience: the first of ``metrics``
    that there is. None: there is none.
    """
    for name in metrics:
        scores = result.metrics.get(f"{VALIDATION}{name}")
        score = scores[-1] if isinstance(scores, list) and scores else scores
        if isinstance(score, float):
            return score
    return None


def chosen_cells(selections: Sequence[Selection]) -> list[PlannedCell]:
    """What is run and reported."""
    return [
        cell
        for selection in selections
        if selection.chosen is not None
        for cell in selection.choices[selection.chosen].cells
    ]


def save(selections: Sequence[Selection], select: SelectConfig) -> list[Path]:
    """``selection.json`` of every experiment, with all choices that were tried."""
    written = []
    places = {s.choices[0].cells[0].config.folder.parent for s in selections}
    for place in sorted(places):
        own = [s for s in selections if s.choices[0].cells[0].config.folder.parent == place]
        told = {**select.model_dump(mode="json"), "selections": [_plain(s, select) for s in own]}
        place.mkdir(parents=True, exist_ok=True)
        written.append(place / SELECTION_FILE)
        write_atomically(written[-1], json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return written


def _plain(selection: Selection, select: SelectConfig) -> dict[str, Any]:
    choices = [
        {
            "values": dict(choice.values),
            "validation": choice.mean,
            "scores": choice.scores,
            "seeds": [cell.seed for cell in choice.tried],
            "tried_in": [tried(cell, select).config.hash for cell in choice.tried],
            "chosen": number == selection.chosen,
        }
        for number, choice in enumerate(selection.choices)
    ]
    return {"of": selection.title, "choices": choices}


def selection_table(selections: Sequence[Selection]) -> Table:
    """Every choice with its score, the chosen ones marked."""
    title = "selected by validation recordings; mean over the seeds that were tried"
    table = Table(title=title, title_justify="left")
    for name in ("of", "choice", "validation %", "seeds", "chosen"):
        table.add_column(name, overflow="fold")
    for selection in selections:
        for number, choice in enumerate(selection.choices):
            mean = "–" if choice.mean is None else f"{100 * choice.mean:.1f}"
            row = (selection.title, short(dict(choice.values)), mean, str(len(choice.tried)))
            chosen = number == selection.chosen
            last = number == len(selection.choices) - 1
            table.add_row(*map(Text, row), "yes" if chosen else "", end_section=last)
    return table
