"""Worker side: what attempts need of the process that hosts them, and of whoever called a run."""

from __future__ import annotations

from typing import Any, Protocol

from .._loops import LoopThread
from ..caller.hub import Mailbox
from ..storage.store import Store
from ..values.record import Call, RunIdentity
from .live import LiveTasks


class Host(Protocol):
    """The worker of this process.

    Attributes:
        store: Threads, and the options and serializer of the saver whose runs are served.
        loop_thread: The OS thread that runs the worker's loop.
        tasks: Live tasks.
        queue: Task queue that only this process polls.
        mailbox: Where other workers send what tasks do that were sent to them.
    """

    store: Store
    loop_thread: LoopThread
    tasks: LiveTasks
    queue: str
    mailbox: Mailbox


class CalledRun(Protocol):
    """A run that is called in this process: ``caller.admitted.AdmittedRun``, encoded."""

    identity: RunIdentity
    graph: Any
    call: Call

    async def record(self) -> None:
        """Record the run."""
        ...

    async def outcome(self) -> bytes:
        """Wait for the run to end, wherever it is driven."""
        ...

    def finish(self, data: bytes) -> list[Any]:
        """Raise the run's error, or return the chunks of an outcome from elsewhere."""
        ...
