"""Studio: what one API server process has once: its saver, its worker, its view of the threads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..errors import UsageError
from ..saver import TemporalSaver, store_of
from ..storage import visibility
from . import server
from .aliased import StudioSaver
from .aliases import Aliases
from .mirror import Mirror
from .nested import Nested
from .settings import Settings, from_environment, open_saver

CANCEL_WAIT_S = 30.0
"""How long a request that cancels a run, and waits for it, is held back at most."""

logger = logging.getLogger(__name__)


class Process:
    """An API server's connection to Temporal.

    Args:
        saver: Its saver.
        settings: How it was set up.
    """

    def __init__(self, saver: TemporalSaver, settings: Settings) -> None:
        self.settings = settings
        self.stopping = False
        store = store_of(saver)
        self.aliases = Aliases(lambda: visibility.thread_ids(store.transport))
        self.mirror = Mirror(store, self.aliases)
        self.nested = Nested(store)
        self._inner = saver
        self.saver = StudioSaver(saver, self.aliases, lambda: self.stopping)

    async def cancelled(self, run_id: str, *, rollback: bool) -> None:
        """Wait until a run that the server cancels has ended, and is undone if it is to be."""
        deadline = time.monotonic() + CANCEL_WAIT_S
        while run_id in self.saver.streaming or (rollback and server.thread_of(run_id)):
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """From the moment when the server has loaded its graphs until it stops."""
        try:
            # A task of its own: opening a graph sets context variables of the server.
            ready: asyncio.Event = asyncio.Event()
            done: asyncio.Event = asyncio.Event()
            holding = asyncio.create_task(self._hold_graphs(ready, done))
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait([holding, waiting], return_when=asyncio.FIRST_COMPLETED)
            if holding.done():
                waiting.cancel()
                await holding
            yield
        finally:
            # From here on the server cancels what it runs, only because it ends.
            self.stopping = True
            await self.mirror.close()
            done.set()
            await holding

    async def _hold_graphs(self, ready: asyncio.Event, done: asyncio.Event) -> None:
        async with server.graphs() as graphs:
            for name, graph in graphs.items():
                self._inner.serve(name, graph)
            if self.settings.embedded:
                logger.info("serving runs of %s", ", ".join(sorted(graphs)) or "no graph")
            ready.set()
            await done.wait()


_current: Process | None = None


def current() -> Process:
    """The connection that ``checkpointer`` has opened.

    Raises:
        UsageError: ``langgraph.json`` names another checkpointer.
    """
    if _current is None:
        raise UsageError(
            "The http.app of langgraph_temporal_exec.studio needs its checkpointer: set "
            '"checkpointer": {"path": "langgraph_temporal_exec.studio.checkpointer"} in '
            "langgraph.json."
        )
    return _current


@asynccontextmanager
async def checkpointer() -> AsyncIterator[StudioSaver]:
    """The factory for ``langgraph.json``; see the package."""
    global _current
    if _current is not None:
        # The server enters it once per event loop, the main one first and last.
        yield _current.saver
        return
    server.verify()
    # What reads configuration files, or is the user's, may block.
    settings = await asyncio.to_thread(from_environment)
    async with open_saver(settings) as saver:
        try:
            if settings.embedded:
                async with saver.worker():
                    _current = Process(saver, settings)
                    yield _current.saver
            else:
                _current = Process(saver, settings)
                yield _current.saver
        finally:
            _current = None
