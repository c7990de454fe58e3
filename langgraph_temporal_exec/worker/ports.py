"""Worker side: what attempts need of the process that hosts them, as protocols."""

from __future__ import annotations

from typing import Any, Protocol

from langgraph.checkpoint.serde.base import SerializerProtocol

from .._loops import LoopThread
from ..options import Options
from ..seam import hooks
from ..storage.reader import Reader
from ..storage.replica import Replica
from ..storage.thread_client import Transport
from .live import LiveTasks
from .retry_input import PlannedInput


class SaverPort(Protocol):
    """The saver whose graphs a worker serves."""

    serde: SerializerProtocol

    @property
    def options(self) -> Options:
        """The saver's options."""
        ...

    @property
    def reader(self) -> Reader:
        """Reads threads."""
        ...

    async def run_ended(self, thread_id: str) -> None:
        """A run of a thread has ended here."""
        ...

    async def undo_runs(self, thread_id: str, run_ids: frozenset[str]) -> None:
        """Drop all checkpoints that runs have made in a thread."""
        ...

    def replica(self, thread_id: str) -> Replica:
        """What this process knows of a thread."""
        ...

    def fresh_replica(self, thread_id: str) -> Replica:
        """An empty one, when another attempt of this process still has the known one."""
        ...

    def bound(self, session: hooks.Session, plan: PlannedInput) -> Any:
        """A copy of the saver that writes through a session; see ``PlannedInput``."""
        ...


class Host(Protocol):
    """The worker of this process."""

    transport: Transport
    thread: LoopThread
    tasks: LiveTasks
    queue: str
