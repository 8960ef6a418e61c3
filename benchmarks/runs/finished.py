"""Runs that are done already: their results, and what a killed process still owed."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.config.base import CommandConfig
from benchmarks.reports.page import REPORT_FILE, write_html
from benchmarks.reports.pictures import draw_pictures
from benchmarks.results.files import load_result
from benchmarks.results.result import RESULT_FILE, Result
from benchmarks.runs.workspace import check_same_run
from benchmarks.tracking.state import State
from benchmarks.tracking.tracker import resend
from multimodal.errors import UserError
from multimodal.recordings import Manifest


def finished(config: CommandConfig, manifest: Manifest) -> Result | None:
    """The result of a run, None if it is not done.

    UserError: the result is damaged, or the folder belongs to another config or to other data.
    """
    if not (config.folder / RESULT_FILE).exists():
        return None
    result = load_result(config.folder / RESULT_FILE)
    state = {
        "config_hash": result.config_hash,
        "content_hash": result.dataset["content_hash"],
    }
    check_same_run(config.folder, config, manifest.content_hash, state)
    return result


def complete(folder: Path, result: Result) -> None:
    """What a run killed just after its result was written still owes: its page and its store."""
    if not (folder / REPORT_FILE).exists():
        write_html([result], folder / REPORT_FILE)
        draw_pictures(result, folder)
    state = State.load(folder)
    if state is not None and not state.whole:
        try:
            resend(folder)
        except UserError as error:
            print(f"medley: {error}", file=sys.stderr)
