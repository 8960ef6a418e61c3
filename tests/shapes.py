"""The annotations that give shapes, checked at every call that a test makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

OBJECTIVES = Path(__file__).parents[1] / "multimodal" / "objectives"
# Not tools.blocks: its functions are compiled on a GPU, and checks would be compiled with them.
CHECKED = (
    *(f"multimodal.objectives.{p.stem}" for p in OBJECTIVES.glob("[!_]*.py")),
    *(f"multimodal.objectives.tools.{m}" for m in ("gather", "tiled")),
    "continual",
)


def install() -> None:
    """Check what is imported from now on; modules imported before stay as they are."""
    install_import_hook(CHECKED, f"{__name__}.only_shapes")


def only_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """beartype, of the annotations with shapes alone.

    All others are pyright's: some cannot be checked when a program runs (protocols), some are what
    a test breaks on purpose to see our own error (``Literal``). ``function``: the signature that
    jaxtyping makes of the one to be checked, a function of its own.
    """
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if _has_shape(hint)}
    return beartype(function) if function.__annotations__ else function


def _has_shape(hint: object) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_has_shape(part) for part in get_args(hint))
