"""Work in several processes that form a gloo group."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

REPOSITORY = Path(__file__).parents[4]
Work = Callable[[int, int], Any]


def process(rank: int, world: int, folder: str, work: Work) -> None:
    """One rank: what ``work`` returns, or the text of its error, is left in the folder."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # deprecated collectives warn
        try:
            result = work(rank, world)
        except ValueError as error:
            result = str(error)
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def in_processes(world: int, folder: Path, work: Work) -> list[Any]:
    """The results of ``work(rank, world)`` in ``world`` processes that form a gloo group.

    While one waits for another, gloo keeps a core busy: more processes than cores are slow.
    """
    context = multiprocessing.get_context("forkserver")
    # Its processes start from one that has imported torch and done nothing else.
    context.set_forkserver_preload(["torch", "pytest", "multimodal.objectives.cwcl"])
    processes = [
        context.Process(target=process, args=(rank, world, str(folder), work))
        for rank in range(world)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY)  # before the `tests` that Avalanche installs
        for one in processes:
            one.start()
    for one in processes:
        one.join(300)
        assert one.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]
