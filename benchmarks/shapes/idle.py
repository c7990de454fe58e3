"""Benchmark shape: threads that had one turn each, and now wait."""

from __future__ import annotations

import asyncio
from time import perf_counter

from benchmarks.contender import Caller
from benchmarks.processes import cpu_ms, memory_mb

AT_ONCE = 10
SETTLE_S = 3.0


async def sample(caller: Caller, *, threads: int, seconds: float) -> dict[str, float]:
    """What waits costs: CPU while nothing happens, and memory for each thread.

    Returns:
        For the server and for the process with the worker: ``..._idle_cpu_ms_per_s``, and
        ``..._kb_per_thread``, by which its resident memory has grown.
    """
    pids = {"server": caller.server_pid, "worker": (caller.workers or [caller.pid])[0]}
    before = {name: memory_mb(pid) for name, pid in pids.items()}
    slots = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with slots:
            await caller.thread("one_step")({"n": 0})

    begun = perf_counter()
    await asyncio.gather(*(one() for _ in range(threads)))
    numbers = {"threads_per_s": threads / (perf_counter() - begun)}
    await asyncio.sleep(SETTLE_S)
    used = {name: cpu_ms(pid) for name, pid in pids.items()}
    begun = perf_counter()
    await asyncio.sleep(seconds)
    took_s = perf_counter() - begun
    for name, pid in pids.items():
        numbers[f"{name}_idle_cpu_ms_per_s"] = (cpu_ms(pid) - used[name]) / took_s
        numbers[f"{name}_kb_per_thread"] = (memory_mb(pid) - before[name]) * 1e3 / threads
    return numbers
