"""Facts about this machine and installation that a result must name."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from multimodal.errors import UserError

# A model of fewer parameters does not keep several threads busy: its steps are many small pieces of
# work, between which the threads wait for each other.
SMALL = 2_000_000
THREADS = torch.get_num_threads()  # as PyTorch found them
DISTRIBUTION = "medley-continual"
PACKAGES = (
    DISTRIBUTION,
    "torch",
    "torchaudio",
    "numpy",
    "avalanche-lib",
    "transformers",
    "mlflow",
)


def pick_device(wanted: str, *, setting: str = "training.device") -> torch.device:
    """``auto`` -> GPU where there is one; UserError if a GPU is asked for and there is none.

    setting: the user's name of what is wanted.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{setting}=cuda: PyTorch sees no GPU here; use auto or cpu.")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def use_threads(
    wanted: int | None, *, parameters: int, device: torch.device, told: bool = True
) -> None:
    """Set PyTorch's threads on the CPU: ``wanted``, or those that fit a model of that size.

    That is one for a ``SMALL`` model, so that runs beside each other do not wait for each other's
    threads. Others get what PyTorch takes by itself, and so do all beside a GPU, and where the
    environment says how many (OMP_NUM_THREADS). Standard error is told of the rule, once, unless
    not ``told``.
    """
    ruled = wanted is None and device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ
    one = ruled and parameters < SMALL
    torch.set_num_threads(wanted or (1 if one else THREADS))
    if told and one and THREADS > 1:
        _tell_of_one_thread()


@cache
def _tell_of_one_thread() -> None:
    print(
        f"medley: one CPU thread, for models of fewer than {SMALL:,} parameters gain little by "
        f"more; training.threads={THREADS} takes all that there are.",
        file=sys.stderr,
    )


def size_of(*modules: nn.Module) -> int:
    """Parameters, trained or not."""
    return sum(p.numel() for module in modules for p in module.parameters())


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor, cores, threads and the device that trains."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": gpu or "cpu",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def packages() -> dict[str, str]:
    """Versions of Python and of the libraries that the numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def git_commit() -> str | None:
    """Commit of the checkout that this code runs from, if it is one; "+changes" if it differs."""
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():
        return None
    try:
        run = lambda *args: subprocess.run(  # noqa: E731
            ["git", *args], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        commit = run("rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if run("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def reset_peak_memory(device: torch.device) -> None:
    """From now on ``peak_memory`` is of what comes, as far as the system can begin anew (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes: highest resident size of this process so far and, on a GPU, highest allocation."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    with contextlib.suppress(OSError):  # the same, but for what ``reset_peak_memory`` forgot
        status = Path("/proc/self/status").read_text()
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
        peak["process"] = int(found[1]) * 1024 if found else peak["process"]
    if device.type == "cuda":
        peak["device"] = torch.cuda.max_memory_allocated(device)
    return peak
