"""``failed.json`` in a run's folder: why its last attempt came to nothing; gone with the next that
does not."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

from multimodal.errors import UserError
from multimodal.files import write_atomically

FAILURE_FILE = "failed.json"
UNFIT = "not applicable"


@dataclass(frozen=True)
class Failure:
    """state: "failed", or "not applicable": the learner is none for such data, or such a stream.

    reason: a line, or several. traceback: of the exception, if it was one. attempts: that came to
    nothing in a row. at: UTC, ISO.
    """

    state: Literal["failed", "not applicable"]
    reason: str
    traceback: str = ""
    attempts: int = 1
    at: str = ""

    def save(self, folder: Path) -> None:
        """A disk that refuses costs the file only: its refusal is the reason, most likely."""
        before = self.load(folder)
        count = self.attempts + (0 if before is None else before.attempts)
        text = json.dumps({**asdict(self), "attempts": count}, indent=1, ensure_ascii=False)
        with contextlib.suppress(UserError, OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / FAILURE_FILE, text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """None if the last attempt was none that failed, or its file cannot be read."""
        try:
            found = json.loads((folder / FAILURE_FILE).read_text("utf-8"))
            failure = cls(**found)
        except (OSError, ValueError, TypeError):
            return None
        return failure if isinstance(failure.attempts, int) else None

    @property
    def line(self) -> str:
        """The first line of the reason."""
        return self.reason.partition("\n")[0]


def forget(folder: Path) -> None:
    """An attempt has come to its end."""
    with contextlib.suppress(OSError):
        (folder / FAILURE_FILE).unlink(missing_ok=True)
