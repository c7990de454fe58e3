"""Caller side: what the end of a run workflow means for whoever called the graph."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    TerminatedError,
)
from temporalio.service import RPCError

from ..errors import (
    GraphNotFoundError,
    RunCancelledError,
    RunFailedError,
    ServerUnavailableError,
    StreamLostError,
    TaskQueueError,
    ThreadBusyError,
    ThreadFullError,
    UnreadableError,
)
from ..logs import about
from ..protocol import names
from ..protocol.messages import Outcome
from ..protocol.wire import pack, unpack
from ..storage.rpc import SERVER_AWAY_S, failure_text, is_final, undecodable
from ..storage.thread_client import Transport
from ..values.exact import load_exact
from ..values.exceptions import rebuild

logger = logging.getLogger(__name__)

AWAY_RESET_S = 30.0
"""A failure this long after the last one is another outage. The SDK itself retries for 10 s."""


async def await_outcome(transport: Transport, run_id: str, thread_id: str) -> bytes:
    """The outcome of a run, wherever it is driven.

    Raises:
        GraphNotFoundError, RunFailedError, TaskQueueError, ThreadBusyError, ThreadFullError:
            There will be none.
        UnreadableError: There will be none, or it cannot be decoded here.
        ServerUnavailableError: It cannot be learned now.
    """
    handle = transport.client.get_workflow_handle(
        transport.run_workflow_id(run_id), result_type=bytes
    )
    loop = asyncio.get_running_loop()
    away_since = last_failure = float("-inf")
    while True:
        try:
            result: bytes = await handle.result()
            return result
        except WorkflowFailureError as exc:
            return _outcome_of_failure(exc, run_id, thread_id)
        except RPCError as exc:
            if is_final(exc):
                raise
            if loop.time() - last_failure > AWAY_RESET_S:
                away_since = loop.time()
            last_failure = loop.time()
            if loop.time() - away_since > SERVER_AWAY_S:
                raise ServerUnavailableError(
                    f"The Temporal server went away while run {run_id} (thread {thread_id!r}) "
                    "was running. The run is recorded and goes on when the server is back; read "
                    "its result with get_state."
                ) from exc
            log = about(logger, thread_id=thread_id, run_id=run_id)
            log.warning("Temporal does not answer; still waiting for run %s", run_id)
            await asyncio.sleep(1.0)
        except Exception as exc:
            if isinstance(exc, RuntimeError):
                problem = transport.translate(exc)
                if isinstance(problem, ServerUnavailableError):
                    raise problem from exc
            # Of the payload codec or the external storage, which are the user's.
            what = f"The result of run {run_id} of thread {thread_id!r}, which has ended,"
            raise undecodable(what, exc) from exc


def _outcome_of_failure(exc: WorkflowFailureError, run_id: str, thread_id: str) -> bytes:
    cause = exc.cause
    if isinstance(cause, CancelledError):
        return pack(Outcome(status="cancelled"))
    if isinstance(cause, ApplicationError):
        if cause.type == names.RUN_ERROR and cause.details:
            return bytes(cause.details[0])
        if cause.type == names.THREAD_FULL:
            raise ThreadFullError(cause.message) from exc
        if cause.type == names.THREAD_BUSY:
            raise ThreadBusyError(cause.message) from exc
        if cause.type == names.ELSEWHERE:
            raise TaskQueueError(cause.message) from exc
        if cause.type == names.UNREADABLE:
            text = str(cause.details[0]) if cause.details else cause.message
            raise UnreadableError(f"Run {run_id} was given up: {text}") from exc
        if cause.type == names.GRAPH_NOT_FOUND:
            raise GraphNotFoundError(
                f"{cause.message} Start a worker that serves it: `langgraph-temporal worker "
                "your_module:graph`, pass graph='...' to TemporalSaver if it has another name "
                "there, or compile(name=...). Nothing ran; the thread is unchanged."
            ) from exc
    if isinstance(cause, TerminatedError):
        raise RunFailedError(
            f"Run {run_id} of thread {thread_id!r} was terminated in Temporal. What it recorded "
            "is kept; continue with ainvoke(None, config)."
        ) from exc
    # Details are encoded by codecs; the message names only classes.
    told = cause.details if isinstance(cause, ApplicationError) else ()
    more = f" ({told[0]})" if told else ""
    raise RunFailedError(
        f"Run {run_id} of thread {thread_id!r} failed: {failure_text(cause)}{more}"
    ) from exc


def raise_failure(outcome: Outcome, run_id: str) -> None:
    """Raise what ended a run, if it did not end well.

    Raises:
        Exception: What a node raised, as its own class where it is known here.
        RunCancelledError: Somebody cancelled the run.
    """
    if outcome.error is not None:
        raise rebuild(outcome.error)
    if outcome.status == "cancelled":
        raise RunCancelledError(f"Run {run_id} was cancelled.")


def finish(
    serde: SerializerProtocol,
    data: bytes,
    *,
    received: int,
    last: bytes = b"",
    streamed: bool = False,
    run_id: str,
    thread_id: str,
) -> list[Any]:
    """Raise the run's error, or return the chunks a caller who missed some still needs.

    Args:
        serde: Serializer of the saver.
        data: The outcome.
        received: How many chunks of the final attempt the caller has seen.
        last: The last one of them, serialized; b"": there is none.
        streamed: Whether the caller asked for all of them, not for the result alone.
        run_id: The run, for errors and logs.
        thread_id: Its thread, for logs.

    Raises:
        Exception: What a node raised, as its own class where it is known here.
        RunCancelledError: Somebody else cancelled the run.
        StreamLostError: The result did not arrive and is not in the outcome.
    """
    outcome = unpack(Outcome, data)
    raise_failure(outcome, run_id)
    if received >= outcome.chunks:
        return []
    if outcome.tail and streamed:
        about(logger, thread_id=thread_id, run_id=run_id).warning(
            "run %s: %d of %d stream chunks did not arrive%s; the result is complete",
            run_id,
            outcome.chunks - received,
            outcome.chunks,
            outcome.unsent and f" ({outcome.unsent})",
        )
    if not outcome.tail:
        if outcome.unsent:
            raise StreamLostError(
                f"Run {run_id} ended ({outcome.status}), but {outcome.chunks - received} of its "
                f"{outcome.chunks} stream chunks did not arrive. At least one holds what cannot be "
                f"sent to another process: {outcome.unsent} What the run did is recorded: read it "
                "with get_state."
            )
        raise StreamLostError(
            f"Run {run_id} ended ({outcome.status}), but its stream did not arrive and its result "
            "was lost with the worker that had it. Everything is recorded: read it with get_state."
        )
    # When one in the middle is missing, that of the result has arrived.
    return [load_exact(serde, chunk) for chunk in outcome.tail if chunk != last]
