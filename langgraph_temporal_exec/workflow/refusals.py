"""Workflow side: what a thread refuses, and the errors it refuses it with."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

with workflow.unsafe.imports_passed_through():
    from ..protocol import names
    from ..protocol.messages import Outcome
    from ..protocol.stored import Op
    from ..protocol.wire import unpack
    from .rollover import CARRY_BYTES


def not_waiting(thread_id: str, problem: str) -> ApplicationError:
    """Nothing can be answered."""
    return ApplicationError(
        f"Thread {thread_id!r} cannot be resumed: {problem}",
        type=names.NOT_WAITING,
        non_retryable=True,
    )


def no_graph(thread_id: str) -> ApplicationError:
    """It waits, but for a graph that nobody has named."""
    return ApplicationError(
        f"Thread {thread_id!r} waits for an answer, but which graph is to take it is not known: "
        "its checkpoints were imported, and no run of it has been here. Answer with the graph: "
        "graph.ainvoke(Command(resume=...), config); from then on it is known.",
        type=names.NO_GRAPH,
        non_retryable=True,
    )


def full_up(thread_id: str, size: int) -> ApplicationError:
    """A log that could not be moved into archives for long."""
    return ApplicationError(
        f"Thread {thread_id!r} is full: {size:,} bytes of it could not be archived "
        f"({CARRY_BYTES:,} can be carried on), and its workflow is near a limit of the server "
        "(2,000 Updates, 51,200 events, 50 MB of history). Everything can still be read. See why "
        "the Activity langgraph:archive fails in Temporal's UI; when it succeeds, the thread goes "
        "on.",
        type=names.THREAD_FULL,
        non_retryable=True,
    )


def bad_answer(thread_id: str, problem: str) -> ApplicationError:
    """An answer that cannot be passed on."""
    return ApplicationError(
        f"The answer to thread {thread_id!r} is refused: {problem}. It must be plain JSON; give "
        "larger or other values with ainvoke(Command(resume=...)).",
        type=names.BAD_ANSWER,
        non_retryable=True,
    )


def stale(thread_id: str) -> ApplicationError:
    """The sender relied on what is gone since."""
    return ApplicationError(
        f"Thread {thread_id!r} was compacted since it was read.",
        type=names.STALE_READ,
        non_retryable=True,
    )


def begun_anew(thread_id: str, namespace: str) -> ApplicationError:
    """The sender has read a namespace that was dropped since: its attempt can record nothing
    there that could be read."""
    return ApplicationError(
        f"Namespace {namespace!r} of thread {thread_id!r} was dropped, with the checkpoint it "
        "belongs to, since this attempt has read it; the next one finds it empty.",
        type=names.FENCED,
        non_retryable=True,
    )


def not_as_left(thread_id: str) -> ApplicationError:
    """The sender has presumed what is not so."""
    return ApplicationError(
        f"Thread {thread_id!r} is not as the process knows it that is to run it; it asks.",
        type=names.NOT_AS_LEFT,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )


def check_ops(ops: tuple[bytes, ...]) -> None:
    """In validators: bytes that are no ops must be refused before they are in history."""
    for data in ops:
        unpack(Op, data)


def check_outcome(outcome: bytes) -> None:
    """As ``check_ops``."""
    if outcome:
        unpack(Outcome, outcome)
