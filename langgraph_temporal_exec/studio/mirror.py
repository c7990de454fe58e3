"""Studio: the API server's list of threads, made to say what Temporal has.

The server keeps a list of its own and reads states and histories from the checkpointer. Threads
that others made are not in that list, and what others do to a thread does not change it; so it is
brought up to date when somebody asks.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from .. import maintenance
from ..listing import ThreadInfo
from ..saver import TemporalSaver
from . import server
from .aliases import Aliases

AT_ONCE = 8
"""Threads that are read at the same time."""

REST_AFTER_S = 1.0
"""A look at all threads that takes longer than this is not repeated before as much time again
has passed: a client that lists again and again must not keep Temporal busy with it."""

NATIVE_KEY = "temporal_thread_id"
"""Key of a thread's metadata in the server: its id in Temporal and in plain code."""

GRAPH_KEY = "temporal_graph"
"""The same for the name of its graph."""


class Mirror:
    """Brings the server's list up to date.

    Args:
        saver: Reads the threads.
        aliases: Ids of the server by threads, and back.
    """

    def __init__(self, saver: TemporalSaver, aliases: Aliases) -> None:
        self._saver = saver
        self._aliases = aliases
        self._shown: dict[str, tuple[Any, ...]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._rest_until = 0.0

    async def all(self) -> None:
        """Every thread; askers at the same time share one look."""
        if time.monotonic() < self._rest_until:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        began = time.monotonic()
        found = await maintenance.thread_ids(self._saver.transport)
        listed = [
            str(entry["metadata"][NATIVE_KEY])
            for entry in server.threads().values()
            if NATIVE_KEY in entry["metadata"]
        ]
        turn = asyncio.Semaphore(AT_ONCE)

        async def look(thread_id: str) -> None:
            async with turn:
                await self._show(thread_id)

        await asyncio.gather(*map(look, dict.fromkeys([*found, *listed])))
        took = time.monotonic() - began
        self._rest_until = time.monotonic() + (took if took > REST_AFTER_S else 0.0)

    async def one(self, alias: str) -> ThreadInfo | None:
        """One thread by its id in the server; ``None`` when Temporal has none."""
        return await self._show(await self._aliases.native(alias))

    async def _show(self, thread_id: str) -> ThreadInfo | None:
        alias = self._aliases.see(thread_id)
        info = await self._saver.aget_thread(thread_id)
        if server.has_runs(alias):
            # What the server itself does it tells by itself.
            self._shown.pop(alias, None)
            return info
        entry = server.thread(alias)
        if info is None:
            # Deleted by somebody else; what only the server has made so far stays.
            if entry is not None and NATIVE_KEY in entry["metadata"]:
                server.drop_thread(alias)
            self._shown.pop(alias, None)
            return None
        stamp = (info.updated_at, info.status, info.graph, info.waiting)
        if entry is None or self._shown.get(alias) != stamp:
            record = await self._record(alias, info)
            if not server.has_runs(alias):
                server.put_thread(alias, record)
                self._shown[alias] = stamp
        return info

    async def _record(self, alias: str, info: ThreadInfo) -> server.ThreadRecord:
        metadata = {NATIVE_KEY: info.thread_id, GRAPH_KEY: info.graph}
        entry = server.thread(alias)
        # A thread without runs names no graph; the server may have been told.
        told = entry["metadata"].get("graph_id") if entry is not None and not info.graph else None
        graph_id = told or server.graph_names().get(info.graph)
        state = None
        if graph_id is not None:
            metadata |= {"graph_id": graph_id, "assistant_id": server.assistant_id(graph_id)}
            state = await server.state_of(graph_id, alias)
        if state is None:
            return server.ThreadRecord(
                status=info.status,
                created_at=info.created_at,
                updated_at=info.updated_at,
                metadata=metadata,
            )
        # As the server itself says it: what has nodes to run is interrupted.
        stands = info.status == "idle" and state.next
        errors = [task.error for task in state.tasks if task.error]
        return server.ThreadRecord(
            status="interrupted" if stands else info.status,
            created_at=info.created_at,
            updated_at=info.updated_at,
            metadata=metadata,
            values=server.plain(state.values),
            interrupts={
                task.id: [server.plain_interrupt(i) for i in task.interrupts]
                for task in state.tasks
                if task.interrupts
            },
            error=server.plain(errors[0]) if errors and info.status == "error" else None,
        )
