"""Worker side: the two Activities: ``drive`` (one attempt of a run) and tasks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from temporalio import activity
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from .. import _langgraph
from .._threads import TaskElsewhere
from ..errors import AttemptSupersededError, RunCancelledError, ThreadBusyError, ThreadFullError
from ..logs import about
from ..protocol import names
from ..protocol.messages import (
    AttachStatus,
    DriveReply,
    DriveRequest,
    DriveStatus,
    Listener,
    Outcome,
    TaskInput,
    TaskOutput,
    TaskStatus,
)
from ..protocol.stored import (
    BlobRef,
)
from ..protocol.wire import pack, unpack
from ..record import Call, decode
from ..transport import opaque, opaque_failures
from .attempt import Attempt, attach, turned_away
from .embedded import EmbeddedRuns, LiveRun
from .identity import RunIdentity
from .ports import Host, SaverPort
from .registry import GraphRegistry
from .relay import JOINED_STALLED_S, STALLED_S, Relay, Relays
from .session import Session
from .stand_ins import manager_for

logger = logging.getLogger(__name__)

CANCEL_GRACE_S = 30.0
"""How long a cancelled run may take to stop and record that it was cancelled."""


@contextlib.asynccontextmanager
async def heartbeating(details: str = "") -> AsyncIterator[None]:
    """Heartbeat three times within the heartbeat timeout; ``details`` can be read from outside."""
    timeout = activity.info().heartbeat_timeout
    interval = timeout.total_seconds() / 3 if timeout else 5.0

    async def beat() -> None:
        while True:
            activity.heartbeat(*([details] if details else []))
            await asyncio.sleep(interval)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()


def _lost_because() -> str:
    """Why Temporal ended this Activity; "" when somebody cancelled the run."""
    details = activity.cancellation_details()
    if activity.is_worker_shutdown() or (details and details.worker_shutdown):
        return "the worker shut down"
    if details is None or details.cancel_requested:
        return ""
    return "Temporal gave the attempt up (no heartbeat arrived, or the run was terminated)"


def _moved(reason: str) -> ApplicationError:
    return ApplicationError(
        f"The attempt ended: {reason}. The run moves to another worker.",
        type=names.WORKER_SHUTDOWN,
        non_retryable=True,
        # Part of normal operation: the SDK need not log it with a stack trace.
        category=ApplicationErrorCategory.BENIGN,
    )


def _log(request: DriveRequest) -> logging.LoggerAdapter[logging.Logger]:
    return about(
        logger,
        thread_id=request.thread_id,
        run_id=request.run_id,
        attempt=request.attempt,
    )


class Activities:
    """The Activities of one worker process; they run on the worker's loop."""

    def __init__(
        self, host: Host, saver: SaverPort, registry: GraphRegistry, embedded: EmbeddedRuns
    ) -> None:
        self._host = host
        self._saver = saver
        self._registry = registry
        self._embedded = embedded
        self._relays: dict[str, Relays] = {}

    @activity.defn(dynamic=True)
    @opaque_failures()
    async def task(self, args: Sequence[RawValue]) -> bytes:
        """One task: its type is the name of the node, so that Temporal's UI shows it."""
        payload = activity.payload_converter().from_payload(args[0].payload, bytes)
        live = self._host.tasks.get(unpack(TaskInput, payload).key)
        if live is None or not live.start():
            return pack(TaskOutput(status=TaskStatus.UNKNOWN))
        async with heartbeating():
            try:
                return pack(await asyncio.shield(asyncio.wrap_future(live.done)))
            except asyncio.CancelledError:
                details = activity.cancellation_details()
                if details is None or details.cancel_requested or details.worker_shutdown:
                    # Superseded, deleted, or the worker stops: the attempt is over.
                    live.give_up("its tasks were cancelled in Temporal")
                # Otherwise only this Activity was lost (no heartbeat got through): the node goes
                # on, and its result travels as an op of the next step.
                raise

    @activity.defn(name=names.DRIVE_ACTIVITY)
    @opaque_failures()
    async def drive(self, data: bytes) -> bytes:
        """One attempt of a run."""
        request = unpack(DriveRequest, data)
        # Who joins the run finds the process by this.
        async with heartbeating(self._host.queue):
            live = self._embedded.get(request.run_id)
            if live is not None:
                reply = await self._shell(live, request)
            elif request.at_home:
                # The home process has no such run (any more): its caller is gone.
                reply = DriveReply(status=DriveStatus.MOVED)
            else:
                reply = await self._drive(request)
            if reply.status == DriveStatus.ENDED and request.record_ref is not None:
                await self._forget_record(request, request.record_ref)
        return pack(reply)

    async def _forget_record(self, request: DriveRequest, ref: BlobRef) -> None:
        """A large input is not needed once the run has ended; it is in the thread by now."""
        try:
            await self._saver.reader.blobs.remove(request.thread_id, [ref])
        except RPCError as exc:
            # It goes with the thread.
            _log(request).warning(
                "the input of run %s of thread %r was not removed: %s",
                request.run_id,
                request.thread_id,
                exc,
            )

    # -- the caller is in this process --------------------------------------------------------

    async def _shell(self, live: LiveRun, request: DriveRequest) -> DriveReply:
        make = partial(self.relay_to, thread_id=request.thread_id)
        for listener in request.listeners:
            live.listen(listener, make)
        try:
            reply = await live.drive(request.attempt)
        except ApplicationError:
            # Turned away; this was the one who reports it.
            self._embedded.remove(request.run_id)
            raise
        except asyncio.CancelledError:
            if reason := _lost_because():
                live.lose(request.attempt, reason)
                raise _moved(reason) from None
            live.cancel()
            try:
                async with asyncio.timeout(CANCEL_GRACE_S):
                    reply = await live.drive(request.attempt)
            except TimeoutError:
                # A sync node cannot be stopped; the run is over all the same.
                raise asyncio.CancelledError from None
        if reply.status == DriveStatus.ENDED:
            self._embedded.remove(request.run_id)
            await self._cancel_workflow_if_cancelled(request, reply)
        return reply

    async def _cancel_workflow_if_cancelled(self, request: DriveRequest, reply: DriveReply) -> None:
        """A run its caller abandoned shows as Canceled in Temporal, not as Completed."""
        if reply.outcome and unpack(Outcome, reply.outcome).status == "cancelled":
            handle = self._host.transport.client.get_workflow_handle(request.run_workflow_id)
            await handle.cancel()

    # -- the caller is elsewhere, or gone -----------------------------------------------------

    async def _drive(self, request: DriveRequest) -> DriveReply:
        graph = self._registry.get(request.graph)
        if graph is None:
            _log(request).warning(
                "run %s of thread %r wants graph %r; this worker serves %s",
                request.run_id,
                request.thread_id,
                request.graph,
                self._registry.names(),
            )
            raise ApplicationError(
                f"The worker serves no graph {request.graph!r}, only "
                f"{self._registry.names() or 'none'}.",
                type=names.GRAPH_NOT_FOUND,
                non_retryable=True,
                category=ApplicationErrorCategory.BENIGN,
            )
        run = RunIdentity(
            run_id=request.run_id,
            thread_id=request.thread_id,
            thread_workflow_id=request.thread_workflow_id,
            run_workflow_id=request.run_workflow_id,
            graph=request.graph,
            strategy=request.strategy,
        )
        try:
            session = await attach(self._host, self._saver, run, request.attempt)
        except (ThreadFullError, ThreadBusyError) as exc:
            raise turned_away(exc) from None
        if not isinstance(session, Session):
            if session.status == AttachStatus.ENDED:
                return DriveReply(status=DriveStatus.ENDED, outcome=session.outcome)
            if session.status == AttachStatus.QUEUED:
                return DriveReply(status=DriveStatus.QUEUED)
            return DriveReply(status=DriveStatus.MOVED)
        # After attaching: a run that has ended has no record any more.
        record = request.record
        if request.record_ref is not None:
            record = await self._saver.reader.blobs.fetch(request.thread_id, request.record_ref)
        call = decode(_langgraph.reviving(graph, self._saver).serde, record)
        caller = Listener(run_id=run.run_id, mailbox=call.mailbox, stream_id=run.run_id)
        make = partial(self.relay_to, thread_id=run.thread_id, attempt=request.attempt)
        relay = make(caller, patience_s=STALLED_S)
        relays = Relays(make, relay, request.listeners)
        call = _for_the_caller(call, relay, graph)
        attempt = Attempt(session, self._saver, graph, call, arrived=relays.drain)
        self._relays[run.run_id] = relays
        try:
            await self._run(attempt, call, relays)
        except asyncio.CancelledError:
            if reason := _lost_because():
                raise _moved(reason) from None
        except Exception as exc:
            # A node's error is part of the recorded outcome; anything else fails the attempt.
            if not attempt.outcome:
                if isinstance(session.error, AttemptSupersededError):
                    return DriveReply(status=DriveStatus.MOVED)
                # Whatever a node raised, an ApplicationError too, may show state.
                raise opaque(session.error or exc) from None
        finally:
            # Unless a newer attempt of the run is here already.
            if self._relays.get(run.run_id) is relays:
                del self._relays[run.run_id]
        await relays.finish()
        return DriveReply(
            status=DriveStatus.ENDED if attempt.outcome else DriveStatus.MOVED,
            outcome=attempt.outcome,
            queue=self._host.queue,
        )

    def relay_to(
        self,
        listener: Listener,
        *,
        thread_id: str,
        attempt: int,
        patience_s: float = JOINED_STALLED_S,
    ) -> Relay:
        """A relay of an attempt that is driven here."""
        return Relay(
            self._host.transport.client,
            self._host.thread,
            self._saver.serde,
            mailbox=listener.mailbox,
            stream_id=listener.stream_id,
            thread_id=thread_id,
            run_id=listener.run_id,
            attempt=attempt,
            patience_s=patience_s,
        )

    @activity.defn(name=names.LISTEN_ACTIVITY)
    @opaque_failures()
    async def listen(self, data: bytes) -> bool:
        """Somebody joins a run; whether it is driven here."""
        listener = unpack(Listener, data)
        live = self._embedded.get(listener.run_id)
        if live is not None:
            live.listen(listener, partial(self.relay_to, thread_id=live.run.thread_id))
            return True
        relays = self._relays.get(listener.run_id)
        if relays is None:
            return False
        relays.join(listener)
        return True

    async def _run(self, attempt: Attempt, call: Call, relay: Relays) -> None:
        """Run the loop where user code runs: on the user's loop, or in a thread if sync."""
        driven: asyncio.Future[None]
        cancel: Callable[[], None]
        if call.sync:
            left = threading.Event()
            driven = asyncio.ensure_future(asyncio.to_thread(_consume_sync, attempt, relay, left))
            cancel = left.set
        else:
            task = TaskElsewhere(self._registry.user_loop(), _consume(attempt, relay))
            driven = asyncio.wrap_future(task.done)
            cancel = task.cancel
        try:
            await asyncio.shield(driven)
        except asyncio.CancelledError:
            if reason := _lost_because():
                # Not a cancelled run: whoever takes it over goes on from the log.
                attempt.session.fail(AttemptSupersededError(reason))
            else:
                # As if the caller had left it in process: nodes see it, and LangGraph records it.
                cancel()
            await asyncio.wait([driven], timeout=CANCEL_GRACE_S)
            if not driven.done():
                attempt.session.reject(
                    RunCancelledError(f"Run {attempt.session.run.run_id} was cancelled.")
                )
            if driven.done() and not driven.cancelled():
                driven.exception()
            raise


def _for_the_caller(call: Call, relay: Relay, graph: Any) -> Call:
    """The call with what the caller has beside its input: handlers, and how messages are sent."""
    config = call.config
    # Those bound to the graph are among the call's, and come again from the graph itself.
    tags, bound = list(config.get("tags") or ()), list((graph.config or {}).get("tags") or ())
    if tags[: len(bound)] == bound:
        config = {**config, "tags": tags[len(bound) :]}
    if call.callbacks is not None and relay.listening:
        config = {**config, "callbacks": manager_for(call.callbacks, relay.tell)}
    if call.message_events:
        config = _langgraph.with_message_events(config)
    return replace(call, config=config)


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """A node may end its run, not its worker: asyncio lets SystemExit out of any loop it meets."""
    try:
        yield
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as exc:
        raise RuntimeError(f"a node raised {type(exc).__name__}") from exc


async def _consume(attempt: Attempt, relay: Relays) -> None:
    with _contained():
        async with contextlib.aclosing(attempt.astream()) as chunks:
            async for chunk in chunks:
                if not relay.offer(chunk):
                    await relay.drain()


def _consume_sync(attempt: Attempt, relay: Relays, left: threading.Event) -> None:
    with _contained(), contextlib.closing(attempt.stream()) as chunks:
        for chunk in chunks:
            if left.is_set():
                return
            if not relay.offer(chunk):
                attempt.session.thread.submit(relay.drain()).result()
