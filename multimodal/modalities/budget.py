"""How many bytes one recording may take when it is decoded: a setting of the machine.

Small files may ask for any amount: a megabyte of FLAC holds days of silence. What a header
announces is compared with the budget before anything is decoded, and what is decoded while it is.
It bounds the signal itself; the work on it takes a few times as much for a moment.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

from multimodal.errors import UserError

VARIABLE, DEFAULT_GIB = "MEDLEY_RECORDING_GIB", 1.0
# What a decoder may go through before the part that is wanted, in budgets.
PASSED = 16

Load = TypeVar("Load", bound=Callable[..., Any])


def most_bytes() -> int:
    """Bytes of one decoded recording; UserError if the environment variable is no size."""
    return _bytes(os.environ.get(VARIABLE, ""))


def words() -> str:
    """The budget, and where it is set."""
    return f"{most_bytes() / 2**30:g} GiB ({VARIABLE})"


@functools.lru_cache(maxsize=8)
def _bytes(text: str) -> int:
    try:
        gib = float(text or DEFAULT_GIB)
    except ValueError:
        gib = math.nan
    if not 2**-10 <= gib <= 2**20:
        raise UserError(
            f"{VARIABLE}={text!r}: the memory that one decoded recording may take is a number of "
            "GiB, such as 0.5 or 4; correct it or unset it."
        )
    return int(gib * 2**30)


def within_memory(load: Load) -> Load:
    """An adapter's ``load`` whose MemoryError is a UserError that names the recording."""

    @functools.wraps(load)
    def bounded(self: Any, recording: Any, *args: Any, **kw: Any) -> Any:
        try:
            return load(self, recording, *args, **kw)
        except MemoryError as error:
            raise UserError(
                f"{recording.where}: decoding it takes more memory than there is; give the "
                f"recording a start and a duration, or lower {VARIABLE} to refuse it sooner."
            ) from error

    return bounded  # pyright: ignore[reportReturnType]
