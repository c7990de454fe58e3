"""What a thread is must not depend on who tells it: its worker, its history, its state, a list."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client
from temporalio.worker import Replayer

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol.messages import ReadReply, ReadRequest
from langgraph_temporal_exec.storage.history import HistoryReader
from langgraph_temporal_exec.workflow.core.thread_state import ThreadState
from langgraph_temporal_exec.workflow.details import current_details
from langgraph_temporal_exec.workflow.thread import ThreadWorkflow

TRIES = 40
"""Reads of a thread that something still happens to between the two readings."""


async def check_without_worker(saver: TemporalSaver, thread_id: str) -> None:
    """The histories of a thread and its namespaces say what its workflows answer."""
    for ns in ("", *await _same(saver, thread_id, "")):
        if ns:
            await _same(saver, thread_id, ns)


async def _same(saver: TemporalSaver, thread_id: str, ns: str) -> tuple[str, ...]:
    transport = saver._store.transport
    workflow_id = transport.thread_workflow_id(thread_id, ns)
    for left in reversed(range(TRIES)):
        asked = await _asked(saver, thread_id, ns)
        state = await HistoryReader(transport.client, transport.has_workflow_worker).state(
            workflow_id
        )
        if asked is None:
            assert state is None or state.deleted
            return ()
        if state is None and left:
            # A namespace that was closed since.
            continue
        assert state is not None
        told = _told(state)
        if told == asked or not left:
            break
        await asyncio.sleep(0.05)
    await replayed(transport.client, workflow_id)
    different = {k: (v, asked[k]) for k, v in told.items() if v != asked[k]}
    assert not different, f"{workflow_id}: the history and the worker say: {different}"
    namespaces: tuple[str, ...] = asked["namespaces"]
    return namespaces


async def replayed(client: Client, workflow_id: str) -> None:
    """A worker that does not have a thread in its cache comes to the same commands."""
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    converter = client.data_converter
    await Replayer(workflows=[ThreadWorkflow], data_converter=converter).replay_workflow(history)


async def _asked(saver: TemporalSaver, thread_id: str, ns: str) -> dict[str, Any] | None:
    ops: list[bytes] = []
    incarnation = ""
    while True:
        request = ReadRequest(incarnation=incarnation, cursor=len(ops), runs=True, standing=True)
        reply = await saver._store.transport.read(thread_id, ns, request)
        if reply is None:
            return None
        ops += reply.page.ops
        incarnation = reply.page.incarnation
        if not reply.page.more:
            break
    handle = saver._store.transport.client.get_workflow_handle(
        saver._store.transport.thread_workflow_id(thread_id, ns)
    )
    metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    details = metadata.current_details
    if ns and details.startswith("graph: "):
        # What it was started with, which is not of its state.
        details = details.partition("\n\n")[2]
    return {**_parts(reply, ops), "details": details}


def _told(state: ThreadState) -> dict[str, Any]:
    reply = state.read(ReadRequest(runs=True, standing=True))
    return {**_parts(reply, state.log.entries), "details": current_details(state)}


def _parts(reply: ReadReply, ops: list[bytes]) -> dict[str, Any]:
    # Entries of parallel tasks may lie in another order.
    return {
        "summary": reply.summary,
        "standing": reply.standing,
        "runs": reply.runs,
        "namespaces": reply.namespaces,
        "segments": reply.page.segments,
        "ops": Counter(ops),
    }


async def check_status(saver: TemporalSaver, graph: Any, thread_id: str) -> str:
    """A list says of a thread what ``get_state`` says; the status, for more to be asserted."""
    config = {"configurable": {"thread_id": thread_id}}
    info = await saver.aget_thread(thread_id)
    try:
        state = await graph.aget_state(config)
    except Exception:
        # Writes that do not fit together: LangGraph cannot tell either.
        return "" if info is None else info.status
    if info is None:
        assert not state.values
        assert not state.next
        return ""
    asked = [sorted(i.id for i in told.interrupts) for told in (info, state)]
    assert asked[0] == asked[1], f"the list shows {info.interrupts}, the state {state!r}"
    if state.interrupts:
        possible = {"interrupted"}
    elif any(task.error for task in state.tasks):
        possible = {"error"}
    elif state.next:
        possible = {"idle", "busy", "interrupted", "error"}
    else:
        # It is at its end, unless its last run failed before or after its nodes.
        possible = {"idle", "error"}
    assert info.status in possible, f"the list says {info.status!r}, the state {state!r}"
    return info.status
