"""The worker of the modes that need another one: a process of its own, which serves the graphs of
all scenarios."""

from __future__ import annotations

import argparse
import asyncio

from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.parity import values
from tests.parity.catalogue import SCENARIOS

READY = "parity worker serves"


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--id-prefix", required=True)
    args = parser.parse_args()
    saver = TemporalSaver(
        await Client.connect(args.address), task_queue=args.task_queue, id_prefix=args.id_prefix
    )
    graphs = {name: s.graph(None) for name, s in SCENARIOS.items()}
    async with saver.worker({**graphs, values.NAME: values.build(None)}):
        print(READY, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
