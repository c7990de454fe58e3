"""Contender side: a process that takes samples for the benchmark, and what it has to be for that.

A contender is one file in ``benchmarks/contenders``: a context manager ``opened(setup)`` gives its
``Caller``, another one, ``worker(setup)``, is its worker, and ``REASONS`` has the shapes that it
cannot run. It runs in a process of its own, with the interpreter of its environment (``python -m
benchmarks.contender NAME``), and speaks JSON lines with the benchmark: ``{"open": {...}}``, then
``{"sample": {"shape": ..., "parameters": {...}}}`` as often as wanted. Each line has one answer. It
closes when its standard input ends. This module and the shapes import nothing of this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import die_with_parent

ROOT = Path(__file__).resolve().parent.parent

LINE_LIMIT = 1 << 24

WORKER_READY_S = 90
WORKER_EXIT_S = 15

Values = dict[str, Any]
"""Input or output of a graph: what JSON can say, and messages."""

Turn = Callable[[Values], Awaitable[Values]]
"""One call on a thread: input -> output."""


class UnsupportedError(Exception):
    """The contender cannot do what the shape needs; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a contender is given."""

    variant: str  # which of those in its file
    address: str  # host:port of the Temporal server
    namespace: str
    server_pid: int
    directory: str  # its own, for files; removed at the end


class Caller:
    """What shapes measure: graphs that are called. A contender defines what it can do.

    Args:
        setup: What the contender was given.
        fleet: Its worker processes; ``None``: this process works.
    """

    def __init__(self, setup: Setup, fleet: Fleet | None = None) -> None:
        self.server_pid = setup.server_pid
        self.pid = os.getpid()
        self.fleet = fleet

    @property
    def workers(self) -> list[int]:
        """Ids of the processes that work for this one."""
        return [] if self.fleet is None else self.fleet.pids

    async def run(self, shape: str, given: Values) -> Values:
        """One run of the shape's graph that nothing follows: where there are threads, a new one."""
        raise UnsupportedError("it runs no such graph")

    def thread(self, shape: str) -> Turn:
        """A new thread of the shape's graph."""
        raise UnsupportedError("it has no threads that stay")

    def stream(self, shape: str, given: Values) -> AsyncIterator[str]:
        """A run on a new thread: the texts of its tokens as they arrive."""
        raise UnsupportedError("it does not stream the tokens of models")


Open = Callable[[Setup], AbstractAsyncContextManager[Caller]]


def graph_of(shape: str) -> Any:
    """The compiled graph of a shape; it has no checkpointer."""
    return importlib.import_module(f"benchmarks.shapes.{shape}").graph


def serve(open_: Open, refused: Mapping[str, str]) -> None:
    """Speak with the benchmark until standard input ends.

    Args:
        open_: Gives the contender.
        refused: Shapes that it cannot run, and why; they may not even be imported.
    """
    # Whatever a library prints must not come between the lines.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asyncio.run(_serve(open_, refused, out))


async def _serve(open_: Open, refused: Mapping[str, str], out: Any) -> None:
    lines = asyncio.StreamReader(limit=LINE_LIMIT)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with AsyncExitStack() as stack:
        caller: Caller | None = None
        while line := await lines.readline():
            asked = json.loads(line)
            try:
                if "open" in asked:
                    caller = await stack.enter_async_context(open_(Setup(**asked["open"])))
                    answer: Values = {}
                else:
                    assert caller is not None
                    wanted = asked["sample"]
                    if why := refused.get(wanted["shape"]):
                        raise UnsupportedError(why)
                    shape = importlib.import_module(f"benchmarks.shapes.{wanted['shape']}")
                    answer = {"numbers": await shape.sample(caller, **wanted["parameters"])}
            except UnsupportedError as exc:
                answer = {"unsupported": str(exc)}
            except Exception as exc:
                traceback.print_exc()
                answer = {"error": f"{type(exc).__name__}: {exc}"}
            if caller is not None:
                answer["workers"] = caller.workers
            print(json.dumps(answer), file=out, flush=True)


# -- where the worker is ----------------------------------------------------------------------


@asynccontextmanager
async def on_thread(worker: Callable[[], AbstractAsyncContextManager[Any]]) -> AsyncIterator[None]:
    """A worker on a thread and an event loop of their own, as this package hosts its own."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        stop = asyncio.Event()
        async with worker():
            ready.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

    def thread_main() -> None:
        try:
            asyncio.run(main())
        except BaseException as exc:
            if ready.done():
                raise
            ready.set_exception(exc)

    thread = threading.Thread(target=thread_main, name="worker", daemon=True)
    thread.start()
    loop, stop = await asyncio.wait_for(asyncio.wrap_future(ready), WORKER_READY_S)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(thread.join, WORKER_EXIT_S)


@dataclass(kw_only=True)
class Fleet:
    """Workers in other processes, each of which runs the worker of a contender's file."""

    module: str  # in ``benchmarks/contenders``
    setup: Setup
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)  # the oldest first

    @property
    def pids(self) -> list[int]:
        """Their ids."""
        return [process.pid for process in self.processes]

    async def start(self) -> None:
        """Start one more, and wait until it works."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.contender", self.module),
            json.dumps(asdict(self.setup)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            preexec_fn=die_with_parent,
        )
        self.processes.append(process)
        assert process.stdout is not None
        if not await asyncio.wait_for(process.stdout.readline(), WORKER_READY_S):
            raise RuntimeError(f"the worker process exited with {await process.wait()}")

    async def kill(self) -> None:
        """Kill the oldest with SIGKILL."""
        process = self.processes.pop(0)
        process.kill()
        await process.wait()

    async def stop(self) -> None:
        """Have all of them end in order."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), WORKER_EXIT_S)
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def elsewhere(module: str, setup: Setup) -> AsyncIterator[Fleet]:
    """A worker in another process, and more of them as wanted."""
    fleet = Fleet(module=module, setup=setup)
    try:
        await fleet.start()
        yield fleet
    finally:
        await fleet.stop()


def main() -> None:
    """Be a contender, or its worker in another process: the arguments say which."""
    name, *worker = sys.argv[1:]
    module = importlib.import_module(f"benchmarks.contenders.{name}")
    if worker:
        asyncio.run(_work(module.worker(Setup(**json.loads(worker[0])))))
    else:
        serve(module.opened, getattr(module, "REASONS", {}))


async def _work(worker: AbstractAsyncContextManager[Any]) -> None:
    ended = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(ended), sys.stdin)
    async with worker:
        print("ready", flush=True)
        await ended.read()


if __name__ == "__main__":
    # Not of this copy: contenders import the other one.
    importlib.import_module("benchmarks.contender").main()
