"""Workflow side: ``LangGraphThread``, the shell that performs what the thread state decides.

``core/thread_state.py`` says what a thread is. What is here is Temporal's part of it: handlers turn
what arrives into commands, ``_perform`` carries out the effects. Handlers that wait check again
when they go on, because the state may be another one by then.

**Continue-as-new.** A thread lives for years, but 2,000 Updates (temporalio/temporal#4413) and some
50,000 events are all that one execution takes. So it continues as new, with a snapshot of its
state. It cannot lose anything by that, for these reasons:

- Steps that have not been applied are answered ``again``, and repeated by their sender.
- It waits until all handlers have ended, and what runs in the background (``_background``).
- What is in ``_repeatable`` it leaves. Tasks and removals are in the snapshot and are begun anew
  (``ThreadState.restart``); tasks get other Activities, which find the same live tasks. An archive
  is asked for again, because the log is still as long, and so is the closing of namespaces.
- An Update that is answered in the last workflow task may come to the next run a second time
  (temporalio/temporal#6375). Steps and attaches may be repeated without harm.

It is *due* after 1,000 Updates, when the server suggests it, when the thread is to move to another
task queue, when its workers have another version, or when it is parked. It *must* take place when
it is due and nothing is under way; it is *forced*, with tasks under way, when a harder bound is
reached or the thread moves. It *may* take place when it must, and all that is waited for has ended.
A snapshot that is too large for a payload holds all of this up; then new work is refused early
enough for the current run to end (``_check_room``).

**Two paces.** Of one workflow task the SDK runs signals and Updates before it lets results of
Activities in (temporalio/sdk-core#639). Where a result must come first, a handler sleeps for a
moment, which makes another workflow task (``RESULTS_FIRST``). And a workflow task that takes more
than two seconds is broken off (temporalio/sdk-python#1050): what starts many Activities pauses
between them (``STARTS_PACED``).
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType

with workflow.unsafe.imports_passed_through():
    from ..protocol import names
    from ..protocol.messages import (
        RULES,
        AppendRequest,
        ArchiveRequest,
        AttachRequest,
        BeginRequest,
        CloseReply,
        CloseRequest,
        EraseRequest,
        ReadRequest,
        ReopenReply,
        ReopenRequest,
        RetireRequest,
        RunBounds,
        StepReply,
        StepRequest,
        StopRequest,
        TaskInput,
        TaskOutput,
        TaskSpec,
        TaskStatus,
        ThreadStart,
    )
    from ..protocol.wire import WireError, pack, unpack, unpack_plain
    from .alarm import Alarm
    from .archiving import MAX_PAUSE_S, PAUSE_S, archive, close, discard, erase, reopen, retire
    from .children import Children
    from .core.effects import (
        AnswerTaken,
        CancelRun,
        CancelTask,
        DeleteNamespace,
        Discard,
        Effect,
        FenceNamespace,
        GiveTurn,
        OpenNamespace,
        StartTask,
        StopRun,
    )
    from .core.thread_log import ARCHIVE_BYTES
    from .core.thread_state import MAX_WAITING, ThreadState
    from .details import current_details
    from .patches import (
        HOMES,
        IN_ORDER,
        NAMESPACES_CLOSED,
        PARKS,
        RESULTS_FIRST,
        SENT_ON,
        STARTS_PACED,
        STARTS_WHEN_WOKEN,
    )
    from .refusals import (
        bad_answer,
        begun_anew,
        check_ops,
        check_outcome,
        full_up,
        no_graph,
        not_as_left,
        not_waiting,
        stale,
    )
    from .resume import priority_of, record_of, run_that_answers, run_workflow_id, start_run
    from .rollover import Rollover


TASK_TIMEOUT = timedelta(days=30)
"""Start-to-close of a task; heartbeats, not this, notice a dead worker."""

STOP_TIMEOUT = timedelta(seconds=10)
"""How long a process may take to learn at once that its run was cancelled; then by heartbeat."""

MAX_ACTIVITY_TYPE = 200
"""Characters of a node's name shown as the Activity's type; Temporal allows 1,000 bytes."""

ARCHIVE_WAIT = timedelta(seconds=20)
"""How long an attempt waits for the archives to be rewritten before that is given up."""

STARTS_AT_ONCE = 100
"""Activities that one workflow task schedules; of a wider superstep the rest follows in the next
ones. Scheduling one costs 0.7 ms of CPU, and a workflow task that takes the SDK longer than two
seconds, on a busy machine, is broken off and done again, over and over."""

SIGNALS_AT_ONCE = 100
"""Namespaces that are told at once to park; Temporal allows 2,000 signals under way."""

EAGER_WAIT = timedelta(seconds=2)
"""How long an eager task may wait on the shared queue, when it has come there after all."""

NEXT_WORKFLOW_TASK_S = 0.001
"""Any timer makes the next workflow task."""


def _left_out(request: CloseRequest, reply: CloseReply) -> bool:
    """Whether some of the namespaces are not at rest yet."""
    return len(reply.closed) + len(reply.gone) < len(request.namespaces)


@workflow.defn(name=names.THREAD_WORKFLOW)
class ThreadWorkflow:
    """One thread, or one nested namespace of it; its history is the store. That of a thread stays
    open, that of a namespace until it has ended (``core/closing.py``).

    Attributes:
        _start: What it was started with, or continued.
        _state: The thread; ``_perform`` carries out what it decides.
        _restored: Effects of the state that was carried over. ``run`` performs those that are still
            due: Updates may come before it (temporalio/sdk-python#462).
        _activities: Activities of tasks that are under way, by key.
        _started: How many this workflow task has scheduled.
        _started_at: Length of the history when that was counted: with another it is another task.
        _pausing: How many coroutines have more to schedule than this workflow task may.
        _details_are_due: What Temporal's UI shows is to be set in the loop's next turn.
        _background: What continue-as-new waits for.
        _repeatable: What it leaves behind: the next run takes it up again, or, of a run that was
            cancelled, heartbeats tell its process as well.
        _paused: The last archive could not be made; for a while none is asked for.
        _closing_paused: Not all namespaces could be closed; for a while none is.
        _closing_pause_s: How long that is next time; longer and longer.
        _children: Workflows of nested namespaces.
        _recalled: What shelves hold of closed namespaces that are about to be opened again.
        _last_round: The highest ``TaskInput.round`` it has given.
        _alarm: Rings for the first interrupt that answers itself.
        _rest: Rings when the thread may have rested for long enough to be parked.
        _upkeep: Task queue of archives and removals.
        _rollover: When to continue as new.
    """

    @workflow.init
    def __init__(self, start: bytes) -> None:
        self._start = unpack(ThreadStart, start)
        self._state = ThreadState.begun(
            self._start, run_id=workflow.info().run_id, now_s=workflow.now().timestamp()
        )
        if not self._start.namespace:
            # Here, because Updates may come before ``run``.
            self._state.closing.enabled = workflow.patched(NAMESPACES_CLOSED)
            self._state.in_order = workflow.patched(IN_ORDER)
        self._restored = self._state.restart()
        self._state.log.archive_bytes = self._start.archive_bytes or ARCHIVE_BYTES
        self._activities: dict[str, workflow.ActivityHandle[bytes]] = {}
        self._started = 0
        self._started_at = 0
        self._pausing = 0
        self._details_are_due = False
        self._background: set[asyncio.Task[None]] = set()
        self._repeatable: set[asyncio.Task[None]] = set()
        self._paused = False
        self._closing_paused = False
        self._closing_pause_s = PAUSE_S
        self._children = Children(self._start)
        self._recalled: dict[str, ReopenReply] = {}
        self._last_round = 0
        self._alarm = Alarm(self._answer_overdue)
        self._rest = Alarm(self._park_if_rested)
        self._upkeep = names.upkeep_queue(workflow.info().task_queue)
        self._rollover = Rollover(roll_events=self._start.roll_events)

    @workflow.run
    async def run(self, start: bytes) -> None:
        """Serve until deleted; continue as new whenever it is time."""
        await self._perform([e for e in self._restored if self._is_due(e)])
        await self._advance()
        while True:
            await workflow.wait_condition(
                lambda: (
                    self._state.deleted
                    or self._may_roll()
                    or self._wants_archive()
                    or self._wants_closing()
                    or self._may_retire()
                )
            )
            if self._state.deleted:
                await self._erase()
                return
            if self._may_retire():
                # All of it is on a shelf of the thread, and in Temporal nothing of it stays open.
                self._state.retired = True
                return
            if self._may_roll():
                break
            if self._wants_archive():
                self._archive()
            else:
                self._close()
        workflow.continue_as_new(
            pack(
                ThreadStart(
                    thread_id=self._start.thread_id,
                    namespace=self._start.namespace,
                    id_prefix=self._start.id_prefix,
                    incarnation=self._state.log.life,
                    snapshot=self._state.snapshot(),
                    roll_events=self._start.roll_events,
                    archive_bytes=self._start.archive_bytes,
                    rules=RULES,
                    graph=self._start.graph,
                    opened_at=self._start.opened_at,
                )
            ),
            task_queue=self._rollover.move_to or None,
            initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
        )

    def _is_due(self, effect: Effect) -> bool:
        """Whether an effect of the previous run is not overtaken by what came since."""
        if not isinstance(effect, StartTask):
            return True
        return effect.epoch == self._state.epoch and effect.spec.key not in self._activities

    def _must_roll(self) -> bool:
        """Whether steps are to be repeated in the next run of the workflow."""
        if self._state.leaves_history:
            return True
        if not self._rollover.is_due(self._state.size):
            return False
        under_way = self._activities or self._pausing or self._state.log.archiving
        return not under_way or self._rollover.is_forced()

    def _may_roll(self) -> bool:
        return self._must_roll() and workflow.all_handlers_finished() and not self._background

    def _check_room(self) -> None:
        """Refuse new work while there is still room to record how the current run ends."""
        if self._rollover.is_full(self._state.size):
            raise full_up(self._start.thread_id, self._state.size())

    # -- updates ------------------------------------------------------------------------------

    @workflow.update(name=names.ATTACH_UPDATE)
    async def attach(self, request: bytes) -> bytes:
        """An attempt asks for the thread. Never waits for a turn."""
        self._enter()
        # An attempt would build on what the compaction drops. Rather no compaction than no run.
        if self._state.log.compacting:
            try:
                await workflow.wait_condition(
                    lambda: not self._state.log.compacting, timeout=ARCHIVE_WAIT
                )
            except builtins.TimeoutError:
                if self._state.log.archiving is not None:
                    self._state.log.not_archived(self._state.log.archiving)
            self._check_alive()
        r = unpack(AttachRequest, request)
        # Results of the previous attempt that are in history already count: their tasks must not
        # run again.
        if self._state.takes_over(r) and workflow.patched(RESULTS_FIRST):
            await asyncio.sleep(NEXT_WORKFLOW_TASK_S)
            self._check_alive()
        if r.affinity:
            self._state.has_home = workflow.patched(HOMES)
        reply, effects = self._state.attach(r)
        await self._perform(effects)
        return pack(reply)

    @attach.validator
    def _check_attach(self, request: bytes) -> None:
        run_id = unpack(AttachRequest, request).run_id
        self._check_alive()
        self._check_room()
        if self._state.run_queue_is_full(run_id):
            raise ApplicationError(
                f"Thread {self._start.thread_id!r} is full: {MAX_WAITING:,} runs wait for it "
                "already. Nothing of this run was done; call again when some of them have ended.",
                type=names.THREAD_FULL,
                non_retryable=True,
            )

    @workflow.update(name=names.BEGIN_UPDATE)
    async def begin(self, request: bytes) -> bytes:
        """Attach, and apply the first step, if all is as the sender presumes."""
        self._enter()
        r = unpack(BeginRequest, request)
        if not self._state.has_begun(r):
            if not self._state.begins(r):
                # Since the validator looked.
                raise not_as_left(self._start.thread_id)
            if r.attach.affinity:
                self._state.has_home = workflow.patched(HOMES)
            await self._perform(self._state.begin(r))
        return await self._step(r.step)

    @begin.validator
    def _check_begin(self, request: bytes) -> None:
        self._check_alive()
        r = unpack(BeginRequest, request)
        check_ops(r.step.ops)
        check_outcome(r.step.outcome)
        if not self._state.has_begun(r):
            self._check_room()
            if not self._state.begins(r):
                raise not_as_left(self._start.thread_id)

    @workflow.update(name=names.STEP_UPDATE)
    async def step(self, request: bytes) -> bytes:
        """Append and start tasks, after what the request requires has ended."""
        self._enter()
        return await self._step(unpack(StepRequest, request))

    async def _step(self, r: StepRequest) -> bytes:
        await self._perform(self._state.enter_epoch(r.epoch, r.round))
        while True:
            await workflow.wait_condition(
                lambda: (
                    self._state.refuses(r.epoch, r.round)
                    or self._state.ready(r)
                    or self._must_roll()
                )
            )
            if r.outcome and self._state.has_outcome_of(r):
                return pack(StepReply(over=True))
            self._check_epoch(r.epoch, r.round)
            if self._must_roll():
                # Within a run there is always a next step under way, so the only gap to continue
                # as new in is before it is applied. Steps that wait for an earlier one go as well.
                return pack(StepReply(again=True))
            if not self._state.ready(r):
                # It was to be repeated, and has not to be any more: an archive is being made.
                continue
            if missing := self._state.missing(r):
                return pack(StepReply(lost=missing))
            if await self._recall(r.open, r.new, lambda: self._state.refuses(r.epoch, r.round)):
                break
        effects = self._state.step(r)
        over = self._state.over(r)
        # Of this very step: another may end the next run before the effects are performed.
        end = self._state.outcome_end if r.outcome else 0
        await self._perform(effects)
        await self._advance()
        # The sender takes its namespaces to be there when this is answered.
        await self._children.opened(r.open)
        if self._state.stays_with(r):
            await workflow.wait_condition(
                lambda: self._state.refuses(r.epoch, r.round) or self._must_roll()
            )
            if self._state.has_outcome_of(r):
                return pack(StepReply(log_end=self._state.outcome_end, over=True))
        return pack(StepReply(log_end=end, ended=over))

    @step.validator
    def _check_step(self, request: bytes) -> None:
        self._check_alive()
        r = unpack(StepRequest, request)
        check_ops(r.ops)
        check_outcome(r.outcome)
        # Here, so that a step of a superseded attempt leaves no trace in history.
        if not (r.outcome and self._state.has_outcome_of(r)):
            self._check_epoch(r.epoch, r.round)
        # A validator is enough: what the log of this workflow is never changes.
        if self._state.is_another(r):
            raise begun_anew(self._start.thread_id, self._start.namespace)
        if r.tasks:
            self._check_room()

    @workflow.update(name=names.APPEND_UPDATE)
    async def append(self, request: bytes) -> None:
        """Append from outside any run."""
        self._enter()
        r = unpack(AppendRequest, request)
        while not await self._recall(r.open, (), lambda: self._state.deleted):
            self._check_alive()
            if self._must_roll():
                # Sent again by whoever reads the thread anew.
                raise stale(self._start.thread_id)
        if r.epoch:
            self._check_epoch(r.epoch)
        if self._state.is_stale(r):
            # Compacted since the validator looked.
            raise stale(self._start.thread_id)
        for namespace in r.close:
            self._recalled.pop(namespace, None)
        await self._perform(self._state.append(r))
        await self._children.opened(r.open)

    @append.validator
    def _check_append(self, request: bytes) -> None:
        r = unpack(AppendRequest, request)
        check_ops(r.ops)
        self._check_alive()
        if r.epoch:
            self._check_epoch(r.epoch)
        if self._state.is_stale(r):
            raise stale(self._start.thread_id)
        if r.ops:
            self._check_room()

    @workflow.update(name=names.RESUME_UPDATE)
    async def answer(self, value: Any, bounds: bytes | None = None) -> str:
        """Answer what the thread waits for; any client may send it, in JSON.

        Args:
            value: The answer, or a map from interrupt ids to answers.
            bounds: ``RunBounds`` of the run that goes on with it; may be left out.

        Returns:
            The id of the run that goes on with it.
        """
        self._enter()
        self._check_waits()
        return await self._start_answer(value, unpack(RunBounds, bounds) if bounds else RunBounds())

    @answer.validator
    def _check_resume(self, value: Any, bounds: bytes | None = None) -> None:
        if bounds:
            unpack(RunBounds, bounds)
        self._check_alive()
        self._check_room()
        self._check_waits()
        if value is None:
            # LangGraph takes it for a Command without an answer.
            raise bad_answer(self._start.thread_id, "null is none")
        record_of(value, self._start)

    def _check_waits(self) -> None:
        if problem := self._state.waits_not():
            raise not_waiting(self._start.thread_id, problem)
        if self._state.lacks_graph:
            raise no_graph(self._start.thread_id)

    @workflow.update(name=names.DELETE_UPDATE)
    async def delete(self) -> str:
        """Delete the thread: this workflow and its children end when all they held is removed.

        Returns the Temporal run id, by which the end can be waited for.
        """
        await self._perform(self._state.delete())
        return workflow.info().run_id

    def _enter(self) -> None:
        self._rollover.updates += 1
        self._state.touch(workflow.now().timestamp())

    def _check_epoch(self, epoch: int, round: int = 0) -> None:
        if self._state.refuses(epoch, round):
            raise ApplicationError(
                f"Epoch {epoch} of this thread is over (now {self._state.epoch}): a newer "
                "attempt of the run took over, another worker has the task, or the run has ended.",
                type=names.FENCED,
                non_retryable=True,
            )

    def _check_alive(self) -> None:
        if self._state.deleted:
            raise ApplicationError(
                f"Thread {self._start.thread_id!r} was deleted.",
                type=names.THREAD_DELETED,
                non_retryable=True,
            )

    # -- signals and queries ------------------------------------------------------------------

    # Temporal cannot refuse a signal, and a handler that raises would stop the workflow for ever:
    # any arguments are taken, and the state passes over those that make no sense.

    @workflow.signal(name=names.ANNOUNCE_SIGNAL)
    def announce(self, *args: Any) -> None:
        """A run was recorded that nobody waits for; it comes by itself when a worker takes it."""
        self._state.signalled(names.ANNOUNCE_SIGNAL, args)

    @workflow.signal(name=names.RUN_CLOSED_SIGNAL)
    async def run_closed(self, *args: Any) -> None:
        """A run workflow closed without an outcome from its attempt: its id; and how many seconds
        it had, if they are over."""
        await self._perform(self._state.signalled(names.RUN_CLOSED_SIGNAL, args))

    @workflow.signal(name=names.STOP_SIGNAL)
    async def stop(self, *args: Any) -> None:
        """A run workflow is being cancelled while somebody drives it: its id; and how many seconds
        it had, if they are over."""
        await self._perform(self._state.signalled(names.STOP_SIGNAL, args))

    @workflow.signal(name=names.FENCE_SIGNAL)
    async def fence(self, *args: Any) -> None:
        """The parent thread entered a newer epoch."""
        await self._perform(self._state.signalled(names.FENCE_SIGNAL, args))

    @workflow.signal(name=names.ANSWER_SIGNAL)
    def answer_taken(self, *args: Any) -> None:
        """A task of a nested graph recorded an answer: the epoch, and the task."""
        self._state.signalled(names.ANSWER_SIGNAL, args)

    @workflow.signal(name=names.DELETE_SIGNAL)
    async def delete_namespace(self, *args: Any) -> None:
        """The parent thread was deleted."""
        await self._perform(self._state.signalled(names.DELETE_SIGNAL, args))

    @workflow.signal(name=names.RETIRE_SIGNAL)
    def retire(self, *args: Any) -> None:
        """All of this namespace is on a shelf of the thread: its log, as it was then."""
        self._state.signalled(names.RETIRE_SIGNAL, args)

    @workflow.signal(name=names.PARK_SIGNAL)
    def park(self, *args: Any) -> None:
        """The thread of this namespace is being parked."""
        self._state.signalled(names.PARK_SIGNAL, args)

    @workflow.signal(name=names.MOVE_SIGNAL)
    def move(self, *args: Any) -> None:
        """Nobody serves this task queue any more: go on, with all namespaces, on another one."""
        if len(args) != 1 or not isinstance(args[0], str) or not args[0]:
            return
        queue = args[0]
        if queue == workflow.info().task_queue:
            return
        self._rollover.move_to = queue
        for namespace in (*self._state.namespaces, *self._state.closing.leaving):
            self._spawn(self._children.signal(namespace, names.MOVE_SIGNAL, queue))

    @workflow.query(name=names.READ_QUERY)
    def read(self, request: bytes) -> bytes:
        """The log after a cursor."""
        return pack(self._state.read(unpack(ReadRequest, request)))

    # -- effects ------------------------------------------------------------------------------

    async def _perform(self, effects: list[Effect]) -> None:
        self._show_details()
        paused = False
        for effect in effects:
            if isinstance(effect, StartTask):
                if self._has_started_many() and workflow.patched(STARTS_PACED):
                    await self._pause()
                    paused = True
                if not paused or self._is_due(effect):
                    self._start_task(effect.spec, effect.epoch)
            elif isinstance(effect, CancelTask):
                handle = self._activities.get(effect.key)
                if handle is not None:
                    handle.cancel()
            elif isinstance(effect, OpenNamespace):
                recalled = self._recalled.pop(effect.namespace, None)
                await self._children.open(
                    effect.namespace,
                    effect.graph,
                    kept=recalled.kept if recalled else None,
                    epoch=self._state.epoch,
                    opened_at=self._state.log.end,
                )
            elif isinstance(effect, FenceNamespace):
                # Awaited: the new attempt must not read a namespace its predecessor still writes.
                await self._children.signal(effect.namespace, names.FENCE_SIGNAL, effect.epoch)
            elif isinstance(effect, DeleteNamespace):
                self._spawn(self._children.signal(effect.namespace, names.DELETE_SIGNAL))
            elif isinstance(effect, AnswerTaken):
                self._spawn(self._tell_thread(effect))
            elif isinstance(effect, Discard):
                self._spawn_repeatable(self._discard(effect))
            elif isinstance(effect, CancelRun):
                self._spawn(self._cancel_run(effect.run_workflow_id))
            elif isinstance(effect, StopRun):
                self._spawn_repeatable(self._stop_run(effect))
            else:
                self._spawn(self._give_turn(effect))
        self._alarm.set(self._state.next_deadline())
        self._watch_rest()

    def _watch_rest(self) -> None:
        parks_at = self._state.parks_at
        # Not for each use of the thread another timer: that which runs looks again.
        if parks_at is not None and not self._rest.is_set and workflow.patched(PARKS):
            self._rest.set(parks_at)

    async def _park_if_rested(self) -> None:
        if not self._state.has_rested(workflow.now().timestamp()):
            self._watch_rest()
            return
        self._state.park()
        self._spawn(self._park_namespaces(self._state.namespaces[:]))

    async def _park_namespaces(self, namespaces: list[str]) -> None:
        for first in range(0, len(namespaces), SIGNALS_AT_ONCE):
            some = namespaces[first : first + SIGNALS_AT_ONCE]
            await asyncio.gather(*(self._children.signal(n, names.PARK_SIGNAL) for n in some))

    def _show_details(self) -> None:
        """Once for all results of a workflow task: the details of a wide superstep cost much."""
        if not self._details_are_due:
            self._details_are_due = True
            asyncio.get_running_loop().call_soon(self._set_details)

    def _set_details(self) -> None:
        self._details_are_due = False
        workflow.set_current_details(current_details(self._state, self._start.graph))

    def _has_started_many(self) -> bool:
        length = workflow.info().get_current_history_length()
        if length != self._started_at:
            self._started, self._started_at = 0, length
        return self._started >= STARTS_AT_ONCE

    async def _pause(self) -> None:
        """Until a workflow task that may schedule more."""
        self._pausing += 1
        try:
            while self._has_started_many():
                if not workflow.patched(STARTS_WHEN_WOKEN):
                    await workflow.sleep(NEXT_WORKFLOW_TASK_S)
                    continue
                # A timer of the server may ring a second late. What was started, and has ended,
                # makes a workflow task as well.
                with contextlib.suppress(builtins.TimeoutError):
                    await workflow.wait_condition(
                        lambda: not self._has_started_many(), timeout=NEXT_WORKFLOW_TASK_S
                    )
        finally:
            self._pausing -= 1

    async def _answer_overdue(self) -> None:
        overdue = self._state.overdue(workflow.now().timestamp())
        if overdue:
            value = {d.interrupt_id: unpack_plain(d.default) for d in overdue}
            # Continue-as-new waits for this.
            self._spawn(self._start_answer(value, overdue[0].bounds))

    async def _start_answer(self, value: Any, bounds: RunBounds) -> str:
        run = run_that_answers(
            value,
            self._start,
            graph=self._state.summary.graph,
            run_id=workflow.uuid4().hex,
            bounds=bounds,
            priority=self._state.priority,
            # A thread that is about to move has nobody on its old queue.
            task_queue=self._rollover.move_to or workflow.info().task_queue,
            home=self._state.home,
        )
        self._state.reserve(run.run_id, run_workflow_id(self._start, run.run_id))
        self._alarm.set(self._state.next_deadline())
        await start_run(run, self._start)
        return run.run_id

    def _spawn(self, coro: Any) -> None:
        task = asyncio.create_task(coro)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _spawn_repeatable(self, coro: Any) -> None:
        task = asyncio.create_task(coro)
        self._repeatable.add(task)
        task.add_done_callback(self._repeatable.discard)

    def _wants_archive(self) -> bool:
        return self._state.wants_archive() and not self._paused

    def _archive(self) -> None:
        request = self._state.archive(self._start.namespace, workflow.info().workflow_id)
        if request is not None:
            self._spawn_repeatable(self._await_archive(request))

    async def _await_archive(self, request: ArchiveRequest) -> None:
        reply = await archive(request, self._upkeep)
        if reply is not None:
            await self._perform(self._state.archived(request, reply))
            return
        self._state.log.not_archived(request)
        self._paused = True
        await asyncio.sleep(PAUSE_S)
        self._paused = False

    def _wants_closing(self) -> bool:
        return not self._closing_paused and self._state.wants_closing()

    def _may_retire(self) -> bool:
        at_rest = workflow.all_handlers_finished() and not self._background
        return at_rest and not self._activities and self._state.may_retire()

    def _close(self) -> None:
        request = self._state.close()
        if isinstance(request, CloseRequest):
            self._spawn_repeatable(self._await_closed(request))
        elif request is not None:
            self._spawn_repeatable(self._await_retired(request))

    async def _await_closed(self, request: CloseRequest) -> None:
        reply = await close(request, self._upkeep)
        if reply is not None:
            await self._perform(self._state.closed(request, reply))
        else:
            self._state.closing.given_up(request)
        if reply is None or _left_out(request, reply):
            await self._pause_closing()
        else:
            self._closing_pause_s = PAUSE_S

    async def _await_retired(self, request: RetireRequest) -> None:
        reply = await retire(request, self._upkeep)
        if reply is not None:
            self._state.close_ended(request, reply)
        else:
            self._state.closing.given_up(request)
        self._watch_rest()
        if reply is None or reply.left:
            await self._pause_closing()

    async def _pause_closing(self) -> None:
        self._closing_paused = True
        pause_s, self._closing_pause_s = self._closing_pause_s, 2 * self._closing_pause_s
        await asyncio.sleep(min(pause_s, MAX_PAUSE_S))
        self._closing_paused = False

    async def _recall(
        self, namespaces: tuple[str, ...], new: tuple[str, ...], is_over: Callable[[], bool]
    ) -> bool:
        """Have at hand what shelves hold of namespaces that are about to be opened.

        Args:
            namespaces: Those to be opened.
            new: Those of them that were never opened.
            is_over: Whether nobody wants them any more.

        Returns:
            Whether it was; if not, this has waited, and all that holds is to be looked at again.
        """
        wanted = [n for n in self._state.recalled(namespaces, new) if n not in self._recalled]
        if not wanted:
            return True
        # Their workflows are told to end, and cannot be taken back.
        await workflow.wait_condition(
            lambda: self._state.closing.none_leaves(wanted) or self._must_roll() or is_over()
        )
        shelves = self._state.closing.state.shelves
        if self._must_roll() or is_over() or shelves is None:
            return False
        recalling = [
            asyncio.create_task(
                self._take(
                    ReopenRequest(
                        thread_id=self._start.thread_id, namespace=namespace, shelves=shelves
                    )
                )
            )
            for namespace in wanted
        ]
        await workflow.wait_condition(
            lambda: all(t.done() for t in recalling) or self._must_roll() or is_over()
        )
        for task in recalling:
            task.cancel()
        return False

    async def _take(self, request: ReopenRequest) -> None:
        reply = await reopen(request, self._upkeep)
        # Unless it was opened, or dropped, meanwhile.
        if reply is not None and self._state.recalled((request.namespace,)):
            self._recalled[request.namespace] = reply

    async def _discard(self, effect: Discard) -> None:
        await discard(self._start.thread_id, effect.garbage, self._upkeep)
        self._state.log.discarded(effect.garbage)

    async def _erase(self) -> None:
        """Remove what is outside this history; new calls of the thread wait until it is done."""
        request = EraseRequest(
            thread_id=self._start.thread_id,
            namespace=self._start.namespace,
            workflow_id=workflow.info().workflow_id,
            deleted_s=workflow.now().timestamp(),
        )
        while True:
            move_to = self._rollover.move_to
            queue = names.upkeep_queue(move_to) if move_to else self._upkeep
            erasing = asyncio.create_task(erase(request, queue))
            await workflow.wait_condition(partial(self._is_erased, erasing, move_to))
            if erasing.done():
                break
            # Nobody serves the queue on which it was asked for.
            erasing.cancel()
        await workflow.wait_condition(
            lambda: workflow.all_handlers_finished() and not self._background
        )

    def _is_erased(self, erasing: asyncio.Task[None], move_to: str) -> bool:
        """Whether it is done, or is to be done elsewhere."""
        return erasing.done() or self._rollover.move_to != move_to

    def _start_task(self, spec: TaskSpec, epoch: int) -> None:
        task = TaskInput(key=spec.key)
        if spec.parcel:
            now_ms = int(workflow.now().timestamp() * 1000)
            # Never that of an earlier one for this task, however fast one follows the other.
            self._last_round = max(now_ms, self._last_round + 1)
            task = replace(task, parcel=spec.parcel, round=self._last_round)
        home = self._state.task_home(spec)
        queue = home or (workflow.info().task_queue if spec.eager else spec.queue)
        within = EAGER_WAIT if spec.eager else None
        if home and spec.home_timeout_s > 0:
            within = timedelta(seconds=spec.home_timeout_s)
        handle = workflow.start_activity(
            spec.node[:MAX_ACTIVITY_TYPE] or "(no name)",
            pack(task),
            task_queue=queue,
            schedule_to_start_timeout=within,
            result_type=bytes,
            summary=spec.summary,
            start_to_close_timeout=TASK_TIMEOUT,
            heartbeat_timeout=timedelta(seconds=spec.heartbeat_s),
            # A retry would go to the queue of the process that was lost. What follows a lost
            # task is decided by the attempt, or by the next one.
            retry_policy=RetryPolicy(maximum_attempts=1),
            priority=priority_of(spec.priority),
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        )
        self._started += 1
        self._activities[spec.key] = handle
        self._spawn_repeatable(self._await_task(spec.key, epoch, handle, queue))

    async def _await_task(
        self, key: str, epoch: int, handle: workflow.ActivityHandle[bytes], queue: str
    ) -> None:
        try:
            output = unpack(TaskOutput, await handle)
            if output.status == TaskStatus.UNKNOWN and self._send_on(key, epoch):
                return
            if output.step:
                self._state.touch(workflow.now().timestamp())
            effects = self._state.task_ended(key, epoch, output)
        except (ActivityError, asyncio.CancelledError, WireError) as exc:
            if _is_not_begun(exc) and self._send_on(key, epoch):
                return
            if _is_not_taken(exc) and (spec := self._state.task_home_left(key, epoch, queue)):
                workflow.logger.warning(
                    "%s of thread %s moves: worker %s, which ran it before, did not take it; what "
                    "it has kept in files there stays behind",
                    spec.home_key,
                    self._start.thread_id,
                    names.worker_of(queue),
                )
                self._start_task(spec, epoch)
                return
            # Also of a result that nobody can read: its attempt is asked for it once more.
            self._state.task_lost(key, epoch)
        else:
            await self._perform(effects)
        finally:
            if self._activities.get(key) is handle:
                del self._activities[key]
        await self._advance()

    def _send_on(self, key: str, epoch: int) -> bool:
        """Send an eager task that did not come to its process to the queue of that."""
        spec = self._state.eager_missed(key, epoch)
        if spec is None or not workflow.patched(SENT_ON):
            return False
        self._start_task(spec, epoch)
        return True

    async def _advance(self) -> None:
        """Apply the steps that came with results; what is left is in the snapshot."""
        if not self._state.carried or self._must_roll():
            return
        if self._rollover.is_full(self._state.size):
            # Its sender sends it as an Update, which is refused.
            self._state.carried.clear()
        await self._perform(self._state.advance())

    async def _tell_thread(self, taken: AnswerTaken) -> None:
        root = names.thread_workflow_id(self._start.id_prefix, self._start.thread_id)
        handle = workflow.get_external_workflow_handle(root)
        try:
            await handle.signal(names.ANSWER_SIGNAL, args=[taken.epoch, taken.task_id])
        except ApplicationError:
            workflow.logger.warning("thread %s is gone", self._start.thread_id)

    async def _cancel_run(self, run_workflow_id: str) -> None:
        try:
            await workflow.get_external_workflow_handle(run_workflow_id).cancel()
        except ApplicationError:
            workflow.logger.info("%s has closed already", run_workflow_id)

    async def _stop_run(self, effect: StopRun) -> None:
        """Heartbeats bring the news as well, but only every few seconds."""
        try:
            await workflow.execute_activity(
                names.STOP_ACTIVITY,
                pack(StopRequest(run_id=effect.run_id)),
                task_queue=effect.queue,
                result_type=bool,
                summary=f"cancel run {effect.run_id}",
                schedule_to_close_timeout=STOP_TIMEOUT,
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
        except (ActivityError, asyncio.CancelledError):
            workflow.logger.info("the process of run %s is not there any more", effect.run_id)

    async def _give_turn(self, turn: GiveTurn) -> None:
        # One that was terminated while it waited: the next gets the thread.
        handle = workflow.get_external_workflow_handle(turn.run_workflow_id)
        try:
            await handle.signal(names.TURN_SIGNAL)
        except ApplicationError:
            workflow.logger.warning("run %s left the run queue", turn.run_id)
            await self._perform(self._state.run_closed(turn.run_id))


def _is_not_begun(exc: BaseException) -> bool:
    """Whether an Activity was not taken in time, or by a worker that does not know it."""
    cause = exc.cause if isinstance(exc, ActivityError) else None
    return _is_not_taken(exc) or isinstance(cause, ApplicationError)


def _is_not_taken(exc: BaseException) -> bool:
    """Whether no worker took an Activity in time."""
    cause = exc.cause if isinstance(exc, ActivityError) else None
    return isinstance(cause, TimeoutError) and cause.type == TimeoutType.SCHEDULE_TO_START
