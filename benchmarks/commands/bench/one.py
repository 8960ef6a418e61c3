"""One cell by itself, in a process that is given one after the other.

What cells share (manifest, decoded signals, embeddings, a warmed-up encoder) is kept from one to
the next where their data settings are the same.
"""

from __future__ import annotations

import json

from benchmarks.commands.bench.cells import Cells, reads_signals
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.misfits import Misfit
from benchmarks.commands.bench.stream_run import Observer
from benchmarks.commands.bench.warm_up import warm_up_config
from benchmarks.launchers import Plain, Tell
from benchmarks.results.result import Result
from benchmarks.runs.attempts import attempt, config_of
from benchmarks.runs.data import Data, open_data, read_manifest
from benchmarks.runs.remote import RemoteObserver

PRELOAD = ("benchmarks.commands.bench.one",)
DATA = ("dataset", "modality", "encoder", "data_root", "output_dir", "skip_damaged", "quick")
_kept: dict[str, Data] = {}


def run_one(config: RunConfig, observer: Observer | None = None) -> tuple[Result, bool]:
    """The result of a config of one cell, and whether it was there before.

    Signals and embeddings are kept on disk, whatever ``cache`` says, so that what one process has
    decoded others only map. UserError as ``Cells``; Held while another process is at the run.
    """
    cells = Cells(config, data=_data(config))
    done = cells.done[0] is not None
    return cells.run_cell(0, observer), done


def work(argument: Plain, tell: Tell) -> Plain:
    """A task of a launcher."""
    config = config_of(argument, RunConfig)
    observer = RemoteObserver(tell, argument["title"])
    return attempt(config, lambda: run_one(config, observer), unfit=(Misfit,))


def _data(config: RunConfig) -> Data:
    settings = {name: config.dump()[name] for name in DATA}
    warm_up = None if config.warm_up is None else warm_up_config(config).hash
    key = json.dumps([settings, warm_up, reads_signals(config)], sort_keys=True)
    if key not in _kept:
        _kept.clear()  # what cells before these needed
        _kept[key] = shared_data(config)
    return _kept[key]


def shared_data(config: RunConfig) -> Data:
    """Of a config, with signals and embeddings on disk."""
    shared = config.model_copy(update={"cache": "disk"})
    return open_data(shared, read_manifest(shared), features=not reads_signals(config))
