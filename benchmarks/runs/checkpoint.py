"""Exact resume: one file, replaced atomically, of tensors and plain values only.

Holds the learner (model, memory as rows), the optimiser, the position in the stream, the records
made so far and the random states of PyTorch (CPU and CUDA), NumPy and Python. The order of
batches is not stored: it follows from the seed and the position. The file is a zip file, whose
checksums of all its parts are compared before anything is believed (PyTorch does not); the
checkpoint before the last is kept, and used where the last one is damaged.
"""

from __future__ import annotations

import os
import random
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multimodal.digests import DamagedFile
from multimodal.errors import UserError
from multimodal.files import replacing, writing

FILE, PREVIOUS = "checkpoint.pt", "previous.pt"
REMEDY = "restore it, or start this run anew with --fresh"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write ``folder/checkpoint.pt``: to a temporary file, flushed to disk, then renamed.

    The last one is ``previous.pt`` from then on. UserError, and the last one stays, if the disk
    refuses.
    """
    path = folder / FILE
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            torch.save({**state, "random": random_state()}, file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, folder / PREVIOUS)


def load(
    folder: Path,
    *,
    check: Callable[[dict[str, Any]], None] = lambda state: None,
    writes: bool = True,
) -> dict[str, Any] | None:
    """The last checkpoint (all tensors on the CPU), or None if there is none.

    check: raises DamagedFile for what else a checkpoint needs. writes: say it on standard error if
    the last one is damaged and the one before is used, and move the damaged one out of the way.
    DamagedFile: both are damaged, or the only one is.
    """
    problems = list[DamagedFile]()
    # A process killed between the two renames of ``save`` leaves the previous one alone.
    for path in (p for p in (folder / FILE, folder / PREVIOUS) if os.path.lexists(p)):
        try:
            state = _read(path)
            check(state)
        except DamagedFile as problem:
            problems.append(problem)
            continue
        if problems and writes:
            os.replace(folder / FILE, folder / f"{FILE}.damaged")
            words = (
                f"medley: {str(problems[0]).rstrip('.')}; going on from the one before it, {path}."
            )
            print(words, file=sys.stderr)
        return state
    if not problems:
        return None
    more = ", and the one before it likewise" if len(problems) > 1 else ""
    raise DamagedFile(f"{str(problems[0]).rstrip('.')}{more}; {REMEDY}.") from problems[0]


@contextmanager
def restoring(folder: Path) -> Iterator[None]:
    """UserError for what another version of Medley has left and this one cannot take up."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{folder / FILE}: does not fit this version of Medley ({problem}); go on with the "
            "version that made it, or start this run anew with --fresh."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    """DamagedFile: cannot be read, or is no checkpoint of a run."""
    try:
        with zipfile.ZipFile(path) as file:
            part = file.testzip()
        if part is not None:
            raise zipfile.BadZipFile(f"checksum of {part}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DamagedFile(
            f"{path}: the checkpoint cannot be read ({type(error).__name__})"
        ) from error
    if not isinstance(state, dict) or "random" not in state:
        raise DamagedFile(f"{path}: the checkpoint cannot be read (it is another file)")
    return state


def random_state() -> dict[str, Any]:
    """The global random states, as tensors and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    assert isinstance(keys, np.ndarray)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the global random states to those of a checkpoint."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
