"""The life of a run, the same for every command: open, resume, track, journal, save, finish, fail.

A command composes a ``Session`` with what it trains or evaluates::

    session = Session(config, manifest, learner="replay", scenario="class_incremental", seed=1)
    with session.open() as state:
        ...                     # restore one's own part of the checkpoint, if there is one
        session.track(facts)
        ...                     # train: session.log, session.save_checkpoint
        result = session.result(device, ...)
        session.finish(result)
    session.stop_if_interrupted()
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.config.base import CommandConfig
from benchmarks.reports.page import REPORT_FILE, write_html
from benchmarks.reports.pictures import draw_pictures
from benchmarks.results.failures import forget
from benchmarks.results.journal import JOURNAL_FILE, Journal
from benchmarks.results.result import Result
from benchmarks.runs import checkpoint, machine
from benchmarks.runs.facts import tags
from benchmarks.runs.inputs import Inputs, inputs_of
from benchmarks.runs.workspace import check_same_run, on_stop_signal, run_lock
from benchmarks.tracking.state import TRACKING_FILE
from benchmarks.tracking.tracker import NullTracker, Tracker, make_tracker
from multimodal.digests import DamagedFile
from multimodal.errors import UserError
from multimodal.files import sweep, write_atomically
from multimodal.recordings import Manifest

CHECKPOINTS, MODELS = "checkpoint", "models"
# Files of a run's folder that commands write which do not hold its lock.
OF_OTHERS = (REPORT_FILE, TRACKING_FILE)
# What every checkpoint holds, whatever the command; those of another file lack some.
KEYS = {"config_hash", "content_hash", "journal", "started", "seconds", "random"}


class Session:
    """One run and its folder. manifest: of its data, as read. learner, scenario, seed: of its row.

    told: what results and the store are told of the config, if that is not the config itself.
    since, cpu_since: ``time.perf_counter()`` and ``process_time()`` when its work began; None: when
    it is opened.
    writes: False for all but the first of several processes that share a run: these read its
    checkpoint, but their own files are thrown away. more: digests of what the run reads beside its
    dataset and the files that its config names.
    """

    def __init__(
        self,
        config: CommandConfig,
        manifest: Manifest,
        *,
        learner: str,
        scenario: str,
        seed: int,
        told: dict[str, Any] | None = None,
        since: float | None = None,
        cpu_since: float | None = None,
        writes: bool = True,
        more: Inputs | None = None,
    ) -> None:
        self.config, self.manifest, self.writes = config, manifest, writes
        self.learner, self.scenario, self.seed = learner, scenario, seed
        self.inputs = inputs_of(config, manifest) | (more or {})
        self.told = config.dump() if told is None else told
        self._thrown_away = None if writes else tempfile.TemporaryDirectory()
        self.folder = Path(self._thrown_away.name) if self._thrown_away else config.folder
        self.journal = Journal(self.folder / JOURNAL_FILE)
        self.tracker: Tracker = NullTracker()
        self.interrupted = False
        self.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._seconds_before, self._since = 0.0, since
        self._cpu_before, self._cpu_since = 0.0, cpu_since
        self._cpu_clock = time.process_time()
        self._clock = time.perf_counter()
        self._random: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Of this run, over all resumptions, without the start of tracking."""
        return self._seconds_before + time.perf_counter() - self._clock

    @property
    def cpu_seconds(self) -> float:
        """The same on the processor, of all threads together: what other programs that use the
        machine hardly change.
        """
        return self._cpu_before + time.process_time() - self._cpu_clock

    @contextmanager
    def open(self, *, between_steps: bool = True) -> Iterator[dict[str, Any] | None]:
        """Hold the folder; gives the checkpoint's state, or None where the run begins.

        between_steps: a stop signal sets ``interrupted``, for the next step to hear; False: it
        raises KeyboardInterrupt at once. Whatever is raised inside, the store hears of it.
        UserError if another process is at the run, or its folder belongs to another config or to
        other data.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        hear = self._interrupt if between_steps else _stop
        with run_lock(self.folder), on_stop_signal(hear):
            self._clock = time.perf_counter() if self._since is None else self._since
            self._cpu_clock = time.process_time() if self._cpu_since is None else self._cpu_since
            try:
                yield self._resume()
            except BaseException:
                with suppress(UserError):  # of a full disk, which is told by what is raised
                    self.tracker.fail()
                with suppress(UserError):
                    self.journal.close()
                raise
            self.journal.close()

    def _resume(self) -> dict[str, Any] | None:
        folder = self.config.folder / CHECKPOINTS
        sweep(self.folder, shared=OF_OTHERS)
        for each in (CHECKPOINTS, MODELS):
            sweep(self.folder / each)
        state = checkpoint.load(folder, check=self._fits, writes=self.writes)
        content, inputs = self.manifest.content_hash, self.inputs
        check_same_run(self.folder, self.config, content, inputs, state)
        write_atomically(self.folder / "config.yaml", self.config.to_yaml())
        if self.writes:
            self.journal.truncate(0 if state is None else state["journal"])
        if state is not None:
            self.started, self._seconds_before = state["started"], state["seconds"]
            self._cpu_before = state.get("cpu_seconds", 0.0)  # earlier versions kept none
            self._random = state["random"]
        return state

    def restoring(self) -> AbstractContextManager[None]:
        """Around what takes a checkpoint's state up: UserError if another version made it."""
        return checkpoint.restoring(self.config.folder / CHECKPOINTS)

    def _fits(self, state: dict[str, Any]) -> None:
        """DamagedFile unless the state is a run's and the journal has what it counts on."""
        file = self.config.folder / CHECKPOINTS / checkpoint.FILE
        if not state.keys() >= KEYS:
            raise DamagedFile(f"{file}: the checkpoint cannot be read (it is another file)")
        Journal(self.config.folder / JOURNAL_FILE).check(state["journal"])

    def track(self, facts: dict[str, Any]) -> None:
        """Start tracking. facts: of the data. A store lost since it was checked costs a warning.

        Stores are checked before the first run begins, and a run is worth more than its tracking.
        Call it when all is restored: the global random states are those of the checkpoint then.
        """
        if self._random is not None:
            checkpoint.restore_random_state(self._random)
        before, cpu_before = time.perf_counter(), time.process_time()
        if self.writes:
            tracker = make_tracker(
                self.config.tracking,
                experiment=self.config.experiment,
                folder=self.folder,
                output_dir=Path(self.config.output_dir).expanduser(),
            )
            try:
                tracker.start(self.told, self._tags(), facts)
                self.tracker = tracker
            except UserError as error:
                print(
                    f"medley: {error} This run goes on untracked; send it later with "
                    f"`medley report --resend {self.folder}`.",
                    file=sys.stderr,
                )
        self._clock += time.perf_counter() - before
        self._cpu_clock += time.process_time() - cpu_before

    def _tags(self) -> dict[str, str]:
        return tags(
            self.config,
            self.manifest,
            learner=self.learner,
            scenario=self.scenario,
            seed=self.seed,
        )

    def log(self, values: dict[str, float], step: int) -> None:
        """A line of the journal, which the store gets in the background."""
        self.journal.write(values, step)
        self.tracker.grow(self.journal)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Keep ``state`` with all that the session itself needs to go on from here."""
        own = {
            "config_hash": self.config.hash,
            "content_hash": self.manifest.content_hash,
            "inputs": self.inputs,
            "journal": self.journal.flush(),
            "started": self.started,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }
        checkpoint.save(self.folder / CHECKPOINTS, {**state, **own})
        self.tracker.grow(self.journal)

    def result(self, device: torch.device, **own: Any) -> Result:
        """The result of the run. own: the fields that only its command knows."""
        return Result(
            command=self.config.command,
            experiment=self.config.experiment,
            config_hash=self.config.hash,
            learner=self.learner,
            scenario=self.scenario,
            modality=self.manifest.modality,
            seed=self.seed,
            quick=self.config.quick,
            class_names=list(self.manifest.class_names),
            config=self.told,
            inputs=self.inputs,
            hardware=machine.hardware(device),
            packages=machine.packages(),
            git_commit=machine.git_commit(),
            started=self.started,
            seconds=self.seconds,
            cpu_seconds=self.cpu_seconds,
            peak_memory_bytes=machine.peak_memory(device),
            **own,
        )

    def finish(self, result: Result) -> None:
        """Keep the result, then its pictures and page, then tell the store.

        A process killed on the way leaves a finished run; ``finished.complete`` does the rest.
        """
        self.journal.flush(durable=True)
        result.save(self.folder)
        forget(self.folder)
        pictures = draw_pictures(result, self.folder)
        page = write_html([result], self.folder / REPORT_FILE)
        self.tracker.finish(result, [page, *pictures])

    def stop_if_interrupted(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt

    def _interrupt(self) -> None:
        self.interrupted = True


def _stop() -> None:
    raise KeyboardInterrupt
