"""``warm_up``: the encoder is trained on another dataset first, by the run that bench makes too."""

from __future__ import annotations

from typing import Any

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.warm_up import warm_up_config
from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.opening import open_run
from benchmarks.commands.finetune.start import Start

SHARED = (
    *("experiment", "modality", "encoder", "dataset"),
    *("data_root", "output_dir", "cache", "skip_damaged", "quick"),
)


def warm_up_cells(config: FinetuneConfig) -> Cells:
    """The run, checked and ready, done or not; UserError as ``medley bench``."""
    whole = config.dump()
    data: dict[str, Any] = {name: whole[name] for name in SHARED}
    bench = RunConfig.parse(
        {
            **data,
            "scenario": {"name": "class_incremental", "num_experiences": 1},
            "learners": ["joint"],
            "training": {"device": config.training.device, "threads": config.training.threads},
            "warm_up": whole["warm_up"],
        }
    )
    return Cells(warm_up_config(bench))


def warmed_start(config: FinetuneConfig) -> Start:
    """The run is made now, if that was not done before."""
    cells = warm_up_cells(config)
    cells.run_cell(0)
    return open_run(cells.cells[0].folder, config.modality.registered_name)
