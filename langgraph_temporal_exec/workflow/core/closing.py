"""Workflow side: which nested namespaces of a thread are closed, as a pure state machine.

A namespace has a workflow of its own, a child of the thread's. When it has ended, nothing of it
runs any more, and its workflow would stay open only to be read. So it is *closed*: all it holds
goes on a *shelf*, a blob of the thread with many of them, and the workflow ends. Where the shelves
are is one reference in the thread's state, however many there are::

    open ----> over ----> being put on a shelf ----> retiring ----> closed ----> open
         |          |     (Activity close)      |    (Activity retire)      |    with what the
         |          |                           |                           |    shelf holds
         |          its run has ended           the shelf is in the         its workflow
         its task has a result, or the          thread's state              has ended
         run is through

**Which.** A namespace is over when the thread's log has a result of the task in which it was
called, or when a run ends that leaves nothing to be done. It is closed when the run that used it
has ended. Those without a task in their name belong to graphs that keep their state from call to
call: they do not end, and stay open.

**Nothing is lost.** An open workflow is the truth about its namespace; a shelf is it only when
there is none. A workflow ends only if its log is the very one that is on the shelf: whatever is
written to it in between keeps it open. And whoever writes has told the thread before (``open``),
which keeps a namespace that somebody enters from being closed.

**Opened again.** A namespace that is entered once more (time travel, a retried task, an edit of its
state) gets a workflow that begins with what the shelf holds. Whether a shelf holds something is
told by an Activity, for which no run is to wait: so attempts say which namespaces are new.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ...protocol.messages import (
    CloseReply,
    CloseRequest,
    ClosingState,
    RetireReply,
    RetireRequest,
)
from ...protocol.names import NS_END, NS_SEP
from ...protocol.stored import BlobRef

CLOSED_AT_ONCE = 100
"""Namespaces that one Activity closes."""

OPEN_NAMESPACES = 2_000
"""Open namespaces a thread remembers, so that it can close them; twice as many as one run may have
used before the first of them are closed."""


@dataclass(kw_only=True)
class Closing:
    """The namespaces of one thread that have ended.

    Args:
        enabled: Whether any are closed by this run of the workflow.
        state: What is carried over continue-as-new.
        asked: What an Activity is at; ``None``: none is.
    """

    enabled: bool = False
    state: ClosingState = field(default_factory=ClosingState)
    asked: CloseRequest | RetireRequest | None = None

    @property
    def leaving(self) -> tuple[str, ...]:
        """Namespaces that have a workflow and are to have none soon."""
        return tuple(c.namespace for c in self.state.retiring)

    @property
    def has_shelves(self) -> bool:
        """Whether any namespace is closed."""
        return self.state.shelves is not None

    def none_leaves(self, namespaces: Iterable[str]) -> bool:
        """Whether none of these has a workflow that is about to end."""
        return not set(self.leaving).intersection(namespaces)

    def note_over(self, namespaces: Iterable[str]) -> None:
        """Open namespaces have ended."""
        if self.enabled:
            ended = (ns for ns in namespaces if NS_END in ns)
            self.state.over = tuple(dict.fromkeys((*self.state.over, *ended)))

    def note_result(self, task_id: str, namespaces: Iterable[str]) -> None:
        """A task of the thread itself has a result: what was called in it has ended."""
        if self.enabled and task_id:
            self.note_over(ns for ns in namespaces if task_of(ns) == task_id)

    def entered(self, namespace: str) -> None:
        """Somebody is about to write to a namespace."""
        if namespace in self.state.over:
            self.state.over = tuple(n for n in self.state.over if n != namespace)

    def forget(self, namespaces: Iterable[str]) -> None:
        """Namespaces are dropped with all they hold, closed or not."""
        if self.has_shelves or self.asked:
            self.state.forget = tuple(dict.fromkeys((*self.state.forget, *namespaces)))
        for namespace in namespaces:
            self.entered(namespace)

    def next(
        self, in_use: Iterable[str], at: int, thread_id: str
    ) -> CloseRequest | RetireRequest | None:
        """What to have done now, if anything.

        Args:
            in_use: Namespaces that the active run has entered.
            at: Length of the thread's log.
            thread_id: The thread.
        """
        if not self.enabled or self.asked is not None:
            return None
        if self.state.retiring:
            return RetireRequest(thread_id=thread_id, closed=self.state.retiring, at=at)
        used = set(in_use)
        over = [ns for ns in self.state.over if ns not in used][:CLOSED_AT_ONCE]
        if not over and not (self.state.forget and self.has_shelves):
            return None
        return CloseRequest(
            thread_id=thread_id,
            namespaces=tuple(over),
            forget=self.state.forget,
            shelves=self.state.shelves,
        )

    def closed(
        self, request: CloseRequest, reply: CloseReply, in_use: Iterable[str]
    ) -> BlobRef | None:
        """Namespaces are on shelves; what nothing refers to any more is to be removed."""
        if self.asked != request:
            return None
        self.asked = None
        state = self.state
        used = set(in_use)
        state.shelves = reply.shelves
        state.forget = tuple(ns for ns in state.forget if ns not in request.forget)
        # Whoever was entered meanwhile stays open.
        over = {ns for ns in state.over if ns not in used}
        state.retiring = tuple(c for c in reply.closed if c.namespace in over)
        done = {*reply.gone, *self.leaving}
        state.over = tuple(ns for ns in state.over if ns not in done)
        return reply.garbage

    def retired(self, request: RetireRequest, reply: RetireReply) -> tuple[str, ...]:
        """Workflows have ended; the namespaces of those that have not, and stay open."""
        if self.asked != request:
            return ()
        self.asked = None
        changed = [c.namespace for c in self.state.retiring if c.namespace in reply.changed]
        self.state.retiring = tuple(c for c in self.state.retiring if c.namespace in reply.left)
        return tuple(changed)

    def given_up(self, request: CloseRequest | RetireRequest) -> None:
        """The Activity failed: it is asked for again."""
        if self.asked == request:
            self.asked = None

    def size(self) -> int:
        """Bytes of it in a snapshot, nearly."""
        state = self.state
        names = sum(len(n) + 3 for n in (*state.over, *state.forget))
        inline = len(state.shelves.data) if state.shelves else 0
        return names + inline + sum(len(c.namespace) + 60 for c in state.retiring)

    def snapshot(self) -> ClosingState | None:
        """For continue-as-new."""
        return None if self.state == ClosingState() else replace(self.state)


def task_of(namespace: str) -> str:
    """The task of the thread itself in which a namespace was called; "": none."""
    return namespace.partition(NS_SEP)[0].rpartition(NS_END)[2] if NS_END in namespace else ""
