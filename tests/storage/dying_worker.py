"""A worker that kills itself at a named point: ``python -m tests.storage.dying_worker``."""

from __future__ import annotations

import argparse
import asyncio
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.workflow import archiving
from tests.faults.points import Interceptor, Points
from tests.storage.graphs import agents

FOREVER_S = 600


async def _serve(
    address: str, task_queue: str, folder: Path, kill: str, park_after: timedelta | None
) -> None:
    points = Points(folder=folder, kill=kill)
    points.arm()
    if park_after:
        # Archives have no heartbeats: until another worker makes it.
        archiving.ARCHIVE_TIMEOUT = timedelta(seconds=3)
    client = await Client.connect(address, interceptors=[Interceptor(points)])
    saver = TemporalSaver(
        client, task_queue=task_queue, id_prefix=task_queue, park_after=park_after
    )
    async with saver.worker(agents()):
        (folder / "serving").touch()
        await asyncio.sleep(FOREVER_S)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--kill", required=True)
    parser.add_argument("--park-after", type=float, help="seconds")
    args = parser.parse_args()
    park_after = timedelta(seconds=args.park_after) if args.park_after else None
    asyncio.run(_serve(args.address, args.task_queue, args.folder, args.kill, park_after))


if __name__ == "__main__":
    main()
