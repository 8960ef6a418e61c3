"""The run folder: one process at a time, one config, one version of the data."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.config.base import CommandConfig
from benchmarks.runs.inputs import Inputs, OtherData, refuse_changed_inputs
from multimodal.errors import UserError
from multimodal.files import sweep
from multimodal.locks import held
from multimodal.yaml_limits import load

LOCK = ".lock"
# What another process that makes, or takes away, the same folder may cause; and how often to look.
MEANWHILE = (errno.ENOENT, errno.EEXIST, errno.ESTALE)
TRIES, PAUSE = 50, 0.002  # seconds between two


def run_lock(folder: Path, *, patience: float = 0.2) -> contextlib.AbstractContextManager[None]:
    """Hold a run's folder; Held if another process does.

    patience: seconds in which one that only looks whether it is held lets go of it.
    """
    words = f"{folder}: another process is at this run; wait for it."
    return held(folder / LOCK, words, patience=patience)


@contextlib.contextmanager
def on_stop_signal(action: Callable[[], None]) -> Iterator[None]:
    """Call ``action`` at Ctrl-C or SIGTERM instead of raising in the middle of a step.

    A second signal stops at once. Does nothing outside the main thread, which gets no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        for known, handler in before.items():
            signal.signal(known, handler)
        action()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_writable(folder: Path) -> None:
    """UserError unless files can be made in ``folder`` (made if it does not exist).

    What processes that were killed left half written there goes. Others may look at the same time,
    and take the folder away in between.
    """
    for tries in range(TRIES, 0, -1):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Of a name of its own: several runs may look at once.
            probe = folder / f".writable.{os.getpid()}-{secrets.token_hex(3)}.part"
            probe.touch(exist_ok=False)
            probe.unlink(missing_ok=True)
            break
        except OSError as error:
            if tries > 1 and error.errno in MEANWHILE and not _blocked(folder):
                time.sleep(PAUSE)
                continue
            raise UserError(
                f"{folder}: cannot write there ({error.strerror}); give another output_dir."
            ) from error
    sweep(folder, shared=None)


def _blocked(folder: Path) -> bool:
    """A file stands where a folder of the path belongs: no other try will change that."""
    return any(place.is_file() for place in (folder, *folder.parents))


def clear(folder: Path) -> None:
    """Delete what earlier runs left in a run folder; UserError if one is still at it."""
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def check_same_run(
    folder: Path, config: CommandConfig, content_hash: str, inputs: Inputs, state: Any
) -> None:
    """UserError if the folder was begun with another config or with other data.

    inputs: digests of what the run reads. ``state``: what a checkpoint or a result says
    (``config_hash``, ``content_hash``, ``inputs``), or None.
    """
    if not _config_is_kept(folder / "config.yaml", config) or (
        state and state["config_hash"] != config.hash
    ):
        raise UserError(
            f"{folder}: this run was begun with another config (a changed config gets a folder of "
            "its own); restore its config.yaml, or start anew with --fresh."
        )
    if state and state["content_hash"] != content_hash:
        raise OtherData(
            f"{folder}: the dataset has changed since this run began (content hash "
            f"{state['content_hash']}, now {content_hash}); start anew with --fresh, or delete "
            "this folder."
        )
    if state:
        refuse_changed_inputs(folder, state.get("inputs"), inputs)


def _config_is_kept(path: Path, config: CommandConfig) -> bool:
    if not path.exists():
        return True
    try:
        return type(config).parse(load(path.read_text("utf-8"))).hash == config.hash
    except (OSError, ValueError, TypeError):
        return False
