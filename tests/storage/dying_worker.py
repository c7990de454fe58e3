"""A worker that kills itself at a named point: ``python -m tests.storage.dying_worker``."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.faults.points import Interceptor, Points
from tests.storage.graphs import agents

FOREVER_S = 600


async def _serve(address: str, task_queue: str, folder: Path, kill: str) -> None:
    points = Points(folder=folder, kill=kill)
    points.arm()
    client = await Client.connect(address, interceptors=[Interceptor(points)])
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(agents()):
        (folder / "serving").touch()
        await asyncio.sleep(FOREVER_S)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--kill", required=True)
    args = parser.parse_args()
    asyncio.run(_serve(args.address, args.task_queue, args.folder, args.kill))


if __name__ == "__main__":
    main()
