"""Worker side: the ordered, coalescing sender of one attempt to one thread workflow.

Lives on the worker's own event loop; other OS threads reach it through its session.

**What it models.** An attempt has one outbox for its thread, and one for each nested namespace
that it writes to. Ops, tasks, namespaces to be opened and at last the outcome go in, in the order
in which LangGraph makes them. They leave as *steps* (Update ``step``), of which at most two are
under way. A step takes all that is there when it is made, so a superstep usually costs one: its
checkpoint and the tasks that start from it travel together. Only ``flush``, ``open`` and ``end``
wait for what they sent.

**Numbers.** The steps of an outbox are numbered from 0 (``seq``). The workflow applies them in
this order, whichever arrives first, and each number once. So a step may be repeated under its
number until it is answered. All steps carry the epoch of the grant: when a newer attempt has the
thread, they are refused.

**How a result arrives.** Usually it does not pass through here: the Activity of the task completes
with what LangGraph committed. The outbox keeps a copy of it until a step that ``requires`` the
task has been applied, because only then it is known to be in the log. If the Activity was lost
while this process lives (no heartbeat got through, for example), the workflow answers that step
with ``lost``. The copy then travels as an op, in an ``extra`` step that has the number of the step
which waits for it and comes before it.

**What a result carries.** LangGraph needs about a millisecond from the end of a superstep's last
task to the tasks of the next. So the result of that task is held for a moment (``HOLD_S``), and the
step that follows travels in it: one way to Temporal where there were two. Nobody answers such a
step. That its tasks begin says that it was applied; if they do not (``CARRIED_QUIET_S``), or if
somebody waits for what was sent (``flush``), the same step is sent as an Update, under its number.
A result that nothing follows in time goes alone. Steps that need an answer, or blobs, are never
carried: they end what is held, and go as Updates.

**How the end is told.** The step with the outcome may be carried as well, and somebody waits for
it. That is told by the answer to the first step that has tasks, which *stays* (``StepRequest``)
until the attempt is over: one Update for the whole run. If it is answered before, because the
workflow continues as new, the outcome goes as an Update.

**Invariants.**

- A checkpoint is never in the log before the writes it was made of: ``put`` requires all tasks
  that ran from its parent. LangGraph itself leaves this order to chance, but for DeltaChannels
  (langchain-ai/langgraph#8039).
- No task is scheduled before the checkpoint it starts from is in the log. It goes with the step
  of that checkpoint or with a later one; while the checkpoint is not even here, it is held.
- If the ops that wait are too many for one step, ``requires`` goes with the first part. Tasks and
  the outcome go after the last.
- A step is sent when the blobs of its ops are stored, those of all steps before it, and those of
  the results it requires: it may build on any of them. Once storing has failed (``broken``), no ops
  or tasks are sent any more.
- An error of ``send`` ends the outbox for good (``fail``).

**What an answer makes it do**::

    answer                     what follows
    applied                    required tasks are in the log: what was kept of them is dropped
    ``again``                  the step is repeated, without eager tasks: at once, then after
                               growing pauses
    ``lost``, a required task  its result is sent in an ``extra`` step, if there is one; then the
                               step is repeated without requiring the task
    ``lost``, a watched task   the step is repeated, and has the task scheduled once more
    ``ended``, likewise        whoever waits for the task is told: its result is in the log
    refused (fenced)           ``fail``; the session ends the attempt
    none: the server is away   ``fail``, but only after 120 s (``SERVER_AWAY_S``)
    the thread is full         not seen here: ``send`` rejects the run, and repeats without tasks
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..errors import StorageError
from ..protocol.blob import Upload
from ..protocol.messages import (
    StepReply,
    StepRequest,
    TaskSpec,
    by_queue,
)
from ..protocol.wire import pack

MAX_IN_FLIGHT = 2
"""Steps of one outbox under way at once. Temporal allows 10 Updates per workflow in all
(temporalio/temporal#4307): the others are for attempts that attach, and for whoever appends."""

GATHER_TICKS = 3
"""Loop iterations to wait for the rest of a burst of parallel tasks. They come from another OS
thread, one by one; without this the first would travel alone."""

OPS_ONLY_DELAY_S = 0.005
"""Ops without a task wait this long: nearly always the next superstep carries them."""

BATCH_BYTES = 400_000
"""Ops in one step. Temporal's SDK warns above 512 kB; one payload may have 2 MB."""

HOLD_S = 0.02
"""How long the result of a superstep's last task waits for the step that follows it. The task may
run again if its process dies meanwhile, as it may while its result is on the way."""

CARRIED_QUIET_S = 2.0
"""After this a step whose tasks have not begun is sent once more, as an Update."""

MAX_RUNNING = 500
"""Tasks of one namespace that have an Activity at once; more wait here. Temporal allows 2,000."""

TASKS_PER_STEP = 250
"""Tasks of one step. A spec takes a few hundred bytes: with the ops they must fit one payload."""

Send = Callable[[StepRequest], Coroutine[Any, Any, StepReply]]
Store = Callable[[Sequence[Upload]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An op to be sent, and the blobs it refers to.

    Args:
        op: The op, packed.
        uploads: Blobs that must be stored first; none when all values are in the op itself.
    """

    op: bytes
    uploads: tuple[Upload, ...] = ()


class _Held(NamedTuple):
    """The result of a superstep's last task, which waits for the step that follows it.

    Args:
        key: The task.
        size: Bytes of the result.
        report: See ``Outbox.finished``.
    """

    key: str
    size: int
    report: Callable[[bytes], bool]


class Outbox:
    """Orders what one attempt sends to one namespace of a thread.

    Args:
        template: A request with epoch and run of the attempt.
        send: Sends one step and returns the reply; raises when the attempt is over.
        store: Stores the blobs of ops before they are sent.
        rejected: Told when that failed: from then on no ops are sent, only how the run ends.
        ready: Awaited once before the first step (the namespace must exist).
        over: Told of watched tasks that have ended, and whose results are in the log.
        carries: Results of tasks may carry steps.
        alone: The first step goes alone: by it the attempt gets the thread.
        eager: Marks those tasks of a step that may be eager.
        stay: Sends the first step that has tasks so that it is answered when the attempt is over;
            ``None``: it is answered at once.

    Attributes:
        _alone: As given, until that step was applied.
        broken: Blobs could not be stored; the session sets it, too, for those of a task's result.
        error: What ended the outbox; ``None`` as long as it sends.
        log_end: As the answer to the outcome tells it (``StepReply.log_end``); 0 before.
        _ops: Ops that wait, in the order of the log.
        _tasks: Tasks that wait for the next step, or for room among ``MAX_RUNNING``.
        _early: Tasks whose checkpoint has not been put yet, by its id.
        _open: Namespaces to be opened, with the names of their graphs.
        _new: Those of them, sent or not, that never had a workflow.
        _opened: Those who wait in ``open``, by namespace.
        _watch: Keys of tasks that should have started by now, to be asked about.
        _cancel: Keys of tasks that nobody waits for any more.
        _requires: Keys of the tasks whose results must be in the log before the next step.
        _outcome: How the run ended; b"" before ``end``, and when a step has taken it.
        _fence: Another worker may still be at a task of it that nobody waits for.
        _seq: Number of the next step.
        _checkpoints: Ids of those that were put here, sent or not.
        _specs: Tasks by key, to be scheduled once more; until they are confirmed.
        _unconfirmed: By key of each task that no applied step has required yet: the checkpoint it
            ran from, and its result; b"" as long as it has none, or if it left no writes.
        _running: Keys of tasks that were sent and are not over: they count for ``MAX_RUNNING``.
        _storing: By key the task results whose blobs are being stored.
        _held: What waits for the step that follows it; ``None``: nothing does.
        _hold: Ends that.
        _carried: Tasks of the step that was carried last, or that stays, until one of them has
            begun; and how that is told: whether the step was applied, as far as it is known.
        _staying: The answer to the step that stays; ``None``: none was sent so.
        _in_flight: Steps under way, from the storing of their blobs to their answer.
        _stored: Done when the blobs of all steps so far are stored, or could not be.
        _sending: Their asyncio tasks: the loop itself holds only weak references to them.
        _timer: Set while ops wait for a task to travel with.
        _pump: Makes steps out of what waits; ``None`` while there is nothing to make.
        _idle: Those who wait in ``flush``.
    """

    def __init__(
        self,
        template: StepRequest,
        send: Send,
        store: Store,
        rejected: Callable[[StorageError], None],
        ready: Callable[[], Awaitable[None]] | None = None,
        over: Callable[[str], None] = lambda key: None,
        *,
        carries: bool = False,
        alone: bool = False,
        eager: Callable[[Sequence[TaskSpec]], Sequence[TaskSpec]] = lambda specs: specs,
        stay: Send | None = None,
    ) -> None:
        self._eager = eager
        self._alone = alone
        self._over = over
        self._stay = stay if carries else None
        self._staying: asyncio.Task[StepReply] | None = None
        self._carries = carries
        self._held: _Held | None = None
        self._hold: asyncio.TimerHandle | None = None
        self._carried: tuple[frozenset[str], asyncio.Future[bool]] | None = None
        self._template = template
        self._send = send
        self._store = store
        self._rejected = rejected
        self._ready = ready
        self._storing: dict[str, asyncio.Future[None]] = {}
        self._running: set[str] = set()
        self.broken = False
        self._ops: list[Entry] = []
        self._tasks: list[TaskSpec] = []
        self._open: list[tuple[str, str]] = []
        self._new: set[str] = set()
        self._opened: dict[str, asyncio.Future[None]] = {}
        self._watch: list[str] = []
        self._cancel: list[str] = []
        self._requires: set[str] = set()
        self._outcome = b""
        self._fence = False
        self._seq = 0
        self._in_flight = 0
        self._stored: asyncio.Future[None] | None = None
        self._specs: dict[str, TaskSpec] = {}
        self._unconfirmed: dict[str, tuple[str, bytes]] = {}
        self._checkpoints: set[str] = set()
        self._early: dict[str, list[TaskSpec]] = {}
        self._idle: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._pump: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self.error: BaseException | None = None
        self.log_end = 0

    # -- what goes in -------------------------------------------------------------------------

    def put(self, entry: Entry, checkpoint_id: str, parent_id: str | None) -> None:
        """A checkpoint: after the results of all tasks that ran from its parent."""
        self._requires.update(k for k, (cp, _) in self._unconfirmed.items() if cp == parent_id)
        self._ops.append(entry)
        self._checkpoints.add(checkpoint_id)
        early = self._early.pop(checkpoint_id, None)
        if early:
            self._tasks.extend(early)
            self._kick()
        else:
            self._kick_later()

    def add(self, entry: Entry) -> None:
        """Any other op."""
        self._ops.append(entry)
        self._kick_later()

    def dispatch(self, spec: TaskSpec, checkpoint_id: str, *, stored: bool) -> None:
        """Schedule a task, together with or after the checkpoint it starts from."""
        self._specs[spec.key] = spec
        self._unconfirmed[spec.key] = (checkpoint_id, b"")
        if stored or checkpoint_id in self._checkpoints:
            self._tasks.append(spec)
            self._kick()
        else:
            # Under durability="async" LangGraph starts the task while it still saves the
            # checkpoint in the background.
            self._early.setdefault(checkpoint_id, []).append(spec)

    def started(self, key: str) -> None:
        """The Activity of a task is there."""
        if self._carried is not None and key in self._carried[0]:
            self._settle_carried(applied=True)

    def finished(self, key: str, op: bytes, report: Callable[[bytes], bool]) -> None:
        """The result of a task, kept until it is known to be in the log.

        Args:
            key: The task.
            op: What it has written.
            report: Gives the Activity its result, with the step that it carries, packed; b"":
                none. Returns ``False`` when the Activity has a result already, because the task was
                given up: it was cancelled in Temporal.
        """
        if key in self._unconfirmed:
            self._unconfirmed[key] = (self._unconfirmed[key][0], op)
            if self._may_hold(key):
                self._held = _Held(key, len(op), report)
                self._hold = asyncio.get_running_loop().call_later(HOLD_S, self._let_go)
                # Whatever waits for company now has it.
                self._stop_timer()
                return
            if report(b""):
                return
            self._unconfirmed[key] = (self._unconfirmed[key][0], b"")
        else:
            # Given up as lost before it was finished.
            report(b"")
        self.add(Entry(op=op))

    def _may_hold(self, key: str) -> bool:
        """Whether a task that has ended is the last of its superstep, as far as it is known."""
        free = self._carries and self.error is None and not self.broken and self._held is None
        waited_for = self._idle or self._outcome or self._tasks or key in self._storing
        return free and not waited_for and self._running == {key}

    def _let_go(self) -> None:
        """Report what is held, alone."""
        held = self._take_held()
        if held is None:
            return
        if not held.report(b"") and held.key in self._unconfirmed:
            checkpoint_id, op = self._unconfirmed[held.key]
            self._unconfirmed[held.key] = (checkpoint_id, b"")
            # Before the checkpoint that was made of it.
            self._ops.insert(0, Entry(op=op))
        if self._sendable:
            self._kick()

    def _take_held(self) -> _Held | None:
        held, self._held = self._held, None
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        return held

    def _settle_carried(self, *, applied: bool) -> None:
        carried, self._carried = self._carried, None
        if carried is not None and not carried[1].done():
            carried[1].set_result(applied)

    def storing(self, key: str, stored: asyncio.Future[None]) -> None:
        """The result of a task waits for its blobs to be stored."""
        self._storing[key] = stored
        stored.add_done_callback(lambda _: self._storing.pop(key, None))

    def ended(self, key: str) -> None:
        """A task is over, however it ended."""
        self._running.discard(key)
        # One that was never sent never will be.
        self._tasks = [spec for spec in self._tasks if spec.key != key]
        for early in self._early.values():
            early[:] = [spec for spec in early if spec.key != key]
        self._after_delivery()

    def watch(self, key: str) -> None:
        """Ask whether a task that has not started was lost, and schedule it again if so."""
        # One that waits to be sent is not lost, and has not ended.
        waits = (spec.key for specs in (self._tasks, *self._early.values()) for spec in specs)
        if key in self._unconfirmed and key not in set(waits):
            self._watch.append(key)
            self._kick()

    def again(self, key: str) -> None:
        """Schedule a task once more that has ended without anything to show for it."""
        if key in self._unconfirmed and key in self._specs:
            self._tasks.append(self._specs[key])
            self._kick()

    def cancel(self, key: str) -> None:
        """Nobody waits for a task any more that another worker runs."""
        if self._unconfirmed.pop(key, None) is None:
            return
        self._requires.discard(key)
        self._specs.pop(key, None)
        waited = [spec for specs in (self._tasks, *self._early.values()) for spec in specs]
        self.ended(key)
        if all(spec.key != key for spec in waited):
            self._cancel.append(key)
            self._kick()

    async def open(self, namespace: str, graph: str = "", *, new: bool = False) -> None:
        """Make sure a namespace has its workflow, which Temporal's UI shows under its graph's
        name. ``new``: it never had one.

        Does not wait for what else is to be sent: tasks that wait for room among ``MAX_RUNNING``
        may wait for those that open namespaces.
        """
        if self.error is not None:
            raise self.error
        if namespace not in self._opened:
            self._opened[namespace] = asyncio.get_running_loop().create_future()
            self._open.append((namespace, graph))
            if new:
                self._new.add(namespace)
            self._kick()
        await asyncio.shield(self._opened[namespace])

    async def end(self, outcome: bytes, *, fence: bool = False) -> None:
        """Send everything, and with the last step the outcome of the run; ``fence``: see
        ``StepRequest``."""
        # Also tasks that have not ended: the session has abandoned them, so they end now.
        self._requires.update(self._unconfirmed)
        # Never started, and never will be.
        for spec in (*self._tasks, *(s for early in self._early.values() for s in early)):
            self._requires.discard(spec.key)
        self._tasks.clear()
        self._early.clear()
        self._outcome, self._fence = outcome, fence
        self._kick()
        await self._all_sent()
        if self._staying is not None:
            self._staying.cancel()

    async def flush(self) -> None:
        """Return when all that went in so far is in the log.

        Raises:
            BaseException: What made the attempt fail.
        """
        self._let_go()
        await self._all_sent()

    async def _all_sent(self) -> None:
        if self.error is not None:
            raise self.error
        self._settle_carried(applied=False)
        if not self._pending and not self._in_flight:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(future)
        if self._sendable:
            self._kick()
        await future

    def fail(self, exc: BaseException) -> None:
        """The attempt is over: nothing more is sent, everybody who waits gets ``exc``."""
        if self.error is not None:
            return
        self.error = exc
        if (held := self._take_held()) is not None:
            held.report(b"")
        self._settle_carried(applied=False)
        if self._staying is not None:
            self._staying.cancel()
        for future in (*self._idle, *self._opened.values()):
            if not future.done():
                future.set_exception(exc)
                # Whoever waited may be gone.
                future.exception()
        self._idle.clear()

    @property
    def _pending(self) -> bool:
        return bool(self._tasks) or self._sendable

    @property
    def _sendable(self) -> bool:
        return bool(self._ops) or self._urgent

    @property
    def _urgent(self) -> bool:
        """Whether there is more to send than ops, which what is held may take along."""
        room = bool(self._tasks) and len(self._running) < MAX_RUNNING
        return room or bool(self._open or self._watch or self._cancel or self._outcome)

    # -- sending ------------------------------------------------------------------------------

    def _kick_later(self) -> None:
        # A pump that is about to run takes these ops along, and so may a result that is held.
        if self._timer is None and self._pump is None and self._held is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(OPS_ONLY_DELAY_S, self._kick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _kick(self) -> None:
        self._stop_timer()
        if self._pump is None and self.error is None:
            self._pump = asyncio.create_task(self._run_pump())

    async def _run_pump(self) -> None:
        try:
            if self._ready is not None:
                ready, self._ready = self._ready, None
                await ready()
            for _ in range(GATHER_TICKS):
                await asyncio.sleep(0)
            while self._sendable and self._in_flight < self._at_once and self.error is None:
                self._in_flight += 1
                if not self._may_carry():
                    # Before a step is made: what is held may turn out to belong into it.
                    self._let_go()
                before, self._stored = self._stored, asyncio.get_running_loop().create_future()
                task = asyncio.create_task(
                    self._deliver(
                        *self._next_request(),
                        before=before,
                        stored=self._stored,
                        carrier=self._take_held(),
                    )
                )
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
        except BaseException as exc:
            self.fail(exc)
        finally:
            self._pump = None

    @property
    def _at_once(self) -> int:
        return 1 if self._alone else MAX_IN_FLIGHT

    def _next_request(self) -> tuple[StepRequest, tuple[Upload, ...]]:
        size, count = 0, 0
        for entry in self._ops:
            size += len(entry.op)
            if count and size > BATCH_BYTES:
                break
            count += 1
        taken, self._ops = self._ops[:count], self._ops[count:]
        request = replace(
            self._template,
            seq=self._seq,
            ops=tuple(entry.op for entry in taken),
            requires=tuple(sorted(self._requires)),
        )
        self._seq += 1
        # Steps are applied in turn: what this one waits for, the later ones wait for as well.
        self._requires.clear()
        if not self._ops:
            # Tasks and the outcome follow the last of the ops they depend on.
            room = min(TASKS_PER_STEP, MAX_RUNNING - len(self._running))
            room = min(room, _fitting(self._tasks, BATCH_BYTES))
            tasks, self._tasks = self._tasks[:room], self._tasks[room:]
            self._running.update(spec.key for spec in tasks)
            request = replace(
                request,
                tasks=tuple(self._eager(tasks)),
                open=tuple(namespace for namespace, _ in self._open),
                open_as=tuple(graph for _, graph in self._open),
                new=tuple(namespace for namespace, _ in self._open if namespace in self._new),
                watch=tuple(self._watch),
                cancel=tuple(self._cancel),
            )
            self._open, self._watch, self._cancel = [], [], []
            if self._outcome and (not taken or size + len(self._outcome) <= BATCH_BYTES):
                request = replace(request, outcome=self._outcome, fence=self._fence)
                self._outcome = b""
        return request, tuple(u for entry in taken for u in entry.uploads)

    def _may_carry(self) -> bool:
        """Whether what is held may carry all that waits, as one step."""
        if self._held is None or self._carried is not None:
            return False
        size = self._held.size + sum(len(entry.op) for entry in self._ops) + len(self._outcome)
        # That its tasks begin is the only answer; those of another worker tell it late. Of the
        # outcome there is the answer to the step that stays.
        answered = self._stays if self._outcome else _has_own(self._tasks)
        asks = self._open or self._watch or self._cancel or self._fence
        uploads = any(entry.uploads for entry in self._ops)
        waits = uploads or self._storing or (self._stored is not None and not self._stored.done())
        fits = size <= BATCH_BYTES and not self.broken
        return fits and answered and not asks and not waits

    async def _carry(self, carrier: _Held, request: StepRequest) -> bool:
        """Send a step with a result; whether it was applied, as far as it is known."""
        if request.outcome:
            if carrier.report(pack(request)) and self._staying is not None:
                await asyncio.wait([self._staying], timeout=CARRIED_QUIET_S)
            reply = self._answer_of_staying() or StepReply()
            self.log_end = max(self.log_end, reply.log_end)
            return reply.over
        told = self._tell_begun(request)
        if not carrier.report(pack(request)):
            # The task was given up: the thread is told by an Update, and asks for its result.
            self._settle_carried(applied=False)
        await asyncio.wait([told], timeout=CARRIED_QUIET_S)
        applied = told.done() and told.result()
        self._settle_carried(applied=False)
        return applied

    def _tell_begun(self, request: StepRequest) -> asyncio.Future[bool]:
        """Have it told when a task of a step has begun, and thereby that the step was applied."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._carried = (frozenset(spec.key for spec in request.tasks), told)
        return told

    @property
    def _stays(self) -> bool:
        """Whether the outcome of the attempt will be answered."""
        return self._staying is not None and not self._staying.done()

    def _answer_of_staying(self) -> StepReply | None:
        """How the step that stays was answered; ``None``: it was not, or not yet."""
        staying = self._staying
        if staying is None or not staying.done() or staying.cancelled() or staying.exception():
            return None
        return staying.result()

    def _may_stay(self, request: StepRequest) -> bool:
        """Whether a step is answered by its tasks' beginning, so that its answer may come late."""
        first = self._staying is None and self._stay is not None and self._carried is None
        asks = request.open or request.watch or request.cancel or request.outcome
        return first and _has_own(request.tasks) and not (asks or request.requires or self._idle)

    async def _send_staying(self, request: StepRequest) -> bool:
        """Send a step that stays; whether it was applied, as far as it is known."""
        assert self._stay is not None
        told = self._tell_begun(request)
        answer = self._stay(replace(request, stays=True))
        self._staying = asyncio.ensure_future(answer)
        # Why there is none does not matter: what it would have told is asked for by an Update.
        self._staying.add_done_callback(lambda done: done.cancelled() or done.exception())
        either: list[asyncio.Future[Any]] = [told, self._staying]
        await asyncio.wait(either, timeout=CARRIED_QUIET_S, return_when=asyncio.FIRST_COMPLETED)
        applied = told.done() and told.result()
        self._settle_carried(applied=False)
        # Of a workflow that is to continue as new, or of a release that answers at once.
        reply = self._answer_of_staying()
        return applied or (reply is not None and not reply.again and not reply.lost)

    async def _deliver(
        self,
        request: StepRequest,
        uploads: tuple[Upload, ...],
        *,
        before: asyncio.Future[None] | None,
        stored: asyncio.Future[None],
        carrier: _Held | None,
    ) -> None:
        # Before any repair: tasks that turn out to be lost are accounted for as well.
        required = request.requires
        try:
            try:
                await self._store_all(request, uploads, before)
            finally:
                stored.set_result(None)
            if self.error is not None:
                return
            if self.broken:
                # What follows builds on what was not stored.
                request = replace(request, ops=(), tasks=())
            reply = StepReply()
            applied = False
            if carrier is not None:
                applied = await self._carry(carrier, request)
            elif self._may_stay(request):
                applied = await self._send_staying(request)
            while not applied and self.error is None:
                reply = await self._send_until_taken(request)
                if not reply.lost:
                    break
                request = await self._repair(request, reply)
            self._alone = False
            self.log_end = max(self.log_end, reply.log_end)
            for key in reply.ended:
                self._over(key)
            for key in required:
                self._unconfirmed.pop(key, None)
                self._specs.pop(key, None)
            for namespace in request.open:
                if not self._opened[namespace].done():
                    self._opened[namespace].set_result(None)
        except BaseException as exc:
            self.fail(exc)
        finally:
            self._in_flight -= 1
            self._after_delivery()

    async def _store_all(
        self, request: StepRequest, uploads: tuple[Upload, ...], before: asyncio.Future[None] | None
    ) -> None:
        """Store what a step may build on. Waiting for others costs no time: the workflow does not
        apply it before the steps and results in front of it either.

        A result that comes later than the step which requires it is seen to in ``_repair``.
        """
        if uploads and not self.broken:
            try:
                await self._store(uploads)
            except StorageError as exc:
                self.broken = True
                self._rejected(exc)
        others = [self._storing[key] for key in request.requires if key in self._storing]
        if before is not None:
            others.append(before)
        if others:
            await asyncio.wait(others)

    async def _send_until_taken(self, request: StepRequest) -> StepReply:
        """Send; repeat while the workflow is about to continue as new."""
        refused = 0
        while (reply := await self._send(request)).again:
            # At once the first time: the new run of the workflow is there already. Any process may
            # have it in its cache.
            request = by_queue(request)
            await asyncio.sleep(min(1.0, 0.05 * refused))
            refused += 1
        return reply

    async def _repair(self, request: StepRequest, reply: StepReply) -> StepRequest:
        """What to send instead of a step that named lost tasks."""
        lost = set(reply.lost)
        # An op must not refer to blobs that are not there, whichever way it travels.
        storing = [self._storing[k] for k in request.requires if k in lost and k in self._storing]
        if storing:
            await asyncio.wait(storing)
        for key in request.requires:
            # Finished here, but the result never arrived: it travels as an op, each in a request
            # of its own because together they may exceed a payload.
            result = self._unconfirmed.get(key, ("", b""))[1] if key in lost else b""
            if result:
                extra = replace(self._template, seq=request.seq, ops=(result,), extra=True)
                await self._send_until_taken(extra)
        # Never started here: schedule it once more.
        restart = tuple(self._specs[k] for k in request.watch if k in lost and k in self._specs)
        return replace(
            request,
            tasks=(*restart, *request.tasks),
            requires=tuple(k for k in request.requires if k not in lost),
            watch=(),
        )

    def _after_delivery(self) -> None:
        if self.error is not None:
            return
        if self._urgent or (self._ops and self._held is None):
            self._kick()
        if not self._pending and not self._in_flight:
            for future in self._idle:
                if not future.done():
                    future.set_result(None)
            self._idle.clear()


def _has_own(specs: Sequence[TaskSpec]) -> bool:
    """Whether any of the tasks is one of this process."""
    return any(not spec.parcel for spec in specs)


def _fitting(specs: Sequence[TaskSpec], room: int) -> int:
    """How many of the specs fit into so many bytes; one does."""
    size = 0
    for count, spec in enumerate(specs):
        size += len(spec.parcel)
        if count and size > room:
            return count
    return len(specs)
