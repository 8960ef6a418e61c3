"""One run as a task of a launcher: its config as plain data, and what becomes of it in words.

The process that runs it keeps why it failed in its folder (``failed.json``); nothing that a run
raises goes further than that.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import torch

from benchmarks.config.base import CommandConfig
from benchmarks.launchers import AGAIN, SPENT, Plain
from benchmarks.results.failures import UNFIT, Failure
from benchmarks.results.result import Result
from benchmarks.runs.machine import reset_peak_memory
from multimodal.credentials import hidden
from multimodal.errors import UserError
from multimodal.locks import Held

PAUSE = 1.0  # seconds before another look at a run that another process is at
AnyConfig = TypeVar("AnyConfig", bound=CommandConfig)


def as_plain(config: CommandConfig, title: str) -> dict[str, Any]:
    """What a worker makes the config of one run from. The store's address goes beside it: what is
    written of it tells no credentials.
    """
    return {
        "command": config.command,
        "config": config.dump(),
        "uri": config.tracking.uri,
        "title": title,
    }


def config_of(argument: Plain, model: type[AnyConfig]) -> AnyConfig:
    """The other way round."""
    config = model.parse(argument["config"])
    tracking = config.tracking.model_copy(update={"uri": argument["uri"]})
    return config.model_copy(update={"tracking": tracking})


def attempt(
    config: CommandConfig,
    run: Callable[[], tuple[Result, bool]],
    *,
    unfit: tuple[type[UserError], ...] = (),
) -> dict[str, Any]:
    """Try a run. run: its result, and whether it was done before. unfit: errors that say that there
    is nothing to run.

    Plain data: ``state`` (done, reused, failed, not applicable), ``reason``. While another process
    is at the run it asks to be tried again.
    """
    reset_peak_memory(torch.device("cuda" if torch.cuda.is_initialized() else "cpu"))
    try:
        _, reused = run()
    except Held as error:
        return {AGAIN: PAUSE, "reason": str(error)}
    except unfit as error:
        return _failed(config, error, UNFIT)
    except Exception as error:
        return _failed(config, error, "failed")
    return {"state": "reused" if reused else "done"}


def keep_death(config: CommandConfig, reason: str, trace: str = "") -> None:
    """Keep that the process of a run has died."""
    uris = [uri] if (uri := config.tracking.uri) is not None else []
    _keep(config, Failure("failed", hidden(reason, *uris), hidden(trace, *uris)))


def _failed(config: CommandConfig, error: Exception, state: Any) -> dict[str, Any]:
    words = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    if no_memory(error):
        words = f"out of memory ({words})"
    uris = [uri] if (uri := config.tracking.uri) is not None else []
    words = hidden(words, *uris)
    trace = "" if state == UNFIT else hidden(traceback.format_exc(), *uris)
    _keep(config, Failure(state, words, trace))
    ours = not isinstance(error, UserError) and not no_memory(error)
    outcome = {"state": state, "reason": words, "ours": ours}
    # What a failed allocation leaves behind is nobody's to know.
    return {**outcome, SPENT: True} if no_memory(error) else outcome


def no_memory(error: Exception) -> bool:
    """A process could not get as much as it asked for, on the CPU or on a GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def _keep(config: CommandConfig, failure: Failure) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    Failure(failure.state, failure.reason, failure.traceback, at=at).save(config.folder)
