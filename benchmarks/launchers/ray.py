"""Tasks on a Ray cluster: one of its own on this machine, or one that runs already (``address``).

Ray (extra "ray") starts the processes, shares GPUs among them by fractions, and tries a task again
whose process dies. Its own cluster listens on 127.0.0.1 alone, without a dashboard. Processes on
other machines must see the same folders, under the same names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from benchmarks.launchers import LAUNCHERS, TRIES, Hear, Plain, Task, Work
from benchmarks.launchers.away import Cluster, Lost, Stopped, perform, run_away, whole
from benchmarks.launchers.resources import cores
from benchmarks.launchers.worker import one_thread
from multimodal.errors import UserError, how_to_install
from multimodal.registry import Config, plugged_modules

LOOPBACK = "127.0.0.1"
AT_A_TIME = 1_000  # words of tasks that are fetched together


@LAUNCHERS.register("ray")
class RayConfig(Config):
    """address: of a cluster that runs already ("auto": the one here; "ray://HOST:10001"); None: one
    is started on this machine, and ended with the grid. gpus_per_cell: a fraction lets cells share
    a GPU. cpus_per_cell: that a cell counts for.
    """

    address: str | None = None
    gpus_per_cell: float = Field(default=0.0, ge=0)
    cpus_per_cell: float = Field(default=1.0, gt=0)

    def build(
        self, *, workers: int | None, preload: Sequence[str] = (), gpus: int = 0
    ) -> RayLauncher:
        """workers: cells at once; None: as many as the cluster has room for."""
        ray = imported()
        return RayLauncher(ray, self, workers=workers)


def imported() -> Any:
    """The library; UserError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise UserError(f"--on ray: Ray is not installed; {how_to_install('ray')}.") from error
    return ray


class RayLauncher:
    """See ``Launcher``."""

    def __init__(self, ray: Any, config: RayConfig, *, workers: int | None) -> None:
        self.ray, self.config, self.workers = ray, config, workers

    def run(self, work: Work, tasks: Sequence[Task], hear: Hear) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.ray.init(**self.settings())
        try:
            cluster = _RayCluster(self.ray, self.config, work)
            run_away(cluster, tasks, hear, at_once=self.workers or len(tasks))
        finally:
            self.ray.shutdown()

    def settings(self) -> dict[str, Any]:
        """Of ``ray.init``."""
        variables = {"env_vars": one_thread(os.environ)}
        shared = {"log_to_driver": False, "runtime_env": variables}
        if self.config.address is not None:
            return {"address": self.config.address, **shared}
        return {
            "num_cpus": self.workers or cores(),
            "include_dashboard": False,
            "_node_ip_address": LOOPBACK,
            **shared,
        }


class _RayCluster(Cluster):
    def __init__(self, ray: Any, config: RayConfig, work: Work) -> None:
        from ray.util.queue import Queue  # pyright: ignore[reportMissingImports]

        self.ray, self.work = ray, work
        self.words = Queue(actor_options={"num_cpus": 0})
        self.remote = ray.remote(
            num_cpus=config.cpus_per_cell,
            num_gpus=config.gpus_per_cell,
            max_retries=TRIES - 1,
        )(_task)
        self.plugins = ",".join(plugged_modules())

    def submit(self, task: Task) -> Any:
        return self.remote.remote(
            self.work, self.plugins, task.key, dict(task.argument), self.words
        )

    def outcome(self, job: Any) -> Plain | None:
        ready, _ = self.ray.wait([job], timeout=0)
        if not ready:
            return None
        errors = self.ray.exceptions
        try:
            return whole(self.ray.get(job))
        except errors.TaskCancelledError as error:
            raise Stopped from error
        except errors.RayError as error:
            # Ray has tried it again already.
            line = " ".join(str(error).split())[:300]
            raise Lost(f"{type(error).__name__}: {line}", tried=True) from error

    def told(self) -> Sequence[tuple[str, Plain]]:
        count = min(self.words.qsize(), AT_A_TIME)
        return self.words.get_nowait_batch(count) if count else []

    def stop(self, job: Any, *, now: bool) -> None:
        """Not at once: KeyboardInterrupt in the task, which runs hear as Ctrl-C."""
        self.ray.cancel(job, force=now)


def _task(work: Work, plugins: str, key: str, argument: Plain, words: Any) -> dict[str, Any]:
    return perform(work, plugins, argument, lambda told: words.put_nowait((key, dict(told))))
