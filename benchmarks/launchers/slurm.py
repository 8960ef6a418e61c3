"""Tasks as jobs of Slurm, by submitit (extra "slurm"), or of its local executor.

What a job is given is written into ``folder``, which all nodes must see, like the output folder. A
job that Slurm ends (its time is over, its node dies) is submitted once more, and goes on from its
last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from benchmarks.launchers import LAUNCHERS, Hear, Plain, Task, Work
from benchmarks.launchers.away import Cluster, Lost, Stopped, perform, run_away, whole
from multimodal.errors import UserError, how_to_install
from multimodal.registry import Config, plugged_modules

AT_ONCE = 64  # jobs, where nobody says how many


@LAUNCHERS.register("slurm")
class SlurmConfig(Config):
    """cluster: "local" runs jobs as processes of this machine, to try things out. folder: of job
    files and their logs. partition, account: of Slurm. minutes: of a job. cpus, gpus, memory_gb: of
    a cell.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    folder: str = "runs/slurm"
    partition: str | None = None
    account: str | None = None
    minutes: int = Field(default=24 * 60, ge=1)
    cpus: int = Field(default=1, ge=1)
    gpus: int = Field(default=0, ge=0)
    memory_gb: float = Field(default=8.0, gt=0)

    def build(
        self, *, workers: int | None, preload: Sequence[str] = (), gpus: int = 0
    ) -> SlurmLauncher:
        """workers: jobs at once."""
        return SlurmLauncher(imported(), self, workers=workers or AT_ONCE)

    def parameters(self) -> dict[str, Any]:
        """Of submitit's executor."""
        named = {"slurm_partition": self.partition, "slurm_account": self.account}
        return {
            "name": "medley",
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus,
            "mem_gb": self.memory_gb,
            "slurm_setup": [f"export OMP_NUM_THREADS={self.cpus}"],
            **{key: value for key, value in named.items() if value is not None},
        }


def imported() -> Any:
    """The library; UserError where it is not installed."""
    try:
        import submitit  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        words = how_to_install("slurm")
        raise UserError(f"--on slurm: submitit is not installed; {words}.") from error
    return submitit


class SlurmLauncher:
    """See ``Launcher``. Tasks tell nothing before they end; their logs lie in ``folder``."""

    def __init__(self, submitit: Any, config: SlurmConfig, *, workers: int) -> None:
        self.submitit, self.config, self.workers = submitit, config, workers

    def run(self, work: Work, tasks: Sequence[Task], hear: Hear) -> None:
        folder = Path(self.config.folder).expanduser()
        executor = self.submitit.AutoExecutor(folder=folder, cluster=self.config.cluster)
        executor.update_parameters(**self.config.parameters())
        cluster = _SlurmCluster(self.submitit, executor, work)
        run_away(cluster, tasks, hear, at_once=self.workers)


class _SlurmCluster(Cluster):
    def __init__(self, submitit: Any, executor: Any, work: Work) -> None:
        self.submitit, self.executor, self.work = submitit, executor, work
        self.plugins = ",".join(plugged_modules())
        self._stopped: set[Any] = set()

    def submit(self, task: Task) -> Any:
        return self.executor.submit(_task, self.work, self.plugins, dict(task.argument))

    def outcome(self, job: Any) -> Plain | None:
        if not job.done():
            return None
        try:
            return whole(job.result())
        except Stopped:
            raise
        except Exception as error:  # of several kinds, all of them that the job came to nothing
            if job.job_id in self._stopped:
                raise Stopped from error
            line = " ".join(str(error).split())[:300]
            raise Lost(f"job {job.job_id} of Slurm: {line}") from error

    def stop(self, job: Any, *, now: bool) -> None:
        """Slurm ends it, by SIGTERM first."""
        self._stopped.add(job.job_id)
        job.cancel()


def _task(work: Work, plugins: str, argument: Plain) -> dict[str, Any]:
    return perform(work, plugins, argument, lambda told: None)
