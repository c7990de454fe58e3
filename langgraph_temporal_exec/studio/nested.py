"""Studio: what the server cannot tell of a thread: when its tasks ran, and the sub-agents that
its tools and nodes call.

The server reads a nested namespace through a graph that a node *is*. One that is called from a
tool is found nowhere, and the server would read its namespace with the channels and nodes of the
outer graph. So its timeline is made from the checkpoints alone, in the form of the server's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.graph.message import add_messages
from langgraph.types import Overwrite

from ..seam import private
from ..storage.store import Store
from ..storage.timings import TaskTiming, Timings
from . import server
from .aliases import alias_of


class Nested:
    """Answers for the debugging page.

    Args:
        store: The threads.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._timings = Timings(store.transport.client)

    async def about(
        self, thread_id: str, checkpoint_ns: str, since: datetime | None
    ) -> dict[str, Any]:
        """Times of tasks, and names of namespaces.

        Args:
            thread_id: The thread's own id.
            checkpoint_ns: The namespace whose tasks are asked for.
            since: Tasks of older checkpoints may be left out.

        Returns:
            ``tasks``: when each began and ended, by its id; ``namespaces``: all of the thread.
        """
        timings = await self._times(thread_id, checkpoint_ns, since)
        replica = self._store.replica(thread_id)
        await self._store.reader.refresh_all(replica, "")
        return {
            "tasks": {
                task_id: {
                    "started_at": timing.started_at.isoformat(),
                    "ended_at": timing.ended_at and timing.ended_at.isoformat(),
                }
                for task_id, timing in timings.items()
            },
            "namespaces": sorted(replica.known_namespaces - {""}),
        }

    async def states(
        self, thread_id: str, checkpoint_ns: str, limit: int, before: str | None
    ) -> list[dict[str, Any]]:
        """Checkpoints of a namespace, newest first, as the server's history has states.

        Args:
            thread_id: The thread's own id.
            checkpoint_ns: The namespace.
            limit: How many at most.
            before: Id of the checkpoint before which to begin.

        Returns:
            The states; tasks are those that have written something, and at the latest checkpoint
            those that run.
        """
        config = _config(thread_id, checkpoint_ns)
        bound = None if before is None else _config(thread_id, checkpoint_ns, before)
        found = [
            item
            async for item in self._store.checkpoints(config, before=bound, limit=max(1, limit))
        ]
        if not found:
            return []
        since = datetime.fromisoformat(str(found[-1].checkpoint["ts"]))
        timings = await self._times(thread_id, checkpoint_ns, since)
        states = [
            self._state(item, await self._values(thread_id, checkpoint_ns, item), timings)
            for item in found
        ]
        if before is None:
            done = {task["id"] for state in states for task in state["tasks"]}
            states[0]["tasks"] += [
                _task(task_id, timing.node, [])
                for task_id, timing in timings.items()
                if timing.ended_at is None and task_id not in done
            ]
        return states

    async def _times(
        self, thread_id: str, checkpoint_ns: str, since: datetime | None
    ) -> dict[str, TaskTiming]:
        workflow_id = self._store.transport.thread_workflow_id(thread_id, checkpoint_ns)
        return await self._timings.tasks(workflow_id, since)

    async def _values(
        self, thread_id: str, checkpoint_ns: str, item: CheckpointTuple
    ) -> dict[str, Any]:
        values = {
            channel: private.stored_value(value)
            for channel, value in item.checkpoint["channel_values"].items()
            if not private.is_internal(channel)
        }
        checkpoint_id = str(item.checkpoint["id"])
        deltas = self._store.replica(thread_id).deltas(checkpoint_ns, checkpoint_id)
        if deltas:
            histories = await self._store.delta_history(item.config, deltas)
            for channel, history in histories.items():
                writes = [value for _, _, value in history["writes"]]
                values[channel] = _folded(private.stored_value(history.get("seed")), writes)
        return values

    def _state(
        self,
        item: CheckpointTuple,
        values: Mapping[str, Any],
        timings: Mapping[str, TaskTiming],
    ) -> dict[str, Any]:
        by_task: dict[str, list[tuple[str, Any]]] = {}
        for task_id, channel, value in item.pending_writes or ():
            if task_id != private.NULL_TASK_ID:
                by_task.setdefault(task_id, []).append((channel, value))
        begins = item.metadata.get("source") == "input"
        unknown = private.START if begins else "task"
        tasks = [
            _task(task_id, timings[task_id].node if task_id in timings else unknown, writes)
            for task_id, writes in by_task.items()
        ]
        parent = item.parent_config
        return {
            "checkpoint": _address(item.config),
            "checkpoint_id": item.checkpoint["id"],
            "parent_checkpoint_id": parent and parent["configurable"]["checkpoint_id"],
            "created_at": item.checkpoint["ts"],
            "metadata": server.plain(dict(item.metadata)),
            "values": server.plain(dict(values)),
            "tasks": tasks,
            "interrupts": [asked for task in tasks for asked in task["interrupts"]],
        }


def _task(task_id: str, name: str, writes: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    interrupts: list[Any] = []
    result: dict[str, Any] = {}
    error = None
    for channel, value in writes:
        if channel == private.INTERRUPT:
            interrupts += [server.plain_interrupt(asked) for asked in value]
        elif channel == private.ERROR:
            error = str(value)
        elif not private.is_internal(channel):
            result[channel] = server.plain(value)
    return {
        "id": task_id,
        "name": name,
        "error": error,
        "interrupts": interrupts,
        "checkpoint": None,
        "result": result or None,
    }


def _folded(value: Any, writes: Iterable[Any]) -> Any:
    """A DeltaChannel's value without its reducer, which only the graph has: messages, lists and
    mappings grow by what is written; anything else is what was written last."""
    for write in writes:
        if isinstance(write, Overwrite):
            value = write.value
        elif _messages(write) and (value is None or _messages(value)):
            value = add_messages(value or [], write)
        elif isinstance(write, list) and isinstance(value or [], list):
            value = [*(value or []), *write]
        elif isinstance(write, dict) and isinstance(value or {}, dict):
            merged = {**(value or {}), **write}
            value = {key: one for key, one in merged.items() if one is not None}
        else:
            value = write
    return value


def _messages(value: Any) -> bool:
    many = value if isinstance(value, list) else [value]
    return bool(many) and all(isinstance(one, BaseMessage) for one in many)


def _config(thread_id: str, checkpoint_ns: str, checkpoint_id: str | None = None) -> RunnableConfig:
    configurable = {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns}
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def _address(config: RunnableConfig) -> dict[str, str]:
    configurable = config["configurable"]
    return {
        "thread_id": alias_of(str(configurable["thread_id"])),
        "checkpoint_ns": str(configurable.get("checkpoint_ns", "")),
        "checkpoint_id": str(configurable["checkpoint_id"]),
    }
