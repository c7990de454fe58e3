"""Benchmark floor, worker side: ``FloorWorkflow`` on a thread, or in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future

from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.floor_workflow import FloorWorkflow, no_op, process_queue

START_S = 30
STOP_S = 30


@contextlib.asynccontextmanager
async def serve(client: Client, task_queue: str) -> AsyncIterator[None]:
    """Workers on the running loop: one for the workflow, one for the pinned Activities."""
    async with (
        Worker(client, task_queue=task_queue, workflows=[FloorWorkflow]),
        Worker(client, task_queue=process_queue(task_queue), activities=[no_op]),
    ):
        yield


@contextlib.asynccontextmanager
async def serve_on_thread(client: Client, task_queue: str) -> AsyncIterator[None]:
    """The same on a thread and an event loop of their own, where the package hosts its worker."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        stop = asyncio.Event()
        async with serve(client, task_queue):
            ready.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

    def thread_main() -> None:
        try:
            asyncio.run(main())
        except BaseException as exc:
            if ready.done():
                raise
            ready.set_exception(exc)

    thread = threading.Thread(target=thread_main, name="floor-worker", daemon=True)
    thread.start()
    loop, stop = await asyncio.wait_for(asyncio.wrap_future(ready), START_S)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(thread.join, STOP_S)


async def main(address: str, task_queue: str) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve(await Client.connect(address), task_queue):
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.address, arguments.task_queue))
