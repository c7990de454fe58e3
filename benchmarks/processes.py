"""Benchmark processes: what they have used, and how they end; from the operating system (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """In a child, before it executes: it ends when this process does, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def cpu_ms(pid: int) -> float:
    """CPU time of a process so far, all of its threads, user and system. Milliseconds."""
    # The name of the program, in parentheses, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e3 / _TICKS


def memory_mb(pid: int) -> float:
    """Resident memory of a process. MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6
