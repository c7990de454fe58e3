"""Workflow side: the thread as a pure state machine; commands in, effects out.

No I/O, no clock, no Temporal: the workflow shell performs the effects, property tests run it
without a server. State is opaque bytes here; only op headers are looked at.

**What it models.** One thread of LangGraph, or one nested namespace of it (``root`` says
which): a log of checkpoints and writes (``ThreadLog``), at most one run that may append to it
(``active``), and the runs that want to be next (``waiting``). A run is carried out by
*attempts*, numbered from 1: the processes that drive it, of which the next one begins when the
one before is lost.

**Who may write.** Each grant of the thread to an attempt begins an *epoch*. Steps and results
carry the epoch they belong to, and one that is not the current one changes nothing. So whatever
a superseded attempt still sends is refused, however late it comes::

    command                    when                        epoch  what becomes of running tasks
    attach, new attempt        the run is active           + 1    cancelled; namespaces fenced
    begin                      all is as presumed          + 1    there are none
    attach, same attempt       a repeated RPC              same   go on
    attach, another run        somebody is active          same   go on; it waits, or is refused
    attach, another worker     the thread has a home       same   go on; its home is named
    step with an outcome       the run ends by itself      + 1    there are none
    run_closed, attach(evict)  it ended without saying so  + 1    cancelled; namespaces fenced
    delete                                                 + 1    cancelled; nothing is left

A nested namespace has no runs of its own; it takes newer epochs from the steps that reach it,
and from its thread (``fence``). Within an epoch it may be written to by several processes one after
the other: a task that was sent to another worker has its nested graphs there, and after the loss of
that worker once more on the next. Each has a higher ``round``, which is to its predecessors what a
newer epoch is.

**Order within an epoch.** Steps are numbered (``seq``) and applied one after the other, each
when the tasks it ``requires`` have ended: a checkpoint is never in the log before the writes it
was made of. A step that comes twice is applied once.

**How a result arrives.** Usually as the result of its Activity (``task_ended``): it is in
history, and thereby recorded, when the Activity completes. That of the last task of a superstep
mostly brings the next step with it (``carried``), which is then applied in its turn as one that
came by itself, or not at all: nobody can be told why, so its sender, whose next tasks do not begin,
sends it once more. That step may be the last, with the outcome: of it the sender is told by the
answer to an earlier one (``StepRequest.stays``). If the Activity is lost while its
process lives, the result comes as an op in an ``extra`` step instead; ``lost`` tells the
attempt, in the reply to its next step, that this is due. A task is in ``running``, or in
``lost``, or over.

**Where it runs.** The first worker that is granted the thread becomes its ``home``. Attempts on
others are told so (``_is_away``) and change nothing, unless the run does not care (no
``affinity``), or prefers the home and it is not there: it has not taken the run in time, or was
lost under it and cannot come back under its name. Then the worker that asks becomes the home.

**Whether it waits.** ``standing`` follows the log: which checkpoint is the latest, and whether
it waits for an answer, failed, or is through. What a run said of its end (``summary.status``)
counts only as far as the log does not say otherwise, because ``update_state``, copies and
deletions change the log without a run.

**At rest.** A thread that nobody has used for ``park_s`` is *parked*: its log goes into archives,
and then its workflow continues as new with what is left (``Parking``). Its namespaces are told to
do the same. It is no other state: whatever comes is treated as ever, and ends it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import zip_longest
from typing import cast

from ...protocol.expired import expired
from ...protocol.messages import (
    ActiveRun,
    Announcement,
    AppendRequest,
    Applied,
    ArchiveReply,
    ArchiveRequest,
    AttachReply,
    AttachRequest,
    AttachStatus,
    BeginRequest,
    CloseReply,
    CloseRequest,
    ClosingState,
    Deadline,
    ErrorInfo,
    Home,
    Outcome,
    ReadReply,
    ReadRequest,
    RetireReply,
    RetireRequest,
    RunPriority,
    Snapshot,
    StepRequest,
    TaskOutput,
    TaskSpec,
    TaskStatus,
    ThreadStart,
    ThreadSummary,
    Waiter,
    by_queue,
)
from ...protocol.names import (
    ANNOUNCE_SIGNAL,
    ANSWER_SIGNAL,
    DELETE_SIGNAL,
    FENCE_SIGNAL,
    NULL_TASK_ID,
    PARK_SIGNAL,
    REMEMBERED_NAMESPACES,
    RESUME_CHANNEL,
    RETIRE_SIGNAL,
    RUN_CLOSED_SIGNAL,
    STOP_SIGNAL,
)
from ...protocol.standing import Standing, is_result
from ...protocol.stored import Op, OpKind
from ...protocol.wire import WireError, pack, pack_plain, unpack
from .closing import OPEN_NAMESPACES, Closing, task_of
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
    StopRun,
)
from .thread_log import ThreadLog

REMEMBERED_RUNS = 100
"""Ended runs whose outcome is kept for an attempt that asks late."""

ERROR_TEXT_BYTES = 500
"""Of what the last run failed with, in the summary."""

REMEMBERED_OUTCOME_BYTES = 1_000
"""An outcome above this is remembered in short."""

MAX_WAITING = 2_000
"""Runs that may wait for one thread."""

MAX_SHELVED_BYTES = 400_000
"""Of a namespace that is put on a shelf, without its archives: a reply of 512 kB warns."""

MAX_CARRIED = 4
"""Steps of one epoch that have come with results and wait for their turn; an attempt has two under
way at most."""

MAX_TASK_HOMES = 100
"""Kinds of tasks whose home a namespace remembers."""

MAX_ANNOUNCED = 2_000
"""Announced runs that are shown before any worker has taken them; of more, the latest."""


class Parking(Enum):
    """How far a thread, or a nested namespace, is with being parked."""

    NO = "no"
    """It is in use, or may be."""
    ARCHIVING = "archiving"
    """Its log is to go into archives."""
    LEAVING = "leaving"
    """It has. When blobs are removed that it replaced, the workflow continues as new, to leave its
    history behind."""
    DONE = "done"
    """It has, and nothing has come since."""


TIMER_EXACT_S = 0.01
"""A timer is as exact as milliseconds."""

LONGEST_S = 100 * 366 * 86_400.0
"""Of a rest: what a timer can hold, and more than options allow."""


@dataclass(kw_only=True)
class ThreadState:
    """One thread, or one nested namespace of a thread.

    Args:
        log: Checkpoints and writes.
        root: Whether this is the thread itself rather than a nested namespace.
        by_log: Whether it waits is what the log says, not how the last run ended (see
            ``RULES``).
        summary: The thread as a list shows it; its ``status`` is how the last run ended.
        deleted: Nothing of it is read any more, but by whoever erases it.
        standing: Where each checkpoint namespace stands, by the log.
        epoch: Whose steps and results count.
        round: Whose of this epoch; 0: those of the process that drives the run.
        task_homes: By ``TaskSpec.home_key``: task queue of the worker that runs such tasks, the
            latest.
        next_seq: Number of the step that is applied next in this epoch.
        carried: Steps that came with results and are not applied yet, by their numbers.
        outcome_end: End of the log when the last outcome was recorded, if only that run had written
            to it: whoever has read its log up to there needs no read. 0: not so.
        outcome_epoch: Of the attempt whose outcome was recorded last in this run of the workflow,
            so that it may send that twice. 0: none was.
        namespaces: Nested ones that have been opened, the latest.
        active: The run that has the thread.
        waiting: Runs that want it next, in this order.
        announced: Runs that were recorded and have not asked for the thread, the oldest first.
            Whoever asks later waits for them.
        in_order: Whether they do, which histories of earlier releases do not know
            (``patches.IN_ORDER``).
        ended: Outcomes of the last runs, in short; empty of one that closed without.
        running: Tasks whose Activities are under way, by their keys.
        lost: Keys of tasks whose Activities ended without a result.
        undo: Runs whose checkpoints the next attempt is to drop ("rollback").
        deadlines: Interrupts that answer themselves, and when.
        given_at: Checkpoint for which the last resume value was given.
        given_spent: Whether a task has taken it, so that no other may.
        home: The worker that runs it; ``None``: it has none yet.
        has_home: Whether threads have homes at all, which histories of earlier releases do not
            know (``patches.HOMES``).
        priority: Of the last run; the runs that the thread starts itself get it too.
        closing: Nested namespaces that have ended.
        opened_at: Of a nested namespace that was closed and opened again: the length of its
            thread's log then.
        retire_at: Of a nested namespace: as its log is on a shelf of the thread.
        retired: Its workflow has ended, and the shelf is the truth about it.
        park_s: How long it may rest before it is parked, as the last attempt said; 0: for ever.
        parking: How far it is with that.
    """

    log: ThreadLog
    root: bool = True
    by_log: bool = True
    summary: ThreadSummary = field(default_factory=lambda: ThreadSummary(thread_id=""))
    deleted: bool = False
    standing: Standing = field(default_factory=Standing)
    epoch: int = 0
    round: int = 0
    task_homes: dict[str, str] = field(default_factory=dict)
    next_seq: int = 0
    carried: dict[int, StepRequest] = field(default_factory=dict)
    outcome_end: int = 0
    outcome_epoch: int = 0
    namespaces: list[str] = field(default_factory=list)
    active: ActiveRun | None = None
    waiting: deque[Waiter] = field(default_factory=deque)
    announced: dict[str, Announcement] = field(default_factory=dict)
    in_order: bool = False
    ended: dict[str, bytes] = field(default_factory=dict)
    running: dict[str, TaskSpec] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    undo: list[str] = field(default_factory=list)
    deadlines: tuple[Deadline, ...] = ()
    given_at: str = ""
    given_spent: bool = False
    home: Home | None = None
    has_home: bool = False
    priority: RunPriority | None = None
    closing: Closing = field(default_factory=Closing)
    opened_at: int = 0
    retire_at: tuple[str, int, int] = ("", 0, 0)
    retired: bool = False
    park_s: float = 0.0
    parking: Parking = Parking.NO

    @classmethod
    def begun(cls, start: ThreadStart, *, run_id: str, now_s: float) -> ThreadState:
        """The state a workflow begins with.

        Args:
            start: What it was started with.
            run_id: Of the workflow's run.
            now_s: When it began.
        """
        life = start.incarnation or run_id
        root, by_log = not start.namespace, start.rules >= 1
        if start.snapshot:
            state = cls.restore(life, root=root, snapshot=start.snapshot, by_log=by_log)
        else:
            summary = ThreadSummary(thread_id=start.thread_id, created_s=now_s, updated_s=now_s)
            state = cls(log=ThreadLog(life=life), root=root, by_log=by_log, summary=summary)
        state.opened_at = start.opened_at
        # What was fenced while it was closed.
        state.fence(start.epoch)
        return state

    def touch(self, now_s: float) -> None:
        """Something is about to be written."""
        self.summary = replace(self.summary, updated_s=now_s)
        self.parking = Parking.NO

    @property
    def attached(self) -> bool:
        """Whether an attempt may build on what the log holds."""
        return self.active is not None and self.active.attempt > 0

    def wants_archive(self) -> bool:
        """Whether ``archive`` has something to do."""
        return not self.deleted and self.log.wants_archive(
            attached=self.attached, parking=self.parking == Parking.ARCHIVING
        )

    def archive(self, namespace: str, workflow_id: str) -> ArchiveRequest | None:
        """What of the log to move into archives now, if anything.

        Args:
            namespace: The nested namespace; "" for the thread itself.
            workflow_id: The workflow that holds the log.
        """
        if self.deleted:
            return None
        return self.log.archive(
            thread_id=self.summary.thread_id,
            namespace=namespace,
            workflow_id=workflow_id,
            attached=self.attached,
            parking=self.parking == Parking.ARCHIVING,
        )

    # -- runs ---------------------------------------------------------------------------------

    def takes_over(self, request: AttachRequest) -> bool:
        """Whether an attempt would drop results of the one before it."""
        active = self.active if self.running else None
        if active is None or active.run_id != request.run_id:
            return False
        return request.attempt > active.attempt > 0

    def attach(self, request: AttachRequest) -> tuple[AttachReply, list[Effect]]:
        """Give the thread to an attempt, queue its run, or turn the attempt away."""
        effects: list[Effect] = []
        if outcome := self.ended.get(request.run_id):
            return AttachReply(status=AttachStatus.ENDED, outcome=outcome), effects
        if request.evict and self.active is not None and self.active.run_id == request.evict:
            self._note_closed(request.evict)
            effects += self._release(fence=True)
        self._let_earlier_in(request)
        active = self.active
        if active is not None and active.run_id != request.run_id:
            if all(w.run_id != request.run_id for w in self.waiting):
                if request.strategy == "reject":
                    return self._not_yours(AttachStatus.REJECTED, active), effects
                effects += self._wait(request, active)
            self.announced.pop(request.run_id, None)
            return self._not_yours(AttachStatus.QUEUED, active), effects
        if active is not None and request.attempt < active.attempt:
            return AttachReply(status=AttachStatus.STALE), effects
        if self._is_away(request):
            return AttachReply(status=AttachStatus.AWAY, home=self.home), effects
        if active is None:
            self._leave_run_queue(request.run_id)
            active = ActiveRun(run_id=request.run_id, run_workflow_id=request.run_workflow_id)
            self.active = active
        self.announced.pop(request.run_id, None)
        moved = self._settle(request)
        self.park_s = request.park_s if 0 < request.park_s <= LONGEST_S else 0.0
        if request.graph:
            self.summary = replace(self.summary, graph=request.graph)
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
            self.priority = request.priority
        active.queue, active.worker = request.queue, request.worker
        if active.cancelled:
            # Cancelled while this attempt was on its way.
            effects.append(StopRun(run_id=active.run_id, queue=active.queue))
        reply = AttachReply(
            status=AttachStatus.GRANTED,
            epoch=self.epoch,
            page=self.log.page(request.incarnation, request.cursor),
            namespaces=tuple(self.namespaces),
            applied=Applied(
                checkpoints=active.checkpoints,
                null_writes=active.null_writes,
                answered=active.answered,
                spent=self.spent,
            ),
            undo=tuple(self.undo),
            home=self.home,
            moved=moved,
            carries=True,
        )
        return reply, effects

    def begins(self, request: BeginRequest) -> bool:
        """Whether a run may begin as its process presumes: nobody has touched the thread since the
        end of the run before, and there is nothing that an attach would have to tell."""
        attach = request.attach
        rests = self.active is None and not (self.waiting or self.announced or self.undo)
        position = (attach.incarnation, attach.cursor) == (self.log.incarnation, self.log.end)
        home = attach.worker if self.home is None else self.home.worker
        return (
            self.root
            and rests
            and position
            and request.step.epoch == self.epoch + 1
            and attach.attempt == 1
            and attach.run_id == request.step.run_id
            and attach.run_id not in self.ended
            and (not attach.affinity or home == attach.worker)
            and not (self.namespaces or self.spent or self.log.compacting)
            and not self.closing.state.shelves
        )

    def has_begun(self, request: BeginRequest) -> bool:
        """Whether a run has begun so, or has ended since."""
        step, active = request.step, self.active
        if active is not None and active.run_id == step.run_id:
            # Not if it has attached since: then this one was refused.
            return active.begun and step.epoch == self.epoch
        return step.run_id in self.ended and self.has_outcome_of(step)

    def begin(self, request: BeginRequest) -> list[Effect]:
        """Give the thread to an attempt that ``begins``; its step is applied after that."""
        _, effects = self.attach(request.attach)
        assert self.active is not None
        self.active.begun = True
        return effects

    def _let_earlier_in(self, request: AttachRequest) -> None:
        """Give the thread, or their places in the run queue, to runs that were announced before a
        run that asks: no worker has taken them yet, but they were here first. Those of another
        task queue may have no workers there, and are not waited for."""
        known = self.active is not None and self.active.run_id == request.run_id
        if (
            not (self.in_order and request.task_queue)
            or known
            or any(w.run_id == request.run_id for w in self.waiting)
        ):
            return
        for run in list(self.announced.values()):
            if run.run_id == request.run_id:
                break
            if run.task_queue != request.task_queue:
                continue
            del self.announced[run.run_id]
            if self.active is None:
                self.reserve(run.run_id, run.run_workflow_id)
            else:
                self.waiting.append(Waiter(run_id=run.run_id, run_workflow_id=run.run_workflow_id))

    def _not_yours(self, status: AttachStatus, active: ActiveRun) -> AttachReply:
        return AttachReply(
            status=status,
            active_run=active.run_id,
            active_run_workflow_id=active.run_workflow_id,
            home=self.home,
        )

    def _is_away(self, request: AttachRequest) -> bool:
        """Whether an attempt belongs on another worker than the one that asks."""
        home = self.home
        if not self.has_home or home is None or not request.affinity:
            return False
        if request.worker == home.worker:
            return False
        if request.affinity == "require":
            # Without a name it cannot come back, nor can its files.
            return home.named or request.absent != home.queue
        had_it = self.active is not None and self.active.worker == home.worker
        is_gone = request.lost and had_it and not home.named
        return not is_gone and request.absent != home.queue

    def _settle(self, request: AttachRequest) -> bool:
        """Make the worker of a granted attempt the thread's home; whether it was another."""
        if not self.has_home or not request.affinity or not request.worker:
            return False
        before = self.home
        moved = before is not None and before.worker != request.worker
        self.home = Home(
            worker=request.worker,
            queue=request.home_queue,
            named=request.named,
            since_s=self.summary.updated_s if before is None or moved else before.since_s,
            moved_from="" if before is None else before.worker if moved else before.moved_from,
            affinity=request.affinity,
            timeout_s=request.home_timeout_s,
        )
        return moved

    def adopt_home(self, home: Home | None) -> None:
        """What the workflow has answered of the home, which this state has not decided itself."""
        self.home = home or self.home

    def _wait(self, request: AttachRequest, active: ActiveRun) -> list[Effect]:
        """Put a run into the run queue: at its end, or at its head if it stops the active one."""
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

    @property
    def status(self) -> str:
        """How the thread stands when no run has it: what ``get_state`` shows, as one word."""
        if not self.by_log:
            return self.summary.status
        if self.standing.place.waits:
            return "interrupted"
        ended = self.summary.status
        if ended not in ("error", "lost") and self.standing.place.failed:
            return "error"
        return "done" if ended == "interrupted" else ended

    def waits_not(self) -> str:
        """Why there is nothing to be answered; "" when it waits at a question or a breakpoint."""
        if not self.root:
            return "it is a nested namespace; answer on the thread itself."
        if self.active is not None:
            return f"run {self.active.run_id} has it."
        if self.status != "interrupted":
            return "it waits for nothing."
        return ""

    @property
    def lacks_graph(self) -> bool:
        """Whether nobody has said which graph is to take an answer."""
        return self.by_log and not self.summary.graph

    def reserve(self, run_id: str, run_workflow_id: str) -> None:
        """Give the free thread to a run that is about to be started."""
        self.active = ActiveRun(run_id=run_id, run_workflow_id=run_workflow_id)

    def next_deadline(self) -> float | None:
        """When the first of the interrupts answers itself (Unix time)."""
        if not self.deadlines or self.waits_not():
            return None
        return min((deadline.at_s for deadline in self.deadlines), default=None)

    def overdue(self, now_s: float) -> tuple[Deadline, ...]:
        """The interrupts that answer themselves now; they will not do so again."""
        if self.waits_not():
            return ()
        now_s += TIMER_EXACT_S
        due = tuple(d for d in self.deadlines if d.at_s <= now_s)
        self.deadlines = tuple(d for d in self.deadlines if d.at_s > now_s)
        return due

    def run_queue_is_full(self, run_id: str) -> bool:
        """Whether a run that would have to wait finds no place in the run queue."""
        if self.active is None or self.active.run_id == run_id:
            return False
        known = run_id in self.ended or any(w.run_id == run_id for w in self.waiting)
        return not known and len(self.waiting) >= MAX_WAITING

    def run_closed(self, run_id: str, expired_s: float = 0.0) -> list[Effect]:
        """The run workflow closed without an outcome from its attempt: free the thread.

        Args:
            run_id: The run.
            expired_s: Its time, which is over; 0: that is not why.
        """
        self._leave_run_queue(run_id)
        active = self.active if self.active and self.active.run_id == run_id else None
        if expired_s and active is not None and active.attempt:
            active.expired_s = expired_s
            self.announced.pop(run_id, None)
            if run_id not in self.ended:
                self._remember(run_id, pack(Outcome(status="cancelled", attempt=active.attempt)))
            return self._release(fence=True)
        self._note_closed(run_id)
        if active is not None:
            if active.attempt:
                self.summary = replace(self.summary, status="lost")
            return self._release(fence=True)
        return []

    def stop(self, run_id: str, expired_s: float = 0.0) -> list[Effect]:
        """Somebody cancelled a run, or its time, ``expired_s``, is over: its next superstep does
        not begin, its nodes are told."""
        active = self.active
        if active is None or active.run_id != run_id or active.cancelled:
            return []
        active.cancelled = True
        active.expired_s = expired_s
        return [StopRun(run_id=run_id, queue=active.queue)] if active.queue else []

    def _note_closed(self, run_id: str) -> None:
        """A run has ended, and its own workflow alone knows how."""
        self.announced.pop(run_id, None)
        if run_id not in self.ended:
            self.summary = replace(self.summary, closed_run=run_id)
            self._end_run(run_id, b"")

    def announce(self, run: Announcement) -> None:
        """A run was recorded: it is there for whoever asks, before it asks for the thread."""
        known = run.run_id in self.ended or any(w.run_id == run.run_id for w in self.waiting)
        if known or self.deleted or (self.active is not None and self.active.run_id == run.run_id):
            return
        self.announced[run.run_id] = run
        while len(self.announced) > MAX_ANNOUNCED:
            del self.announced[next(iter(self.announced))]
        if not self.summary.graph:
            self.summary = replace(self.summary, graph=run.graph)

    def _release(self, *, fence: bool) -> list[Effect]:
        """Free the thread and reserve it for the next run in the run queue.

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

    def _leave_run_queue(self, run_id: str) -> None:
        self.waiting = deque(w for w in self.waiting if w.run_id != run_id)

    def _new_epoch(self, epoch: int, round: int = 0) -> list[Effect]:
        """Everything of older epochs is over: its tasks are cancelled, its results dropped."""
        self.epoch, self.round = epoch, round
        self.next_seq = 0
        self.carried.clear()
        effects: list[Effect] = [CancelTask(key=key) for key in sorted(self.running)]
        self.running.clear()
        self.lost.clear()
        return effects

    def fence(self, epoch: int) -> list[Effect]:
        """A nested namespace learns of a newer epoch."""
        return self._new_epoch(epoch) if epoch > self.epoch else []

    # -- steps --------------------------------------------------------------------------------

    def refuses(self, epoch: int, round: int = 0) -> bool:
        """Whether a step of ``epoch`` comes from a superseded attempt, or one of ``round`` from a
        worker whose task another one has."""
        if self.root:
            return epoch != self.epoch or self.active is None
        return (epoch, round) < (self.epoch, self.round)

    def enter_epoch(self, epoch: int, round: int = 0) -> list[Effect]:
        """A nested namespace takes newer epochs and rounds from the steps themselves."""
        if self.root or (epoch, round) <= (self.epoch, self.round):
            return []
        return self._new_epoch(epoch, round)

    def ready(self, request: StepRequest) -> bool:
        """Whether it is the step's turn and all it requires has ended."""
        return request.seq <= self.next_seq and self.running.keys().isdisjoint(request.requires)

    def missing(self, request: StepRequest) -> tuple[str, ...]:
        """Required or watched tasks that ended without a result."""
        return tuple(k for k in (*request.requires, *request.watch) if k in self.lost)

    def over(self, request: StepRequest) -> tuple[str, ...]:
        """Watched tasks that have ended with whatever they left."""
        return tuple(k for k in request.watch if k not in self.running and k not in self.lost)

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
        # It has come both ways.
        self.carried.pop(request.seq, None)
        for key in request.cancel:
            self.lost.discard(key)
            if self.running.pop(key, None) is not None:
                effects.append(CancelTask(key=key))
        effects += self._open(request.open, request.open_as)
        if request.tasks and self._stops_here() and not self._is_cancelled():
            assert self.active is not None
            effects.append(CancelRun(run_workflow_id=self.active.run_workflow_id))
        for spec in () if self._stops_here() else request.tasks:
            if spec.key not in self.running:
                self.lost.discard(spec.key)
                self.running[spec.key] = spec
                effects.append(StartTask(spec=spec, epoch=self.epoch))
        if request.outcome:
            alone = self.root and self.active is not None and self.active.alone
            self.outcome_end = self.log.end if alone else 0
            self.outcome_epoch = self.epoch
            self._remember(request.run_id, request.outcome)
            effects += self._release(fence=request.fence)
        return effects

    def has_outcome_of(self, request: StepRequest) -> bool:
        """Whether the outcome that the request may bring is recorded."""
        return self.root and request.epoch == self.outcome_epoch

    def stays_with(self, request: StepRequest) -> bool:
        """Whether a step that was applied is answered only when its epoch is over."""
        return request.stays and any(spec.key in self.running for spec in request.tasks)

    def _stops_here(self) -> bool:
        """Whether the next superstep must not begin: cancelled, or a later run wants the thread."""
        active = self.active
        if active is None:
            return False
        return active.cancelled or (active.stop != "" and active.boundary)

    def _is_cancelled(self) -> bool:
        return self.active is not None and self.active.cancelled

    def advance(self) -> list[Effect]:
        """Apply the steps that came with results and whose turn it is."""
        effects: list[Effect] = []
        while (request := self.carried.get(self.next_seq)) and self.ready(request):
            del self.carried[request.seq]
            if self.missing(request):
                break
            effects += self.step(request)
        return effects

    def _carry(self, request: StepRequest) -> None:
        """Keep a step that came with a result, if it is one that can come so."""
        # Of the others the sender needs an answer.
        asks = request.open or request.watch or request.cancel or request.extra
        ours = (request.epoch, request.round) == (self.epoch, self.round)
        late = request.seq < self.next_seq
        if ours and not asks and not late and not self.refuses(request.epoch, request.round):
            self.carried[request.seq] = request
            while len(self.carried) > MAX_CARRIED:
                del self.carried[next(iter(self.carried))]

    def restart(self) -> list[Effect]:
        """Effects after continue-as-new: what was under way is taken up again."""
        effects: list[Effect] = [StartTask(spec=s, epoch=self.epoch) for s in self.running.values()]
        return effects + [Discard(garbage=ref) for ref in self.log.discards]

    def task_ended(self, key: str, epoch: int, output: TaskOutput) -> list[Effect]:
        """Record the result of a task's Activity, unless its attempt was superseded.

        Raises:
            WireError: The op or the step cannot be read; nothing has changed.
        """
        if epoch != self.epoch or key not in self.running:
            return []
        carried = unpack(StepRequest, output.step) if output.step else None
        for data in carried.ops if carried is not None else ():
            unpack(Op, data)
        if carried is not None and carried.outcome:
            unpack(Outcome, carried.outcome)
        effects = self._append(output.op, own_run=True) if output.op else []
        spec = self.running.pop(key)
        if spec.home_key and output.home_queue:
            # The first to end, of those that began before there was a home.
            self.task_homes.setdefault(spec.home_key, output.home_queue)
            while len(self.task_homes) > MAX_TASK_HOMES:
                del self.task_homes[next(iter(self.task_homes))]
        if output.status == TaskStatus.UNKNOWN:
            # It ended in its process after its Activity was lost: its result comes as an op.
            self.lost.add(key)
        if carried is not None:
            self._carry(carried)
        return effects

    def task_home(self, spec: TaskSpec) -> str:
        """Task queue of the worker that a task is for; "": for any of its queue."""
        return self.task_homes.get(spec.home_key, "") if spec.home_key else ""

    def eager_missed(self, key: str, epoch: int) -> TaskSpec | None:
        """An eager task did not come to its process.

        Args:
            key: The task.
            epoch: Its epoch.

        Returns:
            The task, to be sent there; ``None``: it is not wanted any more, or it was sent there.
        """
        spec = self.running.get(key) if epoch == self.epoch else None
        if spec is None or not spec.eager:
            return None
        spec = self.running[key] = replace(spec, eager=False)
        return spec

    def task_home_left(self, key: str, epoch: int, queue: str) -> TaskSpec | None:
        """Nobody took a task at its home in time: whoever takes it is the home from now on.

        Args:
            key: The task.
            epoch: Its epoch.
            queue: Task queue that it was sent to.

        Returns:
            The task, to be scheduled anew; ``None``: it is not wanted any more, or had no home.
        """
        spec = self.running.get(key) if epoch == self.epoch else None
        if spec is None or not spec.home_key or queue == spec.queue:
            return None
        # Another one of its kind may have found the next home already.
        if self.task_homes.get(spec.home_key) == queue:
            del self.task_homes[spec.home_key]
        return spec

    def task_lost(self, key: str, epoch: int) -> None:
        """The Activity of a task timed out or failed by itself."""
        if epoch == self.epoch and key in self.running:
            del self.running[key]
            self.lost.add(key)

    def append(self, request: AppendRequest) -> list[Effect]:
        """Append ops from outside any run."""
        if self.active is not None:
            self.active.alone = False
        nodes = self.standing.still_due(request.base, request.due)
        for data in request.ops:
            self._append(data, own_run=False, nodes=nodes, latest=request.latest)
            if not self.by_log and unpack(Op, data).kind == OpKind.PUT:
                self.deadlines = ()
        self._note_graph(request)
        if request.spent:
            self.given_at, self.given_spent = request.spent, True
        self.log.compact = self.log.compact or (request.compact and self.log.garbage)
        effects = self._open(request.open, request.open_as)
        self.undo = [run_id for run_id in self.undo if run_id not in request.undone]
        closed = [n for n in request.close if n in self.namespaces]
        self.namespaces = [n for n in self.namespaces if n not in closed]
        self.closing.forget(request.close)
        asking = self.standing.place.asking
        self.closing.note_over(
            n for n in request.over if n in self.namespaces and task_of(n) not in asking
        )
        return effects + [DeleteNamespace(namespace=n) for n in request.close]

    def _note_graph(self, request: AppendRequest) -> None:
        """What the sender knows of the thread that no op says."""
        if not self.root:
            return
        graph = self.summary.graph or request.graph
        copied = request.standing
        if copied is not None and copied.top == self.standing.top:
            self.standing.adopt(copied)
            graph = request.graph or graph
            asks = self.standing.place.nodes if self.standing.place.waits else ()
            self.summary = replace(self.summary, status=request.status, asks=asks)
        self.summary = replace(self.summary, graph=graph)

    def is_stale(self, request: AppendRequest) -> bool:
        """Whether the ops build on values that may be gone by a compaction since they were read."""
        return request.incarnation not in ("", self.log.incarnation)

    def is_another(self, request: StepRequest) -> bool:
        """Whether the ops of a step build on a log of which nothing is left: the namespace was
        dropped since its sender has read it."""
        return request.life not in ("", self.log.life)

    def _open(self, namespaces: tuple[str, ...], graphs: tuple[str, ...] = ()) -> list[Effect]:
        effects: list[Effect] = []
        for namespace, graph in zip_longest(namespaces, graphs[: len(namespaces)], fillvalue=""):
            if namespace not in self.namespaces:
                self.namespaces.append(namespace)
                limit = OPEN_NAMESPACES if self.closing.enabled else REMEMBERED_NAMESPACES
                del self.namespaces[:-limit]
                self.log.append(pack(Op(kind=OpKind.OPEN, opened=(namespace,))))
                effects.append(OpenNamespace(namespace=namespace, graph=graph))
            self.closing.entered(namespace)
            if self.active is not None and namespace not in self.active.namespaces:
                # Those that were used long ago are over, and need no fence.
                limit = OPEN_NAMESPACES // 2 if self.closing.enabled else REMEMBERED_NAMESPACES
                recent = self.active.namespaces[1 - limit :]
                self.active.namespaces = (*recent, namespace)
        return effects

    def _append(
        self, data: bytes, *, own_run: bool, nodes: tuple[str, ...] = (), latest: str = ""
    ) -> list[Effect]:
        op = unpack(Op, data)
        self.log.append(data)
        if self.root and self.standing.add(op, nodes=nodes, latest=latest) and self.by_log:
            # The questions with a deadline were those of another checkpoint. Somebody who edits
            # the state takes the thread in hand.
            self.deadlines = ()
            if not own_run:
                self.summary = replace(self.summary, status="", asks=nodes)
        if self.log.compacting and op.kind != OpKind.DROP:
            # It may build on what the compaction drops: another time.
            self.log.archiving = None
        if op.kind == OpKind.DROP:
            self.log.garbage = True
        if self.root and op.kind == OpKind.WRITES and is_result(op):
            self.closing.note_result(op.task_id, self.namespaces)
        if not own_run:
            return []
        if self.root:
            if self.active is not None:
                self._note_progress(self.active, op)
            return []
        if not _takes_answer(op):
            return []
        return [AnswerTaken(epoch=self.epoch, task_id=op.task_id)]

    def _note_progress(self, active: ActiveRun, op: Op) -> None:
        if op.kind == OpKind.PUT:
            active.checkpoints += 1
            active.boundary = True
        elif op.task_id == NULL_TASK_ID:
            active.null_writes = True
            if _gives_answer(op):
                self.given_at, self.given_spent = op.checkpoint_id, False
        elif _takes_answer(op):
            active.answered = (*active.answered, op.task_id)
            self.given_spent = True

    @property
    def spent(self) -> str:
        """The checkpoint whose resume value must not be given again (see ``Applied``)."""
        return self.given_at if self.given_spent else ""

    def answer_taken(self, epoch: int, task_id: str) -> None:
        """A task of a nested namespace recorded an answer during some attempt of the active run.

        The news may come when the next attempt has the thread already.
        """
        if self.active is not None and epoch >= self.active.first_epoch:
            self.active.answered = (*self.active.answered, task_id)
            self.given_spent = True

    def _remember(self, run_id: str, outcome: bytes) -> None:
        full = unpack(Outcome, outcome)
        expired_s = self.active.expired_s if self.active is not None else 0.0
        if expired_s and full.status == "cancelled":
            full = expired(full, run_id, self.summary.thread_id, expired_s)
            outcome = pack(full)
        kind, text = _failure_of(full, ERROR_TEXT_BYTES)
        self.summary = replace(self.summary, error_type=kind, error_text=text, closed_run="")
        if not full.refused:
            self._note_end(full)
            if full.status == "done" and not self.standing.place.waits:
                self.closing.note_over(self.namespaces)
        # A refused answer was not taken, and must be given anew. That of an earlier run stays.
        withdrawn = full.refused and self.active is not None and self.active.null_writes
        self.given_spent = self.given_spent or full.answered or withdrawn
        if len(outcome) > REMEMBERED_OUTCOME_BYTES:
            outcome = _in_short(full, REMEMBERED_OUTCOME_BYTES)
        self._end_run(run_id, outcome)

    def _end_run(self, run_id: str, outcome: bytes) -> None:
        self.ended[run_id] = outcome
        while len(self.ended) > REMEMBERED_RUNS:
            del self.ended[next(iter(self.ended))]

    def _note_end(self, full: Outcome) -> None:
        if self.root:
            if full.status == "interrupted":
                self.standing.stopped(full.at, full.nodes or full.asks)
            elif full.status == "done":
                self.standing.went_on(full.at)
        waits = self.by_log and self.standing.place.waits
        asks = full.asks or (self.summary.asks if waits else ())
        self.summary = replace(self.summary, status=full.status, asks=asks)
        known = self.deadlines
        self.deadlines = _deadlines_of(full, known, self.summary.updated_s)
        if waits and full.status != "interrupted":
            # A run that broke off has not asked all of them again; they are open all the same.
            again = {d.interrupt_id for d in self.deadlines}
            left = [d for d in known if d.interrupt_id in full.asked]
            self.deadlines += tuple(d for d in left if d.interrupt_id not in again)

    # -- what any client may send -------------------------------------------------------------

    def signalled(self, name: str, args: Sequence[object]) -> list[Effect]:
        """A signal. Temporal cannot refuse one, so what is not as it must be changes nothing."""
        if name == DELETE_SIGNAL:
            return self.delete()
        if name == RUN_CLOSED_SIGNAL and _is_ended_run(args):
            return self.run_closed(cast(str, args[0]), *cast(Sequence[float], args[1:]))
        if name == ANNOUNCE_SIGNAL and len(args) == 1 and isinstance(args[0], bytes):
            try:
                self.announce(unpack(Announcement, args[0]))
            except WireError:
                return []
        if name == STOP_SIGNAL and _is_ended_run(args):
            return self.stop(cast(str, args[0]), *cast(Sequence[float], args[1:]))
        if name == FENCE_SIGNAL and len(args) == 1 and _is_epoch(args[0]):
            return self.fence(cast(int, args[0]))
        if name == RETIRE_SIGNAL and len(args) == 4 and all(map(_is_epoch, args[1:])):
            incarnation, base, end, at = args
            self.retire(str(incarnation), cast(int, base), cast(int, end), cast(int, at))
        if name == PARK_SIGNAL and not args and not self.root:
            self.park()
        if name == ANSWER_SIGNAL and len(args) == 2 and _is_epoch(args[0]):
            epoch, task_id = args
            if isinstance(task_id, str):
                self.answer_taken(cast(int, epoch), task_id)
        return []

    # -- reading ------------------------------------------------------------------------------

    def read(self, request: ReadRequest) -> ReadReply:
        """The log after the reader's cursor, one page."""
        return ReadReply(
            page=self.log.page(request.incarnation, request.cursor),
            namespaces=(*self.namespaces, *self.closing.leaving),
            deleted=(self.deleted or self.retired) and not request.erasing,
            summary=replace(
                self.summary,
                status=self.status,
                active_run=self.active.run_id if self.active else "",
                waiting=self._behind(),
                home=self.home,
            ),
            runs=self._runs() if request.erasing or request.runs else (),
            standing=self.standing if request.standing else None,
            announced=tuple(self.announced) if request.runs else (),
            spent=self.spent,
            shelves=self.closing.state.shelves,
            forgotten=self.closing.state.forget,
            snapshot=self.at_rest() if request.closing else b"",
        )

    def _behind(self) -> int:
        """How many runs wait behind the one that has the thread, or is to have it."""
        first = self.active is None and bool(self.announced)
        return len(self.waiting) + len(self.announced) - first

    def _runs(self) -> tuple[str, ...]:
        active = [self.active.run_id] if self.active else []
        waiting = (waiter.run_id for waiter in self.waiting)
        return (*self.ended, *active, *waiting, *self.announced)

    # -- namespaces that have ended -----------------------------------------------------------

    def at_rest(self) -> bytes:
        """All of a nested namespace, if it can be put on a shelf now."""
        # An archive is on its way if it is larger.
        small = self.log.size < MAX_SHELVED_BYTES
        return self.snapshot() if small and self._rests() else b""

    def _rests(self) -> bool:
        busy = self.running or self.log.archiving is not None or self.log.discards
        return not (self.root or busy or self.deleted or self.retired)

    def retire(self, incarnation: str, base: int, end: int, at: int) -> None:
        """A nested namespace learns that all of it is on a shelf of its thread.

        Args:
            incarnation: Of the log as it is there.
            base: Number of its first entry.
            end: Its length.
            at: Length of the thread's log when it was put there.
        """
        if at >= self.opened_at:
            self.retire_at = (incarnation, base, end)

    def may_retire(self) -> bool:
        """Whether its workflow may end: it is on a shelf as it is now."""
        return self._rests() and self.retire_at == (
            self.log.incarnation,
            self.log.base,
            self.log.end,
        )

    def in_use(self) -> tuple[str, ...]:
        """Nested namespaces that the active run has entered, the latest."""
        return self.active.namespaces if self.active is not None else ()

    def wants_closing(self) -> bool:
        """Whether ``close`` has something to do."""
        return self._closing() is not None

    def close(self) -> CloseRequest | RetireRequest | None:
        """What is to be done now to close namespaces, if anything."""
        request = self._closing()
        if request is not None:
            self.closing.asked = request
        return request

    def _closing(self) -> CloseRequest | RetireRequest | None:
        # While blobs are being removed none may be written that could be one of them.
        if self.deleted or self.log.discards:
            return None
        return self.closing.next(self.in_use(), self.log.end, self.summary.thread_id)

    def closed(self, request: CloseRequest, reply: CloseReply) -> list[Effect]:
        """Namespaces are on shelves: from now on they may only be read, or opened again."""
        garbage = self.closing.closed(request, reply, self.in_use())
        gone = {*self.closing.leaving, *(n for n in reply.gone if n not in self.in_use())}
        self.namespaces = [n for n in self.namespaces if n not in gone]
        if garbage is None:
            return []
        self.log.discards.append(garbage)
        return [Discard(garbage=garbage)]

    def close_ended(self, request: RetireRequest, reply: RetireReply) -> None:
        """Workflows of namespaces have ended, but for those that somebody wrote to."""
        self.namespaces += self.closing.retired(request, reply)

    def recalled(self, namespaces: Sequence[str], new: Sequence[str] = ()) -> tuple[str, ...]:
        """Of namespaces that are to be opened those that may be on a shelf.

        Args:
            namespaces: Those to be opened.
            new: Those of them that the sender knows to have never been opened.
        """
        if not (self.closing.has_shelves or self.closing.leaving):
            return ()
        # Somebody else may have opened one since the sender has read the log.
        known_new = set(new) if self.active is not None and self.active.alone else set()
        known_new -= set(self.closing.leaving)
        # What was dropped begins anew, though it may be on a shelf for a moment.
        known_new |= set(self.closing.state.forget)
        return tuple(n for n in namespaces if n not in self.namespaces and n not in known_new)

    # -- at rest ------------------------------------------------------------------------------

    @property
    def parks_at(self) -> float | None:
        """When a thread that rests is to be parked (Unix time); ``None``: it does not, or is."""
        if not (self.root and self.park_s > 0 and self.parking == Parking.NO and self._is_idle()):
            return None
        return self.summary.updated_s + self.park_s

    def has_rested(self, now_s: float) -> bool:
        """Whether it is to be parked now."""
        parks_at = self.parks_at
        return parks_at is not None and parks_at <= now_s + TIMER_EXACT_S

    def _is_idle(self) -> bool:
        wanted = self.active or self.waiting or self.announced
        busy = self.running or self.closing.asked or self._closing()
        return not (wanted or busy or self.deleted or self.retired)

    def park(self) -> None:
        """Begin to leave next to nothing in the workflow, if nobody uses it now."""
        if self._is_idle():
            self.parking = Parking.ARCHIVING if self.log.end else Parking.LEAVING

    def archived(self, request: ArchiveRequest, reply: ArchiveReply) -> list[Effect]:
        """What was to go into archives is there."""
        effects = self.log.archived(request, reply)
        # It may have been asked for before the thread was used, and rested, once more.
        if self.parking == Parking.ARCHIVING and request.park and not self.log.entries:
            self.parking = Parking.LEAVING
        return effects

    @property
    def leaves_history(self) -> bool:
        """Whether to continue as new only to leave the history behind."""
        at_work = self.log.archiving or self.log.discards
        return self.parking == Parking.LEAVING and not at_work and self._is_idle()

    # -- life ---------------------------------------------------------------------------------

    def delete(self) -> list[Effect]:
        """End the thread: nothing of it is read any more, but by whoever erases it."""
        if self.deleted:
            return []
        effects = self._new_epoch(self.epoch + 1)
        known = (self.active, *self.waiting, *self.announced.values())
        runs = [r.run_workflow_id for r in known if r is not None]
        effects += [CancelRun(run_workflow_id=r) for r in runs]
        self.active = None
        self.waiting.clear()
        self.announced.clear()
        effects += [DeleteNamespace(namespace=n) for n in (*self.namespaces, *self.closing.leaving)]
        self.log.archiving = None
        self.deleted = True
        return effects

    def size(self) -> int:
        """Bytes a snapshot would carry, nearly."""
        small = sum(len(o) + 40 for o in self.ended.values())
        small += sum(len(n) + 3 for n in self.namespaces)
        small += 120 * (len(self.waiting) + len(self.announced))
        small += 120 * (len(self.log.segments) + len(self.log.discards))
        small += sum(
            len(s.key) + len(s.queue) + len(s.summary) + len(s.parcel) + 40
            for s in self.running.values()
        )
        small += 40 * sum(len(p.done) + len(p.asking) + 3 for p in self.standing.places.values())
        small += self.closing.size()
        small += sum(len(k) + len(q) + 4 for k, q in self.task_homes.items())
        small += sum(len(op) + 3 for step in self.carried.values() for op in step.ops)
        small += sum(len(spec.parcel) + 200 for s in self.carried.values() for spec in s.tasks)
        return self.log.size + small + (len(self.log.head.data) if self.log.head else 0)

    def snapshot(self) -> bytes:
        """Everything, for continue-as-new."""
        return pack(
            Snapshot(
                epoch=self.epoch,
                seq=self.next_seq,
                log=tuple(self.log.entries),
                namespaces=tuple(self.namespaces),
                ended=tuple(self.ended.items()),
                waiting=tuple(self.waiting),
                active=self.active,
                lost=tuple(sorted(self.lost)),
                running=tuple(self.running.values()),
                base=self.log.base,
                segments=self.log.segments,
                head=self.log.head,
                generation=self.log.generation,
                garbage=self.log.garbage,
                compact=self.log.compact,
                uncompacted=self.log.uncompacted,
                discards=tuple(self.log.discards),
                summary=self.summary,
                undo=tuple(self.undo),
                deadlines=self.deadlines,
                standing=self.standing,
                announced=tuple(self.announced.values()),
                given_at=self.given_at,
                given_spent=self.given_spent,
                home=self.home,
                priority=self.priority,
                closing=self.closing.snapshot(),
                round=self.round,
                task_homes=tuple(self.task_homes.items()),
                carried=tuple(pack(request) for request in self.carried.values()),
                park_s=self.park_s,
                parked=self.parking in (Parking.LEAVING, Parking.DONE),
            )
        )

    @classmethod
    def restore(cls, life: str, *, root: bool, snapshot: bytes, by_log: bool = True) -> ThreadState:
        """The inverse of ``snapshot``."""
        s = unpack(Snapshot, snapshot)
        return cls(
            by_log=by_log,
            standing=s.standing or _standing_of(s),
            log=ThreadLog(
                life=life,
                entries=list(s.log),
                size=sum(map(len, s.log)),
                base=s.base,
                segments=s.segments,
                head=s.head,
                generation=s.generation,
                garbage=s.garbage,
                compact=s.compact,
                uncompacted=s.uncompacted,
                discards=list(s.discards),
            ),
            root=root,
            epoch=s.epoch,
            next_seq=s.seq,
            namespaces=list(s.namespaces),
            active=s.active,
            waiting=deque(s.waiting),
            ended=dict(s.ended),
            lost=set(s.lost),
            # The workflow may be in the cache of another process now: no task is eager.
            running={spec.key: replace(spec, eager=False) for spec in s.running},
            undo=list(s.undo),
            deadlines=s.deadlines,
            announced={run.run_id: run for run in s.announced},
            given_at=s.given_at,
            given_spent=s.given_spent,
            home=s.home,
            has_home=s.home is not None,
            priority=s.priority,
            closing=Closing(state=s.closing or ClosingState()),
            round=s.round,
            task_homes=dict(s.task_homes),
            carried={r.seq: by_queue(r) for r in (unpack(StepRequest, d) for d in s.carried)},
            summary=s.summary or ThreadSummary(thread_id=""),
            park_s=s.park_s,
            parking=Parking.DONE if s.parked else Parking.NO,
        )


def _is_ended_run(args: Sequence[object]) -> bool:
    """Whether they are a run, or a run and the time after which it was cancelled."""
    if len(args) == 2 and isinstance(args[1], float):
        return isinstance(args[0], str) and 0 < args[1] < float("inf")
    return len(args) == 1 and isinstance(args[0], str)


def _is_epoch(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _standing_of(snapshot: Snapshot) -> Standing:
    """Where a thread stands by a snapshot of a release that did not keep it."""
    standing = Standing()
    for data in snapshot.log:
        if data:
            standing.add(unpack(Op, data))
    if snapshot.summary is not None and snapshot.summary.status == "interrupted":
        standing.stopped("", snapshot.summary.asks)
    return standing


def _in_short(full: Outcome, limit: int) -> bytes:
    """An outcome to be remembered in about ``limit`` bytes."""
    error = full.error
    if error is not None:
        text = _shortened(error.message, limit // 3)
        # The message goes as the only argument, which is what most exceptions show.
        error = ErrorInfo(
            type_name=_shortened(error.type_name, limit // 5),
            message=text[: len(text) // 2],
            args=pack_plain([text]),
            attributes=pack_plain({}),
        )
    short = replace(full, tail=(), error=error, unsent="")
    return pack(replace(short, deadlines=(), asks=(), nodes=(), asked=()))


def _deadlines_of(full: Outcome, known: tuple[Deadline, ...], now_s: float) -> tuple[Deadline, ...]:
    """When the interrupts a run ended with answer themselves.

    One that was asked before, and is asked again because another one was answered, keeps its time.
    """
    at = {deadline.interrupt_id: deadline.at_s for deadline in known}
    return tuple(
        replace(d, at_s=at.get(d.interrupt_id, now_s + d.within_s)) for d in full.deadlines
    )


def _failure_of(full: Outcome, limit: int) -> tuple[str, str]:
    """Class and text of what a run failed with; empty when it did not."""
    if full.error is None:
        return "", ""
    return _shortened(full.error.type_name, limit), _shortened(full.error.message, limit)


def _shortened(text: str, limit: int) -> str:
    """The beginning of a text, in so many bytes of UTF-8."""
    return text.encode()[:limit].decode(errors="ignore")


def _takes_answer(op: Op) -> bool:
    """Whether a task recorded a new answer, which means it has taken the run's resume value.

    The next ``interrupt()`` of a retried run must not be given that value again.
    """
    return (
        op.kind == OpKind.WRITES
        and op.task_id != NULL_TASK_ID
        and not op.retakes
        and _has_answer(op)
    )


def _gives_answer(op: Op) -> bool:
    """Whether a run recorded its resume value, for whichever interrupt comes first."""
    return op.kind == OpKind.WRITES and op.task_id == NULL_TASK_ID and _has_answer(op)


def _has_answer(op: Op) -> bool:
    return op.answers or any(v.channel == RESUME_CHANNEL for v in op.values)
