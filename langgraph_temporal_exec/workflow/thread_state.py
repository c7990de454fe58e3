"""Workflow side: the thread as a pure state machine; commands in, effects out.

No I/O, no clock, no Temporal: the workflow shell performs the effects, property tests run it
without a server. State is opaque bytes here; only op headers are looked at.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from ..protocol.messages import (
    AppendRequest,
    Applied,
    AttachReply,
    AttachRequest,
    AttachStatus,
    LogPage,
    Op,
    OpKind,
    Outcome,
    ReadReply,
    ReadRequest,
    StepRequest,
    TaskOutput,
    TaskSpec,
    Version,
)
from ..protocol.wire import pack, unpack

NULL_TASK_ID = "00000000-0000-0000-0000-000000000000"
RESUME_CHANNEL = "__resume__"

PAGE_BYTES = 1_500_000
"""Bytes of ops in one reply; Temporal refuses a payload above 2 MB."""

REMEMBERED_RUNS = 300
"""Ended runs whose outcome is kept for an attempt that asks late."""

REMEMBERED_OUTCOME_BYTES = 1_000
"""An outcome above this is remembered without its stream chunks and its traceback."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartTask:
    """Effect: schedule the Activity of a task."""

    spec: TaskSpec
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelTask:
    """Effect: request cancellation of a task's Activity."""

    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenNamespace:
    """Effect: start the Child Workflow of a namespace and wait until it exists."""

    namespace: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FenceNamespace:
    """Effect: tell the Child Workflow of a namespace that older epochs are over."""

    namespace: str
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GiveTurn:
    """Effect: signal a waiting run workflow that the thread is reserved for it."""

    run_id: str
    run_workflow_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteNamespace:
    """Effect: tell the Child Workflow of a namespace to end."""

    namespace: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerTaken:
    """Effect, of a nested namespace: tell the thread that a task recorded an answer."""

    epoch: int
    task_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelRun:
    """Effect: request cancellation of a run workflow whose thread is gone."""

    run_workflow_id: str


Effect = (
    StartTask
    | CancelTask
    | OpenNamespace
    | FenceNamespace
    | GiveTurn
    | DeleteNamespace
    | AnswerTaken
    | CancelRun
)


@dataclass(kw_only=True, slots=True)
class ActiveRun:
    """The run that has the thread. ``attempt`` 0: reserved, nobody attached yet."""

    run_id: str
    run_workflow_id: str
    attempt: int = 0
    first_epoch: int = 0
    checkpoints: int = 0
    null_writes: bool = False
    answered: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    alone: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiter:
    """A run in line for the thread."""

    run_id: str
    run_workflow_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The state as carried over continue-as-new."""

    epoch: int
    seq: int
    log: tuple[bytes, ...]
    namespaces: tuple[str, ...]
    ended: tuple[tuple[str, bytes], ...]
    waiting: tuple[Waiter, ...]
    active: ActiveRun | None
    lost: tuple[str, ...]


@dataclass(kw_only=True)
class ThreadState:
    """One thread, or one nested namespace of a thread.

    Args:
        incarnation: Identity of this life of the thread; a deleted and re-created thread has
            another one, so that readers drop what they remember.
        root: Whether this is the thread itself rather than a nested namespace.
    """

    incarnation: str
    root: bool = True
    epoch: int = 0
    next_seq: int = 0
    log: list[bytes] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)
    active: ActiveRun | None = None
    waiting: deque[Waiter] = field(default_factory=deque)
    ended: dict[str, bytes] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    deleted: bool = False

    # -- runs ---------------------------------------------------------------------------------

    def attach(self, request: AttachRequest) -> tuple[AttachReply, list[Effect]]:
        """Give the thread to an attempt, put its run in line, or turn the attempt away."""
        effects: list[Effect] = []
        if request.run_id in self.ended:
            outcome = self.ended[request.run_id]
            return AttachReply(status=AttachStatus.ENDED, outcome=outcome), effects
        if request.evict and self.active is not None and self.active.run_id == request.evict:
            effects += self._release(fence=True)
        if self.active is None:
            self._leave_line(request.run_id)
            self.active = ActiveRun(run_id=request.run_id, run_workflow_id=request.run_workflow_id)
        active = self.active
        if active.run_id != request.run_id:
            if all(w.run_id != request.run_id for w in self.waiting):
                self.waiting.append(
                    Waiter(run_id=request.run_id, run_workflow_id=request.run_workflow_id)
                )
            reply = AttachReply(
                status=AttachStatus.QUEUED,
                active_run=active.run_id,
                active_run_workflow_id=active.run_workflow_id,
            )
            return reply, effects
        if request.attempt < active.attempt:
            return AttachReply(status=AttachStatus.STALE), effects
        if request.attempt > active.attempt:
            effects += self._new_epoch(self.epoch + 1)
            if active.attempt:
                effects += [
                    FenceNamespace(namespace=ns, epoch=self.epoch) for ns in active.namespaces
                ]
            else:
                active.first_epoch = self.epoch
            active.attempt = request.attempt
            active.alone = True
        reply = AttachReply(
            status=AttachStatus.GRANTED,
            epoch=self.epoch,
            page=self._page(request.incarnation, request.cursor),
            namespaces=tuple(self.namespaces),
            applied=Applied(
                checkpoints=active.checkpoints,
                null_writes=active.null_writes,
                answered=active.answered,
            ),
        )
        return reply, effects

    def run_closed(self, run_id: str) -> list[Effect]:
        """The run workflow closed without an outcome from its attempt: free the thread."""
        self._leave_line(run_id)
        if self.active is not None and self.active.run_id == run_id:
            return self._release(fence=True)
        return []

    def waiter_gone(self, run_id: str) -> list[Effect]:
        """The run whose turn it was does not exist any more."""
        return self.run_closed(run_id)

    def _release(self, *, fence: bool) -> list[Effect]:
        """Free the thread and reserve it for the next run in line.

        ``fence``: the run did not end by itself, so something of it may still be alive.
        """
        active = self.active
        self.active = None
        effects = self._new_epoch(self.epoch + 1)
        if fence and active is not None:
            effects += [FenceNamespace(namespace=n, epoch=self.epoch) for n in active.namespaces]
        if self.waiting:
            waiter = self.waiting.popleft()
            self.active = ActiveRun(run_id=waiter.run_id, run_workflow_id=waiter.run_workflow_id)
            effects.append(GiveTurn(run_id=waiter.run_id, run_workflow_id=waiter.run_workflow_id))
        return effects

    def _leave_line(self, run_id: str) -> None:
        self.waiting = deque(w for w in self.waiting if w.run_id != run_id)

    def _new_epoch(self, epoch: int) -> list[Effect]:
        """Everything of older epochs is over: its tasks are cancelled, its results dropped."""
        self.epoch = epoch
        self.next_seq = 0
        effects: list[Effect] = [CancelTask(key=key) for key in sorted(self.running)]
        self.running.clear()
        self.lost.clear()
        return effects

    def fence(self, epoch: int) -> list[Effect]:
        """A nested namespace learns of a newer epoch."""
        return self._new_epoch(epoch) if epoch > self.epoch else []

    # -- steps --------------------------------------------------------------------------------

    def refuses(self, epoch: int) -> bool:
        """Whether a step of ``epoch`` comes from a superseded attempt."""
        if self.root:
            return epoch != self.epoch or self.active is None
        return epoch < self.epoch

    def enter_epoch(self, epoch: int) -> list[Effect]:
        """A nested namespace takes newer epochs from the steps themselves."""
        return [] if self.root else self.fence(epoch)

    def ready(self, request: StepRequest) -> bool:
        """Whether it is the step's turn and all it requires has ended."""
        return request.seq <= self.next_seq and self.running.isdisjoint(request.requires)

    def log_end(self) -> int:
        """Length of the log, if only the active attempt has appended since it was granted."""
        alone = self.root and self.active is not None and self.active.alone
        return len(self.log) if alone else 0

    def missing(self, request: StepRequest) -> tuple[str, ...]:
        """Required or watched tasks that ended without a result."""
        return tuple(k for k in (*request.requires, *request.watch) if k in self.lost)

    def step(self, request: StepRequest) -> list[Effect]:
        """Apply a step; a repeated one changes nothing.

        The caller has checked ``refuses``, ``ready``, and that nothing required is ``missing``.
        """
        if request.seq < self.next_seq:
            return []
        effects: list[Effect] = []
        for data in request.ops:
            effects += self._append(data, own_run=True)
        if request.extra:
            return effects
        self.next_seq = request.seq + 1
        effects += self._open(request.open)
        for spec in request.tasks:
            if spec.key not in self.running:
                self.lost.discard(spec.key)
                self.running.add(spec.key)
                effects.append(StartTask(spec=spec, epoch=self.epoch))
        if request.outcome:
            self._remember(request.run_id, request.outcome)
            effects += self._release(fence=False)
        return effects

    def task_ended(self, key: str, epoch: int, output: TaskOutput) -> list[Effect]:
        """Record the result of a task's Activity, unless its attempt was superseded."""
        if epoch != self.epoch or key not in self.running:
            return []
        self.running.discard(key)
        return self._append(output.op, own_run=True) if output.op else []

    def task_lost(self, key: str, epoch: int) -> None:
        """The Activity of a task timed out or failed by itself."""
        if epoch == self.epoch and key in self.running:
            self.running.discard(key)
            self.lost.add(key)

    def append(self, request: AppendRequest) -> list[Effect]:
        """Append ops from outside any run."""
        if self.active is not None:
            self.active.alone = False
        for data in request.ops:
            self._append(data, own_run=False)
        return self._open(request.open)

    def _open(self, namespaces: tuple[str, ...]) -> list[Effect]:
        effects: list[Effect] = []
        for namespace in namespaces:
            if namespace not in self.namespaces:
                self.namespaces.append(namespace)
                effects.append(OpenNamespace(namespace=namespace))
            if self.active is not None and namespace not in self.active.namespaces:
                self.active.namespaces = (*self.active.namespaces, namespace)
        return effects

    def _append(self, data: bytes, *, own_run: bool) -> list[Effect]:
        op = unpack(Op, data)
        self.log.append(data)
        if op.kind == OpKind.DROP:
            self._forget(frozenset(op.dropped), {(v.channel, v.key) for v in op.values})
        if not own_run:
            return []
        if self.root:
            if self.active is not None:
                self._note_progress(self.active, op)
            return []
        if not _takes_answer(op):
            return []
        return [AnswerTaken(epoch=self.epoch, task_id=op.task_id)]

    @staticmethod
    def _note_progress(active: ActiveRun, op: Op) -> None:
        if op.kind == OpKind.PUT:
            active.checkpoints += 1
        elif op.task_id == NULL_TASK_ID:
            active.null_writes = True
        elif _takes_answer(op):
            active.answered = (*active.answered, op.task_id)

    def answer_taken(self, epoch: int, task_id: str) -> None:
        """A task of a nested namespace recorded an answer during some attempt of the active run.

        The news may come when the next attempt has the thread already.
        """
        if self.active is not None and epoch >= self.active.first_epoch:
            self.active.answered = (*self.active.answered, task_id)

    def _remember(self, run_id: str, outcome: bytes) -> None:
        if len(outcome) > REMEMBERED_OUTCOME_BYTES:
            full = unpack(Outcome, outcome)
            error = replace(full.error, traceback="") if full.error is not None else None
            outcome = pack(replace(full, tail=(), error=error))
        self.ended[run_id] = outcome
        while len(self.ended) > REMEMBERED_RUNS:
            del self.ended[next(iter(self.ended))]

    def _forget(self, dropped: frozenset[str], needed: set[tuple[str, Version]]) -> None:
        """Blank the entries of dropped checkpoints; sequence numbers stay as they are.

        A checkpoint stores only what is new in it, so values of a dropped one may belong to the
        state of one that stays.
        """
        for i, data in enumerate(self.log):
            op = unpack(Op, data) if data else None
            if op is None or op.checkpoint_id not in dropped:
                continue
            kept = tuple(v for v in op.values if (v.channel, v.key) in needed)
            if op.kind == OpKind.WRITES or not kept:
                self.log[i] = b""
            else:
                left = Op(kind=OpKind.VALUES, checkpoint_id=op.checkpoint_id, values=kept)
                self.log[i] = pack(left)

    # -- reading ------------------------------------------------------------------------------

    def read(self, request: ReadRequest) -> ReadReply:
        """The log after the reader's cursor, one page."""
        return ReadReply(
            page=self._page(request.incarnation, request.cursor),
            namespaces=tuple(self.namespaces),
            deleted=self.deleted,
        )

    def _page(self, incarnation: str, cursor: int) -> LogPage:
        known = incarnation in ("", self.incarnation)
        start = min(cursor, len(self.log)) if known else 0
        ops: list[bytes] = []
        size = 0
        for data in self.log[start:]:
            size += len(data)
            if ops and size > PAGE_BYTES:
                break
            ops.append(data)
        more = start + len(ops) < len(self.log)
        return LogPage(incarnation=self.incarnation, start=start, ops=tuple(ops), more=more)

    # -- life ---------------------------------------------------------------------------------

    def delete(self) -> list[Effect]:
        """End the thread: nothing of it can be read through this workflow any more."""
        effects = self._new_epoch(self.epoch + 1)
        runs = [r.run_workflow_id for r in (self.active, *self.waiting) if r is not None]
        effects += [CancelRun(run_workflow_id=r) for r in runs]
        self.active = None
        self.waiting.clear()
        self.log.clear()
        self.ended.clear()
        effects += [DeleteNamespace(namespace=n) for n in self.namespaces]
        self.namespaces.clear()
        self.deleted = True
        return effects

    def size(self) -> int:
        """Bytes a snapshot would carry, nearly."""
        small = sum(len(o) + 40 for o in self.ended.values()) + sum(map(len, self.namespaces))
        return sum(map(len, self.log)) + small

    def snapshot(self) -> bytes:
        """Everything, for continue-as-new. Tasks must not be running."""
        return pack(
            Snapshot(
                epoch=self.epoch,
                seq=self.next_seq,
                log=tuple(self.log),
                namespaces=tuple(self.namespaces),
                ended=tuple(self.ended.items()),
                waiting=tuple(self.waiting),
                active=self.active,
                lost=tuple(sorted(self.lost)),
            )
        )

    @classmethod
    def restore(cls, incarnation: str, *, root: bool, snapshot: bytes) -> ThreadState:
        """The inverse of ``snapshot``."""
        s = unpack(Snapshot, snapshot)
        return cls(
            incarnation=incarnation,
            root=root,
            epoch=s.epoch,
            next_seq=s.seq,
            log=list(s.log),
            namespaces=list(s.namespaces),
            active=s.active,
            waiting=deque(s.waiting),
            ended=dict(s.ended),
            lost=set(s.lost),
        )


def _takes_answer(op: Op) -> bool:
    """Whether a task recorded an answer, which means it has taken the run's resume value.

    The next ``interrupt()`` of a retried run must not be given that value again.
    """
    return (
        op.kind == OpKind.WRITES
        and op.task_id != NULL_TASK_ID
        and any(v.channel == RESUME_CHANNEL for v in op.values)
    )
