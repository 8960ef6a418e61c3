"""``medley doctor``: what is wrong with this machine's installation, and what to do about it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from multimodal.errors import UserError, how_to_install
from multimodal.modalities import budget

LIBRARIES = ("transformers", "peft", "accelerate", "soundfile", "soxr", "librosa", "mlflow")
EXTRAS = {
    "offline": {"espeakng_loader": "spoken commands for the demo"},
    "video": {"av": "video, and audio that libsndfile cannot open"},
    "medical": {
        "wfdb": "annotations of ECG",
        "pydicom": "DICOM",
        "PIL": "X-ray images",
        "jpeg_ls": "DICOM in JPEG-LS",
        "openjpeg": "DICOM in JPEG 2000 and HTJ2K",
        "imagecodecs": "DICOM in JPEG Lossless and of 12 bits",
    },
}
# torch 2.15 removed what torchaudio 2.11.0, its newest release, imports.
TORCH_RANGE = ((2, 11), (2, 15))


class Finding(NamedTuple):
    state: Literal["ok", "warning", "error"]
    subject: str
    words: str


def run_doctor(console: Console | None = None) -> bool:
    """Print a table of findings; False if one of them is an error."""
    console = console or Console()
    findings = list(examine())
    table = Table("", "what", "finding", title="medley doctor", show_lines=False)
    marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "error": "[red]error[/]"}
    for finding in findings:
        table.add_row(marks[finding.state], finding.subject, Text(finding.words))
    console.print(table)
    broken = [f.subject for f in findings if f.state == "error"]
    words = f"to mend: {', '.join(broken)}" if broken else "This installation works."
    console.print(words, markup=False)
    return not broken


def examine() -> Iterator[Finding]:
    """All findings, in the order in which one would mend them."""
    yield _python()
    yield from _torch()
    yield from _imported("torchvision", _torchvision_remedy())
    yield from _imported(
        "avalanche", "pip install avalanche-lib==0.6.0 (Python >= 3.12: setuptools)"
    )
    for name in LIBRARIES:
        yield from _imported(name, f"pip install {name}")
    for extra, modules in EXTRAS.items():
        for module, purpose in modules.items():
            yield _extra(module, purpose, extra)
    yield _device()
    yield _data()
    yield _budget()
    yield _tracking()
    yield _writable(Path("runs"))


def _python() -> Finding:
    return Finding("ok", "Python", platform.python_version())


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, int]:
    """``"2.14.1+cu130"`` -> (2, 14)."""
    major, minor, *_ = version.split(".")
    return int(major), int(minor)


def torch_words(torch_version: str, others: dict[str, str | None]) -> str | None:
    """What is wrong with the installed torch and its companions, or None.

    others: versions of torchaudio and torchvision, None if not installed.
    """
    low, high = TORCH_RANGE
    if not low <= numbers(torch_version) < high:
        return (
            f"torch {torch_version} does not work with torchaudio 2.11.0 (torch 2.15 breaks its "
            "import); pip install 'torch>=2.11,<2.15'"
        )
    build = torch_version.partition("+")[2]
    for name, version in others.items():
        other = version.partition("+")[2] if version else build
        if other != build and ("cpu" in (other, build) or (other and build)):
            return (
                f"torch {torch_version} and {name} {version} are different builds (CPU and CUDA "
                "wheels do not mix); install all three from one index"
            )
    return None


def _torch() -> Iterator[Finding]:
    version = _version("torch")
    if version is None:
        yield Finding("error", "torch", "not installed; pip install 'torch>=2.11,<2.15'")
        return
    others = {name: _version(name) for name in ("torchaudio", "torchvision")}
    words = torch_words(version, others)
    yield Finding("error" if words else "ok", "torch", words or version)
    yield from _imported(
        "torchaudio", f"it does not load beside torch {version}; pip install torchaudio==2.11.0"
    )


def _torchvision_remedy() -> str:
    return (
        f"it does not load beside torch {_version('torch')}: a CPU-only torch wheel needs the "
        "torchvision of the same index; reinstall both together"
    )


def _imported(module: str, remedy: str) -> Iterator[Finding]:
    # A broken binary raises OSError, a wrong pair of torch and torchvision RuntimeError.
    words, state = _try(lambda: importlib.import_module(module)), "ok"
    distribution = {"avalanche": "avalanche-lib"}.get(module, module)
    if words is None:
        words = _version(distribution) or "installed"
    else:
        words, state = f"{words}; {remedy}", "error"
    yield Finding(state, module, words)  # pyright: ignore[reportArgumentType]


def _try(action: Callable[[], object]) -> str | None:
    """None if it works, else the error in one line."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return None


def _extra(module: str, purpose: str, extra: str) -> Finding:
    if _try(lambda: importlib.import_module(module)) is None:
        return Finding("ok", module, f"{purpose} (extra {extra})")
    return Finding("warning", module, f"missing: no {purpose}; {how_to_install(extra)}")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("ok", "device", torch.cuda.get_device_name())
    return Finding("ok", "device", f"CPU, {torch.get_num_threads()} threads (no GPU seen)")


def _data() -> Finding:
    root = os.environ.get("MEDLEY_DATA")
    if root is None:
        return Finding("ok", "MEDLEY_DATA", "not set; give data_root=FOLDER to medley bench")
    if not Path(root).is_dir():
        return Finding("error", "MEDLEY_DATA", f"{root} is not a folder")
    folders = sorted(p.name for p in Path(root).iterdir() if p.is_dir())
    return Finding("ok", "MEDLEY_DATA", f"{root}: {', '.join(folders) or 'empty'}")


def _budget() -> Finding:
    try:
        return Finding("ok", budget.VARIABLE, f"one decoded recording may take {budget.words()}")
    except UserError as error:
        return Finding("error", budget.VARIABLE, str(error))


def _tracking() -> Finding:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        return Finding("ok", "tracking", "MLflow in runs/mlflow.db (SQLite)")
    from benchmarks.tracking.state import first_line
    from benchmarks.tracking.store import connect
    from multimodal.credentials import shown

    try:
        connect(uri).search_experiments(max_results=1)
    except Exception as error:
        words = f"MLFLOW_TRACKING_URI={shown(uri)}: {first_line(error, uri)}"
        return Finding("error", "tracking", words)
    return Finding("ok", "tracking", f"MLFLOW_TRACKING_URI={shown(uri)}")


def _writable(folder: Path) -> Finding:
    existing = folder if folder.exists() else folder.absolute().parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding("error", "output", f"cannot write to {existing}: {error.strerror}")
    return Finding("ok", "output", f"{folder} can be written")
