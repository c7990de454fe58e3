"""Plain sync programs: without an event loop, beside one, and an orderly end of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TemporalServer

ROOT = Path(__file__).parents[2]

HEAD = """
import asyncio, operator, os, threading
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from temporalio.client import Client
from langgraph_temporal_exec import TemporalSaver

class State(TypedDict):
    x: Annotated[list, operator.add]

def ask(state: State) -> dict:
    return {"x": [interrupt("who?")]}

builder = StateGraph(State).add_node("ask", ask).add_edge(START, "ask")
graph = builder.compile(name="asking")
QUEUE, ADDRESS = os.environ["QUEUE"], os.environ["ADDRESS"]

def use(graph, thread_id):
    config = {"configurable": {"thread_id": thread_id}}
    assert list(graph.stream({"x": [1]}, config, stream_mode="updates"))[-1]["__interrupt__"]
    assert graph.get_state(config).next == ("ask",)
    graph.update_state(config, {"x": [2]}, as_node="__start__")
    graph.invoke(None, config)
    assert graph.invoke(Command(resume=3), config)["x"] == [1, 2, 3]
    assert len(list(graph.get_state_history(config))) > 3

def use_from_threads(graph):
    failed = []
    threading.excepthook = lambda args: failed.append(args)
    threads = [threading.Thread(target=use, args=(graph, f"t{i}")) for i in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not failed, failed

def connect(**options):
    client = asyncio.run(Client.connect(ADDRESS))
    return TemporalSaver(client, task_queue=QUEUE, id_prefix=QUEUE, **options)
"""

PROGRAMS = {
    "a server and a worker of its own": """
with TemporalSaver.local() as saver:
    durable = graph.with_config(checkpointer=saver)
    use(durable, "t")
    use_from_threads(durable)
""",
    "a worker of its own": """
saver = connect()
with saver.worker(graph):
    use(graph.with_config(checkpointer=saver), "t")
    use_from_threads(graph.with_config(checkpointer=saver))
""",
    "a worker elsewhere, nothing closed": """
import subprocess, sys
worker = '''
import asyncio
async def main():
    client = await Client.connect(ADDRESS)
    async with TemporalSaver(client, task_queue=QUEUE, id_prefix=QUEUE).worker(graph):
        print("serving", flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
'''
code = "import sys\\n" + HEAD + worker
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
process = subprocess.Popen([sys.executable, "-c", code], **pipes)
assert process.stdout.readline() == b"serving\\n"
durable = graph.with_config(checkpointer=connect())
use(durable, "t")
use_from_threads(durable)
process.stdin.close()
assert process.wait() == 0
""",
    "beside a running loop": """
async def main(saver):
    async with saver.worker(graph):
        durable = graph.with_config(checkpointer=saver)
        await asyncio.gather(*(asyncio.to_thread(use, durable, f"t{i}") for i in range(3)))
        # On the loop itself, as in a notebook: it blocks the loop, no more.
        use(durable, "on the loop")
asyncio.run(main(connect()))
""",
    "left in the middle": """
saver = connect()
with saver.worker(graph):
    durable = graph.with_config(checkpointer=saver)
    stream = durable.stream({"x": [1]}, {"configurable": {"thread_id": "t"}})
    next(stream)
    del stream
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(temporal_server: TemporalServer, task_queue: str, name: str) -> None:
    env = {**os.environ, "QUEUE": task_queue, "ADDRESS": temporal_server.address}
    code = f"HEAD = {HEAD!r}\n{HEAD}\n{PROGRAMS[name]}\nprint('the end')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("the end\n", "")
