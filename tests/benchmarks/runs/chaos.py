"""What the chaos tests share: small commands, run in processes that may be killed, and their ends.

Every command runs in a process of its own, forked from this one where all libraries are loaded
already: seconds of imports are saved a hundred times, and a SIGKILL finds what it finds anywhere.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from benchmarks.results.journal import Journal
from benchmarks.runs import checkpoint
from benchmarks.tracking.store import connect
from tests.toy import RATE, tone

COMMON = """\
experiment: chaos
dataset: {name: folder, root: clips, modality: speech}
encoder: {name: compact, width: 16, depth: 1, heads: 2}
tracking: {store: mlflow, log_models: true}
cache: disk
"""
TRAINING = "device: cpu, log_every: 1, checkpoint_every: 2"
CONFIGS = {
    "bench": f"""{COMMON}
scenario: {{name: class_incremental, num_experiences: 2}}
learners: [{{name: replay, memory_size: 8}}]
training: {{epochs: 4, batch_size: 4, {TRAINING}}}
""",
    "si_blurry": f"""{COMMON}
scenario: {{name: si_blurry, num_tasks: 2, eval_period: 4, online_iter: 2}}
learners: [{{name: er, memory_size: 8}}]
training: {{batch_size: 4, {TRAINING}}}
""",
    "align": f"""{COMMON}
objectives: [cwcl]
captions: labels
validation_fraction: 0.25
training: {{epochs: 4, batch_size: 4, {TRAINING}}}
""",
}
TIMED = {"recordings_per_second", "data_wait_share"}  # of the machine, not of the run


class Ended(NamedTuple):
    """code: None of a process that was killed. text: both outputs. seconds: that it took."""

    code: int | None
    text: str
    seconds: float


class End(NamedTuple):
    """What a command leaves: the result's metrics, the journal's lines, what the store has."""

    metrics: dict[str, Any]
    lines: list[tuple[int, dict[str, float]]]
    history: dict[str, list[tuple[int, float]]]


def prepare(place: Path, name: str, *, store: Path | None) -> None:
    """A working folder with clips and ``chaos.yaml``, and with a copy of an empty store."""
    for number, pitch in enumerate((300, 600, 900, 1200)):
        folder = place / "clips" / f"c{number}"
        folder.mkdir(parents=True)
        for i in range(8):
            clip = np.squeeze(tone(pitch, 0.1 + 0.01 * (i % 3), pitch + i), 0)
            soundfile.write(folder / f"{i}.wav", clip, RATE)
    (place / "chaos.yaml").write_text(CONFIGS[name])
    (place / "runs").mkdir()
    if store is not None:
        (place / "runs" / "mlflow.db").write_bytes(store.read_bytes())


def command(
    place: Path, name: str, *, kill_after: float | None = None, saves: int | None = None
) -> Ended:
    """The command in a process of its own.

    kill_after: seconds after which it is killed, unless it has ended. saves: number of checkpoints
    after which it kills itself.
    """
    since = time.monotonic()
    log = place / "log.txt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads of libraries, which rest
        child = os.fork()
    if child == 0:
        _die_after(saves)
        _become(place, log, ["medley", "align" if name == "align" else "bench", "chaos.yaml"])
    status = None
    while status is None:
        done, found = os.waitpid(child, os.WNOHANG)
        if done:
            status = found
        elif kill_after is not None and time.monotonic() - since >= kill_after:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        else:
            time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    text = log.read_text()
    return Ended(None if code == -signal.SIGKILL else code, text, time.monotonic() - since)


def preload(place: Path) -> None:
    """Import here what the command that ended in ``place`` had imported, for those to come."""
    for name in (place / "modules.txt").read_text().splitlines():
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _die_after(saves: int | None) -> None:
    keep, done = checkpoint.save, []

    def save(folder: Path, state: dict[str, Any]) -> None:
        keep(folder, state)
        done.append(folder)
        if len(done) == saves:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save = save


def _become(place: Path, log: Path, words: list[str]) -> None:
    """This process is the command, and ends with it."""
    code = 1
    try:
        os.chdir(place)
        for variable in ("MEDLEY_DATA", "MLFLOW_TRACKING_URI"):
            os.environ.pop(variable, None)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        sys.argv = words
        warnings.resetwarnings()
        from benchmarks.cli import main

        main()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        (place / "modules.txt").write_text("\n".join(sys.modules))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def end_of(place: Path) -> End:
    """Of the one run of a working folder."""
    (file,) = place.glob("runs/chaos/*/result.json")
    result = json.loads(file.read_text())
    metrics = {k: v for k, v in result["metrics"].items() if k not in TIMED}
    journal, lines, at = Journal(file.with_name("metrics.jsonl")), [], -1
    offset = 0
    while at != offset:
        at = offset
        found, offset = journal.read_from(at)
        lines += [(line.step, _untimed(line.metrics)) for line in found]
    return End(metrics, lines, _history(place, file.parent))


def _untimed(metrics: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if k not in TIMED}


def _history(place: Path, folder: Path) -> dict[str, list[tuple[int, float]]]:
    state = json.loads((folder / "tracking.json").read_text())
    client = connect(f"sqlite:///{place}/runs/mlflow.db")
    run = client.get_run(state["run_id"])
    assert run.info.status == "FINISHED"
    return {
        key: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
        if key not in TIMED
    }
