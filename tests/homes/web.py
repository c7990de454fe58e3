"""A process as of a web service: it hosts a worker, and calls its graphs as lines come in.

A line is ``{"graph": ..., "thread": ..., "input": ..., "stream": bool}``; it prints one with the
output, or with the chunks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.homes import disks


async def _main(address: str, task_queue: str, name: str | None, affinity: str) -> None:
    client = await Client.connect(address)
    chosen: Any = affinity
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, affinity=chosen)
    async with saver.worker(*disks.plain.values(), name=name):
        print(json.dumps({"ready": True}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            call = json.loads(line)
            graph = disks.plain[call["graph"]].with_config(checkpointer=saver)
            config: Any = {"configurable": {"thread_id": call["thread"]}}
            if call.get("stream"):
                modes: Any = ["custom", "values"]
                chunks = [c async for c in graph.astream(call["input"], config, stream_mode=modes)]
                print(json.dumps({"chunks": chunks}), flush=True)
            elif call.get("sync"):
                said = await asyncio.to_thread(graph.invoke, call["input"], config)
                print(json.dumps({"output": said}), flush=True)
            else:
                said = await graph.ainvoke(call["input"], config)
                print(json.dumps({"output": said}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--name")
    parser.add_argument("--affinity", default="prefer")
    given = parser.parse_args()
    asyncio.run(_main(given.address, given.task_queue, given.name, given.affinity))
