"""LangGraph seam: what the hooks ask of whoever runs graphs and tasks durably."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig

from ..options import Retry
from .parcel import Away


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A tool call that a task is to make.

    Args:
        name: Name of the tool.
        id: LangChain's id of the call.
        subagent: Name of the sub-agent to which it delegates; "" for none.
    """

    name: str
    id: str
    subagent: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """For how long a task may run, and what follows.

    Args:
        timeout: That long; ``None``: what its node was added with.
        call_id: Id of the tool call that is answered if it takes longer; "": the task fails then.
        exceeded: Called then: what the tool call is answered with, or it raises what the task
            fails with. ``None``: as the node was added.
        retry: The retry policy that replaces the one its node was added with; ``None``: none does.
    """

    timeout: timedelta | None = None
    call_id: str = ""
    exceeded: Callable[[str], str] | None = None
    retry: Retry | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SeamTask:
    """What the executor needs to know of one Pregel task.

    ``checkpoint_stored``: the checkpoint was loaded from the saver, not put by this loop.
    ``tools``: the tools it is to call, for people to read, one for each of its ``calls``.
    ``within``: id of the task that has called this one's graph, or, in the functional API, this
    task; "": none has.
    ``graph``: the name of the graph it is of, if that has one. ``peers``: how many tasks its
    superstep has, itself included.
    ``spread``: what the call says of that; ``None``: nothing. ``obstacle``: why it can run nowhere
    else; "": it can.
    """

    id: str
    name: str
    checkpoint_ns: str
    checkpoint_id: str
    checkpoint_stored: bool
    step: int
    tools: tuple[str, ...]
    within: str
    calls: tuple[ToolCall, ...] = ()
    graph: str = ""
    peers: int = 1
    spread: Any = None
    obstacle: str = ""


class Session(Protocol):
    """The attempt that drives a loop; bound to the loop's saver."""

    attempt: int

    @property
    def run_id(self) -> str:
        """The run."""
        ...

    def ships(self, task: SeamTask) -> bool:
        """Whether a task runs as an Activity."""
        ...

    def places(self, task: SeamTask) -> bool:
        """Whether a task is run by another worker."""
        ...

    async def arun_placed(self, task: SeamTask, away: Away) -> Any:
        """Have another worker run an async task."""
        ...

    def run_placed(self, task: SeamTask, away: Away) -> Any:
        """Have another worker run a sync task; waits in this thread."""
        ...

    def note_within(self, task_id: str, within: str) -> None:
        """A task that runs in place, and the one it is part of: see ``SeamTask.within``."""
        ...

    async def arun_task(self, task: SeamTask, run: Callable[[], Any]) -> Any:
        """Run an async task as an Activity; ``run()`` returns the awaitable of the node."""
        ...

    def run_task(self, task: SeamTask, run: Callable[[], Any]) -> Any:
        """Run a sync task as an Activity; ``run()`` runs the node in this thread."""
        ...

    def enter_namespace(self, checkpoint_ns: str, graph: str) -> None:
        """A nested graph of this name is about to apply its input."""
        ...

    def enter_loop(self, loop: Any) -> None:
        """The root loop of the run is about to apply its input."""
        ...

    @property
    def entered(self) -> set[str]:
        """Nested namespaces whose graph was called in this attempt; the hooks add to them."""
        ...

    @property
    def namespaces(self) -> Collection[str]:
        """The nested namespaces of the thread, as far as they are known."""
        ...

    def refuse(self, error: Exception) -> None:
        """Part of the resume is impossible: to be raised when all else has ended."""
        ...

    def limits(self, task: SeamTask) -> Limits:
        """For how long a task may run."""
        ...

    def note_deadline(self, interrupt_id: str, within: timedelta, default: bytes) -> None:
        """An interrupt is to answer itself with ``default``, plain msgpack."""
        ...

    @property
    def keeps_breakpoints(self) -> bool:
        """Whether the loop must not treat its (empty) input as approval of breakpoints."""
        ...


class Marked(Protocol):
    """What ``DURABLE`` of a saver leads to: of the user's saver a ``Durable``, whose ``session`` is
    ``None``; of one that is bound to an attempt only that."""

    @property
    def session(self) -> Session | None:
        """The attempt this saver is bound to."""
        ...


class Durable(Marked, Protocol):
    """Runs the root calls of graphs that have the user's saver."""

    def astream(
        self,
        graph: Any,
        input: Any,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        result_only: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Run a root call durably; ``result_only``: of the stream, its end is enough."""
        ...

    def stream(
        self,
        graph: Any,
        input: Any,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        result_only: bool = False,
    ) -> Generator[Any, None, None]:
        """Run a sync root call durably."""
        ...
