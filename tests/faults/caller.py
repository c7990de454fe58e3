"""A caller as its own process: connects, calls, writes what it gets to a file, line by line.

Each line of the file is a JSON object with one key: ``state`` (the thread as found), ``update``
(the nodes of a chunk), ``values``, ``result`` or ``error``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.faults.agent import build_agent
from tests.faults.expected import plain


class Record:
    """The file the test reads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, **line: Any) -> None:
        """One line."""
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--thread", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--heartbeat-timeout", type=float, required=True)
    parser.add_argument("--no-worker-timeout", type=float, default=10.0)
    parser.add_argument("--how", choices=["ainvoke", "astream", "invoke"], default="ainvoke")
    parser.add_argument("--host-worker", action="store_true")
    parser.add_argument("--read-first", action="store_true")
    parser.add_argument("text", help="what the human says")
    return parser.parse_args()


async def _call(args: argparse.Namespace, graph: Any, record: Record) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": args.thread}}
    if args.read_first:
        state = await graph.aget_state(config)
        record.add(state=plain(state.values))
    given = {"messages": [("user", args.text)]}
    result: Any = None
    if args.how == "invoke":
        result = await asyncio.to_thread(graph.invoke, given, config)
    elif args.how == "ainvoke":
        result = await graph.ainvoke(given, config)
    else:
        async for mode, chunk in graph.astream(given, config, stream_mode=["updates", "values"]):
            if mode == "updates":
                record.add(update=sorted(chunk))
            else:
                result = chunk
                record.add(values=plain(chunk))
    record.add(result=plain(result))


async def main() -> None:
    """Call once; an error is a line of the file too."""
    args = _arguments()
    record = Record(args.out)
    saver = TemporalSaver(
        await Client.connect(args.address),
        task_queue=args.task_queue,
        heartbeat_timeout=timedelta(seconds=args.heartbeat_timeout),
        no_worker_timeout=timedelta(seconds=args.no_worker_timeout),
    )
    agent = build_agent(Path(os.environ["FAULTS_DIR"])).with_config(checkpointer=saver)
    async with saver.worker(agent) if args.host_worker else contextlib.nullcontext():
        try:
            await _call(args, agent, record)
        except Exception as exc:
            record.add(error=f"{type(exc).__name__}: {exc}")
            raise
        finally:
            saver.close()


if __name__ == "__main__":
    asyncio.run(main())
