"""Workflow side: ``LangGraphRun``, which owns the attempts and the outcome of one run.

The run is recorded when the server has accepted this workflow's start: from then on it does not
need its caller. The workflow schedules one ``drive`` Activity after the other, each an *attempt*
with a number of its own, until one brings the outcome. It sees no state: the call is opaque bytes
that it passes on, the outcome is bytes that it returns.

**States** (``_state``, as the Query ``status`` tells them)::

    scheduled   nothing has happened yet
    running     an attempt is scheduled or driven
    queued      another run has the thread: no Activity is held; the thread signals ``turn``
    retrying    the last attempt was lost, or refused; after a pause another one follows
    (others)    the status of the outcome: the workflow closes with it

**The first attempt of a caller whose process hosts a worker** has begun there before this workflow
knows anything: the server holds back its first workflow task (``admitted.UNDRIVEN_S``). If that
process says before (``report``) how the attempt ended, no Activity is scheduled for it.

**What follows an attempt that brings no reply** (``_after_loss``; the first row that fits)::

    cause                          counts as  what follows
    the process of the caller did  nothing    at once another attempt, for whoever takes it
    not take it within 10 s; or
    the thread's home within
    ``home_timeout_s``
    ``WORKER_SHUTDOWN``            nothing    at once another attempt; with ``max_lost_attempts=1``
                                              it is a loss as below
    the thread does not take it    -          the run ends: ``THREAD_FULL``, ``THREAD_BUSY``,
                                              ``ELSEWHERE``
    the first of the losses and    -          the run ends: ``RUN_LOST``
    refusals in a row, this one
    too, is ``give_up_s`` ago
    ``GRAPH_NOT_FOUND``            refusal    the run ends with the third, if nobody has driven it
                                              before; else a pause of up to 30 s
    ``UNREADABLE``, ``UNREACHED``  refusal    the run ends if the caller's own process has refused,
                                              or after 10 s and three refusals; else up to 2 s
    a timeout: no heartbeat        nothing    at once another attempt, up to 20 times in a row: the
    at all                                    process that took it was frozen, or gone; if it is the
                                              thread's home, for whoever takes it
    a timeout: no heartbeat        loss       at once another attempt; ``RUN_LOST`` if there were
    any more                                  ``max_lost_attempts`` in a row
    anything else                  loss       another attempt after a pause of up to 30 s;
                                              ``RUN_LOST`` likewise

An attempt that brings a reply, also one that says it moved, ends the row of losses and refusals;
but not one that is only sent to the thread's home.

**Where attempts go.** To the process of the caller, if that hosts a worker; else to the thread's
home, as far as it is known; else to whoever takes it. Each worker that gets an attempt asks the
thread, which may say that its home is another one (``AWAY``): then the next attempt goes there. One
that nobody takes there in time is followed by one for whoever takes it, which tells the thread so
(``absent``): of a run that prefers its home, the thread then moves. A run that requires it is sent
to its home again, and waits there twice as long (``HOME_LOOK_S``), because meanwhile another run
may have moved the thread.
**Its time** (``run_timeout_s``) counts from the workflow's start, whatever the run is doing. When
it is over the run is cancelled, as if somebody had asked for that, but it fails with
``RunTimeoutError``. The thread is told before the attempt is: whatever that records of a cancelled
run then is recorded as this failure. A run without such a bound has no timer.

**The thread must not stay reserved** for a run that ends without an outcome: whatever ends the
workflow so, it tells the thread (``_free_thread``). If it was terminated it cannot; then the next
attempt of a run that waits looks (``attempt.attach``), every 30 s.
"""

from __future__ import annotations

import asyncio
import builtins
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    FailureError,
    TimeoutError,
    TimeoutType,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from ..protocol import names
    from ..protocol.expired import expired
    from ..protocol.messages import (
        CallerStream,
        DriveReply,
        DriveRequest,
        DriveStatus,
        Listener,
        Outcome,
        RunStart,
        RunStatusReply,
    )
    from ..protocol.wire import pack, unpack
    from .patches import (
        CANCELLED_IS_CANCELLED,
        GO_HOME,
        SILENT_IS_NO_LOSS,
        STOP_AT_ONCE,
        STOPPED_AT_START,
    )

DRIVE_TIMEOUT = timedelta(days=30)
"""Start-to-close of an attempt; heartbeats, not this, notice a dead worker."""

CALLER_START_TIMEOUT = timedelta(seconds=10)
"""How long the caller's own process may take to pick up an attempt before others may."""

HOME_LOOK_S = 60.0
HOME_LOOK_MAX_S = 6 * 3600.0
"""A run that requires its home looks after this time where that is, at first and at most: in a wait
of a year that is 1,500 times, which one history can hold."""

TURN_RECHECK = timedelta(seconds=30)
"""A waiting run asks again this often: the active run may have been terminated by hand."""

GRAPH_RETRIES = 3
"""Workers of one queue may serve different graphs; this many must refuse before a new run fails."""

UNREADABLE_FOR_S = 10.0
"""Or hold keys and classes of different deploys: of a call or thread that none of them can read,
this long and ``GRAPH_RETRIES`` must have passed."""

UNREADABLE_PAUSE_S = 2.0

_UNREADABLE = (names.UNREADABLE, names.UNREACHED)
_REFUSED = (names.GRAPH_NOT_FOUND, *_UNREADABLE)

MAX_SILENT = 20
"""Attempts in a row that a process takes and shows no sign of life with, until they count."""

BACKOFF_MAX_S = 30.0

MAX_LISTENERS = 20
"""Streams of one run to callers that joined it; the latest are kept."""

LISTEN_TIMEOUT = timedelta(seconds=5)

MOVE_PAUSE_S = 0.2
"""Pause before an attempt that was given up by its process is followed by another."""


@workflow.defn(name=names.RUN_WORKFLOW)
class RunWorkflow:
    """One run: its accepted start is the admission record, its result the outcome.

    Attributes:
        _start: What it was started with.
        _attempt: Number of the latest attempt; the thread refuses those that are older.
        _reported: How the first attempt ended, as its process has told; b"": it has not.
        _queue: Task queue of the latest, or the next, attempt: that of the caller's process, of the
            one that had it last, of the thread's home, or the shared one.
        _at_caller: The attempt is for the process of the caller, which has the live objects.
        _home_queue: Task queue of the thread's home, as it was told last; "": it was not.
        _home_since_s: When an attempt was sent there first; 0: none was since one was driven.
        _looks: How often a run that requires its home was not taken there, in a row.
        _absent: Task queue on which nobody took the last attempt.
        _lost_worker: The last attempt was lost together with its worker.
        _stream: Where the stream goes of a run that has left the process of its caller.
        _state: What it is doing.
        _turn: The thread was given to this run since the latest attempt began.
        _lost: Losses in a row.
        _lost_since_s: When the first of a row of losses or refusals was; 0: there is none.
        _refused: Refusals in a row.
        _silent: Attempts in a row, without regard to others, of whose workers there was no sign.
        _unread_since_s: When the first of those was that could not read; 0: there is none.
        _unreached: The last attempt could not reach the thread, whose workflow nobody can read.
        _last_failure: Why the last attempt was lost. Told by Queries, whose replies are encoded.
        _last_trace: The traceback that belongs to it, for the log.
        _ended: The outcome is here.
        _was_driven: Somebody could drive it: a graph that is not served now was served once.
        _listeners: Who joined the run's stream: each attempt is told.
        _expiry: The task that cancels the run when its time is over; ``None``: it has no bound.
        _expired: It has done so.
    """

    @workflow.init
    def __init__(self, start: bytes) -> None:
        self._start = unpack(RunStart, start)
        self._attempt = 0
        self._reported = b""
        self._queue = self._start.caller_queue or self._start.home_queue or self._start.task_queue
        self._at_caller = bool(self._start.caller_queue)
        self._home_queue = self._start.home_queue
        self._home_since_s = 0.0
        self._looks = 0
        self._absent = ""
        self._lost_worker = False
        self._stream: CallerStream | None = None
        self._state = "scheduled"
        self._turn = False
        self._lost = 0
        self._lost_since_s = 0.0
        self._unread_since_s = 0.0
        self._unreached = False
        self._refused = 0
        self._silent = 0
        self._last_failure = ""
        self._last_trace = ""
        self._ended = False
        self._was_driven = bool(self._start.caller_queue)
        self._listeners: list[Listener] = []
        self._expiry: asyncio.Task[None] | None = None
        self._expired = False

    @workflow.run
    async def run(self, start: bytes) -> bytes:
        """Schedule attempts until one brings the outcome."""
        if self._start.run_timeout_s:
            self._expiry = asyncio.create_task(self._expire(asyncio.current_task()))
        try:
            while True:
                reply = await self._drive()
                if reply is not None and reply.status == DriveStatus.ENDED:
                    return self._finish(reply.outcome)
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    # An Activity that completes swallows the cancellation that waited for it
                    # (temporalio/sdk-python#620).
                    raise asyncio.CancelledError
                if reply is None:
                    continue
                self._stream = self._stream or reply.stream
                here = self._at_caller and reply.status != DriveStatus.AWAY
                self._at_caller = here and reply.queue == self._start.caller_queue
                if reply.at_home:
                    self._home_queue = reply.queue
                if reply.status == DriveStatus.QUEUED:
                    await self._wait_for_turn()
                elif reply.status != DriveStatus.AWAY or not workflow.patched(GO_HOME):
                    await asyncio.sleep(MOVE_PAUSE_S)
                self._queue = reply.queue or self._start.task_queue
        except (Exception, asyncio.CancelledError) as exc:
            self._log_failure(exc)
            # Whatever ends the run without an outcome must not leave the thread reserved. Not
            # `finally`: that would also run when the workflow is evicted from the cache
            # (temporalio/sdk-python#494).
            if not self._ended:
                await self._free_thread()
            if self._expired and not self._ended and is_cancelled_exception(exc):
                had_it = self._attempt if self._was_driven else 0
                raise self._timed_out(Outcome(status="cancelled", attempt=had_it)) from exc
            raise

    @workflow.signal(name=names.TURN_SIGNAL)
    def turn(self) -> None:
        """The thread is reserved for this run."""
        self._turn = True

    # An Update, and not a signal: that would not be let in before the first workflow task.
    @workflow.update(
        name=names.REPORT_UPDATE,
        unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON,
    )
    def report(self, reply: bytes) -> bool:
        """The process of the caller says how the first attempt ended, a ``DriveReply``; or, with
        b"", only that it is to be asked now. ``False``: it is asked already."""
        if self._attempt or not self._at_caller:
            return False
        self._reported = reply
        return True

    @report.validator
    def _check_report(self, reply: bytes) -> None:
        if reply:
            unpack(DriveReply, reply)

    # A run does not wait with its end for those who listen to it.
    @workflow.update(
        name=names.LISTEN_UPDATE,
        unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON,
    )
    async def listen(self, request: bytes) -> bool:
        """Send the stream to one more mailbox; whether a process that drives the run does so."""
        listener = unpack(Listener, request)
        known = [k for k in self._listeners if k.stream_id != listener.stream_id]
        self._listeners = [*known, listener][-MAX_LISTENERS:]
        if not listener.queue or self._state != "running":
            return False
        try:
            taken: bool = await workflow.execute_activity(
                names.LISTEN_ACTIVITY,
                request,
                task_queue=listener.queue,
                result_type=bool,
                schedule_to_close_timeout=LISTEN_TIMEOUT,
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
        except ActivityError:
            # The process is gone; whichever drives the run next is told with its attempt.
            return False
        return taken

    @listen.validator
    def _check_listen(self, request: bytes) -> None:
        unpack(Listener, request)

    @workflow.query(name=names.RUN_STATUS_QUERY)
    def status(self) -> bytes:
        """What the run is doing; also the sign of life a caller waits for."""
        return pack(
            RunStatusReply(
                state=self._state,
                attempt=self._attempt,
                queue=self._queue,
                last_failure=self._last_failure,
                home=names.worker_of(self._home_queue) if self._is_for_home else "",
                home_since_s=self._home_since_s,
            )
        )

    async def _drive(self) -> DriveReply | None:
        """Run one attempt; ``None`` when it was lost and another one should follow."""
        start = self._start
        self._attempt += 1
        # What it was is answered by this attempt. One that comes from now on is kept, also while
        # the attempt is on its way back with QUEUED. The caller's own process has asked already.
        if self._attempt > 1 or not self._at_caller:
            self._turn = False
        self._state = "running"
        if self._is_at_home and not self._home_since_s:
            self._home_since_s = workflow.now().timestamp()
        self._show()
        at_caller = self._at_caller
        request = DriveRequest(
            run_id=start.run_id,
            attempt=self._attempt,
            thread_id=start.thread_id,
            thread_workflow_id=start.thread_workflow_id,
            run_workflow_id=workflow.info().workflow_id,
            graph=start.graph,
            record=b"" if at_caller else start.record,
            record_ref=start.record_ref,
            at_caller=at_caller,
            strategy=start.strategy,
            listeners=tuple(self._listeners),
            affinity=start.affinity,
            home_timeout_s=start.home_timeout_s,
            absent=self._absent,
            lost=self._lost_worker,
            stream=self._stream,
            priority=start.priority,
        )
        try:
            result, self._reported = self._reported, b""
            if not result:
                result = await self._until_cancelled(request)
        except ActivityError as exc:
            task = asyncio.current_task()
            if is_cancelled_exception(exc) or (task is not None and task.cancelling()):
                # However the attempt ended: a cancelled run gets no other one.
                if is_cancelled_exception(exc) or not workflow.patched(CANCELLED_IS_CANCELLED):
                    raise
                raise asyncio.CancelledError from exc
            await self._after_loss(exc.cause or exc)
            return None
        reply = unpack(DriveReply, result)
        # Of one that was only sent home nothing is known yet.
        if reply.status != DriveStatus.AWAY:
            self._lost = self._refused = self._silent = 0
            self._lost_since_s = self._unread_since_s = 0.0
            self._lost_worker, self._was_driven = False, True
            self._home_since_s, self._looks, self._absent = 0.0, 0, ""
        return reply

    @property
    def _is_at_home(self) -> bool:
        """Whether the attempt is for the thread's home, as far as it is known."""
        return self._queue == self._home_queue and not self._at_caller

    @property
    def _is_for_home(self) -> bool:
        """The same, also while a run that requires it looks whether another one is the home now."""
        return self._is_at_home or (self._waits_for_home and not self._at_caller)

    @property
    def _waits_for_home(self) -> bool:
        """Whether the run goes to its home alone, and was not taken there yet."""
        return self._start.affinity == "require" and self._home_since_s > 0

    @property
    def _patience(self) -> timedelta | None:
        """How long the attempt may take to be picked up; ``None``: for ever."""
        start = self._start
        if self._queue == start.task_queue:
            # One that waits for its home only looks here.
            return CALLER_START_TIMEOUT if self._waits_for_home else None
        if not self._is_at_home:
            return CALLER_START_TIMEOUT
        if start.affinity != "require":
            return timedelta(seconds=start.home_timeout_s)
        look_s = min(HOME_LOOK_S * 2 ** min(self._looks, 20), HOME_LOOK_MAX_S)
        if start.give_up_s:
            waited_s = workflow.now().timestamp() - self._home_since_s
            look_s = min(look_s, max(0.1, start.give_up_s - waited_s))
        return timedelta(seconds=look_s)

    def _schedule(self, request: DriveRequest) -> workflow.ActivityHandle[bytes]:
        start = self._start
        return workflow.start_activity(
            names.DRIVE_ACTIVITY,
            pack(request),
            task_queue=self._queue,
            result_type=bytes,
            summary=f"{start.graph} · thread {start.thread_id} · attempt {request.attempt}"[:200],
            start_to_close_timeout=DRIVE_TIMEOUT,
            schedule_to_start_timeout=self._patience,
            heartbeat_timeout=timedelta(seconds=start.heartbeat_s),
            # A retry of the Activity would go to the queue of a process that may be gone;
            # a new attempt, with a new token, may go anywhere.
            retry_policy=RetryPolicy(maximum_attempts=1),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )

    async def _until_cancelled(self, request: DriveRequest) -> bytes:
        """The result of an attempt; cancelled, it is told so at once and still waited for."""
        handle = self._schedule(request)
        scheduled_at = workflow.info().get_current_history_length()
        # Awaited as it is, the SDK would pass the cancellation on to the Activity, and to it alone.
        try:
            return await asyncio.shield(handle)
        except asyncio.CancelledError:
            if handle.done():
                raise
            if self._expired:
                # First, so that the attempt cannot be recorded as cancelled by somebody.
                await self._tell_thread(names.STOP_SIGNAL)
                handle.cancel()
                return await handle
            handle.cancel()
            # Of this very workflow task: it would not even be sent, and the process that has begun
            # the attempt long ago would not be told.
            is_unsent = workflow.info().get_current_history_length() == scheduled_at
            if is_unsent and self._at_caller and workflow.patched(STOPPED_AT_START):
                # Nobody waits for it.
                handle.add_done_callback(lambda dropped: dropped.cancelled() or dropped.exception())
                return await asyncio.shield(self._schedule(replace(request, cancelled=True)))
            if workflow.patched(STOP_AT_ONCE):
                await self._tell_thread(names.STOP_SIGNAL)
            return await handle

    async def _expire(self, running: asyncio.Task[bytes] | None) -> None:
        """Cancel the run when its time is over."""
        over = workflow.info().start_time + timedelta(seconds=self._start.run_timeout_s)
        await workflow.sleep(max(timedelta(0), over - workflow.now()))
        # Cancelled by somebody before, it is that.
        if running is not None and not running.cancelling():
            self._expired = True
            running.cancel()

    def _timed_out(self, outcome: Outcome) -> ApplicationError:
        start = self._start
        failed = expired(outcome, start.run_id, start.thread_id, start.run_timeout_s)
        self._state = failed.status
        return ApplicationError(
            f"run ended with {names.RUN_TIMEOUT_CLASS}",
            pack(failed),
            type=names.RUN_ERROR,
            non_retryable=True,
        )

    async def _after_loss(self, cause: BaseException) -> None:
        """Decide what follows an attempt that ended without a reply."""
        start = self._start
        at_caller, at_home, queue = self._at_caller, self._is_at_home, self._queue
        # Whoever had it may be gone.
        self._queue, self._at_caller = start.task_queue, False
        self._lost_worker = False
        # Replies of Queries are encoded, and are in no history.
        self._last_failure = f"attempt {self._attempt}: {_text(cause)}"
        details = cause.details if isinstance(cause, ApplicationError) else ()
        self._last_trace = str(details[1]) if len(details) > 1 else ""
        self._state = "retrying"
        self._show()
        workflow.logger.info(
            "attempt %d of run %s of thread %r brought no outcome: %s",
            self._attempt,
            start.run_id,
            start.thread_id,
            _kind(cause),
            extra={
                "thread_id": start.thread_id,
                "run_id": start.run_id,
                "attempt": self._attempt,
            },
        )
        self._unreached = isinstance(cause, ApplicationError) and cause.type == names.UNREACHED
        if isinstance(cause, TimeoutError) and cause.type == TimeoutType.SCHEDULE_TO_START:
            if start.affinity != "require":
                self._absent = queue
            if self._waits_for_home:
                self._looks += at_home
                waited_s = workflow.now().timestamp() - self._home_since_s
                if start.give_up_s and waited_s >= start.give_up_s:
                    raise self._not_taken()
                if not at_home:
                    # Nobody was there to tell of another home.
                    self._queue = self._home_queue
            return
        if not _is_silent(cause):
            self._absent = ""
        self._lost_worker = isinstance(cause, TimeoutError) or (
            isinstance(cause, ApplicationError) and cause.type == names.WORKER_SHUTDOWN
        )
        if at_home and isinstance(cause, ApplicationError) and cause.type in _REFUSED:
            # It is there, and does not take the run.
            self._absent = queue if start.affinity != "require" else ""
        elif at_home:
            self._home_since_s, self._looks = 0.0, 0
            if _is_silent(cause) and start.affinity != "require":
                # A process that is frozen, or gone, takes what it has asked for.
                self._absent = queue
        moved = isinstance(cause, ApplicationError) and cause.type == names.WORKER_SHUTDOWN
        if moved and start.max_lost_attempts > 1:
            return
        final = (names.THREAD_FULL, names.THREAD_BUSY, names.ELSEWHERE)
        if isinstance(cause, ApplicationError) and cause.type in final:
            raise ApplicationError(cause.message, type=cause.type, non_retryable=True)
        if self._is_late():
            raise self._given_up(f"for more than {start.give_up_s:g} s", cause)
        if isinstance(cause, ApplicationError) and cause.type == names.GRAPH_NOT_FOUND:
            self._refused += 1
            if self._refused >= GRAPH_RETRIES and not self._was_driven:
                raise ApplicationError(
                    cause.message, type=names.GRAPH_NOT_FOUND, non_retryable=True
                )
            # A run that was under way waits for its graph to be served again, however long.
            await asyncio.sleep(min(BACKOFF_MAX_S, 0.3 * 2 ** min(self._refused, 7)))
            return
        if isinstance(cause, ApplicationError) and cause.type in _UNREADABLE:
            await self._after_unreadable(cause, at_caller=at_caller)
            return
        if _is_silent(cause) and self._silent < MAX_SILENT and workflow.patched(SILENT_IS_NO_LOSS):
            self._silent += 1
            return
        self._was_driven = True
        self._lost += 1
        if self._lost >= start.max_lost_attempts:
            raise self._given_up(f"{self._lost} times in a row", cause)
        if not isinstance(cause, TimeoutError):
            await asyncio.sleep(min(BACKOFF_MAX_S, 0.2 * 2 ** min(self._lost, 10)))

    async def _after_unreadable(self, cause: ApplicationError, *, at_caller: bool) -> None:
        """A worker cannot read the call or the thread; it has done nothing.

        During a deploy others can. But what none of them can read would never end by itself.
        """
        now_s = workflow.now().timestamp()
        self._refused += 1
        self._unread_since_s = self._unread_since_s or now_s
        waited = now_s - self._unread_since_s >= UNREADABLE_FOR_S
        # Its caller's own process could not read it, and has told its caller.
        if at_caller or (waited and self._refused >= GRAPH_RETRIES):
            raise ApplicationError(
                f"no worker could read the call or the thread of run {self._start.run_id}",
                *cause.details,
                type=names.UNREADABLE,
                non_retryable=True,
            )
        await asyncio.sleep(min(UNREADABLE_PAUSE_S, 0.3 * 2 ** min(self._refused, 7)))

    def _log_failure(self, exc: BaseException) -> None:
        """Nobody may be waiting for a run that ends without an outcome."""
        expected = (names.RUN_ERROR, names.THREAD_BUSY)
        if not isinstance(exc, ApplicationError) or exc.type in expected:
            return
        start = self._start
        workflow.logger.error(
            "run %s of thread %r failed: %s: %s (%s)\n%s",
            start.run_id,
            start.thread_id,
            exc.type,
            exc.message,
            self._last_failure,
            self._last_trace,
            extra={
                "thread_id": start.thread_id,
                "run_id": start.run_id,
                "attempt": self._attempt,
            },
        )

    def _is_late(self) -> bool:
        """Whether the time is over in which a run may be driven again after losses in a row."""
        now_s = workflow.now().timestamp()
        self._lost_since_s = self._lost_since_s or now_s
        give_up_s = self._start.give_up_s
        return bool(give_up_s) and now_s - self._lost_since_s >= give_up_s

    def _given_up(self, how_often: str, cause: BaseException) -> ApplicationError:
        return ApplicationError(
            f"Run {self._start.run_id} was lost by its worker {how_often}; the last time: "
            f"{_kind(cause)}. Its thread keeps all that was recorded; continue it with "
            "ainvoke(None, config) when the cause is gone.",
            # Encoded by codecs, as the message is not.
            _text(cause),
            type=names.RUN_LOST,
            non_retryable=True,
        )

    def _not_taken(self) -> ApplicationError:
        worker = names.worker_of(self._home_queue)
        return ApplicationError(
            f"Run {self._start.run_id} requires worker {worker!r}, which has the files of thread "
            f"{self._start.thread_id!r} and did not take the run within "
            f"{self._start.give_up_s:g} s. Nothing more of it was done. Start that worker again, "
            "under its name; or call with affinity='prefer', and the thread moves to another "
            "worker, without its files.",
            type=names.RUN_LOST,
            non_retryable=True,
        )

    def _show(self) -> None:
        """What Temporal's UI shows as current details."""
        start = self._start
        where = ""
        if self._is_for_home:
            since = datetime.fromtimestamp(self._home_since_s, UTC).isoformat(" ", "seconds")
            worker = names.worker_of(self._home_queue)
            where = f"\n\nfor worker {worker}, the thread's home, since {since}"
        workflow.set_current_details(
            f"graph: **{start.graph}**\n\nthread: {start.thread_id}\n\n"
            f"**{self._state}**, attempt {self._attempt}, {self._lost} lost in a row{where}"
        )

    async def _wait_for_turn(self) -> None:
        self._state = "queued"
        self._show()
        try:
            await workflow.wait_condition(lambda: self._turn, timeout=TURN_RECHECK)
        except builtins.TimeoutError:
            # Not an error: the next attempt asks the thread again and checks the active run.
            return

    def _finish(self, data: bytes) -> bytes:
        self._ended = True
        outcome = unpack(Outcome, data)
        self._state = outcome.status
        if outcome.status == "error" and outcome.error is not None:
            # The message names only the class: failure messages are not encrypted by codecs,
            # details are (temporalio/features#66).
            raise ApplicationError(
                f"run ended with {outcome.error.type_name}",
                data,
                type=names.RUN_ERROR,
                non_retryable=True,
            )
        if outcome.status == "cancelled" and self._expired:
            raise self._timed_out(outcome)
        if outcome.status == "cancelled":
            raise CancelledError("run cancelled")
        return data

    async def _free_thread(self) -> None:
        if self._unreached:
            # What is sent now, by a process with another codec, would be in the thread's history
            # for ever, and who can read the rest could not read that.
            return
        await self._tell_thread(names.RUN_CLOSED_SIGNAL)

    async def _tell_thread(self, signal: str) -> None:
        handle = workflow.get_external_workflow_handle(self._start.thread_workflow_id)
        # The workflow may be cancelled already, and must say this all the same.
        try:
            args: list[str | float] = [self._start.run_id]
            if self._expired:
                args.append(self._start.run_timeout_s)
            await asyncio.shield(handle.signal(signal, args=args))
        except ApplicationError:
            # The run never reached its thread, so the thread may not exist.
            workflow.logger.debug("thread %s was never made", self._start.thread_workflow_id)


def _kind(cause: BaseException) -> str:
    """What ended an attempt, without words of its own that could show state."""
    if isinstance(cause, ApplicationError):
        return (cause.type or "ApplicationError").removeprefix(names.ERROR_TYPE)
    if isinstance(cause, TimeoutError) and cause.type is not None:
        return f"timeout ({cause.type.name})"
    return type(cause).__name__


def _is_silent(cause: BaseException) -> bool:
    """Whether an attempt was taken, and nothing heard of it: the first heartbeat has details."""
    return (
        isinstance(cause, TimeoutError)
        and cause.type == TimeoutType.HEARTBEAT
        and not cause.last_heartbeat_details
    )


def _text(cause: BaseException) -> str:
    """What ended an attempt, with its text (see ``storage.rpc.opaque``)."""
    if isinstance(cause, ApplicationError) and cause.details:
        return f"{_kind(cause)}: {cause.details[0]}"
    return cause.message if isinstance(cause, FailureError) else str(cause)
