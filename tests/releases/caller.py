"""A caller of some release of the package as its own process: ``python -m tests.releases.caller``.

It reads commands from a file and writes what came of each to another, a line of JSON each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.faults.ledger import POLL_S
from tests.releases.conversation import build
from tests.releases.worker import check_release


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--heartbeat-timeout", type=float, required=True)
    parser.add_argument("--commands", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--host-worker", action="store_true")
    return parser.parse_args()


def read_lines(path: Path) -> list[Any]:
    """What was written to a file, a line of JSON each."""
    # One that is being written has no end yet.
    lines = [x for x in path.read_text().splitlines(keepends=True) if x[-1] == "\n"]
    return [json.loads(line) for line in lines]


async def _commands(path: Path) -> AsyncIterator[dict[str, Any]]:
    """Those that are written to a file, for ever."""
    read = 0
    while True:
        for command in read_lines(path)[read:]:
            read += 1
            yield command
        await asyncio.sleep(POLL_S)


async def _obey(graph: Any, command: dict[str, Any], out: Path) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": command["thread"]}}
    turn, answer = command["turn"], command["answer"]
    given = {"turn": turn, "log": [f"{turn} said"]}
    done: dict[str, Any] = {"id": command["id"]}
    modes: Any = ["updates", "values"]
    result: Any = None
    done["updates"] = []
    try:
        if answer is not None:
            result = await graph.ainvoke(Command(resume=answer), config)
        else:
            async for mode, chunk in graph.astream(given, config, stream_mode=modes):
                if mode == "updates":
                    done["updates"] += sorted(chunk)
                else:
                    result = chunk
    except Exception as exc:
        done["error"] = f"{type(exc).__name__}: {exc}"
    else:
        done["log"] = result["log"]
        done["asked"] = [found.value for found in result.get("__interrupt__", ())]
    with out.open("a") as file:
        file.write(json.dumps(done) + "\n")


async def main() -> None:
    """Obey, several commands at once, until killed."""
    check_release()
    args = _arguments()
    # Runs are driven by whoever comes first, not always by the worker that began the thread.
    known = inspect.signature(TemporalSaver).parameters
    options: dict[str, Any] = {"affinity": "none"} if "affinity" in known else {}
    saver = TemporalSaver(
        await Client.connect(args.address),
        task_queue=args.task_queue,
        heartbeat_timeout=timedelta(seconds=args.heartbeat_timeout),
        **options,
    )
    graph = build(Path(os.environ["FAULTS_DIR"])).with_config(checkpointer=saver)
    async with (
        saver.worker(graph) if args.host_worker else contextlib.nullcontext(),
        asyncio.TaskGroup() as group,
    ):
        print("calling", flush=True)
        async for command in _commands(args.commands):
            group.create_task(_obey(graph, command, args.out))


if __name__ == "__main__":
    asyncio.run(main())
