"""Worker side: one attempt of a run: attach to the thread, run LangGraph's loop, end the run.

``attach`` is the beginning. The thread grants the attempt, and a ``Session`` is made; or it does
not, and whoever drives the run reports that. ``Attempt`` is the rest. Its ``astream`` (``stream``
for a sync call) is LangGraph's own stream with something at the end: how that stream ends decides
what is recorded, before the chunks' consumer learns of it::

    LangGraph's stream                           recorded is  the run
    ends                                         done, or     has ended
                                                 interrupted
    raises an error                              error        has ended
    raises ``RunCancelledError``                 cancelled    has ended
    raises what would end the process            error        has ended, with ``NodeExitError``
    raises ``CancelledError``, nobody cancelled  error        has ended, with ``NodeExitError``
    is cancelled or closed, somebody asked       cancelled    has ended
    is cancelled or closed, nobody asked         nothing      goes on elsewhere: the event loop that
                                                              ran it is torn down
    cannot read the state it begins from,        nothing      goes on with others, who may read it
    for a caller elsewhere
    ends in whatever way, after the session      nothing      goes on in another attempt
    has failed

The end is recorded only when a caller elsewhere has its chunks, or has had time to take them
(``_handed_over``): from the recorded end on, no other worker would make them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import replace
from typing import Any

from langgraph.types import Command
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from .._exits import Owned, as_error, guard, is_cancelled, is_exit, own_cancellation
from ..errors import (
    AttemptSupersededError,
    ImpossibleResumeError,
    RunCancelledError,
    RunTimeoutError,
    TaskQueueError,
    ThreadBusyError,
    ThreadFullError,
    UnreadableError,
    UnserializableError,
)
from ..logs import about
from ..protocol import names
from ..protocol.messages import (
    AttachReply,
    AttachRequest,
    AttachStatus,
    LogPage,
    Outcome,
)
from ..protocol.wire import pack
from ..seam import hooks
from ..seam.chunks import Form, ResultChunks
from ..storage import maintenance
from ..storage.blobs import BlobGoneError
from ..storage.reader import Reader
from ..storage.replica import Replica
from ..storage.rpc import opaque
from ..storage.store import Store
from ..storage.thread_client import UnreachedError
from ..values.exact import dump_exact
from ..values.exceptions import describe
from ..values.record import Call, RunIdentity
from .bound import BoundSaver
from .ports import Host
from .questions import QuestionsInOrder
from .retry_input import PlannedInput, plan_input
from .session import Session

logger = logging.getLogger(__name__)

CALLER_TAKES_S = 1.0
"""How long the end of a run waits for its caller to have taken the stream."""

CALLER_TAKES_LARGE_S = 30.0
"""How long it waits if the outcome has no room for the result, which could be lost with this worker
after the end. A caller that is gone is noticed much earlier."""

MAX_TAIL_BYTES = 1_500_000
"""What an outcome carries for callers who missed the stream; one payload may have 2 MB."""

MAX_UNSENT = 2_000
"""Characters of the reason why a chunk could not be sent, some of which are a serializer's."""

MAX_ASKS = 20
"""How many of the nodes that wait for an answer Temporal's UI shows."""

TORN_DOWN = "the event loop that ran it was torn down"
"""Why an attempt is given up whose code was cancelled although nobody stopped its run."""

END_TIMEOUT_S = 15.0
"""How long an abandoned stream may take to record that its run was cancelled."""


async def attach(
    host: Host,
    run: RunIdentity,
    attempt: int,
    *,
    absent: str = "",
    lost: bool = False,
    presumes: bool = False,
) -> Session | AttachReply:
    """Ask the thread for the run: a session when granted, else the reply that says why not.

    Runs on the worker's loop. An active run whose workflow was terminated by hand is evicted: it
    could not tell the thread that it had ended, and would have it for ever. A home that has left,
    and will not come back under its name, is not waited for.

    Args:
        host: The worker of this process.
        run: The run.
        attempt: Number of the attempt.
        absent, lost: See ``AttachRequest``.
        presumes: Whether it need not ask if this process had the last run; see ``last_runs``.
    """
    store, transport = host.store, host.store.transport
    replica = store.replica(run.thread_id)
    if replica.flush is not None:
        # Of an attempt that is superseded or about to end: it may hold what is not in the log.
        replica = store.replicas.renew(run.thread_id)
    # The grant brings what lies after this: mostly no other request reads the thread.
    incarnation, cursor = replica.position("")
    request = AttachRequest(
        run_id=run.run_id,
        attempt=attempt,
        run_workflow_id=run.run_workflow_id,
        incarnation=incarnation,
        cursor=cursor,
        graph=run.graph,
        strategy=run.strategy,
        queue=host.queue,
        worker=host.name if host.is_home else "",
        named=host.named,
        affinity=run.affinity,
        home_timeout_s=run.home_timeout_s,
        absent=absent,
        lost=lost,
        home_queue=host.home_queue,
        priority=run.priority,
        task_queue=transport.options.task_queue,
        park_s=host.store.options.park_s,
    )
    last = host.last_runs.of(run.thread_id, (incarnation, cursor)) if presumes else None
    if last is not None:
        # The time between two runs is an epoch of its own.
        epoch = last.epoch + 2
        presumed = AttachReply(
            status=AttachStatus.GRANTED, epoch=epoch, home=last.home, carries=True
        )
        return Session(
            run=run, attempt=attempt, grant=presumed, host=host, replica=replica, begin=request
        )
    if lost:
        await transport.free_from_cache(run.thread_workflow_id)
    reply = await transport.attach(run.thread_id, request)
    in_the_way = reply.status in (AttachStatus.QUEUED, AttachStatus.REJECTED)
    if in_the_way and await transport.is_closed(reply.active_run_workflow_id):
        request = replace(request, evict=reply.active_run)
        reply = await transport.attach(run.thread_id, request)
    if reply.status == AttachStatus.AWAY and reply.home is not None:
        home = reply.home
        if not home.named and await transport.has_left(home.queue):
            request = replace(request, absent=home.queue)
            reply = await transport.attach(run.thread_id, request)
    if reply.moved and reply.home is not None:
        about(logger, thread_id=run.thread_id, run_id=run.run_id, attempt=attempt).warning(
            "thread %r moves from worker %s, which did not take its run, to worker %s; what its "
            "nodes have kept in files there stays behind",
            run.thread_id,
            reply.home.moved_from,
            reply.home.worker,
        )
    if reply.status == AttachStatus.QUEUED:
        await transport.check_driven(reply.active_run_workflow_id, run.thread_id)
    if reply.status == AttachStatus.REJECTED:
        raise ThreadBusyError(
            f"Run {reply.active_run} has thread {run.thread_id!r}, and this call was started with "
            "multitask_strategy='reject'. Nothing of it was done."
        )
    if reply.status != AttachStatus.GRANTED:
        return reply
    await _absorb(store.reader, replica, reply.page, reply.namespaces)
    # Of runs that were stopped by "rollback". Whoever has the thread next does it: nobody can rely
    # on a run that was stopped.
    if reply.undo:
        await maintenance.undo_runs(store, run.thread_id, frozenset(reply.undo))
        await store.reader.refresh(replica, "")
    return Session(run=run, attempt=attempt, grant=reply, host=host, replica=replica)


def may_presume(store: Store, call: Call) -> bool:
    """Whether a run may begin before it has the thread: nothing of it is seen before it has.

    A stream would show what LangGraph begins with. Nodes that run in place would have run. Answers,
    and runs that go on, depend on what the thread waits for.
    """
    recorded = call.options.get("durability") in (None, "async", "sync")
    recorded = recorded and call.options.get("checkpoint_during") is not False
    in_place = not recorded or any(n.inline for n in store.options.nodes.values())
    begins = call.input is not None and not isinstance(call.input, Command)
    return call.result_only and begins and not in_place


TURNED_AWAY = (ThreadFullError, ThreadBusyError, TaskQueueError, UnreadableError)
"""Why a thread does not take a run: no other attempt in this process would help."""

_TYPES: dict[type[Exception], str] = {
    ThreadFullError: names.THREAD_FULL,
    ThreadBusyError: names.THREAD_BUSY,
    TaskQueueError: names.ELSEWHERE,
}


def turned_away(
    exc: ThreadFullError | ThreadBusyError | TaskQueueError | UnreadableError,
) -> ApplicationError:
    """Why a thread does not take a run, as what ends the run workflow: no attempt follows.

    But for one that this worker cannot read: see ``unreadable``.
    """
    if isinstance(exc, UnreadableError):
        return unreadable(exc)
    return ApplicationError(
        str(exc),
        type=_TYPES[type(exc)],
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )


def unreadable(exc: UnreadableError) -> ApplicationError:
    """This worker cannot read the call, or the thread; others of its queue may.

    The texts are details, which payload codecs encode: what a serializer says may show state.
    """
    return ApplicationError(
        UnreadableError.__name__,
        *opaque(exc).details,
        type=names.UNREACHED if isinstance(exc, UnreachedError) else names.UNREADABLE,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )


async def _absorb(
    reader: Reader, replica: Replica, page: LogPage | None, namespaces: tuple[str, ...]
) -> None:
    if page is None:
        return
    # The page may be one of several, and an archive may have been replaced since it was made.
    with contextlib.suppress(BlobGoneError):
        if await reader.absorb(replica, "", page, namespaces) and not page.more:
            return
    await reader.refresh(replica, "")


class Attempt:
    """Runs LangGraph's loop for a granted session and records how it ended.

    Args:
        session: The granted session.
        store: The worker's; the loop gets a checkpointer over it that is bound to the session.
        graph: The graph as the user compiled it.
        call: The call, live or rebuilt.
        asked: Whether somebody asked for the run to stop; looked at when the code that runs the
            graph is cancelled or left. If not, its event loop is torn down, and the run goes on
            elsewhere.
        deliver: Sends the caller a chunk of the result, if it gets no others.
        arrived: Waits until a caller in another process has all chunks so far. It may miss some all
            the same, so the outcome carries those it cannot do without. ``None``: it is here.
        unsent: Why a chunk could not be sent to that caller; "" if all could.
        heard: Whether a caller hears how the run ends. Of one that fails unheard the log tells.

    Attributes:
        chunks: How many were given to the caller: the outcome has the number, so that it can see
            whether it missed some.
        outcome: How the run ended, packed; b"" as long as that is not recorded.
        end: The same as its caller is told it with the stream: who has the chunks needs no copy of
            them. b"": it is not.
        _plan: What LangGraph is given (``retry_input``): not the call's input, if earlier attempts
            have applied that.
        _graph: A copy of the graph, whose saver writes to the session.
        _form: The form of the chunks that the call asked for.
        _result: Those the result is made of.
        _result_unsent: Why the result cannot travel; "": it can.
    """

    def __init__(
        self,
        session: Session,
        store: Store,
        graph: Any,
        call: Call,
        *,
        asked: Callable[[], bool],
        arrived: Callable[[], Awaitable[None]] | None = None,
        deliver: Callable[[Any, bytes], None] | None = None,
        unsent: Callable[[], str] = lambda: "",
        heard: Callable[[], bool] = lambda: True,
    ) -> None:
        self.session = session
        self._asked = asked
        self._heard = heard
        self._arrived = arrived
        self._deliver = deliver
        self._unsent = unsent
        self._store = store
        self._call = call
        limit = hooks.full_config(graph, call.config)["recursion_limit"]
        plan = plan_input(call.input, call.config, session.applied, limit)
        session.keeps_breakpoints = plan.keeps_breakpoints
        session.answers = {
            "drop_resume": plan.drop_resume,
            "unanswer": sorted(plan.unanswer),
            "spent": plan.spent,
        }
        self._graph = hooks.bind(graph, BoundSaver(store, session, plan))
        self._plan: PlannedInput = plan
        self._form = Form.of(call.options, self._graph)
        self._result = ResultChunks(self._form)
        self._result_unsent = ""
        self.chunks = 0
        self.outcome = b""
        self.end = b""

    async def astream(self) -> AsyncGenerator[Any, None]:
        """LangGraph's chunks; returns or raises as LangGraph does, after the run is recorded.

        Raises:
            NodeExitError: Instead of what would end more than this run.
        """
        self._log_begin()
        guard(asyncio.get_running_loop())
        in_order = QuestionsInOrder(lambda: self.session.loop, self._form)
        # Nobody but this generator may close it: see ``Owned``.
        stream = Owned(
            hooks.original_astream(
                self._graph, self._plan.input, self._plan.config, self._call.options
            )
        )
        abandoned = False
        try:
            async for chunk in stream:
                for item in in_order.take(chunk):
                    self._note(item)
                    yield item
            for item in in_order.rest():
                self._note(item)
                yield item
            self._check_end()
        except BaseException as exc:
            if isinstance(exc, Exception):
                for item in in_order.rest():
                    self._note(item)
                    yield item
                await self._end_failed(exc)
                raise
            if is_exit(exc):
                # Of a reducer, for example, which runs in no task of its own. Without an outcome
                # the run would be driven again.
                error = as_error(exc, self._where)
                await self._end_failed(error)
                raise error from exc
            if isinstance(exc, GeneratorExit) and not self._asked():
                # Nobody runs the loop for long enough to close LangGraph's stream in it: halfway
                # through, the rest would be left to the garbage collector. The loop cancels the
                # tasks of that stream itself.
                self.session.fail(AttemptSupersededError(TORN_DOWN))
                abandoned = True
                raise
            with contextlib.suppress(Exception):
                await stream.aclose()
            if not isinstance(exc, GeneratorExit) and not is_cancelled():
                if self.session.error is not None:
                    # Ended from outside: the run goes on somewhere.
                    raise self.session.error from None
                if isinstance(exc, asyncio.CancelledError):
                    error = own_cancellation(exc, self._where)
                    await self._end_failed(error)
                    raise error from exc
            if self._asked():
                await self._end_cancelled()
            else:
                self.session.fail(AttemptSupersededError(TORN_DOWN))
            raise
        else:
            await self._end()
        finally:
            if not abandoned:
                await stream.aclose()

    def stream(self) -> Generator[Any, None, None]:
        """Sync ``astream``, in the calling OS thread."""
        self._log_begin()
        thread = self.session.loop_thread
        in_order = QuestionsInOrder(lambda: self.session.loop, self._form)
        stream = hooks.original_stream(
            self._graph, self._plan.input, self._plan.config, self._call.options
        )
        try:
            for chunk in stream:
                for item in in_order.take(chunk):
                    self._note(item)
                    yield item
            for item in in_order.rest():
                self._note(item)
                yield item
            self._check_end()
        except BaseException as exc:
            if isinstance(exc, Exception):
                for item in in_order.rest():
                    self._note(item)
                    yield item
                thread.submit(self._end_failed(exc)).result()
                raise
            if is_exit(exc):
                error = as_error(exc, self._where)
                thread.submit(self._end_failed(error)).result()
                raise error from exc
            stream.close()
            if self._asked():
                thread.submit(self._end_cancelled()).result()
            else:
                self.session.fail(AttemptSupersededError(TORN_DOWN))
            raise
        else:
            thread.submit(self._end()).result()

    @property
    def _where(self) -> str:
        return f"Code of the graph of thread {self.session.run.thread_id!r}"

    def _check_end(self) -> None:
        self.session.check()
        if self.session.refused is not None:
            raise self.session.refused

    def _log_begin(self) -> None:
        session, run = self.session, self.session.run
        # Also of one that has waited: its first attempts did not get the thread.
        if not session.applied.checkpoints:
            session.log.info(
                "run %s of thread %r begins: graph %r, attempt %d",
                run.run_id,
                run.thread_id,
                run.graph,
                session.attempt,
            )
            return
        session.log.info(
            "run %s of thread %r continues here: attempt %d, from %d recorded checkpoints",
            run.run_id,
            run.thread_id,
            session.attempt,
            session.applied.checkpoints,
        )

    def _note(self, chunk: Any) -> None:
        """Count, and keep the chunks a plain ``ainvoke`` needs: its questions, the last values."""
        self.chunks += 1
        # A caller in this process has the chunks themselves.
        if self._arrived is None:
            return
        self._result.note(chunk)

    async def _end(self) -> None:
        tail = await self._handed_over() if self._arrived is not None else ()
        stop = hooks.stop_of(self.session.loop)
        outcome = self._stopped("interrupted" if stop.waits else "done", stop)
        unsent = self._result_unsent or self._unsent()
        await self._record(replace(outcome, unsent=unsent[:MAX_UNSENT]), tail)

    async def _handed_over(self) -> tuple[bytes, ...]:
        """Let the caller have its chunks; those of the result, if the outcome has room for them.

        Before the end is recorded: from then on no other worker makes these chunks again.
        """
        assert self._arrived is not None
        tail = self._packed_tail()
        if self._deliver is not None:
            self.chunks = len(self._result.all)
            for chunk, data in zip(self._result.all, tail, strict=False):
                self._deliver(chunk, data)
        fits = sum(map(len, tail)) <= MAX_TAIL_BYTES
        with contextlib.suppress(TimeoutError):
            within_s = CALLER_TAKES_S if fits else CALLER_TAKES_LARGE_S
            await asyncio.wait_for(self._arrived(), within_s)
        return tail if fits else ()

    def _stopped(self, status: str, stop: hooks.Stop) -> Outcome:
        """The outcome, with what is open where the loop ended."""
        open_ = set(stop.interrupts)
        return Outcome(
            status=status,
            attempt=self.session.attempt,
            deadlines=tuple(d for d in self.session.deadlines if d.interrupt_id in open_),
            asks=stop.nodes[:MAX_ASKS],
            at=stop.checkpoint_id,
            nodes=stop.due,
            asked=stop.interrupts,
            answered=self.session.answered_below,
        )

    async def _end_cancelled(self) -> None:
        if self.session.error is not None:
            return
        outcome = self._stopped("cancelled", hooks.stop_of(self.session.loop))
        # Whoever cancelled does not wait for long; what is under way is recorded all the same.
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(self._record(outcome)), END_TIMEOUT_S)

    async def _end_failed(self, exc: BaseException) -> None:
        if self.session.error is not None:
            return
        if isinstance(exc, RunCancelledError) and not isinstance(exc, RunTimeoutError):
            await self._end_cancelled()
            return
        unread = isinstance(exc, UnreadableError) and not self.session.wrote
        if unread and self._arrived is not None:
            # Of the state it was to go on from. Another worker may have what this one lacks.
            self.session.fail(exc)
            return
        await self._record(
            replace(
                self._stopped("error", hooks.stop_of(self.session.loop)),
                error=describe(exc),
                refused=isinstance(exc, ImpossibleResumeError) or unread,
                answered=self.session.answered_below,
            )
        )
        if not self._heard():
            run = self.session.run
            self.session.log.error(
                "run %s of thread %r failed, and nobody waits for it: %s: %s",
                run.run_id,
                run.thread_id,
                type(exc).__name__,
                exc,
                exc_info=exc,
            )

    async def _record(self, outcome: Outcome, tail: tuple[bytes, ...] = ()) -> None:
        outcome = replace(outcome, chunks=self.chunks)
        # The stream's end is for the caller; the thread remembers only how the run ended.
        rests = outcome.status == "done" and not isinstance(self._call.input, Command)
        await self.session.end(pack(outcome), rests=rests)
        run = self.session.run
        self.session.log.info(
            "run %s of thread %r ends: %s%s",
            run.run_id,
            run.thread_id,
            outcome.status,
            # The class alone: what it says may show state.
            f" ({outcome.error.type_name})" if outcome.error else "",
        )
        home = self.session.home
        outcome = replace(outcome, home_queue=home.queue if home is not None else "")
        self.outcome = pack(replace(outcome, tail=tail))
        # What a cancelled run is, cancelled or out of time, its workflow says.
        self.end = b"" if outcome.status == "cancelled" else pack(outcome)
        self.session.loop_thread.submit(self._tidy())

    async def _tidy(self) -> None:
        """What the thread does not keep goes, behind the caller's back."""
        retention = self._store.options.retention
        if retention is None:
            return
        try:
            await maintenance.retain(self._store, self.session.run.thread_id, retention)
        except Exception as exc:
            # The end of the next run tries again.
            self.session.log.warning(
                "retention of thread %r was not applied: %s", self.session.run.thread_id, exc
            )

    def _packed_tail(self) -> tuple[bytes, ...]:
        """The last chunks, if they can travel; a caller who missed them is told (StreamLost)."""
        try:
            return tuple(
                dump_exact(self._store.serde, chunk, what="the result")
                for chunk in self._result.all
            )
        except UnserializableError as exc:
            # Untracked values, for example: allowed in the state, but never serialized
            # (langchain-ai/langgraph#6316).
            self._result_unsent = str(exc)
            return ()
