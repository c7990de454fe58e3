"""Studio: the API server's list of threads, made to say what Temporal has.

The server keeps a list of its own and reads states and histories from the checkpointer. Threads
that others made are not in that list, and what others do to a thread does not change it; so it is
brought up to date when somebody asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from langgraph.types import StateSnapshot
from temporalio.service import RPCError

from .. import maintenance
from ..errors import StorageError, TemporalExecError
from ..listing import ThreadInfo
from ..saver import TemporalSaver
from . import server
from .aliases import Aliases, alias_of

logger = logging.getLogger(__name__)

AT_ONCE = 8
"""Threads that are read at the same time."""

LOOK_S = 1.0
"""How long a look at all threads goes on reading those that seem unchanged, the longest unread ones
first. New ones, and those that had a run lately, are read however many they are."""

SLACK = timedelta(seconds=60)
"""By how much clocks may differ, and the visibility store may lag behind."""

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
        self._read_at: dict[str, float] = {}
        self._looking: asyncio.Task[None] | None = None
        self._looked = datetime.now(UTC)
        self._runs: dict[str, dict[str, bool]] = {}

    async def all(self) -> None:
        """Every thread; askers at the same time share one look."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        began, now = time.monotonic(), datetime.now(UTC)
        transport = self._saver.transport
        found = await maintenance.thread_ids(transport)
        runs = await maintenance.runs_since(transport, self._looked - SLACK)
        changed = {
            t for t, known in runs.items() if any(known.values()) or known != self._runs.get(t)
        }
        listed = [
            str(entry["metadata"][NATIVE_KEY])
            for entry in server.threads().values()
            if NATIVE_KEY in entry["metadata"]
        ]
        # Those that are gone from Temporal are read first, and forgotten by it.
        changed |= set(listed) - set(found)
        turn = asyncio.Semaphore(AT_ONCE)

        async def look(thread_id: str) -> None:
            async with turn:
                unchanged = thread_id in self._read_at and thread_id not in changed
                if unchanged and time.monotonic() > began + LOOK_S:
                    return
                try:
                    await self._show(thread_id)
                except StorageError as exc:
                    # The others are to be seen all the same.
                    logger.warning("thread %r is not shown: %s", thread_id, exc)

        def last_read(thread_id: str) -> float:
            return 0.0 if thread_id in changed else self._read_at.get(thread_id, 0.0)

        await asyncio.gather(*map(look, sorted({*found, *listed}, key=last_read)))
        self._looked, self._runs = now, runs

    async def one(self, thread_id: str) -> ThreadInfo | None:
        """One thread by its id, here or in the server; ``None`` when Temporal has none."""
        return await self._show(await self._aliases.native(thread_id))

    async def _show(self, thread_id: str) -> ThreadInfo | None:
        alias = alias_of(thread_id)
        info = await self._saver.aget_thread(thread_id)
        if info is not None and info.status == "unreadable":
            # The server has no such status, and could show nothing of it.
            raise StorageError(info.error)
        if info is not None:
            self._aliases.see(thread_id)
        self._read_at[thread_id] = time.monotonic()
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
            del self._read_at[thread_id]
            return None
        stamp = (info.updated_at, info.status, info.graph, info.waiting)
        if entry is None or self._shown.get(alias) != stamp:
            record = await self._record(alias, info)
            if not server.has_runs(alias):
                server.put_thread(alias, record)
                self._shown[alias] = stamp
        return info

    async def _state(self, graph_id: str, alias: str, info: ThreadInfo) -> StateSnapshot | None:
        try:
            return await server.state_of(graph_id, alias)
        except (TemporalExecError, RPCError):
            raise
        except Exception:
            # The user's: a factory that fails, a graph that cannot read what an older one wrote.
            logger.warning(
                "graph %r cannot read thread %r, which is listed without its values",
                graph_id,
                info.thread_id,
                exc_info=True,
            )
            return None

    async def _record(self, alias: str, info: ThreadInfo) -> server.ThreadRecord:
        metadata = {NATIVE_KEY: info.thread_id, GRAPH_KEY: info.graph}
        entry = server.thread(alias)
        told = None if entry is None else entry["metadata"].get("graph_id")
        # A thread without runs names no graph; the server may have been told.
        graph_id = server.graph_names().get(info.graph) if info.graph or not told else told
        state = None
        if graph_id is not None:
            if graph_id != told:
                metadata |= {"graph_id": graph_id, "assistant_id": server.assistant_id(graph_id)}
            state = await self._state(graph_id, alias, info)
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
