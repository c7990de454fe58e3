"""Worker side: the Activities of runs: ``drive``, tasks, and two that tell of others.

``drive`` is one attempt of a run. By its result the run workflow learns how the attempt has ended,
by its heartbeats Temporal knows that it is alive. It works in one of two ways:

- The caller is in this process (``EmbeddedRuns`` knows the run): its own generator iterates the
  loop, and ``drive`` is a *shell* that stays until that is over.
- The caller is elsewhere, or gone: ``drive`` attaches, and runs the loop where code of graphs runs
  (``_Driven``). The stream goes to the caller's mailbox.

How it ends tells the run workflow what to do (``workflow/run.py`` has the other half)::

    reply, or type of its error      because
    ENDED                            the outcome is recorded, by this attempt or an earlier one
    QUEUED                           another run has the thread
    AWAY                             the thread's home is another worker
    MOVED                            a newer attempt has the run; or its caller was here, and is not
    ``WORKER_SHUTDOWN``              this process, or the loop that ran the code, goes away; or
                                     Temporal has lost sight of this Activity
    ``GRAPH_NOT_FOUND``              this worker does not serve the graph; another may
    ``UNREADABLE``, ``UNREACHED``    this worker cannot read the call, or the thread; another may
    the other ``TURNED_AWAY``        the thread does not take this run; no attempt would help
    any other error                  it counts as lost

A *task* is the Activity of one task of LangGraph. It executes nothing itself: it finds the live
task by its key and says go, and it ends with what LangGraph has committed (``session``). ``listen``
and ``stop`` are for whoever has found this process by its queue: somebody joins a run that is
driven here, or somebody has cancelled it.

None of them has a second try in Temporal. A retry would come to the queue of a process that may be
gone; and what follows is decided by the run workflow, which numbers the attempts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from temporalio import activity
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from .._exits import Owned, contained, is_cancelled
from .._loops import TaskElsewhere, stands_still
from ..errors import AttemptSupersededError, RunCancelledError, TaskQueueError, UnreadableError
from ..logs import about
from ..protocol import names
from ..protocol.delta import digest
from ..protocol.messages import (
    AttachStatus,
    DriveReply,
    DriveRequest,
    DriveStatus,
    Listener,
    Outcome,
    StopRequest,
    TaskInput,
    TaskOutput,
    TaskStatus,
)
from ..protocol.wire import pack, unpack
from ..seam import hooks
from ..storage.known import KnownChunks
from ..storage.rpc import NotAsLeftError, opaque, opaque_failures
from ..values.record import Call, RunIdentity, decode
from .attempt import (
    TORN_DOWN,
    TURNED_AWAY,
    Attempt,
    attach,
    may_presume,
    turned_away,
    unreadable,
)
from .beats import CANCEL_GRACE_S, EVERY_OF_TASKS, heartbeating, lost_because, moved
from .embedded import EmbeddedRuns, LiveRun, cancel_if_cancelled, forget_input
from .ports import Host
from .proxies import manager_for
from .registry import GraphRegistry
from .relay import JOINED_STALLED_S, STALLED_S, Relay, Relays
from .session import Session
from .slots import Slot

logger = logging.getLogger(__name__)

LOOP_GONE = "the event loop of its process is not run any more"


def _log(request: DriveRequest) -> logging.LoggerAdapter[logging.Logger]:
    return about(
        logger,
        thread_id=request.thread_id,
        run_id=request.run_id,
        attempt=request.attempt,
    )


class _Driven:
    """A run of a caller elsewhere, as long as an attempt of it is driven here.

    Args:
        call: The call, rebuilt.
        relays: Where its stream goes.
        loop: Where its code runs; ``None`` for a sync call, which gets a thread.

    Attributes:
        asked: Somebody has cancelled the run. If its code is cancelled without that, the event loop
            is torn down.
        _attempt: What is driven; ``None`` before ``run``.
        _left: Set when a sync stream is to be left with its next chunk.
        _task: The task on ``loop``, so that it can be cancelled from here.
    """

    def __init__(self, call: Call, relays: Relays, loop: asyncio.AbstractEventLoop | None) -> None:
        self.call = call
        self.relays = relays
        self.loop = loop
        self.asked = False
        self._attempt: Attempt | None = None
        self._left = threading.Event()
        self._task: TaskElsewhere[None] | None = None

    def run(self, attempt: Attempt) -> asyncio.Future[None]:
        """Run the loop where user code runs: on the user's event loop, or in a thread if sync."""
        self._attempt = attempt
        where = f"The stream of thread {attempt.session.run.thread_id!r}"
        if self.loop is None:
            consumed = asyncio.to_thread(_consume_sync, attempt, self.relays, self._left, where)
            return asyncio.ensure_future(consumed)
        self._task = TaskElsewhere(self.loop, _consume(attempt, self.relays, where))
        return asyncio.wrap_future(self._task.done)

    def stop(self) -> None:
        """Somebody cancelled the run: as if its caller had left it in process."""
        self.asked = True
        if self._task is not None:
            # Nodes see it, and LangGraph records it.
            self._task.cancel()
        self._left.set()
        if self.loop is None and self._attempt is not None:
            # What a thread is at it ends; nothing begins after it, whether a chunk comes or not.
            self._attempt.session.begin_no_more(self._cancellation())

    def reject(self) -> None:
        """Let nothing more be recorded but the end of the run."""
        if self._attempt is not None:
            self._attempt.session.reject(self._cancellation())

    def _cancellation(self) -> RunCancelledError:
        assert self._attempt is not None
        return RunCancelledError(f"Run {self._attempt.session.run.run_id} was cancelled.")


class Activities:
    """The Activities of one worker process; they run on the worker's loop.

    Args:
        host: The worker: its queue, loop and live tasks.
        registry: Which graphs those are, and where their code runs.
        embedded: Runs whose callers are in this process.

    Attributes:
        _store: The worker's threads.
        _driven: Runs of callers elsewhere that are driven here, by run id.
        _known: Last large chunk of each thread that was sent, which its caller may have kept too.
    """

    def __init__(self, host: Host, registry: GraphRegistry, embedded: EmbeddedRuns) -> None:
        self._host = host
        self._store = host.store
        self._registry = registry
        self._embedded = embedded
        self._driven: dict[str, _Driven] = {}
        self._known = KnownChunks()

    @property
    def driven(self) -> list[str]:
        """Runs of callers elsewhere that are driven here."""
        return list(self._driven)

    @activity.defn(dynamic=True)
    @opaque_failures()
    async def task(self, args: Sequence[RawValue]) -> bytes:
        """One task: its type is the name of the node, so that Temporal's UI shows it."""
        return await self._task(args, eager=False)

    @activity.defn(dynamic=True)
    @opaque_failures()
    async def eager_task(self, args: Sequence[RawValue]) -> bytes:
        """One that comes with the answer to the workflow task that scheduled it."""
        return await self._task(args, eager=True)

    async def _task(self, args: Sequence[RawValue], *, eager: bool) -> bytes:
        # A dynamic Activity gets its arguments undecoded.
        payload = activity.payload_converter().from_payload(args[0].payload, bytes)
        live = self._host.tasks.get(unpack(TaskInput, payload).key)
        if eager:
            self._host.eager.arrived()
        elif live is not None and live.eager_by:
            self._host.eager.missed(live.eager_by)
        # Of an attempt that was given up; or the task has ended after its first Activity was lost.
        if live is None or not live.start():
            return pack(TaskOutput(status=TaskStatus.UNKNOWN))
        async with heartbeating(every=EVERY_OF_TASKS):
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
            elif request.at_caller:
                # The process of its caller has no such run (any more).
                reply = DriveReply(status=DriveStatus.MOVED)
            else:
                reply = await self._drive(request)
                if reply.status == DriveStatus.ENDED:
                    self._embedded.closing.append(request.run_workflow_id)
            if reply.status == DriveStatus.ENDED and request.record_ref is not None:
                ids = {"thread_id": request.thread_id, "run_id": request.run_id}
                await forget_input(self._store, [request.record_ref], **ids)
        return pack(reply)

    async def _wait_for(self, slot: Slot, request: DriveRequest, session: Session) -> bytes:
        """Wait until this process may drive one more run; how it has ended, if that is before."""
        if not slot.started:
            _log(request).info(
                "run %s of thread %r waits for a run that was called in this process: as many as "
                "max_concurrent_runs are driven here",
                request.run_id,
                request.thread_id,
            )
        try:
            await asyncio.wrap_future(slot.granted)
        except asyncio.CancelledError:
            if reason := lost_because():
                session.fail(AttemptSupersededError(reason))
                raise moved(reason) from None
            outcome = pack(Outcome(status="cancelled", attempt=request.attempt))
            await session.end(outcome)
            return outcome
        return b""

    # -- the caller is in this process --------------------------------------------------------

    async def _shell(self, live: LiveRun, request: DriveRequest) -> DriveReply:
        make = partial(self.relay_to, thread_id=request.thread_id)
        for listener in request.listeners:
            live.listen(listener, make)
        if request.cancelled:
            live.cancel()
        try:
            reply = await self._unless_left(live, request)
        except ApplicationError:
            # Turned away; this was the one who reports it.
            self._embedded.remove(request.run_id)
            raise
        except asyncio.CancelledError:
            if reason := lost_because():
                live.lose(request.attempt, reason)
                raise moved(reason) from None
            live.cancel()
            try:
                async with asyncio.timeout(CANCEL_GRACE_S):
                    reply = await live.drive(request.attempt)
            except TimeoutError:
                # A sync node cannot be stopped; the run is over all the same.
                raise asyncio.CancelledError from None
        # This reply reports the end, or that it leaves, for which the entry was still there.
        if reply.status in (DriveStatus.ENDED, DriveStatus.AWAY):
            self._embedded.remove(request.run_id)
            client = self._store.transport.client
            await cancel_if_cancelled(client, request.run_workflow_id, reply)
        return reply

    # -- the caller is elsewhere, or gone -----------------------------------------------------

    async def _drive(self, request: DriveRequest) -> DriveReply:
        self._check_prefix(request)
        graph = self._registry.get(request.graph)
        if graph is None:
            # A worker that serves what is called in its process may be about to learn of it.
            level = logging.WARNING if self._registry.names() else logging.INFO
            _log(request).log(
                level,
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
            affinity=request.affinity,
            home_timeout_s=request.home_timeout_s,
            priority=request.priority,
        )
        reply = await self._drive_run(request, run, graph, self._presumable(request, graph))
        if reply is None:
            self._host.last_runs.shared(run.thread_id)
            reply = await self._drive_run(request, run, graph)
            assert reply is not None
        return reply

    def _presumable(self, request: DriveRequest, graph: Any) -> Call | None:
        """The call of a run that need not ask, if this process had the last one of its thread."""
        first = request.attempt == 1 and not (request.absent or request.lost or request.cancelled)
        # Who joined would see what it begins with, and it has to wait if others run.
        alone = not request.listeners and self._host.run_slots.has_room
        if not (first and alone and self._host.last_runs.knows(request.thread_id)):
            return None
        if request.record_ref is not None:
            return None
        try:
            call = decode(hooks.reviving(graph, self._store.serde), request.record)
        except Exception:
            # It is looked at once more when the thread is granted.
            return None
        # One that nobody waits for has told the thread that it comes.
        return call if call.mailbox and may_presume(self._store, call) else None

    async def _drive_run(
        self, request: DriveRequest, run: RunIdentity, graph: Any, call: Call | None = None
    ) -> DriveReply | None:
        """Attach and drive; ``None`` if the thread was not as was presumed, and nothing is done.

        Args:
            request: What is to be driven.
            run: The same run.
            graph: Its graph.
            call: Its call, if it need not ask.
        """
        try:
            session = await attach(
                self._host,
                run,
                request.attempt,
                absent=request.absent,
                lost=request.lost,
                presumes=call is not None,
            )
        except TURNED_AWAY as exc:
            raise turned_away(exc) from None
        if not isinstance(session, Session):
            if session.status == AttachStatus.ENDED:
                return DriveReply(status=DriveStatus.ENDED, outcome=session.outcome)
            queued = session.status == AttachStatus.QUEUED
            if queued or session.status == AttachStatus.AWAY:
                # Its turn will come there.
                home = session.home if run.affinity else None
                return DriveReply(
                    status=DriveStatus.QUEUED if queued else DriveStatus.AWAY,
                    queue=home.queue if home is not None else "",
                    at_home=home is not None,
                )
            return DriveReply(status=DriveStatus.MOVED)
        # After attaching: one that stops another run, or is to be rejected, waits for nobody's end.
        with self._host.run_slots.asked(request.priority) as slot:
            if outcome := await self._wait_for(slot, request, session):
                return DriveReply(status=DriveStatus.ENDED, outcome=outcome)
            # After attaching: a run that has ended has no record any more.
            call = call or await self._call_of(request, graph, session)
            return await self._drive_granted(request, run, graph, session, call)

    async def _call_of(self, request: DriveRequest, graph: Any, session: Session) -> Call:
        record = request.record
        if request.record_ref is not None:
            record = await self._store.blobs.fetch(request.thread_id, request.record_ref)
        try:
            return decode(hooks.reviving(graph, self._store.serde), record)
        except Exception as exc:
            # Serializers are the user's, and raise what they like.
            error = self._unread(request, exc)
            error.__cause__ = exc
            session.fail(error)
            raise _not_read(session, error) from None

    async def _drive_granted(
        self, request: DriveRequest, run: RunIdentity, graph: Any, session: Session, call: Call
    ) -> DriveReply | None:
        if request.stream is not None:
            call = call.streaming_to(request.stream, self._store.serde)
        caller = Listener(
            run_id=run.run_id,
            mailbox=call.mailbox,
            stream_id=run.run_id,
            deltas=call.deltas,
        )
        make = partial(self.relay_to, thread_id=run.thread_id, attempt=request.attempt)
        known = self._known.get(run.thread_id) if call.known else b""
        # The caller has another one: a run of this thread was driven elsewhere since.
        known = known if digest(known) == call.known else b""
        relay = make(caller, patience_s=STALLED_S, known=known)
        relays = Relays(make, relay, request.listeners, result_only=call.result_only)
        call = _for_the_caller(call, relay, graph)
        driven = _Driven(call, relays, None if call.sync else self._registry.user_loop())
        attempt = Attempt(
            session,
            self._store,
            graph,
            call,
            asked=lambda: driven.asked,
            arrived=relays.drain,
            deliver=relays.deliver if call.result_only else None,
            unsent=lambda: relays.unsent,
            heard=lambda: relay.listening,
        )
        self._driven[run.run_id] = driven
        try:
            await self._run(driven, attempt)
        except asyncio.CancelledError:
            if reason := lost_because():
                raise moved(reason) from None
            # Cancelled: the outcome says so, if it could be recorded in time.
        except Exception as exc:
            # A node's error is part of the recorded outcome; anything else fails the attempt.
            if not attempt.outcome:
                if isinstance(exc, ApplicationError) and exc.type == names.WORKER_SHUTDOWN:
                    session.fail(AttemptSupersededError(exc.message))
                    raise
                if isinstance(session.error, NotAsLeftError):
                    return None
                if isinstance(session.error, AttemptSupersededError):
                    return DriveReply(status=DriveStatus.MOVED)
                if isinstance(session.error, TaskQueueError):
                    raise turned_away(session.error) from None
                if isinstance(session.error, UnreadableError):
                    raise _not_read(session, session.error) from None
                # Whatever a node raised, an ApplicationError too, may show state.
                raise opaque(session.error or exc) from None
        finally:
            # Unless a newer attempt of the run is here already.
            if self._driven.get(run.run_id) is driven:
                del self._driven[run.run_id]
        await relays.finish()
        self._known.keep(run.thread_id, relay.large)
        if call.ends and attempt.end:
            relays.end(attempt.end)
        return DriveReply(
            status=DriveStatus.ENDED if attempt.outcome else DriveStatus.MOVED,
            outcome=attempt.outcome,
            queue=self._host.queue,
        )

    def _check_prefix(self, request: DriveRequest) -> None:
        """Refuse a run of another deployment: its thread would be taken for one of this."""
        transport = self._store.transport
        ours = transport.thread_workflow_id(request.thread_id)
        if request.thread_workflow_id != ours:
            raise ApplicationError(
                f"The workers on task queue {transport.options.task_queue!r} have the id_prefix "
                f"{transport.options.id_prefix!r}, so thread {request.thread_id!r} is {ours!r} for "
                f"them; for this call it is {request.thread_workflow_id!r}. Give the caller their "
                "id_prefix, or the deployments task queues of their own. Nothing ran; the thread "
                "is unchanged.",
                type=names.ELSEWHERE,
                non_retryable=True,
                category=ApplicationErrorCategory.BENIGN,
            )

    def _unread(self, request: DriveRequest, exc: Exception) -> UnreadableError:
        return UnreadableError(
            f"The call (input or answer, context, config) of run {request.run_id} on thread "
            f"{request.thread_id!r} cannot be read by worker {self._host.queue!r}. Give the "
            "workers the caller's serializer, with its key and allow-list, and let them import "
            "the classes of what is passed. Nothing of the call was done; the thread is "
            f"unchanged. The cause: {type(exc).__name__}: {exc}"
        )

    def relay_to(
        self,
        listener: Listener,
        *,
        thread_id: str,
        attempt: int,
        patience_s: float = JOINED_STALLED_S,
        known: bytes = b"",
    ) -> Relay:
        """A relay of an attempt that is driven here."""
        return Relay(
            self._store.transport.client,
            self._host.loop_thread,
            self._store.serde,
            mailbox=listener.mailbox,
            stream_id=listener.stream_id,
            thread_id=thread_id,
            run_id=listener.run_id,
            attempt=attempt,
            patience_s=patience_s,
            deltas=listener.deltas,
            known=known,
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
        driven = self._driven.get(listener.run_id)
        if driven is None:
            return False
        driven.relays.join(listener)
        return True

    @activity.defn(name=names.STOP_ACTIVITY)
    @opaque_failures()
    async def stop(self, data: bytes) -> bool:
        """Somebody cancelled a run; whether it is driven here."""
        run_id = unpack(StopRequest, data).run_id
        live = self._embedded.get(run_id)
        if live is not None:
            live.cancel()
            return True
        driven = self._driven.get(run_id)
        if driven is None:
            return False
        driven.stop()
        return True

    async def _run(self, driven: _Driven, attempt: Attempt) -> None:
        """Run the loop until it has ended, was cancelled, or lost what it runs on."""
        future = driven.run(attempt)
        try:
            await self._while_running(future, driven.loop)
        except asyncio.CancelledError:
            reason = lost_because() if is_cancelled() else ""
            if reason:
                # Not a cancelled run: whoever takes it over goes on from the log.
                attempt.session.fail(AttemptSupersededError(reason))
            elif is_cancelled():
                driven.stop()
            elif not driven.asked:
                # The program that hosts this worker ends, and has cancelled what was left.
                self._registry.loop_is_gone()
                raise moved(TORN_DOWN) from None
            # It is left behind if need be: a node in an OS thread cannot be stopped.
            await asyncio.wait([future], timeout=CANCEL_GRACE_S)
            if not future.done():
                driven.reject()
            if future.done() and not future.cancelled():
                future.exception()
            raise

    async def _while_running(
        self, future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop | None
    ) -> Any:
        """Wait for what runs on a loop, or in a thread, of the user's.

        Raises:
            ApplicationError: The loop was closed or is not run any more: as if this worker had
                been killed, the run goes to another one.
        """
        if loop is None:
            return await asyncio.shield(future)
        timeout = activity.info().heartbeat_timeout
        patience_s = timeout.total_seconds() if timeout else CANCEL_GRACE_S
        watch = asyncio.ensure_future(stands_still(loop, patience_s))
        try:
            await asyncio.wait([future, watch], return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                raise moved(LOOP_GONE)
            return await asyncio.shield(future)
        finally:
            watch.cancel()

    async def _unless_left(self, live: LiveRun, request: DriveRequest) -> DriveReply:
        """Stay with a run of this process as long as its caller's loop is run."""
        driving = asyncio.ensure_future(live.drive(request.attempt))
        try:
            reply: DriveReply = await self._while_running(driving, live.loop)
        except ApplicationError as exc:
            if exc.type == names.WORKER_SHUTDOWN:
                live.lose(request.attempt, LOOP_GONE)
            raise
        finally:
            driving.cancel()
        return reply


def _not_read(session: Session, error: UnreadableError) -> ApplicationError:
    """This worker cannot read the call or the thread; a run that others could read is lost here,
    and goes on when they are back."""
    return opaque(error) if session.applied.checkpoints or session.wrote else unreadable(error)


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
        config = hooks.with_message_events(config)
    return replace(call, config=config)


async def _consume(attempt: Attempt, relay: Relays, where: str) -> None:
    with contained(where):
        async with contextlib.aclosing(Owned(attempt.astream())) as chunks:
            async for chunk in chunks:
                if not relay.offer(chunk):
                    await relay.drain()


def _consume_sync(attempt: Attempt, relay: Relays, left: threading.Event, where: str) -> None:
    with contained(where), contextlib.closing(attempt.stream()) as chunks:
        for chunk in chunks:
            if left.is_set():
                return
            if not relay.offer(chunk):
                attempt.session.loop_thread.submit(relay.drain()).result()
