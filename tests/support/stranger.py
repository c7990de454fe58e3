"""A program with ``LANGGRAPH_STRICT_MSGPACK`` that knows none of a graph's classes, and reads.

It tells what it saw of a run and its thread, and what LangGraph's SQLite saver shows it of the same
state.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver

CLASSES = "tests.support.values"


def shape(value: Any) -> Any:
    """A value as plain data that tells types apart."""
    if isinstance(value, dict):
        return {str(k): shape(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(shape, value)]
    if value is None or isinstance(value, (str, int)):
        return f"{type(value).__name__} {value!r}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


def asked(writes: Any) -> list[Any]:
    return [shape(i.value) for _, c, v in writes for i in v if c == "__interrupt__"]


async def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("address", "queue", "run-id", "thread-id", "sqlite"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    config: Any = {"configurable": {"thread_id": args.thread_id}}
    saver = TemporalSaver(
        await Client.connect(args.address), task_queue=args.queue, id_prefix=args.queue
    )
    run = await saver.aget_run(args.run_id)
    chunks = [mode async for mode, _ in run.astream()]
    result = await run.aresult()
    thread = await saver.aget_thread(args.thread_id)
    found = await saver.aget_tuple(config)
    async with AsyncSqliteSaver.from_conn_string(args.sqlite) as sqlite:
        plain = await sqlite.aget_tuple(config)
    assert thread is not None
    assert found is not None
    assert plain is not None
    values = plain.checkpoint["channel_values"]
    told = {
        "chunks": chunks,
        "result": {k: shape(v) for k, v in result.items() if k != "__interrupt__"},
        "asked in result": [shape(i.value) for i in result["__interrupt__"]],
        "state": {k: shape(found.checkpoint["channel_values"][k]) for k in ("given", "order")},
        "asked in state": asked(found.pending_writes),
        "asked of thread": [shape(i.value) for i in thread.interrupts],
        "plain": {k: shape(values[k]) for k in ("given", "order")},
        "plain asked": asked(plain.pending_writes),
        "loaded": CLASSES in sys.modules,
    }
    print(json.dumps(told), flush=True)
    saver.close()


if __name__ == "__main__":
    asyncio.run(main())
