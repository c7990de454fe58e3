"""Large values: stored, read back, carried on, deleted; the thread's own history stays small."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.types import Command
from temporalio.client import Client

from langgraph_temporal_exec import ValueTooLargeError
from langgraph_temporal_exec.local import start_server
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.values.ops import MAX_VALUE_BYTES
from tests.storage.conftest import MakeSaver
from tests.storage.graphs import big, value_of
from tests.storage.wide import wide
from tests.support.graphs import config, large, parallel

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]

SMALL_HISTORY = 400_000
"""Bytes; far below any of the values, and far below what makes a replay slow."""

KINDS = ("string", "bytes", "messages", "image")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A server with a file: in memory, its database ends at one gigabyte."""
    server = await start_server(tmp_path / "temporal.db")
    yield server.client
    await server.shutdown()


def same(left: Any, right: Any) -> bool:
    """Equality without a megabyte of difference in the test's report."""
    if isinstance(left, list):
        return [m.content for m in left] == [m.content for m in right]
    return bool(left == right)


async def history_bytes(client: Client, workflow_id: str) -> int:
    description = await client.get_workflow_handle(workflow_id).describe()
    return int(description.raw_description.workflow_execution_info.history_size_bytes)


async def blobs_of(client: Client, prefix: str, thread_id: str) -> list[str]:
    """Blobs of a thread that visibility knows, when it has come to rest."""
    query = f"WorkflowId STARTS_WITH '{names.blob_workflow_prefix(prefix, thread_id)}'"
    seen: list[str] | None = None
    while True:
        found = sorted([e.id async for e in client.list_workflows(query)])
        if found == seen:
            return found
        seen = found
        await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("kind", "megabytes", "mode"),
    [
        ("string", 1, "embedded"),
        ("bytes", 3, "remote"),
        ("messages", 3, "embedded"),
        ("image", 10, "remote"),
        ("string", 20, "embedded"),
    ],
)
async def test_everywhere(
    make_saver: MakeSaver,
    client: Client,
    task_queue: str,
    kind: str,
    megabytes: int,
    mode: str,
) -> None:
    """As output of a node and of a nested graph, in an interrupt, as answer, and as input."""
    value = value_of(kind, megabytes)
    host = make_saver(roll_events=25, archive_bytes=2_000)
    caller = host if mode == "embedded" else make_saver(roll_events=25, archive_bytes=2_000)
    async with host.worker(big()):
        graph = big().with_config(checkpointer=caller)
        asked = await graph.ainvoke({"kind": kind, "megabytes": megabytes}, config("t"))
        (question,) = asked["__interrupt__"]
        assert same(question.value["look at"], value)
        state = await graph.aget_state(config("t"))
        assert same(state.tasks[0].interrupts[0].value["look at"], value)
        assert state.values["log"] == ["made", "made", "inner"]
        done = await graph.ainvoke(Command(resume=value), config("t"))
        assert same(done["answer"], value)
        again = await graph.ainvoke({"kind": kind, "megabytes": 0, "answer": value}, config("t"))
        assert "__interrupt__" in again
        cold = big().with_config(checkpointer=make_saver())
        state = await cold.aget_state(config("t"))
        assert same(state.values["answer"], value)
        history = [s async for s in cold.aget_state_history(config("t"))]
        assert same([s for s in history if s.next == ("ask",)][-1].values["value"], value)
        thread = names.thread_workflow_id(task_queue, "t")
        assert await history_bytes(client, thread) < SMALL_HISTORY
        assert await blobs_of(client, task_queue, "t")
        await host.adelete_thread("t")
        assert await blobs_of(client, task_queue, "t") == []
        assert (await graph.aget_state(config("t"))).values == {}
    caller.close()


async def test_a_large_list_that_grows_costs_what_is_new(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    saver = make_saver()
    async with saver.worker(big()):
        graph = big().with_config(checkpointer=saver)
        start = {"kind": "messages", "megabytes": 3}
        await graph.ainvoke(start, config("t"))
        before = len(await blobs_of(client, task_queue, "t"))
        value = (await graph.aget_state(config("t"))).values["value"]
        for n in range(5):
            value = [*value, value[n]]
            await graph.aupdate_state(config("t"), {"value": value}, as_node="make")
        assert same((await graph.aget_state(config("t"))).values["value"], value)
        # Deltas, in the log: no blob was added.
        assert len(await blobs_of(client, task_queue, "t")) == before


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_above_the_limit_is_refused_before_anything_is_sent(
    make_saver: MakeSaver, client: Client, task_queue: str, mode: str
) -> None:
    host = make_saver()
    caller = host if mode == "embedded" else make_saver()
    too_large = "y" * (MAX_VALUE_BYTES + 1)
    async with host.worker(big(), parallel()):
        graph = parallel().with_config(checkpointer=caller)
        with pytest.raises(ValueTooLargeError, match=r"'x'.*64,0.* bytes.*thread 't'"):
            await graph.ainvoke({"x": [too_large]}, config("t"))
        with pytest.raises(ValueTooLargeError, match=r"channel 'x'.*thread 't'.*64,0"):
            await graph.aupdate_state(config("t"), {"x": [too_large]}, as_node="a")
        assert await blobs_of(client, task_queue, "t") == []
        nodes = big().with_config(checkpointer=caller)
        with pytest.raises(ValueTooLargeError, match=r"channel 'value'.*node 'make'.*thread 't'"):
            await nodes.ainvoke({"kind": "string", "megabytes": 65}, config("t"))
        assert await blobs_of(client, task_queue, "t") == []
        asked = await nodes.ainvoke({"kind": "string", "megabytes": 1}, config("t"))
        assert "__interrupt__" in asked
    caller.close()


@pytest.mark.long
async def test_many_small_values_are_one_large_record(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    """No value is large, all of them are: a superstep of 600 Sends of two kilobytes each."""
    saver = make_saver()
    async with saver.worker(wide()):
        graph = wide().with_config(checkpointer=saver)
        result = await graph.ainvoke({"n": 600, "out": []}, config("t"))
        assert len(result["out"]) == 600
        cold = wide().with_config(checkpointer=make_saver())
        assert (await cold.aget_state(config("t"))).values["out"] == result["out"]
        assert len([s async for s in cold.aget_state_history(config("t"))]) == 4


async def test_three_megabytes_in_three_channels(make_saver: MakeSaver) -> None:
    saver = make_saver()
    async with saver.worker(large()):
        graph = large().with_config(checkpointer=saver)
        result = await graph.ainvoke({"start": 1}, config("t"))
        assert {k: len(v) for k, v in result.items() if k != "start"} == dict.fromkeys(
            "abc", 1_000_000
        )
