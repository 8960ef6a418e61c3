"""What the rows of tables are called: by the names that are quoted, then the settings that differ.

All of it is read back from results, those of earlier versions too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any, NamedTuple

from benchmarks.results.result import Result
from continual.learner import LEARNERS
from multimodal.errors import UserError
from multimodal.objectives import OBJECTIVES
from multimodal.registry import Config

# Config keys that do not change what a seed's numbers are an example of.
NOT_SETTINGS = ("seeds", "data_root", "output_dir", "cache", "tracking", "workers")
LISTS = {"learners": "learner", "objectives": "objective", "methods": "method"}
# Where a run's settings say what its row is about. Of an aligned model: its own run's, or those
# that it was told to have.
OWN = {
    "learner": LEARNERS,
    "objective": OBJECTIVES,
    "model.objective": OBJECTIVES,
    "model.settings.objective": OBJECTIVES,
}


class Run(NamedTuple):
    """learner: as the result has it. name: of its row. settings: dotted key -> value in JSON of
    everything that defines it but its seed. named: those that the name tells, with all within.
    """

    learner: str
    name: str
    settings: dict[str, str]
    named: tuple[str, ...]

    def names(self, key: str) -> bool:
        return any(key == part or key.startswith(f"{part}.") for part in self.named)


def row_name(learner: str, config: dict[str, Any]) -> str:
    """What the row of a run is called. learner, config: as its result has them."""
    return _own(learner, _own_entries(learner, config))[0]


def labels(results: Sequence[Result]) -> list[str]:
    """The label of each result's row: equal for runs that differ by seed only, and for no others.

    The row's name; then, in brackets, those settings beside the named ones in which runs of the
    learner differ, and the named ones too where the name does not tell rows apart. Settings of a
    choice, such as an encoder, are compared with those of the same choice.
    """
    runs = [_run(result) for result in results]
    told: list[dict[str, None]] = [{} for _ in runs]

    def texts() -> list[str]:
        known = dict.fromkeys(key for keys in told for key in keys)
        return [_text(*each, list(known)) for each in zip(runs, told, strict=True)]

    for rows in _alike([run.learner for run in runs]):
        for key, i in _apart(runs, rows):
            if not runs[i].names(key):
                told[i][key] = None
    for rows in _alike(texts()):
        for key, i in _apart(runs, rows):
            told[i][key] = None
    return texts()


def _text(run: Run, told: dict[str, None], known: Sequence[str]) -> str:
    words = [f"{_short(key, known)}={run.settings.get(key, 'default')}" for key in told]
    return f"{run.name} ({', '.join(words)})" if words else run.name


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a dotted key, if that tells it from the others."""
    last = key.rpartition(".")[2]
    return last if sum(k.rpartition(".")[2] == last for k in keys) == 1 else key


def _alike(values: Sequence[Hashable]) -> list[list[int]]:
    """Places of equal values."""
    places: dict[Hashable, list[int]] = {}
    for i, value in enumerate(values):
        places.setdefault(value, []).append(i)
    return list(places.values())


def _apart(runs: Sequence[Run], rows: Sequence[int]) -> list[tuple[str, int]]:
    """(key, run) for every setting in which some of the runs of one choice differ."""
    found = []
    for key in dict.fromkeys(key for i in rows for key in runs[i].settings):
        for same in _alike([_choices(runs[i].settings, key) for i in rows]):
            if len({runs[rows[j]].settings.get(key) for j in same}) > 1:
                found += [(key, rows[j]) for j in same]
    return found


def _choices(settings: dict[str, str], key: str) -> tuple[str | None, ...]:
    """The names of the choices that a setting is within."""
    parts = key.removesuffix(".name").split(".")
    above = [".".join(parts[:i]) for i in range(1, len(parts))]
    return tuple(settings.get(f"{place}.name") for place in above)


def _run(result: Result) -> Run:
    model = result.evaluation.get("model")
    trained = model.get("config") if isinstance(model, dict) else None
    config = result.config
    if isinstance(trained, dict):  # of a zero-shot run: how its model was trained
        config = {**config, "model": {k: v for k, v in trained.items() if k != "experiment"}}
    config = _own_entries(result.learner, config)
    name, named = _own(result.learner, config)
    return Run(result.learner, name, {"learner": result.learner, **_flat(config)}, named)


def _own_entries(learner: str, config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a config, with the learner's own entry in place of a list of them."""
    config = {k: v for k, v in config.items() if k not in NOT_SETTINGS}
    for key, kind in LISTS.items():
        if isinstance(entries := config.get(key), list):
            every = [e if isinstance(e, dict) else {"name": e} for e in entries]
            own = [e for e in every if len(every) == 1 or e.get("name") == learner]
            if len(own) == 1:
                del config[key]
                config[kind] = own[0]
    if isinstance(model := config.get("model"), dict):
        config["model"] = _own_entries(learner, model)
    return config


def _own(learner: str, config: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The name of a row, and the settings that it tells."""
    _load_choices()
    for place, registry in OWN.items():
        entry: Any = config
        for part in place.split("."):
            entry = entry.get(part) if isinstance(entry, dict) else None
        if isinstance(entry, dict) and entry.get("name") == learner:
            # Of a plug-in that is gone, or of a version that took other settings: by its name.
            with contextlib.suppress(UserError, ValueError):
                found: Config = registry.parse(entry)
                return found.row_name, tuple(f"{place}.{part}" for part in ("name", *found.named))
    return learner, ()


@cache
def _load_choices() -> None:
    """A plug-in that cannot be imported is no reason to refuse results."""
    for registry in set(OWN.values()):
        with contextlib.suppress(UserError):
            registry.names()


def _flat(value: Any, path: tuple[str, ...] = ()) -> dict[str, str]:
    if isinstance(value, dict):
        parts = [_flat(part, (*path, str(key))) for key, part in value.items()]
        return {key: text for part in parts for key, text in part.items()}
    return {".".join(path): value if isinstance(value, str) else json.dumps(value)}


def settings_apart(one: Result, other: Result) -> dict[str, tuple[str, str]]:
    """Dotted setting -> its values in both, "–" where there is none, of those that differ."""
    first, second = _run(one).settings, _run(other).settings
    keys = dict.fromkeys((*first, *second))
    found = {key: (first.get(key, "–"), second.get(key, "–")) for key in keys}
    return {key: values for key, values in found.items() if values[0] != values[1]}
