"""Worker side: what the callers of this process see of its worker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

from ..record import Call
from .identity import RunIdentity
from .service import WorkerHost


class EmbeddedHost:
    """Implements ``caller.run.EmbeddedPort`` over a worker host."""

    def __init__(self, host: WorkerHost) -> None:
        self._host = host
        self.queue = host.queue
        self.thread = host.thread

    def run_identity(self, **parts: str) -> RunIdentity:
        """The run as the worker side names it."""
        return RunIdentity(**parts)

    def check(self) -> None:
        """Raise when the worker has stopped."""
        self._host.check()

    def serve(self, name: str, graph: Any) -> None:
        """A graph was called here: serve it to others as well."""
        self._host.registry.seen(name, graph)

    def astream(
        self,
        run: RunIdentity,
        graph: Any,
        call: Call,
        start: Callable[[], Awaitable[None]],
        await_outcome: Callable[[], Awaitable[bytes]],
        finish: Callable[[bytes], list[Any]],
    ) -> AsyncGenerator[Any, None]:
        """Run in this process."""
        return self._host.embedded.astream(run, graph, call, start, await_outcome, finish)

    def stream(
        self,
        run: RunIdentity,
        graph: Any,
        call: Call,
        start: Callable[[], Awaitable[None]],
        await_outcome: Callable[[], Awaitable[bytes]],
        finish: Callable[[bytes], list[Any]],
    ) -> Generator[Any, None, None]:
        """Run in this process, sync."""
        return self._host.embedded.stream(run, graph, call, start, await_outcome, finish)
