"""What of this machine processes may use: cores and memory, also within a container's limits."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
PROC = Path("/proc")
SHARE = 0.9  # of the memory that is free, for what nobody foresees


def cores() -> int:
    """CPU cores that this process may use, at least one."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        allowed = os.cpu_count() or 1
    quota = _words(CGROUP / "cpu.max")
    if len(quota) == 2 and quota[0].isdecimal():
        allowed = min(allowed, max(1, round(int(quota[0]) / int(quota[1]))))
    return max(1, allowed)


def available_memory() -> int | None:
    """Bytes that processes may still take; None if the system does not tell."""
    found = []
    for line in _lines(PROC / "meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(1024 * int(line.split()[1]))
    limit, used = _words(CGROUP / "memory.max"), _words(CGROUP / "memory.current")
    if limit and used and limit[0].isdecimal():
        cached = sum(
            int(line.split()[1])
            for line in _lines(CGROUP / "memory.stat")
            if line.startswith("inactive_file ")
        )
        found.append(max(0, int(limit[0]) - int(used[0]) + cached))
    return min(found, default=None)


def fitting(wanted: int, memory: int | None) -> int:
    """As many of ``wanted`` processes of so many bytes each as fit into what is available."""
    available = available_memory()
    if not memory or available is None:
        return wanted
    return max(1, min(wanted, int(SHARE * available) // memory))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    lines = _lines(path)
    return lines[0].split() if lines else []
