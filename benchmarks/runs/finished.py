"""What is done when a run is done already."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.reports.page import REPORT_FILE, write_html
from benchmarks.results.result import Result
from benchmarks.tracking.state import State
from benchmarks.tracking.tracker import resend
from multimodal.errors import UserError


def complete(folder: Path, result: Result) -> None:
    """What a run killed just after its result was written still owes: its page and its store."""
    if not (folder / REPORT_FILE).exists():
        write_html([result], folder / REPORT_FILE)
    state = State.load(folder)
    if state is not None and not state.done:
        try:
            resend(folder)
        except UserError as error:
            print(f"medley: {error}", file=sys.stderr)
