"""Workflow side: ``LangGraphThread``, the shell that performs what the thread state decides."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from ..protocol import names
    from ..protocol.messages import (
        AppendRequest,
        AttachRequest,
        Op,
        ReadRequest,
        StepReply,
        StepRequest,
        TaskInput,
        TaskOutput,
        TaskSpec,
        ThreadStart,
    )
    from ..protocol.wire import WireError, pack, unpack
    from .thread_state import (
        AnswerTaken,
        CancelRun,
        CancelTask,
        DeleteNamespace,
        Effect,
        FenceNamespace,
        GiveTurn,
        OpenNamespace,
        StartTask,
        ThreadState,
    )

TASK_TIMEOUT = timedelta(days=30)
"""Start-to-close of a task; heartbeats, not this, notice a dead worker."""

MAX_ACTIVITY_TYPE = 200
"""Characters of a node's name shown as the Activity's type; Temporal allows 1,000 bytes."""

CARRY_BYTES = 1_500_000
"""Largest snapshot carried over continue-as-new (one payload, limit 2 MB)."""

UPDATES_BEFORE_ROLL = 1_500
"""The server accepts 2,000 Updates per workflow run."""

UPDATES_FULL = 1_900
HISTORY_EVENTS_FULL = 48_000
HISTORY_BYTES_FULL = 44_000_000
"""Where a thread that is too large to continue as new stops taking work."""


@workflow.defn(name=names.THREAD_WORKFLOW)
class ThreadWorkflow:
    """One thread, or one nested namespace of it; stays open, its history is the store."""

    @workflow.init
    def __init__(self, start: bytes) -> None:
        self._start = unpack(ThreadStart, start)
        incarnation = self._start.incarnation or workflow.info().run_id
        root = not self._start.namespace
        if self._start.snapshot:
            self._state = ThreadState.restore(incarnation, root=root, snapshot=self._start.snapshot)
        else:
            self._state = ThreadState(incarnation=incarnation, root=root)
        self._activities: dict[str, workflow.ActivityHandle[bytes]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._updates = 0

    @workflow.run
    async def run(self, start: bytes) -> None:
        """Serve until deleted; continue as new whenever nothing is in flight and it is time."""
        await workflow.wait_condition(
            lambda: self._state.deleted or (self._should_roll() and self._idle())
        )
        if self._state.deleted:
            await workflow.wait_condition(self._idle)
            return
        workflow.continue_as_new(
            pack(
                ThreadStart(
                    thread_id=self._start.thread_id,
                    namespace=self._start.namespace,
                    id_prefix=self._start.id_prefix,
                    incarnation=self._state.incarnation,
                    snapshot=self._state.snapshot(),
                    roll_events=self._start.roll_events,
                )
            )
        )

    def _should_roll(self) -> bool:
        info = workflow.info()
        roll = self._start.roll_events
        due = (
            info.is_continue_as_new_suggested()
            or self._updates >= UPDATES_BEFORE_ROLL
            or bool(roll and info.get_current_history_length() >= roll)
        )
        return due and self._state.size() <= CARRY_BYTES

    def _must_roll(self) -> bool:
        return not self._activities and self._should_roll()

    def _check_room(self) -> None:
        """Refuse new work while there is still room to record how the current run ends."""
        info = workflow.info()
        full = (
            self._updates >= UPDATES_FULL
            or info.get_current_history_size() >= HISTORY_BYTES_FULL
            or info.get_current_history_length() >= HISTORY_EVENTS_FULL
        )
        if full and self._state.size() > CARRY_BYTES:
            raise ApplicationError(
                f"Thread {self._start.thread_id!r} is full: it holds {self._state.size():,} bytes "
                f"of checkpoints, of which at most {CARRY_BYTES:,} fit into a continue-as-new, and "
                "its workflow is near a limit of the server (2,000 Updates, 51,200 events, 50 MB "
                "of history). Everything can still be read. Go on in a new thread "
                "(saver.copy_thread of a pruned one, or a new thread_id), or make room with "
                "saver.prune([thread_id]).",
                type=names.THREAD_FULL,
                non_retryable=True,
            )

    def _idle(self) -> bool:
        return workflow.all_handlers_finished() and not self._activities and not self._background

    # -- updates ------------------------------------------------------------------------------

    @workflow.update(name=names.ATTACH_UPDATE)
    async def attach(self, request: bytes) -> bytes:
        """An attempt asks for the thread. Never waits for a turn."""
        self._updates += 1
        reply, effects = self._state.attach(unpack(AttachRequest, request))
        await self._perform(effects)
        return pack(reply)

    @attach.validator
    def _check_attach(self, request: bytes) -> None:
        unpack(AttachRequest, request)
        self._check_alive()
        self._check_room()

    @workflow.update(name=names.STEP_UPDATE)
    async def step(self, request: bytes) -> bytes:
        """Append and start tasks, after what the request requires has ended."""
        self._updates += 1
        r = unpack(StepRequest, request)
        await self._perform(self._state.enter_epoch(r.epoch))
        await workflow.wait_condition(
            lambda: self._state.refuses(r.epoch) or self._state.ready(r) or self._must_roll()
        )
        self._check_epoch(r.epoch)
        if self._must_roll():
            # Within a run there is always a next step under way, so the only gap to continue
            # as new in is before it is applied. Steps that wait for an earlier one go as well.
            return pack(StepReply(again=True))
        if missing := self._state.missing(r):
            return pack(StepReply(lost=missing))
        # The log's end is asked for while the run is still the active one.
        end = self._state.log_end() + len(r.ops) if r.outcome and self._state.log_end() else 0
        await self._perform(self._state.step(r))
        return pack(StepReply(log_end=end))

    @step.validator
    def _check_step(self, request: bytes) -> None:
        self._check_alive()
        r = unpack(StepRequest, request)
        _check_ops(r.ops)
        self._check_epoch(r.epoch)
        if r.tasks:
            self._check_room()

    @workflow.update(name=names.APPEND_UPDATE)
    async def append(self, request: bytes) -> None:
        """Append from outside any run."""
        self._updates += 1
        await self._perform(self._state.append(unpack(AppendRequest, request)))

    @append.validator
    def _check_append(self, request: bytes) -> None:
        _check_ops(unpack(AppendRequest, request).ops)
        self._check_alive()

    @workflow.update(name=names.DELETE_UPDATE)
    async def delete(self) -> None:
        """Delete the thread: this workflow and its children end."""
        await self._perform(self._state.delete())

    def _check_epoch(self, epoch: int) -> None:
        if self._state.refuses(epoch):
            raise ApplicationError(
                f"Epoch {epoch} of this thread is over (now {self._state.epoch}): a newer "
                "attempt of the run took over, or the run has ended.",
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

    @workflow.signal(name=names.RUN_CLOSED_SIGNAL)
    async def run_closed(self, run_id: str) -> None:
        """A run workflow closed without an outcome from its attempt."""
        await self._perform(self._state.run_closed(run_id))

    @workflow.signal(name=names.FENCE_SIGNAL)
    async def fence(self, epoch: int) -> None:
        """The parent thread entered a newer epoch."""
        await self._perform(self._state.fence(epoch))

    @workflow.signal(name=names.ANSWER_SIGNAL)
    def answer_taken(self, epoch: int, task_id: str) -> None:
        """A task of a nested graph recorded an answer."""
        self._state.answer_taken(epoch, task_id)

    @workflow.signal(name=names.DELETE_SIGNAL)
    async def delete_namespace(self) -> None:
        """The parent thread was deleted."""
        await self._perform(self._state.delete())

    @workflow.query(name=names.READ_QUERY)
    def read(self, request: bytes) -> bytes:
        """The log after a cursor."""
        return pack(self._state.read(unpack(ReadRequest, request)))

    # -- effects ------------------------------------------------------------------------------

    async def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, StartTask):
                self._start_task(effect.spec, effect.epoch)
            elif isinstance(effect, CancelTask):
                handle = self._activities.get(effect.key)
                if handle is not None:
                    handle.cancel()
            elif isinstance(effect, OpenNamespace):
                await self._open_child(effect.namespace)
            elif isinstance(effect, FenceNamespace):
                # Awaited: the new attempt must not read a namespace its predecessor still writes.
                await self._signal_child(effect.namespace, names.FENCE_SIGNAL, effect.epoch)
            elif isinstance(effect, DeleteNamespace):
                self._spawn(self._signal_child(effect.namespace, names.DELETE_SIGNAL))
            elif isinstance(effect, AnswerTaken):
                self._spawn(self._tell_thread(effect))
            elif isinstance(effect, CancelRun):
                self._spawn(self._cancel_run(effect.run_workflow_id))
            else:
                self._spawn(self._give_turn(effect))

    def _spawn(self, coro: Any) -> None:
        task = asyncio.create_task(coro)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _start_task(self, spec: TaskSpec, epoch: int) -> None:
        handle = workflow.start_activity(
            spec.node[:MAX_ACTIVITY_TYPE] or "(no name)",
            pack(TaskInput(key=spec.key)),
            task_queue=spec.queue,
            result_type=bytes,
            summary=spec.summary,
            start_to_close_timeout=TASK_TIMEOUT,
            heartbeat_timeout=timedelta(seconds=spec.heartbeat_s),
            # A retry would go to the queue of the process that was lost. What follows a lost
            # task is decided by the attempt, or by the next one.
            retry_policy=RetryPolicy(maximum_attempts=1),
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        )
        self._activities[spec.key] = handle
        self._spawn(self._await_task(spec.key, epoch, handle))

    async def _await_task(
        self, key: str, epoch: int, handle: workflow.ActivityHandle[bytes]
    ) -> None:
        try:
            output = unpack(TaskOutput, await handle)
        except (ActivityError, asyncio.CancelledError, WireError):
            self._state.task_lost(key, epoch)
        else:
            await self._perform(self._state.task_ended(key, epoch, output))
        finally:
            if self._activities.get(key) is handle:
                del self._activities[key]

    def _child_id(self, namespace: str) -> str:
        return names.thread_workflow_id(self._start.id_prefix, self._start.thread_id, namespace)

    async def _open_child(self, namespace: str) -> None:
        await workflow.start_child_workflow(
            names.THREAD_WORKFLOW,
            pack(
                ThreadStart(
                    thread_id=self._start.thread_id,
                    namespace=namespace,
                    id_prefix=self._start.id_prefix,
                    roll_events=self._start.roll_events,
                )
            ),
            id=self._child_id(namespace),
            # The child is part of the store: it must survive its parent's continue-as-new.
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            task_timeout=timedelta(seconds=names.WORKFLOW_TASK_TIMEOUT_S),
            static_summary=f"{self._start.thread_id} · {namespace}"[:200],
        )

    async def _signal_child(self, namespace: str, signal: str, *args: Any) -> None:
        handle = workflow.get_external_workflow_handle(self._child_id(namespace))
        try:
            await handle.signal(signal, *args)
        except ApplicationError:
            # The child is gone (terminated by hand): there is nothing left to tell.
            workflow.logger.warning("namespace %s is gone", namespace)

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

    async def _give_turn(self, turn: GiveTurn) -> None:
        handle = workflow.get_external_workflow_handle(turn.run_workflow_id)
        try:
            await handle.signal(names.TURN_SIGNAL)
        except ApplicationError:
            workflow.logger.warning("run %s left the line", turn.run_id)
            await self._perform(self._state.waiter_gone(turn.run_id))


def _check_ops(ops: tuple[bytes, ...]) -> None:
    """In validators: bytes that are no ops must be refused before they are in history."""
    for data in ops:
        unpack(Op, data)
