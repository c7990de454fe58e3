"""The saver's sync methods, from a plain thread, give what InMemorySaver's give."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver

pytestmark = pytest.mark.compat


def exercise(saver: Any) -> list[Any]:
    """Every sync method once; what can be seen after each."""
    seen: list[Any] = []
    stored = []
    parent: dict[str, Any] = {"thread_id": "t", "checkpoint_ns": ""}
    for step in range(3):
        checkpoint = empty_checkpoint()
        checkpoint["id"] = f"0000000{step}"
        checkpoint["channel_values"] = {"x": step}
        checkpoint["channel_versions"] = {"x": f"{step}.0"}
        config = saver.put({"configurable": parent}, checkpoint, {"step": step}, {"x": f"{step}.0"})
        stored.append(config["configurable"]["checkpoint_id"])
        parent = config["configurable"]
    saver.put_writes({"configurable": parent}, [("x", 7), ("y", "z")], "task", "~path")
    head = saver.get_tuple({"configurable": {"thread_id": "t"}})
    seen.append(
        (stored, head.checkpoint["channel_values"], head.pending_writes, head.parent_config)
    )
    listed = list(saver.list({"configurable": {"thread_id": "t"}}, limit=2))
    seen.append([(c.metadata, c.checkpoint["channel_values"]) for c in listed])
    seen.append(
        dict(saver.get_delta_channel_history(config={"configurable": parent}, channels=["x"]))
    )
    saver.delete_thread("t")
    seen.append(saver.get_tuple({"configurable": {"thread_id": "t"}}))
    return seen


async def test_sync_methods(client: Client, task_queue: str) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(), asyncio.timeout(100):
        assert await asyncio.to_thread(exercise, saver) == exercise(InMemorySaver())

        def extended() -> list[Any]:
            checkpoint = empty_checkpoint()
            for step in range(2):
                checkpoint = {**checkpoint, "id": f"{step}"}
                config: Any = {"configurable": {"thread_id": "s", "checkpoint_ns": ""}}
                saver.put(config, checkpoint, {"step": step, "run_id": f"r{step}"}, {})
            saver.copy_thread("s", "c")
            saver.delete_for_runs(["r0"])
            saver.prune(["c"])
            return [
                [c.checkpoint["id"] for c in saver.list({"configurable": {"thread_id": t}})]
                for t in ("s", "c")
            ]

        # The copy carries the run ids of its checkpoints, so r0 goes from both.
        assert await asyncio.to_thread(extended) == [["1"], ["1"]]
    saver.close()


async def test_pruning_is_seen_the_same_from_a_cold_process(
    client: Client, task_queue: str
) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    cold = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(), asyncio.timeout(100):
        config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        versions = {"early": "1", "late": "1"}
        for step, late in enumerate(["a", "b", "c"]):
            checkpoint = empty_checkpoint()
            checkpoint["id"] = f"{step}"
            versions = {**versions, "late": f"{step}"}
            checkpoint["channel_values"] = {"early": "remember me", "late": late}
            checkpoint["channel_versions"] = versions
            new = versions if step == 0 else {"late": f"{step}"}
            config = await saver.aput(config, checkpoint, {"step": step}, new)
        await saver.aprune(["t"])
        head: Any = {"configurable": {"thread_id": "t"}}
        expected = {"early": "remember me", "late": "c"}
        for reader in (saver, cold):
            found = await reader.aget_tuple(head)
            assert found is not None
            assert found.checkpoint["channel_values"] == expected
            assert len([c async for c in reader.alist(head)]) == 1


async def test_writes_to_a_new_namespace_at_once(client: Client, task_queue: str) -> None:
    """Each opens the namespace; none may go on before its workflow is there."""
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    at: Any = {"thread_id": "t", "checkpoint_ns": "sub:1"}
    tasks = {f"task {n}" for n in range(8)}

    async def write(task: str) -> None:
        parent: Any = {"configurable": {**at, "checkpoint_id": "1"}}
        await saver.aput_writes(parent, [("x", task)], task)

    async with saver.worker(), asyncio.timeout(100):
        await asyncio.gather(*map(write, tasks))
        checkpoint = {**empty_checkpoint(), "id": "1"}
        await saver.aput({"configurable": at}, checkpoint, {"step": 0}, {})
        found = await saver.aget_tuple({"configurable": at})
    assert found is not None
    assert {task for task, _, _ in found.pending_writes or []} == tasks
    thread = client.get_workflow_handle(saver._store.transport.thread_workflow_id("t"))
    happened = [EventType.Name(e.event_type) async for e in thread.fetch_history_events()]
    there = happened.index("EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED")
    assert happened.index("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED") > there
    assert happened.count("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED") == len(tasks) + 1
