"""Overrides that do nothing are refused: whoever writes one means something by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.config.base import PLACES, FileConfig
from benchmarks.config.loading import load_whole
from benchmarks.config.overrides import shorter
from multimodal.errors import UserError

ROWS = ("learners", "objectives", "methods", "seeds")


def refuse_idle(
    files: Sequence[Path], overrides: Sequence[str], *, model: type[FileConfig]
) -> None:
    """UserError for an override that changes none of the files' configs, or that another replaces.

    Where runs read and write (``output_dir=runs``), and which runs of a config these are
    (``learners=[er]``, ``seeds=[1,2]``), may be said again: scripts say it of many configs. All
    overrides together are valid (``load_config`` comes first).
    """
    for number, text in enumerate(overrides):
        if _does_something(files, overrides, number, model):
            continue
        after = [
            j
            for j in range(number + 1, len(overrides))
            if not _does_something(files, overrides[: j + 1], number, model)
        ]
        if after and _does_something(files, overrides[: number + 1], number, model):
            raise UserError(
                f"{shorter(text)}: {shorter(overrides[after[0]])} after it replaces what it sets; "
                "leave one of them out."
            )
        path = text.partition("=")[0]
        if path not in ROWS and path.split(".")[0] not in PLACES:
            raise UserError(
                f"{shorter(text)}: changes nothing, the config is the same without it; leave it "
                "out, or look at what the config holds with `medley config show`."
            )


def _does_something(
    files: Sequence[Path], overrides: Sequence[str], number: int, model: type[FileConfig]
) -> bool:
    """Some config is another one, or no valid one, without the override of that number."""
    others = [*overrides[:number], *overrides[number + 1 :]]
    for file in files:
        try:
            if load_whole(file, overrides, model=model) != load_whole(file, others, model=model):
                return True
        except UserError:
            return True
    return False
