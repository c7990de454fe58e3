"""Worker side: one attempt of a run that has been granted its thread, or presumes so.

**What it models.** The time from the grant of the thread (which may come with the first step, see
``last_runs``) until the outcome is recorded, or until
the attempt is lost. A session stands between LangGraph's loop, which runs where the user's code
runs, and the outboxes on the worker's own loop. The bound saver hands it checkpoints and writes,
the hook on LangGraph's task runner hands it tasks. What is to be recorded it folds into the
replica at once, so that the loop reads what it has written, and passes it on to the outbox of the
namespace. Nothing of that waits for Temporal.

**The way of a task.** ``arun_task`` registers it among the live tasks of the process, gives its
spec to the outbox, and waits. When the Activity arrives (``drive.Activities.task``) it says go,
and the node runs where LangGraph has awaited it. LangGraph commits, and calls ``put_writes``: the
writes become the result of the Activity, and the outbox gets a copy in case that is lost. A task
that leaves no writes ends its Activity as well (``_note_failure``). Writes for which no Activity
waits travel as an op: those of nodes that run in place, those of LangGraph itself, and those of
a task that was given up before.

Between "go" and the node is the limit of tasks that a process executes at once (``slots``). The
Activity is there, and heartbeats, while its task waits for a slot. A task that has called a nested
graph lends its own: ``SeamTask.within`` says whose code a task is part of.
**A task that another worker runs.** ``arun_placed`` does the same with a spec that goes to a queue
of other workers, takes what they send (``away``), and gives LangGraph the result as if the node had
run here. What is recorded came with the result: ``put_writes`` folds it and encodes nothing. On the
side of those workers a session without a thread of its own (``inside``) stands between the graphs
that the task calls and their namespaces; the task's own namespace it only reads.

**Who calls it from where.** Calls come from several OS threads. What they have to do with an
outbox goes through ``_on_loop``, which keeps the order of calls from one OS thread::

    arun_task, arun_placed; put, put_writes of an  the event loop that runs the graph
    async graph
    run_task, run_placed                           an OS thread of LangGraph's executor
    put, put_writes of a sync graph                the worker's loop (``BoundSaver._wait``)
    load, enter_*, note_*, refuse                  wherever the graph, or its saver, runs
    flush                                          a loop of whoever writes to the thread meanwhile
    begin_no_more; _outbox, _finish_when_stored,   the worker's loop
    _store, _end, and the answers to steps
    fail, reject                                   any of them

**How it can end early.** By four calls, from the strictest to the mildest. Of each the first
counts::

    call           because                         nodes      tasks     ops       recorded is
    fail           superseded, no server, no       cancelled  refused   refused   nothing more
                   worker any more
    reject         unstorable value, full thread,  cancelled  refused   refused   what came before,
                   cancelled run                                                  the outcome
    begin_no_more  cancelled run of a sync graph   go on      refused   accepted  all, the outcome
    refuse         an answer that no graph takes   go on      accepted  accepted  all, the outcome

After ``fail`` the run goes on in another attempt; after the others this attempt ends the run.
Where nodes are cancelled, one in an OS thread goes on all the same, but nothing of it is recorded.

**Invariants.**

- As long as ``replica.flush`` is set, the replica may hold what the log does not. At the end all
  of that is in the log, or the replica is emptied.
- The logs of nested namespaces are complete before the outcome is sent to the thread.
- A namespace that existed before the attempt is read (``load``) before anything is folded into it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from temporalio.service import RPCError

from ..errors import (
    AttemptSupersededError,
    PlacementError,
    StorageError,
    TemporalExecError,
    ThreadFullError,
    UsageError,
)
from ..logs import about
from ..options import Options
from ..protocol import names
from ..protocol.blob import Upload
from ..protocol.incarnation import Incarnation
from ..protocol.messages import (
    AppendRequest,
    Applied,
    AttachReply,
    AttachRequest,
    BeginRequest,
    Deadline,
    ErrorInfo,
    Parcel,
    StepReply,
    StepRequest,
    TaskOutput,
    TaskSpec,
    TaskStatus,
)
from ..protocol.stored import BlobRef
from ..protocol.wire import pack, unpack
from ..seam import hooks, private
from ..storage.replica import Replica
from ..storage.store import Store
from ..values.callbacks import Telling, Told
from ..values.exceptions import rebuild
from ..values.ops import Encoded, Writer, put_op, writes_op
from ..values.record import RunIdentity
from ..workflow import mailbox_sinks
from .away import (
    ALIVE,
    BODY_AT,
    ENDED,
    GONE,
    LEFT,
    LEFT_PAUSE_S,
    MAX_SILENCE_S,
    STARTED,
    AwayTask,
    body_of,
    recorded,
    upload_of,
)
from .beats import BESIDE_DRIVE
from .last_runs import LastRun
from .live import LiveTask
from .outbox import Entry, Outbox
from .placement import Placement, limits, placement
from .ports import Host
from .slots import Lent, Slot

logger = logging.getLogger(__name__)

MAX_TOOLS = 8
MAX_TOOLS_TEXT = 140
"""Of the tools in a summary: their number, and the characters of their list."""


class Session:
    """Implements ``hooks.Session`` and the writing half of the saver for one attempt.

    Args:
        run: The run.
        attempt: Number of this attempt, from 1.
        grant: The thread's reply to ``attach``.
        host: The worker of this process.
        replica: What this process knows of the thread; kept up to date by the session.
        store: Threads, if not those of the host: of a placed task, which others drive.
        inside: Of the session of a placed task: its round, of which the steps to nested namespaces
            are; 0: this process drives the run.
        options: The saver's, or those that came with a placed task.
        begin: What the thread is asked for with the first step: the grant is presumed (see
            ``last_runs``). ``None``: it was granted.

    Attributes:
        loop_thread: The OS thread that runs the worker's loop.
        log: Logs with the ids of run and attempt.
        epoch: Epoch of the grant; all steps carry it.
        applied: What the log shows of earlier attempts of the run.
        home: The thread's home; ``None``: it has none.
        keeps_breakpoints: The input is empty because it was applied before: it approves of no
            breakpoint. Set by the ``Attempt``.
        loop: LangGraph's loop of the root graph; ``None`` before it has begun.
        answered_below: A task of a nested namespace took an answer; the outcome tells the thread,
            in case the news from that namespace comes later.
        entered: Nested namespaces whose graphs were called in this attempt; the hooks add to it.
        refused: What ``refuse`` was given.
        wrote: Something was handed in to be recorded. Before that, another worker may have the
            run as if this one had never seen it.
        _threads: See ``store``.
        _transport: RPCs.
        _begin: See ``begin``.
        _reader: Reads the thread.
        _blobs: Keeps large values.
        _tasks: Live tasks of the process, by their keys.
        _queue: Task queue that only this process polls.
        _options: See ``options``.
        _host: The worker of this process.
        _rounds: Of namespaces that placed tasks have written to: the round from which on this
            process may.
        answers: What nested graphs of placed tasks must know of the attempt's answers; set by the
            ``Attempt``.
        _incarnation: Identity of the thread's log when it was granted.
        _carries: The thread takes steps that come with results.
        _life: What ``Replica.life`` gave then: tells whether the replica was emptied since.
        _existing: Nested namespaces that there were before, so that they must be read.
        _loaded: Namespaces that were read, or need not be.
        _lives: Of those that were read, which log it was.
        _live: Tasks whose writes have not come, by namespace, checkpoint and task id.
        _outboxes: By namespace; "" is the thread itself.
        _graphs: Names of nested graphs by their namespaces, for Temporal's UI.
        _deadlines: Interrupts that answer themselves, by their ids.
        _answers: How many answers a task has recorded, by namespace, checkpoint and task id.
        _left_behind: A task that another worker runs is not waited for any more: whatever it still
            writes to its namespaces is to be refused once the run has ended.
        _slots: How many tasks the process executes at once.
        _slot_of: By task id, what tasks have that are executed; ``None``: it runs in place, in no
            slot of a task.
        _no_more: What ``begin_no_more`` was given.
        _error: What ``fail`` was given.
        _rejected: What ``reject`` was given.
        _unstored: Blobs of what was folded here were not stored.
        _closed: The outcome is in the log: nothing can fail any more.
        _holding: Blobs that are not stored yet and kept readable here, by their references.
        _looking: Who look for results of placed tasks in the log.
        _holding_lock: Guards it: ops are folded on one OS thread and stored on another.
    """

    def __init__(
        self,
        *,
        run: RunIdentity,
        attempt: int,
        grant: AttachReply,
        host: Host,
        replica: Replica,
        store: Store | None = None,
        inside: int = 0,
        options: Options | None = None,
        begin: AttachRequest | None = None,
    ) -> None:
        self._begin = begin
        self.run = run
        self.answers: dict[str, Any] = {}
        self._host = host
        self._threads = store or host.store
        self._inside = inside
        self._rounds: dict[str, int] = {}
        self.attempt = attempt
        self.log = about(logger, thread_id=run.thread_id, run_id=run.run_id, attempt=attempt)
        self.epoch = grant.epoch
        self.applied = grant.applied or Applied()
        self.home = grant.home
        self.keeps_breakpoints = False
        self.loop: Any = None
        self._transport = self._threads.transport
        self._reader = self._threads.reader
        self._blobs = self._threads.blobs
        self.loop_thread = host.loop_thread
        self._tasks = host.tasks
        self._queue = host.queue
        self.replica = replica
        self._options = options or self._threads.options
        self._incarnation = grant.page.incarnation if grant.page else ""
        if begin is not None:
            self._incarnation = begin.incarnation
        self._carries = grant.carries
        self._existing = {*grant.namespaces, *replica.opened} - {""}
        self._loaded = {""}
        self._lives: dict[str, str] = {}
        self._live: dict[tuple[str, str, str], LiveTask] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._deadlines: dict[str, Deadline] = {}
        self._answers: dict[tuple[str, str, str], int] = {}
        self.answered_below = False
        self.entered: set[str] = set()
        self.refused: Exception | None = None
        self._graphs: dict[str, str] = {}
        self._left_behind = False
        self._slots = host.task_slots
        self._slot_of: dict[str, Slot | None] = {}
        self._no_more: BaseException | None = None
        self._unstored = False
        self._error: BaseException | None = None
        self._rejected: BaseException | None = None
        self._closed = False
        self.wrote = False
        self._life = replica.life("")
        self._holding: dict[BlobRef, Upload] = {}
        self._holding_lock = threading.Lock()
        self._looking: set[asyncio.Future[None]] = set()
        # From now on the replica may be ahead of the log.
        replica.flush = self.flush

    @property
    def thread_id(self) -> str:
        """The run's thread."""
        return self.run.thread_id

    @property
    def run_id(self) -> str:
        """The run."""
        return self.run.run_id

    # -- the task seam ------------------------------------------------------------------------

    def ships(self, task: hooks.SeamTask) -> bool:
        """Whether a task runs as an Activity."""
        return not placement(self._options, task).node.inline

    def limits(self, task: hooks.SeamTask) -> hooks.Limits:
        """For how long a task may run."""
        return limits(placement(self._options, task), task.calls, self.run.thread_id)

    def places(self, task: hooks.SeamTask) -> bool:
        """Whether a task is run by another worker.

        Raises:
            PlacementError: It should be, and cannot.
        """
        where = placement(self._options, task)
        if where.named and task.obstacle:
            raise PlacementError(
                f"Node {task.name!r} of thread {self.run.thread_id!r} is to run on task queue "
                f"{where.queue!r} and cannot: {task.obstacle}. Run it in place (no `task_queue` in "
                "its options), or change what it needs. Nothing of the task was run."
            )
        # Whoever stops may be the only one to take it.
        return bool(where.queue) and (where.named or not self._host.stopping)

    def note_deadline(self, interrupt_id: str, within: timedelta, default: bytes) -> None:
        """An interrupt is to answer itself; from any thread."""
        self._deadlines[interrupt_id] = Deadline(
            interrupt_id=interrupt_id,
            within_s=within.total_seconds(),
            default=default,
            bounds=self._transport.bounds(),
        )

    @property
    def deadlines(self) -> tuple[Deadline, ...]:
        """Of the interrupts this attempt has come to."""
        return tuple(self._deadlines.values())

    def enter_namespace(self, checkpoint_ns: str, graph: str) -> None:
        """Remember how the graph of a namespace is called; from any thread."""
        self._graphs[checkpoint_ns] = graph

    def enter_loop(self, loop: Any) -> None:
        """Remember the root loop, to know how it stopped."""
        self.loop = loop

    @property
    def namespaces(self) -> set[str]:
        """Nested namespaces of the thread, as far as they are known."""
        return self._existing | self.replica.known_namespaces

    def refuse(self, error: Exception) -> None:
        """Part of the resume is impossible: to be raised when all else has ended."""
        self.refused = self.refused or error

    def note_within(self, task_id: str, within: str) -> None:
        """A task that runs in place: what it calls belongs to the task that it is part of."""
        self._slot_of[task_id] = self._slot_of.get(within)

    async def arun_task(self, task: hooks.SeamTask, run: Callable[[], Any]) -> Any:
        """Wait for the Activity of the task and for a slot, then run the node right here."""
        live = self._dispatch(task)
        current = asyncio.current_task()
        try:
            await self._started(live, task.checkpoint_ns)
            if current is not None:
                live.runs_in(asyncio.get_running_loop(), current)
            with self._slot(task, live) as slot:
                if not slot.started:
                    await asyncio.wrap_future(slot.granted)
                return await run()
        except asyncio.CancelledError as exc:
            self._note_failure(live, exc)
            problem = self._error or self._rejected
            if live.stopped and problem is not None:
                # We cancelled the node because the attempt is over. LangGraph must not take that
                # for the caller's own cancellation.
                if current is not None:
                    current.uncancel()
                raise problem from None
            raise
        except BaseException as exc:
            self._note_failure(live, exc)
            raise

    def run_task(self, task: hooks.SeamTask, run: Callable[[], Any]) -> Any:
        """``arun_task`` for a sync node: it runs in the OS thread LangGraph chose."""
        live = self._dispatch(task)
        try:
            while True:
                try:
                    live.started.result(timeout=self._watch_s)
                    break
                except concurrent.futures.TimeoutError:
                    self._ask_about(task.checkpoint_ns, live.key)
            with self._slot(task, live) as slot:
                try:
                    slot.granted.result()
                except concurrent.futures.CancelledError:
                    raise self._why_over() from None
                return run()
        except BaseException as exc:
            self._note_failure(live, exc)
            raise

    @contextlib.contextmanager
    def _slot(self, task: hooks.SeamTask, live: LiveTask) -> Iterator[Slot]:
        """What a task needs to be executed, from asking for it to giving it back."""
        within = self._slot_of.get(task.within)
        with self._slots.asked(self.run.priority, within=within) as slot:
            self._slot_of[task.id] = live.slot = slot
            try:
                # Abandoned while it asked, nobody has taken it off the queue.
                if live.done.done():
                    raise self._why_over()
                yield slot
            finally:
                self._slot_of.pop(task.id, None)

    @contextlib.contextmanager
    def executing(self, task_id: str) -> Iterator[Slot]:
        """The same of a task that came from another worker; what it calls is within it."""
        with self._slots.asked(self.run.priority) as slot:
            self._slot_of[task_id] = slot
            yield slot

    def _why_over(self) -> BaseException:
        """Why a task is not executed any more that was about to be."""
        why = self._error or self._rejected or self._no_more
        return why or AttemptSupersededError("the run has ended")

    # -- tasks that another worker runs -------------------------------------------------------

    async def arun_placed(self, task: hooks.SeamTask, away: hooks.Away) -> Any:
        """Have another worker run an async task, and take what comes of it."""
        placed = await self._place(task, away)
        live, current = placed.live, asyncio.current_task()
        try:
            with self._waiting_for(placed) as lent:
                if current is not None:
                    live.runs_in(asyncio.get_running_loop(), current)
                while True:
                    came = await live.anext(placed.wait_s)
                    if placed.is_overdue:
                        return placed.give_up()
                    if isinstance(came, Telling):
                        await placed.told.atell(came)
                    elif came is None:
                        self._silent(placed)
                    elif (result := placed.take(came)) is not None:
                        result = await self._completed(placed, result)
                        if lent is not None:
                            await asyncio.wrap_future(self._want_back(lent, placed))
                        return self._take_back(placed, result)
        except asyncio.CancelledError:
            problem = self._error or self._rejected
            if live.stopped and problem is not None:
                if current is not None:
                    current.uncancel()
                raise problem from None
            raise

    def run_placed(self, task: hooks.SeamTask, away: hooks.Away) -> Any:
        """``arun_placed`` for a sync graph: waits in the OS thread LangGraph chose."""
        placed = self.loop_thread.wait(self._place(task, away))
        with self._waiting_for(placed) as lent:
            while True:
                came = placed.live.next(placed.wait_s)
                if placed.is_overdue:
                    return placed.give_up()
                if isinstance(came, Telling):
                    placed.told.tell(came)
                elif came is None:
                    self._silent(placed)
                elif (result := placed.take(came)) is not None:
                    done = self.loop_thread.wait(self._completed(placed, result))
                    if lent is not None:
                        try:
                            self._want_back(lent, placed).result()
                        except concurrent.futures.CancelledError:
                            raise self._why_over() from None
                    return self._take_back(placed, done)

    @contextlib.contextmanager
    def _waiting_for(self, placed: Placed) -> Iterator[Lent | None]:
        """While another worker has a task. The slot of the task that has called its graph is lent
        meanwhile: whoever runs it elsewhere may need one here."""
        around = self._slot_of.get(placed.task.within)
        lent = None if around is None else self._slots.lend(around)
        try:
            yield lent
        except BaseException as exc:
            self._note_failure(placed.live, exc)
            raise
        finally:
            if lent is not None:
                lent.end()
            self._on_loop(self._no_longer_away, placed)

    def _want_back(self, lent: Lent, placed: Placed) -> concurrent.futures.Future[None]:
        """Have the slot again before the work goes on; cancelled if the task is abandoned."""
        placed.live.slot = back = lent.ask_back(self.run.priority)
        # Abandoned while it asked, nobody has taken it off the queue.
        if placed.live.done.done():
            raise self._why_over()
        return back.granted

    async def _place(self, task: hooks.SeamTask, away: hooks.Away) -> Placed:
        """Send a task to the workers of its queue."""
        self.check()
        where = placement(self._options, task)
        serde = away.reviving(self._threads.serde)
        live = AwayTask(self._key(task), task.name, self._superseded, serde)
        thread_id = self.run.thread_id
        body = body_of(serde, away, where, task, self._options, self.answers, thread_id=thread_id)
        return await self.loop_thread.call(self._send_away(task, away, where, live, body))

    async def _send_away(
        self,
        task: hooks.SeamTask,
        away: hooks.Away,
        where: Placement,
        live: AwayTask,
        body: bytes,
    ) -> Placed:
        """Only on the worker's loop."""
        try:
            mailbox = await self._host.mailbox.address()
            upload = None
            if len(body) > BODY_AT:
                upload = upload_of(body, f"what node {task.name!r} takes", self._blobs.piece_bytes)
                await self._blobs.upload(self.run.thread_id, [upload])
        except StorageError:
            raise
        except Exception as exc:
            self.fail(exc)
            raise
        parcel = Parcel(
            run_id=self.run.run_id,
            attempt=self.attempt,
            epoch=self.epoch,
            thread_id=self.run.thread_id,
            thread_workflow_id=self.run.thread_workflow_id,
            run_workflow_id=self.run.run_workflow_id,
            graph=self.run.graph,
            mailbox=mailbox,
            body=b"" if upload else body,
            body_ref=upload.ref if upload else None,
            priority=self.run.priority,
            affinity=self.run.affinity,
            home_timeout_s=self.run.home_timeout_s,
        )
        mailbox_sinks.listen(live.key, live.put)
        within = limits(where, task.calls, self.run.thread_id)
        placed = Placed(
            task,
            away,
            where,
            within,
            live,
            upload,
            patience_s=self._watch_s,
            max_begun=self._options.max_lost_attempts,
        )
        try:
            self._dispatch(task, live, where, pack(parcel))
        except BaseException:
            mailbox_sinks.stop(live.key)
            raise
        return placed

    def _no_longer_away(self, placed: Placed) -> None:
        """Nobody waits for the task any more, whatever became of it; on the worker's loop."""
        mailbox_sinks.stop(placed.live.key)
        if not placed.ended:
            self._left_behind = True
            outbox = self._outboxes.get(placed.task.checkpoint_ns)
            if outbox is not None:
                outbox.cancel(placed.live.key)
        if placed.upload is not None:
            refs = [placed.upload.ref]
            placed.removing = asyncio.ensure_future(self._remove_body(refs))

    async def _remove_body(self, refs: Sequence[BlobRef]) -> None:
        # It goes with the thread otherwise.
        with contextlib.suppress(RPCError):
            await self._blobs.remove(self.run.thread_id, refs)

    def _silent(self, placed: Placed) -> None:
        """Nothing has come for long: the task is lost, or its result, or nobody has begun it."""
        self._ask_about(placed.task.checkpoint_ns, placed.live.key)
        if not placed.live.began:
            placed.patience_s = min(2 * placed.patience_s, MAX_SILENCE_S)
            self.loop_thread.submit(self._tell_of_queue(placed))

    async def _tell_of_queue(self, placed: Placed) -> None:
        queue = placed.where.queue
        if await self._transport.is_polled(names.tasks_queue(queue)):
            return
        self.log.warning(
            "run %s of thread %r waits: node %r is to run on task queue %r, which no worker polls; "
            "start one (langgraph-temporal worker ... --task-queue %s)",
            self.run.run_id,
            self.run.thread_id,
            placed.task.name,
            queue,
            queue,
        )

    async def _completed(self, placed: Placed, result: dict[str, Any]) -> dict[str, Any]:
        """The result of a task with what it refers to; on any loop."""
        return await self.loop_thread.call(self._complete(placed, result))

    async def _complete(self, placed: Placed, result: dict[str, Any]) -> dict[str, Any]:
        live = placed.live
        if result.get("op"):
            (live.whole,) = await self._reader.whole(self.run.thread_id, [result["op"]])
            live.op = result["op"]
        for namespace in result.get("namespaces", ()):
            # Written to by another process, and maybe by this one later.
            self._existing.add(namespace)
            self._loaded.discard(namespace)
            self.entered.add(namespace)
            self._rounds[namespace] = max(self._rounds.get(namespace, 0), result["round"] + 1)
            self._outboxes.pop(namespace, None)
        return result

    def _take_back(self, placed: Placed, result: dict[str, Any]) -> Any:
        """Give LangGraph what came of a task, as if it had run here."""
        placed.ended = True
        for data in result.get("deadlines", ()):
            deadline = unpack(Deadline, data)
            self._deadlines[deadline.interrupt_id] = deadline
        self.answered_below = self.answered_below or result.get("answered", False)
        if result.get("refused") is not None:
            self.refuse(_as_exception(result["refused"]))
        if result.get("drained") is not None:
            placed.away.drain(str(result["drained"]))
        if result.get("unsent"):
            self.log.warning(
                "what node %r streams on another worker is not all here: %s",
                placed.task.name,
                result["unsent"],
            )
        placed.away.settle([tuple(write) for write in result["writes"]])
        if "left" in result:
            raise placed.away.leave(*result["left"])
        if "error" in result:
            raise _as_exception(result["error"])
        return None

    def _over(self, checkpoint_ns: str, key: str) -> None:
        """The thread says that a task is over of which nothing has come; on the worker's loop."""
        for (ns, checkpoint_id, task_id), live in list(self._live.items()):
            if live.key == key and ns == checkpoint_ns and isinstance(live, AwayTask):
                self._looking.add(
                    look := asyncio.ensure_future(self._look_up(ns, checkpoint_id, task_id, live))
                )
                look.add_done_callback(self._looking.discard)

    async def _look_up(self, ns: str, checkpoint_id: str, task_id: str, live: AwayTask) -> None:
        """Find in the log what a task has left; if that is nothing, it runs once more."""
        address = {"thread_id": self.run.thread_id, "checkpoint_ns": ns}
        config: RunnableConfig = {"configurable": {**address, "checkpoint_id": checkpoint_id}}
        store = self._threads
        replica = store.recorded(self.run.thread_id)
        try:
            await self._reader.refresh(replica, ns)
            if replica.lacks(ns, checkpoint_id):
                await self._reader.load_older(replica, ns)
            found = await self._reader.answer(
                replica, live.serde, lambda view: view.get_tuple(config), checkpoint_ns=ns
            )
        except Exception as exc:
            # Asked again after the next silence.
            self.log.warning("the result of node %r was not found: %s", live.node, exc)
            return
        pending = (found.pending_writes or ()) if found is not None else ()
        result = recorded([(c, v) for t, c, v in pending if t == task_id])
        if result is None:
            self._outbox(ns).again(live.key)
        else:
            live.logged = True
            live.tell(ENDED, result)

    @property
    def _watch_s(self) -> float:
        # The server itself takes one to notice that an Activity was lost.
        return 2 * self._options.heartbeat_timeout.total_seconds()

    async def _started(self, live: LiveTask, checkpoint_ns: str) -> None:
        future = asyncio.wrap_future(live.started)
        # Whoever waits may be cancelled before the attempt ends it.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        while True:
            done, _ = await asyncio.wait([future], timeout=self._watch_s)
            if done:
                return future.result()
            self._ask_about(checkpoint_ns, live.key)

    def _ask_about(self, checkpoint_ns: str, key: str) -> None:
        """A task that does not start may be lost on its way here; a lost one is rescheduled."""
        self.check()
        self._on_loop(lambda: self._outbox(checkpoint_ns).watch(key))

    def _key(self, task: hooks.SeamTask) -> str:
        # LangGraph's task ids are the same in each attempt; what an Activity looks for is not.
        key = f"{task.id}.{self.run.run_id[:8]}.{self.attempt}"
        return f"{key}.{self._inside}" if self._inside else key

    def _superseded(self, why: str) -> None:
        self.fail(AttemptSupersededError(why))

    def _dispatch(
        self,
        task: hooks.SeamTask,
        away: AwayTask | None = None,
        where: Placement | None = None,
        parcel: bytes = b"",
    ) -> LiveTask:
        self.check()
        self.wrote = True
        key = self._key(task)
        live = away or LiveTask(key, task.name, self._superseded)
        self._live[(task.checkpoint_ns, task.checkpoint_id, task.id)] = live
        # Again: what ended the attempt in between did not see this task.
        self.check()
        if self._no_more is not None:
            raise self._no_more
        if away is None:
            self._tasks.add(live)

        def begun(started: concurrent.futures.Future[None]) -> None:
            if not started.cancelled() and started.exception() is None:
                self._on_loop(lambda: self._outbox(task.checkpoint_ns).started(key))

        live.started.add_done_callback(begun)
        live.done.add_done_callback(
            lambda _: self._on_loop(lambda: self._outbox(task.checkpoint_ns).ended(key))
        )
        where = where or placement(self._options, task)
        home_key = self._home_key(where) if parcel else ""
        bounded = home_key and self.run.affinity != "require"
        home_timeout_s = self.run.home_timeout_s if bounded else 0.0
        spec = TaskSpec(
            key=live.key,
            node=task.name,
            queue=names.tasks_queue(where.queue) if parcel else self._queue,
            summary=_summary(task, where.node.summary, self._graphs.get(task.checkpoint_ns, "")),
            parcel=parcel,
            home_key=home_key,
            home_timeout_s=home_timeout_s,
            heartbeat_s=self._options.heartbeat_timeout.total_seconds()
            * (1 if parcel else BESIDE_DRIVE),
            step=task.step,
            priority=self.run.priority,
        )
        self._on_loop(
            lambda: self._outbox(task.checkpoint_ns).dispatch(
                spec, task.checkpoint_id, stored=task.checkpoint_stored
            )
        )
        return live

    def _eager(self, workflow_id: str, specs: Sequence[TaskSpec]) -> Sequence[TaskSpec]:
        """The tasks of a step to a workflow, with those marked that may be eager."""
        room = self._host.eager.room(workflow_id)
        marked = list(specs)
        for index, spec in enumerate(specs):
            live = self._tasks.get(spec.key)
            if room <= 0 or spec.parcel or live is None:
                continue
            live.eager_by = workflow_id
            marked[index] = replace(spec, eager=True)
            room -= 1
        return marked

    def _home_key(self, where: Placement) -> str:
        """What names a sub-agent that is to find its files again; "": a task has none."""
        if not where.subagent or not where.named or not self.run.affinity:
            return ""
        return f"sub-agent {where.subagent} on {where.queue}"

    def _note_failure(self, live: LiveTask, exc: BaseException) -> None:
        """A node that raised: either LangGraph commits something for it, or nothing follows.

        It commits an error, and the interrupts of a task that asks. It commits nothing of a task
        that sends a command to its parent graph, or whose nested graph stops at a breakpoint. Of a
        cancelled one it may commit the cancellation, which then goes as an op.
        """
        # An interrupt's text is its value, which is state: the saver's serializer may encrypt that.
        quiet = isinstance(exc, GraphBubbleUp)
        live.error = type(exc).__name__ if quiet else _told(exc)
        committed = isinstance(exc, Exception) and (
            not isinstance(exc, GraphBubbleUp)
            or (isinstance(exc, GraphInterrupt) and bool(exc.args and exc.args[0]))
        )
        if not committed or self._error is not None:
            live.finish(TaskOutput(status=TaskStatus.NO_WRITES, error=live.error))

    # -- the writing half of the saver --------------------------------------------------------

    def put(
        self,
        serde: SerializerProtocol,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> None:
        """Record a checkpoint; returns before it is in the log (see ``flush``)."""
        self.check()
        self.wrote = True
        ns = config["configurable"].get("checkpoint_ns", "")
        try:
            encoded = put_op(serde, config, checkpoint, metadata, new_versions, self._writer())
        except UsageError as exc:
            self.reject(exc)
            raise
        self._fold(ns, encoded)
        entry = Entry(op=encoded.data, uploads=encoded.uploads)
        parent = config["configurable"].get("checkpoint_id")
        self._on_loop(lambda: self._outbox(ns).put(entry, checkpoint["id"], parent))

    def put_writes(
        self,
        serde: SerializerProtocol,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> None:
        """Record writes: of a shipped task as its Activity's result, else as an op."""
        self.wrote = True
        ns = config["configurable"].get("checkpoint_ns", "")
        # Taken out: an Activity has one result, and what may come after it is an op.
        live = self._live.pop((ns, config["configurable"]["checkpoint_id"], task_id), None)
        if isinstance(live, AwayTask):
            if live.whole is not None:
                self.check()
                self._retakes(ns, config, task_id, writes)
                self.replica.fold_local(ns, live.whole)
                self._finish(ns, live, live.op)
                return
            # Its Activity has brought nothing, or it has been read back from the log.
            live.finish(TaskOutput(status=TaskStatus.NO_WRITES, error=live.error))
            if not live.logged:
                live = None
        node = live.node if live else ""
        try:
            self.check()
            encoded = writes_op(
                serde,
                config,
                writes,
                task_id,
                task_path,
                self._writer(),
                node=node,
                retakes=self._retakes(ns, config, task_id, writes),
            )
        except TemporalExecError as exc:
            self.reject(exc)
            if live is not None:
                live.finish(TaskOutput(status=TaskStatus.NO_WRITES, error=_told(exc)))
            raise
        self._fold(ns, encoded)
        if live is None:
            entry = Entry(op=encoded.data, uploads=encoded.uploads)
            self._on_loop(lambda: self._outbox(ns).add(entry))
        elif isinstance(live, AwayTask):
            return
        elif not encoded.uploads:
            self._finish(ns, live, encoded.data)
        else:
            self._on_loop(lambda: self._finish_when_stored(ns, live, encoded))

    def note_answers(self, ns: str, checkpoint_id: str, task_id: str, answers: Any) -> None:
        """A loop was shown a task's recorded answers."""
        self._answers[(ns, checkpoint_id, task_id)] = _number(answers)

    def _retakes(
        self, ns: str, config: RunnableConfig, task_id: str, writes: Sequence[tuple[str, Any]]
    ) -> bool:
        """Whether a task has no other answers than those it had when it began."""
        answers = max((_number(v) for c, v in writes if c == hooks.RESUME), default=0)
        if not answers or task_id == hooks.NULL_TASK_ID:
            return False
        key = (ns, config["configurable"]["checkpoint_id"], task_id)
        known, self._answers[key] = self._answers.get(key, 0), answers
        if answers > known and ns:
            self.answered_below = True
        return answers <= known

    def _writer(self) -> Writer:
        return Writer(
            known=self.replica,
            # Of this op alone: a blob that is removed can be none that somebody writes again.
            scope=uuid.uuid4().hex[:16],
            piece_bytes=self._blobs.piece_bytes,
            run_id=self.run.run_id,
            attempt=self.attempt,
        )

    def _fold(self, ns: str, encoded: Encoded) -> None:
        # The loop may read the value before it is stored.
        with self._holding_lock:
            self._blobs.hold(encoded.uploads)
            self._holding.update({u.ref: u for u in encoded.uploads})
        self.replica.fold_local(ns, encoded.op)

    def _finish(self, ns: str, live: LiveTask, op: bytes) -> None:
        output = TaskOutput(status=TaskStatus.FINISHED, op=op, error=live.error)

        def report(step: bytes) -> bool:
            return live.finish(replace(output, step=step))

        self._on_loop(lambda: self._outbox(ns).finished(live.key, op, report))

    def _finish_when_stored(self, ns: str, live: LiveTask, encoded: Encoded) -> None:
        """Only on the worker's loop."""
        outbox = self._outbox(ns)

        async def finish() -> None:
            try:
                await self._store(encoded.uploads)
            except StorageError as exc:
                outbox.broken = True
                self._reject_unstored(exc)
                live.finish(TaskOutput(status=TaskStatus.NO_WRITES, error=_told(exc)))
            except BaseException as exc:
                self.fail(exc)
                raise
            else:
                self._finish(ns, live, encoded.data)

        outbox.storing(live.key, asyncio.ensure_future(finish()))

    async def _store(self, uploads: Sequence[Upload]) -> None:
        try:
            await self._blobs.upload(self.run.thread_id, uploads)
        finally:
            self._release(uploads)

    def _reject_unstored(self, exc: StorageError) -> None:
        self.reject(exc)
        # It holds what was not recorded.
        self._unstored = True

    async def load(self, checkpoint_ns: str) -> None:
        """Read a namespace that existed before this attempt, once."""
        # What this attempt itself has begun is all here.
        if checkpoint_ns in self._loaded or checkpoint_ns not in self._existing:
            return
        if await self._reader.refresh(self.replica, checkpoint_ns) is None:
            # Dropped since this process read it, or wrote to it: it begins anew, and what is
            # recorded there may build on nothing of before.
            self.replica.forget_namespace(checkpoint_ns)
        # It may be dropped from now on as well: see ``StepRequest.life``.
        incarnation, _ = self.replica.position(checkpoint_ns)
        self._lives[checkpoint_ns] = Incarnation.parse(incarnation).life
        self._loaded.add(checkpoint_ns)

    # -- life ---------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise what ended or rejected this attempt."""
        problem = self._error or self._rejected
        if problem is not None:
            raise problem

    def reject(self, exc: BaseException) -> None:
        """The run cannot go on (an unserializable value, a cancellation), but can be ended."""
        if self._rejected is None:
            self._rejected = exc
            for live in list(self._live.values()):
                live.cancel()
                live.abandon(exc)

    def begin_no_more(self, exc: BaseException) -> None:
        """Let tasks that have begun end and be recorded, and refuse those that have not."""
        if self._no_more is None:
            self._no_more = exc
            for live in list(self._live.values()):
                if not live.begun:
                    live.abandon(exc)

    @property
    def error(self) -> BaseException | None:
        """What ended the attempt from outside: superseded, or the server is away."""
        return self._error

    def fail(self, exc: BaseException) -> None:
        """The attempt is over from outside. Nothing it still does is recorded."""
        if self._error is not None or self._closed:
            return
        self._error = exc
        # Of other exceptions than ours the text may show state.
        why = exc if isinstance(exc, TemporalExecError) else type(exc).__name__
        self.log.info(
            "run %s of thread %r is lost here, in attempt %d: %s",
            self.run.run_id,
            self.run.thread_id,
            self.attempt,
            why,
        )
        # What was folded locally may never have reached the log. Before it is let go: no attempt is
        # to find it.
        self._threads.replicas.drop(self.replica)
        self._let_go()
        for outbox in list(self._outboxes.values()):
            self._on_loop(lambda o=outbox: o.fail(exc))
        for live in list(self._live.values()):
            live.cancel()
            live.abandon(exc)

    async def flush(self, checkpoint_ns: str) -> None:
        """Return when all that was handed in so far for a namespace is in the log."""

        async def flush() -> None:
            outbox = self._outboxes.get(checkpoint_ns)
            if outbox is not None:
                await outbox.flush()

        try:
            await self.loop_thread.call(flush())
        except Exception:
            # An attempt that is over holds nothing back any more: its replica was emptied. Why does
            # not concern whoever flushes.
            if self._error is None:
                raise

    # -- of a placed task ---------------------------------------------------------------------

    async def encoded(
        self,
        serde: SerializerProtocol,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
        node: str,
    ) -> bytes:
        """What the placed task has written, as it is recorded; its blobs are stored.

        Raises:
            UsageError: It cannot be recorded.
            StorageError: Its blobs could not be stored.
        """
        ns = config["configurable"].get("checkpoint_ns", "")
        encoded = writes_op(
            serde,
            config,
            writes,
            task_id,
            task_path,
            self._writer(),
            node=node,
            retakes=self._retakes(ns, config, task_id, writes),
        )
        if encoded.uploads:
            await self._blobs.upload(self.run.thread_id, encoded.uploads)
        return encoded.data

    async def leave(self) -> None:
        """The placed task has ended: all that its nested graphs have done is in their logs."""
        await self.loop_thread.call(self._leave())

    async def _leave(self) -> None:
        for live in list(self._live.values()):
            live.abandon(AttemptSupersededError("the task that called its graph has ended"))
        for outbox in list(self._outboxes.values()):
            await outbox.flush()
        self._closed = True
        self._let_go()

    @property
    def written(self) -> tuple[str, ...]:
        """Nested namespaces this session has written to, and those whose graphs were called."""
        return tuple(sorted({*self._outboxes, *self.entered} - {""}))

    async def end(self, outcome: bytes, *, rests: bool = False) -> None:
        """Send everything and record the outcome of the run; ends the attempt.

        Args:
            outcome: The outcome.
            rests: The thread waits for nothing, and nothing was answered.
        """
        await self.loop_thread.call(self._end(outcome, rests=rests))

    async def _end(self, outcome: bytes, *, rests: bool) -> None:
        for (ns, _, _), live in list(self._live.items()):
            live.abandon(AttemptSupersededError("the run has ended"))
            if isinstance(live, AwayTask) and ns in self._outboxes:
                self._left_behind = True
                # Its Activity ends when its worker learns of this: not waited for.
                self._outboxes[ns].cancel(live.key)
        self._live.clear()
        # Nested ones first: from the outcome on, whoever reads takes the run for ended.
        for ns, outbox in list(self._outboxes.items()):
            if ns:
                await outbox.flush()
        root = self._outbox("")
        await root.end(outcome, fence=self._left_behind)
        self._closed = True
        self._let_go()
        # The next attempt of this process goes on with this replica, and reads nothing back.
        if self._unstored:
            self._threads.replicas.drop(self.replica)
        else:
            self.replica.caught_up("", self._incarnation, root.log_end, self._life)
        position = (self._incarnation, root.log_end)
        if rests and position == self.replica.position("") and not self.namespaces - {""}:
            last = LastRun(epoch=self.epoch, position=position, home=self.home)
            self._host.last_runs.ended(self.run.thread_id, last)
        else:
            self._host.last_runs.forget(self.run.thread_id)

    def _release(self, uploads: Sequence[Upload]) -> None:
        with self._holding_lock:
            self._blobs.release(uploads)
            for upload in uploads:
                self._holding.pop(upload.ref, None)

    def _let_go(self) -> None:
        # Of ops that will not be sent any more.
        self._release(list(self._holding.values()))
        # Unless a newer attempt in this process folds into it by now.
        if self.replica.flush == self.flush:
            self.replica.flush = None

    def _on_loop(self, call: Callable[..., None], *args: Any) -> None:
        if self.loop_thread.is_current:
            call(*args)
            return
        with contextlib.suppress(RuntimeError):  # the worker's loop is closed: see `fail`
            self.loop_thread.loop.call_soon_threadsafe(call, *args)

    async def _step(self, workflow_id: str, request: StepRequest) -> StepReply:
        first = request.seq == 0 and workflow_id == self.run.thread_workflow_id
        if self._begin is not None and first:
            # Also when it is repeated: it is not known to have arrived.
            begin = BeginRequest(attach=self._begin, step=request)
            return await self._transport.begin(workflow_id, begin)
        if request.stays:
            return await self._transport.stay(workflow_id, request)
        return await self._transport.step(workflow_id, request)

    def _outbox(self, checkpoint_ns: str) -> Outbox:
        """Only on the worker's loop."""
        outbox = self._outboxes.get(checkpoint_ns)
        if outbox is None:
            workflow_id = self._transport.thread_workflow_id(self.run.thread_id, checkpoint_ns)

            async def send(request: StepRequest) -> StepReply:
                try:
                    try:
                        return await self._step(workflow_id, request)
                    except ThreadFullError as exc:
                        # No new tasks, but what has happened can still be recorded.
                        self.reject(exc)
                        return await self._step(workflow_id, replace(request, tasks=()))
                except BaseException as exc:
                    self.fail(exc)
                    raise

            # The workflow of a namespace is a child of the thread's, which alone can start it.
            async def ready() -> None:
                graph = self._graphs.get(checkpoint_ns, "")
                new = checkpoint_ns not in self._existing
                if not self._inside:
                    await self._outbox("").open(checkpoint_ns, graph, new=new)
                    return
                # The steps of this epoch to the thread are numbered by the process that drives the
                # run.
                opens = AppendRequest(open=(checkpoint_ns,), open_as=(graph,), epoch=self.epoch)
                try:
                    await self._transport.open(self.run.thread_id, opens)
                except BaseException as exc:
                    self.fail(exc)
                    raise

            round_ = max(self._inside, self._rounds.get(checkpoint_ns, 0))
            outbox = Outbox(
                StepRequest(
                    epoch=self.epoch,
                    seq=0,
                    run_id=self.run.run_id,
                    round=round_,
                    life=self._lives.get(checkpoint_ns, ""),
                ),
                send,
                self._store,
                self._reject_unstored,
                ready if checkpoint_ns else None,
                partial(self._over, checkpoint_ns),
                carries=self._carries,
                alone=self._begin is not None and not checkpoint_ns,
                eager=partial(self._eager, workflow_id),
                stay=None if checkpoint_ns else partial(self._step, workflow_id),
            )
            self._outboxes[checkpoint_ns] = outbox
            if self._error is not None:
                outbox.fail(self._error)
        return outbox


class Placed:
    """A task that another worker runs, as this process waits for it.

    Args:
        task: What the session knows of it.
        away: What LangGraph's loop knows of it.
        where: Where it runs.
        within: For how long.
        live: Takes what comes.
        upload: The blob of what travelled with it; ``None``: there is none.
        patience_s: Seconds of silence after which the thread is asked.
        max_begun: How many workers may begin it.

    Attributes:
        _begun: How many have.
        watch_s: What it was at first.
        told: The callback handlers of the task.
        ended: Its result is here.
        _until: When its sub-agent is given up, whatever its worker says; of a monotonic clock.
        removing: Removes the blob.
    """

    def __init__(
        self,
        task: hooks.SeamTask,
        away: hooks.Away,
        where: Placement,
        within: hooks.Limits,
        live: AwayTask,
        upload: Upload | None,
        *,
        patience_s: float,
        max_begun: int,
    ) -> None:
        self._begun, self._max_begun = 0, max_begun
        self.patience_s = self.watch_s = patience_s
        self.task = task
        self.away = away
        self.where = where
        self.within = within
        self._until = self._overdue_at(begun=False)
        self.live = live
        self.upload = upload
        self.told = Told([[handler] for handler in away.handlers])
        self.ended = False
        self.removing: asyncio.Future[None] | None = None

    def _overdue_at(self, *, begun: bool) -> float:
        if self.within.timeout is None or self.within.exceeded is None:
            return math.inf
        # Once it has begun, its worker has the same timeout, and is to be heard first.
        more_s = self.watch_s if begun else 0.0
        return time.monotonic() + self.within.timeout.total_seconds() + more_s

    @property
    def wait_s(self) -> float:
        """How long to wait for what comes next."""
        return max(0.0, min(self.patience_s, self._until - time.monotonic()))

    @property
    def is_overdue(self) -> bool:
        """Whether a sub-agent is given up: no worker has begun it, or it does not stop."""
        return time.monotonic() >= self._until

    def give_up(self) -> None:
        """Answer the tool call of a sub-agent that is overdue, or fail."""
        assert self.within.exceeded is not None
        queue = self.where.queue
        why = "" if self._begun else f", because no worker of task queue {queue!r} had begun it"
        self.away.answer(self.within.call_id, self.within.exceeded(why))

    def take(self, came: tuple[str, Any]) -> dict[str, Any] | None:
        """What has come; the result, if that is what it is."""
        kind, value = came
        if kind == ENDED:
            result: dict[str, Any] = value
            return result
        if kind == GONE:
            raise value
        if kind == LEFT:
            # Asked soon: its Activity is about to fail.
            self.live.began = False
            self.patience_s = LEFT_PAUSE_S
        elif kind == STARTED:
            self._begun += 1
            if self._begun > self._max_begun:
                raise PlacementError(
                    f"Node {self.task.name!r} has lost its worker on task queue "
                    f"{self.where.queue!r} {self._max_begun} times (max_lost_attempts), the last "
                    f"time before {value!r}: it may be what ends them."
                )
            self.patience_s = self.watch_s
            self._until = self._overdue_at(begun=True)
        elif kind != ALIVE:
            self.away.emit(kind, value)
        return None


def _as_exception(error: Any) -> Exception:
    found = rebuild(unpack(ErrorInfo, error)) if isinstance(error, bytes) else error
    assert isinstance(found, Exception)
    return found


def _told(exc: BaseException) -> str:
    """The beginning of what an exception says, whatever its class makes of that."""
    name = type(exc).__name__
    try:
        text = f"{name}: {exc}"[:500]
    except Exception:
        return name
    # It may hold what is no Unicode text.
    return text.encode(errors="replace").decode()


def _number(answers: Any) -> int:
    """How many answers a write holds; LangGraph takes one that is no list as well."""
    return len(answers) if isinstance(answers, list) else 1


def _summary(task: hooks.SeamTask, given: str, graph: str) -> str:
    """One line for Temporal's UI: the tools of a tool call, what the saver's options say, and
    where in the graph it is.

    Args:
        task: The task; its Activity is named after its node.
        given: The summary of the saver's options.
        graph: Name of the nested graph it belongs to.
    """
    parts = [_listed(task.tools), given, f"step {task.step}"]
    if task.checkpoint_ns:
        parts.append(graph or private.node_of(task.checkpoint_ns))
    return " · ".join(filter(None, parts))[:200]


def _listed(tools: Sequence[str]) -> str:
    """Each tool once, the first few of many."""
    counted = Counter(tools)
    shown = [f"{name} (x{n})" if n > 1 else name for name, n in counted.items()][:MAX_TOOLS]
    more = [f"{len(counted) - MAX_TOOLS} more"] if len(counted) > MAX_TOOLS else []
    return ", ".join([*shown, *more])[:MAX_TOOLS_TEXT]
