"""Benchmark scale: supersteps per second of many threads, and what idle threads take.

``python -m benchmarks.scale`` prints one JSON object, and a table on stderr. The load is runs that
are begun all at once (``astart``), on worker processes; idle threads have one checkpoint and no
run. CPU and memory are the operating system's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import END, START, StateGraph

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.local import LocalServer, start_server

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

AT_ONCE = 32
"""Requests of this process at the same time."""

SHORT_AT_ONCE = 20

READY_S = 120.0


class State(TypedDict):
    n: int


async def step(state: State) -> State:
    """Does nothing else."""
    return {"n": state["n"] - 1}


builder = StateGraph(State).add_node("step", step).add_edge(START, "step")
builder.add_conditional_edges("step", lambda s: "step" if s["n"] > 0 else END, ["step", END])
graph = builder.compile(name="steps")
"""As many supersteps as ``n`` says."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Runs of so many threads at once.

    Args:
        threads: How many.
        workers: Worker processes.
        supersteps: Of each run.
        per_second: Supersteps of all runs per second.
        server_cpu: Cores that the server used, as are the following.
        worker_cpu: All workers together.
        caller_cpu: This process.
        machine_cpu: All of the machine, others' work included, as a part of its cores.
        server_ms: CPU of the server for one superstep, in milliseconds; start and end of the runs
            are shared out.
        worker_ms: CPU of the workers for the same.
    """

    threads: int
    workers: int
    supersteps: int
    per_second: float
    server_cpu: float
    worker_cpu: float
    caller_cpu: float
    machine_cpu: float
    server_ms: float
    worker_ms: float


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Threads that do nothing.

    Args:
        threads: How many.
        server_kb: What each adds to the resident memory of the server.
        worker_kb: The same of a worker that has made them, up to those it caches.
        cached: Workflows that the worker caches.
        first_s: Until a list has its first thread.
        list_s: Until it has all.
        cold_read_s: ``aget_tuple`` of a process that has read nothing, without a worker.
    """

    threads: int
    server_kb: float
    worker_kb: float
    cached: int
    first_s: float
    list_s: float
    cold_read_s: float


@dataclass(frozen=True, kw_only=True)
class Short:
    """Runs of one node, embedded, ``SHORT_AT_ONCE`` at a time.

    Args:
        runs: How many.
        new_per_second: On as many new threads.
        existing_per_second: And once more on the same.
    """

    runs: int
    new_per_second: float
    existing_per_second: float


def cpu_s(pid: int) -> float:
    """CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def machine_s() -> tuple[float, float]:
    """CPU time that the machine has used, and that it had."""
    fields = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS, sum(fields) / TICKS


def server_pid(server: LocalServer) -> int:
    """The server itself, which a shell has started."""
    port = server.address.rpartition(":")[2]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if command[0].endswith(b"temporal") and port.encode() in command:
                return int(entry.name)
    raise RuntimeError(f"The server on port {port} was not found in /proc.")


@asynccontextmanager
async def worker(server: LocalServer, queue: str) -> AsyncIterator[int]:
    """A worker process; gives its pid."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "langgraph_temporal_exec.cli", "worker", "benchmarks.scale:graph"),
        *("--address", server.address, "--task-queue", queue, "--id-prefix", queue),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


async def load(server: LocalServer, *, threads: int, workers: int, supersteps: int) -> Load:
    """All runs at once, on so many worker processes."""
    queue = f"load-{threads}-{workers}"
    saver = TemporalSaver(server.client, task_queue=queue, id_prefix=queue)

    async def call(thread_id: str) -> None:
        config: Any = {"configurable": {"thread_id": thread_id}}
        run = await saver.astart(graph, {"n": supersteps}, config)
        await run.aresult()

    async with AsyncExitStack() as stack:
        pids = [await stack.enter_async_context(worker(server, queue)) for _ in range(workers)]
        async with asyncio.timeout(READY_S):
            while len([w async for w in saver.alist_workers() if w.answers]) < workers:  # noqa: ASYNC110 - in Temporal
                await asyncio.sleep(0.2)
            # Each has run something.
            await asyncio.gather(*(call(f"warm-{i}") for i in range(2 * workers)))
        measured = [server_pid(server), *pids, os.getpid()]
        used, began, machine = [cpu_s(pid) for pid in measured], time.monotonic(), machine_s()
        await asyncio.gather(*(call(f"t-{i}") for i in range(threads)))
        took = time.monotonic() - began
        of_server, *of_workers, of_caller = [
            (cpu_s(pid) - before) / took for pid, before in zip(measured, used, strict=True)
        ]
        busy, had = (now - before for now, before in zip(machine_s(), machine, strict=True))
    saver.close()
    per_second = threads * supersteps / took
    return Load(
        threads=threads,
        workers=workers,
        supersteps=supersteps,
        per_second=per_second,
        server_cpu=of_server,
        worker_cpu=sum(of_workers),
        caller_cpu=of_caller,
        machine_cpu=busy / had,
        server_ms=1_000 * of_server / per_second,
        worker_ms=1_000 * sum(of_workers) / per_second,
    )


async def idle(server: LocalServer, threads: int) -> Idle:
    """Threads with one checkpoint each, made by a worker in this process."""
    queue = f"idle-{threads}"
    # A busy machine is slow, not dead.
    saver = TemporalSaver(
        server.client, task_queue=queue, id_prefix=queue, no_worker_timeout=timedelta(minutes=5)
    )
    limit = asyncio.Semaphore(AT_ONCE)

    async def make(number: int) -> None:
        async with limit:
            config: Any = {"configurable": {"thread_id": f"thread-{number}", "checkpoint_ns": ""}}
            metadata: Any = {"source": "input", "step": -1, "parents": {}}
            await saver.aput(config, empty_checkpoint(), metadata, {})

    pid = server_pid(server)
    async with saver.worker(graph):
        await asyncio.gather(*(make(-number) for number in range(1, 20)))
        before = resident(pid), resident(os.getpid())
        await asyncio.gather(*map(make, range(threads)))
        after = resident(pid), resident(os.getpid())
    reader = TemporalSaver(server.client, task_queue=queue, id_prefix=queue)
    began = time.monotonic()
    first, found = 0.0, 0
    async for _ in reader.alist_threads():
        first = first or time.monotonic() - began
        found += 1
    listed = time.monotonic() - began
    cold = TemporalSaver(server.client, task_queue=queue, id_prefix=queue)
    began = time.monotonic()
    await cold.aget_tuple({"configurable": {"thread_id": "thread-0"}})
    read = time.monotonic() - began
    for one in (saver, reader, cold):
        one.close()
    cached = min(threads, 1_000)
    return Idle(
        threads=found,
        server_kb=(after[0] - before[0]) / threads / 1000,
        worker_kb=(after[1] - before[1]) / cached / 1000,
        cached=cached,
        first_s=first,
        list_s=listed,
        cold_read_s=read,
    )


async def short(server: LocalServer, runs: int) -> Short:
    """One-node runs, some at once, called in the process that drives them."""
    saver = TemporalSaver(server.client, task_queue="short", id_prefix="short")
    durable = graph.with_config(checkpointer=saver)
    limit = asyncio.Semaphore(SHORT_AT_ONCE)

    async def call(thread_id: str) -> None:
        async with limit:
            await durable.ainvoke({"n": 1}, {"configurable": {"thread_id": thread_id}})

    async with saver.worker(graph):
        await asyncio.gather(*(call(f"warm-{number}") for number in range(SHORT_AT_ONCE)))
        took: list[float] = []
        for _ in range(2):
            began = time.monotonic()
            await asyncio.gather(*(call(f"thread-{number}") for number in range(runs)))
            took.append(time.monotonic() - began)
    saver.close()
    return Short(runs=runs, new_per_second=runs / took[0], existing_per_second=runs / took[1])


def show(loads: Sequence[Load], idles: Sequence[Idle], shorts: Sequence[Short]) -> str:
    """The same as tables, in Markdown."""
    lines = [
        "| threads at once | workers | supersteps per second | CPU of server, workers, caller "
        "(cores) | CPU per superstep: server, workers | machine busy |",
        "|---:|---:|---:|---|---|---:|",
    ]
    lines += [
        f"| {r.threads:,} | {r.workers} | {r.per_second:.0f} | {r.server_cpu:.2f}, "
        f"{r.worker_cpu:.2f}, {r.caller_cpu:.2f} | {r.server_ms:.0f}, {r.worker_ms:.0f} ms | "
        f"{r.machine_cpu:.0%} |"
        for r in loads
    ]
    lines += [
        "",
        "| idle threads | server, each | worker, each cached | list: first, all | cold read |",
        "|---:|---:|---:|---|---:|",
    ]
    lines += [
        f"| {r.threads:,} | {r.server_kb:.0f} kB | {r.worker_kb:.0f} kB | {r.first_s:.2f} s, "
        f"{r.list_s:.1f} s | {r.cold_read_s:.2f} s |"
        for r in idles
    ]
    lines += [
        "",
        f"| one-node runs, {SHORT_AT_ONCE} at once, embedded | new threads | existing ones |",
        "|---:|---:|---:|",
    ]
    lines += [
        f"| {r.runs:,} | {r.new_per_second:.0f} /s | {r.existing_per_second:.0f} /s |"
        for r in shorts
    ]
    return "\n".join(lines)


def numbers(text: str) -> list[int]:
    """``1,10,100``; nothing for "" ."""
    return [int(part) for part in text.split(",") if part]


async def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--threads", type=numbers, default=[1, 10, 100])
    parser.add_argument("--workers", type=numbers, default=[1, 3])
    parser.add_argument("--supersteps", type=int, default=10)
    parser.add_argument("--idle", type=numbers, default=[10_000])
    parser.add_argument("--short", type=numbers, default=[300])
    given = parser.parse_args(arguments)
    loads: list[Load] = []
    idles: list[Idle] = []
    shorts: list[Short] = []
    server = await start_server()
    try:
        for runs in given.short:
            shorts.append(await short(server, runs))
            print(shorts[-1], file=sys.stderr)
        for workers in given.workers:
            for threads in given.threads:
                made = await load(
                    server, threads=threads, workers=workers, supersteps=given.supersteps
                )
                loads.append(made)
                print(made, file=sys.stderr)
    finally:
        await server.shutdown()
    for threads in given.idle:
        # One that holds nothing else.
        server = await start_server()
        try:
            idles.append(await idle(server, threads))
            print(idles[-1], file=sys.stderr)
        finally:
            await server.shutdown()
    print(show(loads, idles, shorts), file=sys.stderr)
    found = {"load": loads, "idle": idles, "short": shorts}
    print(json.dumps({kind: [asdict(r) for r in rows] for kind, rows in found.items()}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
