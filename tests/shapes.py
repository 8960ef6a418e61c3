"""The annotations that give shapes, checked at the first calls of each function in every test."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped

CALLS = 20  # of a function in a test that are checked: loops of thousands tell nothing more
_calls = Counter[Any]()  # since the test began

OBJECTIVES = Path(__file__).parents[1] / "multimodal" / "objectives"
# Not tools.blocks: its functions are compiled on a GPU, and checks would be compiled with them.
CHECKED = (
    *(f"multimodal.objectives.{p.stem}" for p in OBJECTIVES.glob("[!_]*.py")),
    *(f"multimodal.objectives.tools.{m}" for m in ("beside", "gather", "tiled", "top_k")),
    "continual",
)


def install() -> None:
    """Check what is imported from now on; modules imported before stay as they are.

    Not jaxtyping's own import hook: while a module runs it has all that this imports (PyTorch and
    the like) compiled anew, which takes longer than many a test.
    """
    sys.meta_path.insert(0, _Finder())


def begin_test() -> None:
    """The next calls are the first ones again."""
    _calls.clear()


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not any(fullname == name or fullname.startswith(f"{name}.") for name in CHECKED):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Runs a module as it is, then wraps its functions and methods."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        for holder in (module, *(v for v in vars(module).values() if isinstance(v, type))):
            if getattr(holder, "__module__", module.__name__) != module.__name__:
                continue
            for name, value in list(vars(holder).items()):
                if getattr(value, "__module__", "") == module.__name__ or holder is not module:
                    checked = _checked(value)
                    if checked is not value:
                        setattr(holder, name, checked)


def _checked(value: Any) -> Any:
    """A function, method or property that checks shapes, if its signature has some."""
    if isinstance(value, property):
        return property(_checked(value.fget), value.fset, value.fdel, value.__doc__)
    if isinstance(value, staticmethod | classmethod):
        return type(value)(_checked(value.__func__))
    if not isinstance(value, FunctionType):
        return value
    hints = [str(hint) for hint in value.__annotations__.values()]
    if not any("[Tensor," in hint or "ndarray," in hint for hint in hints):
        return value
    checked = jaxtyped(typechecker=only_shapes)(value)

    @functools.wraps(value)
    def first_calls(*args: Any, **options: Any) -> Any:
        if _calls[value] >= CALLS:
            return value(*args, **options)
        _calls[value] += 1
        return checked(*args, **options)

    return first_calls


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
