"""Worker side: what attempts need of the process that hosts them, and of whoever called a run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Protocol

from .._loops import LoopThread
from ..caller.hub import Mailbox
from ..protocol.messages import CallerStream
from ..protocol.stored import BlobRef
from ..storage.store import Store
from ..values.record import Call, RunIdentity
from .eager import EagerTasks
from .last_runs import LastRuns
from .live import LiveTasks
from .slots import Slots


class Host(Protocol):
    """The worker of this process.

    Attributes:
        store: Threads, and the options and serializer of the saver whose runs are served.
        loop_thread: The OS thread that runs the worker's loop.
        tasks: Live tasks.
        eager: Which of them are eager.
        last_runs: How it has left threads.
        queue: Task queue that only this process polls.
        home_queue: Task queue of the runs whose home it is.
        name: The worker's name.
        named: Whether it may come back under that name.
        is_home: Whether threads that it has run stay with it.
        stopping: It takes no new runs.
        run_slots: How many runs it drives at once.
        task_slots: How many tasks it executes at once.
        mailbox: Where other workers send what tasks do that were sent to them.
    """

    store: Store
    loop_thread: LoopThread
    tasks: LiveTasks
    eager: EagerTasks
    last_runs: LastRuns
    queue: str
    home_queue: str
    name: str
    named: bool
    is_home: bool
    stopping: bool
    run_slots: Slots
    task_slots: Slots
    mailbox: Mailbox


class CalledRun(Protocol):
    """A run that is called in this process: ``caller.admitted.AdmittedRun``, encoded."""

    identity: RunIdentity
    graph: Any
    call: Call

    @property
    def stored_input(self) -> tuple[BlobRef, ...]:
        """A large input, stored outside the record; empty: it is in there."""
        ...

    async def record(self) -> None:
        """Record the run."""
        ...

    def follow(self, go: Callable[[CallerStream], Awaitable[None]]) -> AsyncGenerator[Any, None]:
        """Chunks of the run, which another process is to drive; ends and raises as it does.

        Args:
            go: Lets it be driven; called when this process listens to the stream it is given.
        """
        ...

    def follow_sync(
        self, go: Callable[[CallerStream], Awaitable[None]]
    ) -> Generator[Any, None, None]:
        """Sync ``follow``."""
        ...

    async def outcome(self) -> bytes:
        """Wait for the run to end, wherever it is driven."""
        ...

    def finish(self, data: bytes) -> list[Any]:
        """Raise the run's error, or return the chunks of an outcome from elsewhere."""
        ...
