"""Workflow side: the thread as a pure state machine; commands in, effects out.

No I/O, no clock, no Temporal: the workflow shell performs the effects, property tests run it
without a server. State is opaque bytes here; only op headers are looked at.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from ..protocol.messages import (
    ActiveRun,
    AppendRequest,
    Applied,
    AttachReply,
    AttachRequest,
    AttachStatus,
    Deadline,
    Outcome,
    ReadReply,
    ReadRequest,
    Snapshot,
    StepRequest,
    TaskOutput,
    TaskSpec,
    TaskStatus,
    ThreadSummary,
    Waiter,
)
from ..protocol.names import NULL_TASK_ID, REMEMBERED_NAMESPACES
from ..protocol.stored import Op, OpKind
from ..protocol.wire import pack, unpack
from . import outcomes
from .effects import (
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
)
from .log_state import LogState

REMEMBERED_RUNS = 100
"""Ended runs whose outcome is kept for an attempt that asks late."""

REMEMBERED_OUTCOME_BYTES = 1_000
"""An outcome above this is remembered in short."""

MAX_WAITING = 2_000
"""Runs that may wait for one thread."""


@dataclass(kw_only=True)
class ThreadState(LogState):
    """One thread, or one nested namespace of a thread.

    Args:
        incarnation: Identity of this life of the thread; a deleted and re-created thread has
            another one, so that readers drop what they remember.
        root: Whether this is the thread itself rather than a nested namespace.
        archive_bytes: Size of the log at which it moves into an archive.
        summary: The thread as a list shows it.
    """

    root: bool = True
    epoch: int = 0
    next_seq: int = 0
    outcome_end: int = 0
    namespaces: list[str] = field(default_factory=list)
    active: ActiveRun | None = None
    waiting: deque[Waiter] = field(default_factory=deque)
    ended: dict[str, bytes] = field(default_factory=dict)
    running: dict[str, TaskSpec] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    undo: list[str] = field(default_factory=list)
    deadlines: tuple[Deadline, ...] = ()

    @property
    def attached(self) -> bool:
        """Whether an attempt may build on what the log holds."""
        return self.active is not None and self.active.attempt > 0

    # -- runs ---------------------------------------------------------------------------------

    def takes_over(self, request: AttachRequest) -> bool:
        """Whether an attempt would drop results of the one before it."""
        active = self.active if self.running else None
        if active is None or active.run_id != request.run_id:
            return False
        return request.attempt > active.attempt > 0

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
                if request.strategy == "reject":
                    return self._not_yours(AttachStatus.REJECTED, active), effects
                effects += self._wait(request, active)
            return self._not_yours(AttachStatus.QUEUED, active), effects
        if request.graph:
            self.summary = replace(self.summary, graph=request.graph)
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
            undo=tuple(self.undo),
        )
        return reply, effects

    @staticmethod
    def _not_yours(status: AttachStatus, active: ActiveRun) -> AttachReply:
        return AttachReply(
            status=status,
            active_run=active.run_id,
            active_run_workflow_id=active.run_workflow_id,
        )

    def _wait(self, request: AttachRequest, active: ActiveRun) -> list[Effect]:
        """Put a run in line: at its end, or at its head if it stops the active one."""
        waiter = Waiter(run_id=request.run_id, run_workflow_id=request.run_workflow_id)
        if request.strategy not in ("interrupt", "rollback"):
            self.waiting.append(waiter)
            return []
        self.waiting.appendleft(waiter)
        if active.stop != "rollback":
            active.stop, active.boundary = request.strategy, False
        # One that nobody drives yet has no superstep to wait for.
        at_once = request.strategy == "rollback" or not active.attempt
        return [CancelRun(run_workflow_id=active.run_workflow_id)] if at_once else []

    def waits_not(self) -> str:
        """Why there is nothing to be answered; "" when the last run ended with a question."""
        if not self.root:
            return "it is a nested namespace; answer on the thread itself."
        if self.active is not None:
            return f"run {self.active.run_id} has it."
        if self.summary.status != "interrupted":
            return "it waits for nothing."
        return ""

    def reserve(self, run_id: str, run_workflow_id: str) -> None:
        """Give the free thread to a run that is about to be started."""
        self.active = ActiveRun(run_id=run_id, run_workflow_id=run_workflow_id)

    def next_deadline(self) -> float | None:
        """When the first of the interrupts answers itself (Unix time)."""
        if self.waits_not():
            return None
        return min((deadline.at_s for deadline in self.deadlines), default=None)

    def overdue(self, now_s: float) -> tuple[Deadline, ...]:
        """The interrupts that answer themselves now; they will not do so again."""
        if self.waits_not():
            return ()
        # A timer is as exact as milliseconds.
        now_s += 0.01
        due = tuple(d for d in self.deadlines if d.at_s <= now_s)
        self.deadlines = tuple(d for d in self.deadlines if d.at_s > now_s)
        return due

    def line_is_full(self, run_id: str) -> bool:
        """Whether a run that would have to wait finds no place in line."""
        if self.active is None or self.active.run_id == run_id:
            return False
        known = run_id in self.ended or any(w.run_id == run_id for w in self.waiting)
        return not known and len(self.waiting) >= MAX_WAITING

    def run_closed(self, run_id: str) -> list[Effect]:
        """The run workflow closed without an outcome from its attempt: free the thread."""
        self._leave_line(run_id)
        if self.active is not None and self.active.run_id == run_id:
            if self.active.attempt:
                self.summary = replace(self.summary, status="lost")
            return self._release(fence=True)
        return []

    def _release(self, *, fence: bool) -> list[Effect]:
        """Free the thread and reserve it for the next run in line.

        ``fence``: the run did not end by itself, so something of it may still be alive.
        """
        active = self.active
        self.active = None
        if active is not None and active.stop == "rollback" and active.attempt:
            self.undo.append(active.run_id)
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
        return request.seq <= self.next_seq and self.running.keys().isdisjoint(request.requires)

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
        effects += self._open(request.open, request.open_as)
        if request.tasks and self._stops_here():
            assert self.active is not None
            effects.append(CancelRun(run_workflow_id=self.active.run_workflow_id))
        for spec in () if self._stops_here() else request.tasks:
            if spec.key not in self.running:
                self.lost.discard(spec.key)
                self.running[spec.key] = spec
                effects.append(StartTask(spec=spec, epoch=self.epoch))
        if request.outcome:
            alone = self.root and self.active is not None and self.active.alone
            self.outcome_end = self.end if alone else 0
            self._remember(request.run_id, request.outcome)
            effects += self._release(fence=False)
        return effects

    def _stops_here(self) -> bool:
        """Whether the next superstep must not begin: a later run wants the thread."""
        return self.active is not None and self.active.stop != "" and self.active.boundary

    def restart(self) -> list[Effect]:
        """Effects after continue-as-new: what was under way is taken up again."""
        effects: list[Effect] = [StartTask(spec=s, epoch=self.epoch) for s in self.running.values()]
        return effects + [Discard(garbage=ref) for ref in self.discards]

    def task_ended(self, key: str, epoch: int, output: TaskOutput) -> list[Effect]:
        """Record the result of a task's Activity, unless its attempt was superseded."""
        if epoch != self.epoch or key not in self.running:
            return []
        del self.running[key]
        if output.status == TaskStatus.UNKNOWN:
            # It ended in its process after its Activity was lost: its result comes as an op.
            self.lost.add(key)
        return self._append(output.op, own_run=True) if output.op else []

    def task_lost(self, key: str, epoch: int) -> None:
        """The Activity of a task timed out or failed by itself."""
        if epoch == self.epoch and key in self.running:
            del self.running[key]
            self.lost.add(key)

    def append(self, request: AppendRequest) -> list[Effect]:
        """Append ops from outside any run."""
        if self.active is not None:
            self.active.alone = False
        for data in request.ops:
            self._append(data, own_run=False)
            if unpack(Op, data).kind == OpKind.PUT:
                # Somebody has taken the thread in hand.
                self.deadlines = ()
        self.compact = self.compact or (request.compact and self.garbage)
        effects = self._open(request.open)
        self.undo = [run_id for run_id in self.undo if run_id not in request.undone]
        closed = [n for n in request.close if n in self.namespaces]
        self.namespaces = [n for n in self.namespaces if n not in closed]
        return effects + [DeleteNamespace(namespace=n) for n in request.close]

    def is_stale(self, request: AppendRequest) -> bool:
        """Whether the ops build on values that may be gone by a compaction since they were read."""
        return request.incarnation not in ("", self.log_incarnation)

    def _open(self, namespaces: tuple[str, ...], graphs: tuple[str, ...] = ()) -> list[Effect]:
        effects: list[Effect] = []
        for namespace, graph in zip_longest(namespaces, graphs[: len(namespaces)], fillvalue=""):
            if namespace not in self.namespaces:
                self.namespaces.append(namespace)
                del self.namespaces[:-REMEMBERED_NAMESPACES]
                self._log(pack(Op(kind=OpKind.OPEN, opened=(namespace,))))
                effects.append(OpenNamespace(namespace=namespace, graph=graph))
            if self.active is not None and namespace not in self.active.namespaces:
                # Those that were used long ago are over, and need no fence.
                recent = self.active.namespaces[1 - REMEMBERED_NAMESPACES :]
                self.active.namespaces = (*recent, namespace)
        return effects

    def _append(self, data: bytes, *, own_run: bool) -> list[Effect]:
        op = unpack(Op, data)
        self._log(data)
        if self.compacting and op.kind != OpKind.DROP:
            # It may build on what the compaction drops: another time.
            self.archiving = None
        if op.kind == OpKind.DROP:
            self.garbage = True
        if not own_run:
            return []
        if self.root:
            if self.active is not None:
                self._note_progress(self.active, op)
            return []
        if not outcomes.takes_answer(op):
            return []
        return [AnswerTaken(epoch=self.epoch, task_id=op.task_id)]

    @staticmethod
    def _note_progress(active: ActiveRun, op: Op) -> None:
        if op.kind == OpKind.PUT:
            active.checkpoints += 1
            active.boundary = True
        elif op.task_id == NULL_TASK_ID:
            active.null_writes = True
        elif outcomes.takes_answer(op):
            active.answered = (*active.answered, op.task_id)

    def answer_taken(self, epoch: int, task_id: str) -> None:
        """A task of a nested namespace recorded an answer during some attempt of the active run.

        The news may come when the next attempt has the thread already.
        """
        if self.active is not None and epoch >= self.active.first_epoch:
            self.active.answered = (*self.active.answered, task_id)

    def _remember(self, run_id: str, outcome: bytes) -> None:
        full = unpack(Outcome, outcome)
        if not full.refused:
            self.summary = replace(self.summary, status=full.status, asks=full.asks)
            self.deadlines = outcomes.deadlines(full, self.deadlines, self.summary.updated_s)
        if len(outcome) > REMEMBERED_OUTCOME_BYTES:
            outcome = outcomes.in_short(full, REMEMBERED_OUTCOME_BYTES)
        self.ended[run_id] = outcome
        while len(self.ended) > REMEMBERED_RUNS:
            del self.ended[next(iter(self.ended))]

    # -- reading ------------------------------------------------------------------------------

    def read(self, request: ReadRequest) -> ReadReply:
        """The log after the reader's cursor, one page."""
        return ReadReply(
            page=self._page(request.incarnation, request.cursor),
            namespaces=tuple(self.namespaces),
            deleted=self.deleted and not request.erasing,
            summary=replace(
                self.summary,
                active_run=self.active.run_id if self.active else "",
                waiting=len(self.waiting),
            ),
            runs=self._runs() if request.erasing or request.runs else (),
        )

    def _runs(self) -> tuple[str, ...]:
        active = [self.active.run_id] if self.active else []
        return (*self.ended, *active, *(waiter.run_id for waiter in self.waiting))

    # -- life ---------------------------------------------------------------------------------

    def delete(self) -> list[Effect]:
        """End the thread: nothing of it is read any more, but by whoever erases it."""
        if self.deleted:
            return []
        effects = self._new_epoch(self.epoch + 1)
        runs = [r.run_workflow_id for r in (self.active, *self.waiting) if r is not None]
        effects += [CancelRun(run_workflow_id=r) for r in runs]
        self.active = None
        self.waiting.clear()
        effects += [DeleteNamespace(namespace=n) for n in self.namespaces]
        self.archiving = None
        self.deleted = True
        return effects

    def size(self) -> int:
        """Bytes a snapshot would carry, nearly."""
        small = sum(len(o) + 40 for o in self.ended.values())
        small += sum(len(n) + 3 for n in self.namespaces)
        small += 120 * (len(self.waiting) + len(self.segments) + len(self.discards))
        small += sum(len(s.key) + len(s.queue) + len(s.summary) + 40 for s in self.running.values())
        return self.log_bytes + small + (len(self.head.data) if self.head else 0)

    def snapshot(self) -> bytes:
        """Everything, for continue-as-new."""
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
                running=tuple(self.running.values()),
                base=self.base,
                segments=self.segments,
                head=self.head,
                generation=self.generation,
                garbage=self.garbage,
                compact=self.compact,
                unthinned=self.unthinned,
                discards=tuple(self.discards),
                summary=self.summary,
                undo=tuple(self.undo),
                deadlines=self.deadlines,
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
            log_bytes=sum(map(len, s.log)),
            namespaces=list(s.namespaces),
            active=s.active,
            waiting=deque(s.waiting),
            ended=dict(s.ended),
            lost=set(s.lost),
            running={spec.key: spec for spec in s.running},
            base=s.base,
            segments=s.segments,
            head=s.head,
            generation=s.generation,
            garbage=s.garbage,
            compact=s.compact,
            unthinned=s.unthinned,
            discards=list(s.discards),
            undo=list(s.undo),
            deadlines=s.deadlines,
            summary=s.summary or ThreadSummary(thread_id=""),
        )
