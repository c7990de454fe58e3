"""Shared: Temporal's RPCs: which failures pass, how long they are waited for, what the others are.

The only place that knows gRPC's codes. A failure is one of these; the first that fits says what to
do::

    is_gone            there is no such workflow: an answer, and seldom an error
    is_busy            the server turned the request away unseen: ask again in a moment
    is_undone          of an Update: the workflow task that took it failed, and it with it; ask
                       again for a moment
    is_unreachable     the server cannot be reached: as ``is_away``
    is_unanswered      of a Query: no worker answers
    is_away            no answer, or a connection that broke under the call: ask again for a while,
                       then ``ServerUnavailableError``
    is_refused_login   the server does not know who asks
    is_final           another answer of a server that is there: asking again changes nothing

Also here: what may be told of a failure where a payload codec would not encode its text
(``opaque``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from temporalio.client import (
    Client,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError, CancelledError, FailureError
from temporalio.service import RPCError, RPCStatusCode

from ..errors import (
    AttemptSupersededError,
    NoWorkersError,
    ServerUnavailableError,
    ThreadFullError,
    UnreadableError,
)
from ..protocol import names

T = TypeVar("T")

logger = logging.getLogger(__name__)

SERVER_AWAY_S = 120.0
"""How long an attempt, and a caller of a recorded run, wait for a server that went away."""

AWAY_PAUSE_S = 1.0
"""Between two tries meanwhile."""

AWAY_TRIES = 12
AWAY_PAUSE_MAX_S = 5.0
"""How often, at growing distances of up to this pause, a request is repeated that nobody's attempt
waits for: a blob that is stored, an execution that is deleted."""

UNDONE_S = 10.0
"""How long an Update is sent again whose workflow task failed: often it met the end of a workflow
that was continuing as new. One that fails again and again may be what the workflow fails at."""

BUSY_RETRIES = 150
"""Tries of an Update that the server turned away because 10 were in flight."""

FAILURE_TEXT = 500
FAILURE_TRACE = 1_500
"""Characters of an exception in the details of a failure. Of an Activity that is tried again the
server keeps 4 kB of the last failure, and drops the details of a larger one."""

WHOLE_DEPLOYMENT = (ServerUnavailableError, NoWorkersError, RPCError)
"""Errors of a reading that say nothing about the thread that was read."""

_LAZY_CONNECT_FAILED = "Failed client connect"
"""How temporalio words the RuntimeError of a lazy client that cannot connect."""

_NO_EXTERNAL_STORAGE = "[TMPRL1105]"
"""How temporalio begins the RuntimeError about a payload in an external storage it lacks."""

_AWAY = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    # A connection that breaks under a call: "transport error", "h2 protocol error".
    RPCStatusCode.UNKNOWN,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.INTERNAL,
)


class StaleReadError(Exception):
    """What was to be appended builds on values that may be gone: read again, encode again."""


class NotAsLeftError(AttemptSupersededError):
    """A thread did not take a presumed attempt: it is not as this process has left it, or a newer
    attempt has it by now."""


# -- kinds of failures ----------------------------------------------------------------------------


def is_gone(exc: RPCError) -> bool:
    """Whether there is no such workflow, or execution, or namespace."""
    return exc.status is RPCStatusCode.NOT_FOUND


def is_busy(exc: RPCError) -> bool:
    """Whether the server turned a request away unseen."""
    return exc.status is RPCStatusCode.RESOURCE_EXHAUSTED


def is_away(exc: RPCError) -> bool:
    """Whether there was no answer, or the connection broke."""
    return exc.status in _AWAY


def is_unreachable(exc: RPCError) -> bool:
    """Whether it is the server itself that cannot be reached, and no worker that is missing."""
    return exc.status is RPCStatusCode.UNAVAILABLE


def is_unanswered(exc: RPCError) -> bool:
    """Of a Query: whether no worker answers."""
    return exc.status in (
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        # No worker has ever polled.
        RPCStatusCode.FAILED_PRECONDITION,
    )


def is_undone(exc: RPCError) -> bool:
    """Of an Update: whether nothing of it was applied, as its workflow task failed. The server
    tells so only of those that were not accepted (``AbortReasonWorkflowTaskFailed`` there)."""
    return exc.status is RPCStatusCode.FAILED_PRECONDITION


def is_final(exc: RPCError) -> bool:
    """Whether it is an answer of a server that is there; a broken connection has many names."""
    return exc.status in (
        RPCStatusCode.NOT_FOUND,
        RPCStatusCode.INVALID_ARGUMENT,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
    )


def is_refused_login(exc: RPCError) -> bool:
    """Whether the server does not know who asks."""
    return exc.status is RPCStatusCode.UNAUTHENTICATED


def has_type(exc: WorkflowUpdateFailedError, error_type: str) -> bool:
    """Whether a workflow refused an Update with one of our types of errors."""
    cause = exc.cause
    return isinstance(cause, ApplicationError) and cause.type == error_type


# -- as our errors --------------------------------------------------------------------------------


def translate(client: Client, exc: RPCError | RuntimeError) -> Exception:
    """A failed connection as ``ServerUnavailableError``, an answer that is in an external storage
    which the client lacks as ``UnreadableError``; anything else unchanged."""
    if str(exc).startswith(_NO_EXTERNAL_STORAGE):
        return undecodable("What was asked for", exc)
    away = (
        str(exc).startswith(_LAZY_CONNECT_FAILED) if isinstance(exc, RuntimeError) else is_away(exc)
    )
    return unavailable(client, str(exc)) if away else exc


def unavailable(client: Client, detail: str) -> ServerUnavailableError:
    """The error for a server that does not answer, with the remedy."""
    target = client.service_client.config.target_host
    return ServerUnavailableError(
        f"The Temporal server at {target} does not answer ({detail}). Check the address and "
        "that it runs (`temporal server start-dev` for a local one); what was recorded "
        "before is kept."
    )


def undecodable(what: str, exc: Exception) -> UnreadableError:
    """The error for what the user's payload codec or external storage does not give."""
    return UnreadableError(
        f"{what} cannot be read here ({type(exc).__name__}: {exc}). Give this client's data "
        "converter the payload codec and the `external_storage` that callers and workers have, "
        "with drivers of the same names. If it has them, the storage does not answer, or has lost "
        "the object. What is recorded is kept."
    )


def failure_text(failure: BaseException | None) -> str:
    """What a failure says, without the name of its type, which ``str`` puts before it."""
    return failure.message if isinstance(failure, FailureError) else str(failure)


# -- patience -------------------------------------------------------------------------------------


async def send_update(
    client: Client,
    send: Callable[[], Awaitable[T]],
    *,
    patience_s: float = 0,
    deleted_s: float = 0,
) -> T:
    """Send an Update; retries what the server turned away unseen, or could not apply.

    Args:
        client: The client it is sent with, for the texts of errors.
        send: Sends it.
        patience_s: How long to go on when the server does not answer at all. Only for
            Updates that may be applied twice without harm.
        deleted_s: How long to go on while the thread is being deleted.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    deleted_deadline = loop.time() + deleted_s
    undone_deadline = loop.time() + max(patience_s, UNDONE_S)
    for attempt in range(BUSY_RETRIES):
        try:
            return await send()
        except WorkflowUpdateFailedError as exc:
            if has_type(exc, names.FENCED):
                raise AttemptSupersededError(failure_text(exc.cause)) from exc
            if has_type(exc, names.THREAD_DELETED) and loop.time() < deleted_deadline:
                await asyncio.sleep(0.1)
                continue
            if has_type(exc, names.STALE_READ):
                raise StaleReadError(failure_text(exc.cause)) from exc
            if has_type(exc, names.THREAD_FULL):
                raise ThreadFullError(failure_text(exc.cause)) from exc
            raise
        except RPCError as exc:
            if is_busy(exc) and attempt < BUSY_RETRIES - 1:
                await asyncio.sleep(min(1.0, 0.02 * 1.5**attempt))
                continue
            until = undone_deadline if is_undone(exc) else deadline
            if (is_undone(exc) or is_away(exc)) and loop.time() < until:
                await asyncio.sleep(AWAY_PAUSE_S)
                continue
            raise translate(client, exc) from exc
        except WorkflowUpdateRPCTimeoutOrCancelledError as exc:
            # The SDK raises this for a cancelled task as well.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from exc
            if loop.time() >= deadline:
                raise unavailable(client, "the call was cut off") from exc
            await asyncio.sleep(AWAY_PAUSE_S)
        except RuntimeError as exc:
            raise translate(client, exc) from exc
    raise AssertionError("unreachable")


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a request while the server is away or busy; it may be carried out twice."""
    for attempt in range(AWAY_TRIES):
        try:
            return await call()
        except RPCError as exc:
            if not (is_away(exc) or is_busy(exc)) or attempt == AWAY_TRIES - 1:
                raise
            logger.warning("Temporal does not answer (%s); asking again", exc.status.name)
            await asyncio.sleep(min(AWAY_PAUSE_MAX_S, 0.2 * 2**attempt))
    raise AssertionError("unreachable")


# -- failures without their text ------------------------------------------------------------------


def opaque(exc: BaseException) -> ApplicationError:
    """What may end an Activity instead of an exception whose text may show state.

    A payload codec encodes the details of a failure, but by default neither its message nor its
    stack trace nor those of its causes: raise it ``from None``.
    """
    name = type(exc).__name__
    lines = "".join(traceback.format_exception(exc))
    error = ApplicationError(
        name, _encodable(exc, FAILURE_TEXT), _encodable(lines[-FAILURE_TRACE:]), type=name
    )
    # For the log of the worker: notes are no part of a failure.
    error.add_note(lines)
    return error


@contextlib.asynccontextmanager
async def opaque_failures() -> AsyncIterator[None]:
    """Around an Activity: see ``opaque``. Those we raise on purpose carry no state."""
    try:
        yield
    except (ApplicationError, CancelledError):
        raise
    except Exception as exc:
        raise opaque(exc) from None


def _encodable(value: object, limit: int | None = None) -> str:
    try:
        text = str(value)
    except Exception as problem:
        text = f"<its text raises {type(problem).__name__}>"
    return text[:limit].encode("utf-8", "backslashreplace").decode()
