"""Studio: the API server's list of threads, made to say what Temporal has.

The server keeps a list of its own and reads states and histories from the checkpointer. Threads
that others made are not in that list, and what others do to a thread does not change it; so it is
brought up to date when somebody asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from langgraph.types import StateSnapshot
from temporalio.service import RPCError

from .. import threads
from ..errors import ServerUnavailableError, TemporalExecError
from ..storage import visibility
from ..storage.store import Store
from ..threads import ThreadInfo
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
"""Key of a thread's metadata in the server: the name of its graph."""


class Mirror:
    """Brings the server's list up to date.

    Args:
        store: The threads.
        aliases: Ids of the server by threads, and back.
    """

    def __init__(self, store: Store, aliases: Aliases) -> None:
        self._store = store
        self._aliases = aliases
        self._shown: dict[str, tuple[Any, ...]] = {}
        self._read_at: dict[str, float] = {}
        self._looking: asyncio.Task[None] | None = None
        self._asked: float | None = None
        self._unread = 0
        self._looked = datetime.now(UTC)
        self._runs: dict[str, dict[str, bool]] = {}
        self._readings = count(1)
        self._reading_of: dict[str, int] = {}

    async def all(self, wait_s: float | None = None) -> int:
        """Every thread.

        Args:
            wait_s: Seconds to wait at most; ``None``: until all are as they were at the call, or
                later.

        Returns:
            How many threads are still to be read: 0 when all are up to date.
        """
        if wait_s is None:
            await self._fresh()
            return 0
        looking = self._under_way() or self._begin()
        await asyncio.wait([looking], timeout=wait_s)
        if not looking.done():
            return max(1, self._unread)
        looking.result()
        return 0

    async def _fresh(self) -> None:
        if (earlier := self._under_way()) is not None:
            # It may have read already what changed since; the next look is shared by all who
            # asked during this one. If this one fails, the next one tells.
            self._asked = self._asked or time.monotonic()
            await asyncio.wait([earlier])
        await asyncio.shield(self._under_way() or self._begin())

    def _under_way(self) -> asyncio.Task[None] | None:
        looking = self._looking
        return None if looking is None or looking.done() else looking

    def _begin(self) -> asyncio.Task[None]:
        asked, self._asked = self._asked or time.monotonic(), None
        self._unread = 0
        self._looking = asyncio.create_task(self._look(asked))
        # Whoever waits is told of a failure; nobody may be waiting.
        self._looking.add_done_callback(lambda look: look.cancelled() or look.exception())
        return self._looking

    async def close(self) -> None:
        """End the look that is under way."""
        if (looking := self._under_way()) is not None:
            looking.cancel()
            await asyncio.wait([looking])

    async def _look(self, asked: float) -> None:
        """Read the threads; those that seem unchanged only if they were last read before
        ``asked``, and for a second."""
        began, now = time.monotonic(), datetime.now(UTC)
        transport = self._store.transport
        # As the visibility store lists them, which is the newest first.
        found = await visibility.thread_ids(transport)
        runs = await visibility.runs_since(transport, self._looked - SLACK)
        changed = {
            t for t, known in runs.items() if any(known.values()) or known != self._runs.get(t)
        }
        listed = [
            str(metadata[NATIVE_KEY]) for metadata in server.threads() if NATIVE_KEY in metadata
        ]
        # Those that are gone from Temporal are read first, and forgotten by it.
        changed |= set(listed) - set(found)

        def last_read(thread_id: str) -> tuple[float, bool]:
            if thread_id in changed:
                return 0.0, False
            return self._read_at.get(thread_id, 0.0), True

        queue = iter(sorted(dict.fromkeys([*found, *listed]), key=last_read))
        self._unread = len({*found, *listed})

        # Whoever does not wait for all of the list has at least its entries soon.
        new = iter([t for t in found if t not in self._read_at])

        many = self._store.of_many()

        async def show(thread_id: str) -> None:
            await self._show(many, thread_id)

        async def read() -> None:
            for thread_id in new:
                await self._try(self._glance, thread_id)
            for thread_id in queue:
                read_at = None if thread_id in changed else self._read_at.get(thread_id)
                late = time.monotonic() > began + LOOK_S
                if read_at is None or (read_at < asked and not late):
                    await self._try(show, thread_id)
                self._unread -= 1

        try:
            async with asyncio.TaskGroup() as readers:
                for _ in range(AT_ONCE):
                    readers.create_task(read())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        self._looked, self._runs = now, runs

    async def _try(self, read: Callable[[str], Awaitable[object]], thread_id: str) -> None:
        """One of many: if it cannot be read, the others are to be seen all the same."""
        try:
            await read(thread_id)
        except (ServerUnavailableError, RPCError):
            # Not of this thread: there is no list.
            raise
        except Exception as exc:
            # Codecs and serializers are the user's, and raise what they like.
            logger.warning("thread %r is not shown: %s", thread_id, exc)

    async def one(self, thread_id: str) -> ThreadInfo | None:
        """One thread by its id, here or in the server; ``None`` when Temporal has none."""
        return await self._show(self._store, await self._aliases.native(thread_id))

    async def _show(self, store: Store, thread_id: str) -> ThreadInfo | None:
        alias = alias_of(thread_id)
        # One that cannot be read is not tried first again and again.
        self._read_at[thread_id] = time.monotonic()
        while True:
            reading, runs = next(self._readings), server.runs_of(alias)
            info = await threads.thread(store, thread_id)
            if info is not None:
                self._aliases.see(thread_id)
            if await self._put(alias, thread_id, info, reading, runs):
                return info

    async def _put(
        self,
        alias: str,
        thread_id: str,
        info: ThreadInfo | None,
        reading: int,
        runs: frozenset[tuple[str, str]],
    ) -> bool:
        """Show what was read of a thread when the server had these runs of it.

        Returns:
            ``False``: one of them began or ended meanwhile, and what was read may be out of date.
        """
        now = server.runs_of(alias)
        if server.under_way(now):
            # What the server itself does it tells by itself.
            self._shown.pop(alias, None)
            return True
        if now != runs:
            return False
        if self._is_older(alias, reading):
            return True
        known = server.thread(alias)
        if info is None:
            # Deleted by somebody else; what only the server has made so far stays.
            if known is not None and NATIVE_KEY in known:
                server.drop_thread(alias)
            self._shown.pop(alias, None)
            self._reading_of.pop(alias, None)
            self._read_at.pop(thread_id, None)
            return True
        stamp = (info.updated_at, info.status, info.graph, info.waiting)
        if known is None or self._shown.get(alias) != stamp:
            record = await self._record(alias, info)
            if server.runs_of(alias) != runs:
                return False
            if self._is_older(alias, reading):
                return True
            server.put_thread(alias, record)
            self._shown[alias] = stamp
        self._reading_of[alias] = reading
        return True

    def _is_older(self, alias: str, reading: int) -> bool:
        """Whether what a later reading found is shown already."""
        return self._reading_of.get(alias, 0) > reading

    async def _glance(self, thread_id: str) -> None:
        """A line in the list, which ``_show`` puts right."""
        info = await threads.glance(self._store, thread_id)
        alias = alias_of(thread_id)
        if info is None or alias in self._shown or server.has_runs(alias):
            return
        self._aliases.see(thread_id)
        server.put_thread(
            alias,
            server.ThreadRecord(
                status=_status(info),
                created_at=info.created_at,
                updated_at=info.updated_at,
                metadata={NATIVE_KEY: info.thread_id, GRAPH_KEY: info.graph},
            ),
        )

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
        status = _status(info)
        if info.status == "unreadable":
            # There is no state to ask a graph for.
            return server.ThreadRecord(
                status=status,
                created_at=info.created_at,
                updated_at=info.updated_at,
                metadata=metadata,
                error=info.problem or f"This thread is {info.status}.",
            )
        told = server.graph_of(server.thread(alias) or {})
        # A thread without runs names no graph; the server may have been told.
        graph_id = server.graph_names().get(info.graph) if info.graph or not told else told
        state = None
        if graph_id is not None:
            if graph_id != told:
                metadata |= server.metadata_of(graph_id)
            state = await self._state(graph_id, alias, info)
        if state is None:
            return server.ThreadRecord(
                status=status,
                created_at=info.created_at,
                updated_at=info.updated_at,
                metadata=metadata,
            )
        # As the server itself says it: what has nodes to run is interrupted.
        stands = info.status == "idle" and state.next
        errors = [task.error for task in state.tasks if task.error]
        return server.ThreadRecord(
            status="interrupted" if stands else status,
            created_at=info.created_at,
            updated_at=info.updated_at,
            metadata=metadata,
            values=server.plain(state.values),
            interrupts={
                task.id: [server.plain_interrupt(i) for i in task.interrupts]
                for task in state.tasks
                if task.interrupts
            },
            error=server.plain(errors[0]) if errors and status == "error" else None,
        )


def _status(info: ThreadInfo) -> str:
    """The status as the server's clients know it: those it lacks are shown as "error"."""
    return info.status if info.status in server.STATUSES else "error"
