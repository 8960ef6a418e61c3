"""Runs that are done already: their results, and what a killed process still owed."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.config.base import CommandConfig
from benchmarks.reports.page import REPORT_FILE, write_html
from benchmarks.reports.pictures import draw_pictures
from benchmarks.results.files import REMEDY, load_result
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.runs.inputs import Inputs, inputs_of
from benchmarks.runs.machine import DISTRIBUTION, packages
from benchmarks.runs.workspace import check_same_run, run_lock
from benchmarks.tracking.state import State
from benchmarks.tracking.tracker import resend
from multimodal.digests import DamagedFile
from multimodal.errors import UserError
from multimodal.recordings import Manifest


def finished(
    config: CommandConfig, manifest: Manifest, more: Inputs | None = None
) -> Result | None:
    """The result of a run, None if it is not done. more: digests of what else it reads.

    UserError: the result is damaged, or the folder belongs to another config or to other data.
    """
    file = config.folder / RESULT_FILE
    if not file.exists():
        return None
    result = load_result(file)
    if "content_hash" not in result.dataset:
        raise DamagedFile(f"{file} is damaged (dataset.content_hash is gone): {REMEDY}.")
    state = {
        "config_hash": result.config_hash,
        "content_hash": result.dataset["content_hash"],
        "inputs": result.inputs,
    }
    inputs = inputs_of(config, manifest) | (more or {})
    check_same_run(config.folder, config, manifest.content_hash, inputs, state)
    return result


def reused(result: Result) -> str:
    """That a result is, in words: of which data, and by which version if not by this one."""
    files = result.dataset.get("files_hash")
    data = f"rows {result.dataset['content_hash']}" + (f", files {files}" if files else "")
    made, now = result.packages.get(DISTRIBUTION, "an earlier one"), packages()[DISTRIBUTION]
    older = f"; made by version {made}, this is {now}: --fresh runs it anew" * (made != now)
    return f"done before, result reused (data unchanged: {data}{older})"


def complete(config: CommandConfig, result: Result) -> None:
    """What a run killed just after its result was written still owes: its page and its store.

    A run that another process is still at is left to it.
    """
    folder, tracked = config.folder, config.tracking.store != "none"
    if (folder / REPORT_FILE).exists() and not (tracked and _owes_its_store(folder)):
        return
    try:
        with run_lock(folder):
            _complete(config, result, tracked=tracked)
    except UserError as error:
        print(f"medley: {error}", file=sys.stderr)


def _complete(config: CommandConfig, result: Result, *, tracked: bool) -> None:
    folder = config.folder
    if not (folder / REPORT_FILE).exists():
        draw_pictures(result, folder)
        write_html([result], folder / REPORT_FILE)
    if tracked and _owes_its_store(folder):
        resend(folder, uri=config.tracking.uri)


def _owes_its_store(folder: Path) -> bool:
    state = State.known(folder)
    return state is not None and not state.whole
