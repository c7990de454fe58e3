"""A process that hosts a worker in Python, and is torn down: ``python -m tests.faults.host``."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from datetime import timedelta
from typing import Any

from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.faults.leavers import appears, graphs

FOREVER_S = 600
EXIT_CODE = 3


async def _exits_when(path: str) -> None:
    await appears(path)
    sys.exit(EXIT_CODE)


async def _host(args: Any) -> None:
    client = await Client.connect(args.address)
    heartbeat = timedelta(seconds=args.heartbeat)
    saver = TemporalSaver(client, task_queue=args.task_queue, heartbeat_timeout=heartbeat)
    async with saver.worker(graphs, shutdown_grace=timedelta(seconds=5)):
        print("hosting", flush=True)
        if args.how == "exit":
            # Kept: asyncio itself holds its tasks weakly.
            exits = asyncio.create_task(_exits_when(args.trigger))
            await asyncio.wait([exits])
        elif args.how in ("stop", "close"):
            await appears(args.trigger)
            asyncio.get_running_loop().stop()
        await asyncio.sleep(FOREVER_S)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--heartbeat", type=float, required=True)
    parser.add_argument("--trigger", required=True)
    parser.add_argument("--how", choices=["exit", "signals", "stop", "close"], required=True)
    args = parser.parse_args()
    # A job in the background of a shell ignores it, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if args.how in ("exit", "signals"):
        asyncio.run(_host(args))
        return
    loop = asyncio.new_event_loop()
    hosting = loop.create_task(_host(args))
    loop.run_forever()
    print("stopped", hosting.done(), flush=True)
    if args.how == "close":
        loop.close()
    # The process lives, but nothing runs its loop any more.
    time.sleep(FOREVER_S)


if __name__ == "__main__":
    main()
