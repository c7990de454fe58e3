"""Shared wire: one frozen dataclass per message; each docstring opens with its Temporal kind.

Fields ending in ``_s`` are seconds. State travels as opaque, already serialized bytes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from enum import IntEnum

from .inflate import inflate
from .standing import Standing
from .stored import BlobRef, Kept, Pack, Segment
from .wire import WireError

RULES = 1
"""By which rules a workflow decides, as it was started (``ThreadStart.rules``): the commands in its
history follow from them. 1: whether the thread waits for an answer is what its log says, so an edit
may end that, and a copy waits as its source does; 0: what its last run said. A thread gets the
latest rules when it continues as new. The others are to be removed when no thread is open that
was started by a 0.1.0 development version.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadStart:
    """Workflow input of ``LangGraphThread``.

    ``namespace`` is "" for the thread itself. ``snapshot`` carries the state over
    continue-as-new. ``roll_events`` is the history length at which the workflow continues as
    new by itself (0: when the server suggests it). ``archive_bytes`` is the size of the log at
    which it moves into archives (0: the default). ``rules`` are those by which the workflow decides
    (``RULES``). ``graph`` names the graph of a namespace, a sub-agent for example, if it has one.
    Of a namespace that was closed and is opened again ``epoch`` is that of its thread, and
    ``opened_at`` the length of the thread's log: what told an earlier workflow of it to close is
    older.

    Args:
        thread_id: The thread.
        id_prefix: First part of the workflow ids of the deployment.
        incarnation: Identity of this life of the thread, from the run before; "": the
            workflow's own first run id.
    """

    thread_id: str
    namespace: str = ""
    id_prefix: str = ""
    incarnation: str = ""
    snapshot: bytes = b""
    roll_events: int = 0
    archive_bytes: int = 0
    rules: int = 0
    graph: str = ""
    epoch: int = 0
    opened_at: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """Part of several messages: the worker that runs a thread, because it has the thread's files.

    ``named``: somebody gave the worker its name, so that it may come back under it. ``moved_from``
    is the worker that was the home before, and did not take a run; "": there was none.
    ``affinity`` and ``timeout_s`` are those of the last run that was granted there.

    Args:
        worker: Name of the worker.
        queue: Task queue for runs on it.
        since_s: When it became the home, in seconds since 1970.
    """

    worker: str
    queue: str
    named: bool = False
    since_s: float = 0.0
    moved_from: str = ""
    affinity: str = ""
    timeout_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """Signal ``announce`` of the root thread workflow, and part of ``Snapshot``: a run was recorded
    for the thread, and may not have asked for it yet.

    Args:
        run_id: The run.
        run_workflow_id: Workflow id of the run.
        graph: Name of its graph.
        task_queue: The shared one that it is on; "" of earlier releases.
    """

    run_id: str
    run_workflow_id: str
    graph: str = ""
    task_queue: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPriority:
    """Part of several messages: before which other runs a run comes where work waits.

    Args:
        key: Temporal's priority key, from 1, the most urgent; 0: the default.
        fairness_key: Runs of the same priority take turns by this key; "": the default.
        fairness_weight: How many turns the key gets, in proportion to others; 0: the default, 1.
    """

    key: int = 0
    fairness_key: str = ""
    fairness_weight: float = 0.0


class AttachStatus(IntEnum):
    """Answer to an attempt which asks for the thread."""

    GRANTED = 1
    QUEUED = 2
    STALE = 3
    ENDED = 4
    REJECTED = 5
    AWAY = 6
    """The run is to be driven by the thread's home, which is another worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachRequest:
    """Update ``attach`` of the root thread workflow: an attempt of a run asks for the thread.

    ``incarnation`` and ``cursor`` say what the asking process has already read. ``evict`` names
    the active run when the asker found its run workflow closed. ``strategy`` is what happens when
    another run has the thread: "" waits in the run queue; "reject", "interrupt", "rollback".
    ``queue`` is that of the process which drives the attempt. ``worker`` is the name of that
    worker, "" of releases without homes, ``named`` whether somebody gave it, and ``home_queue`` the
    task queue for runs on it. ``affinity`` is what the run wants of the thread's home: "prefer",
    "require", or "" for nothing; ``home_timeout_s`` how long it may take to take the run.
    ``absent``: the task queue on which nobody took it for so long. ``lost``: the last attempt was
    lost together with its worker.

    Args:
        run_id: The run.
        attempt: Number of the attempt, from 1.
        run_workflow_id: Workflow id of the run.
        graph: Name of its graph.
        priority: Of the run; what the thread starts itself afterwards gets it too.
        task_queue: The shared one that the asking worker serves.
        park_s: How long the thread may rest before it is parked; 0: for ever.
    """

    run_id: str
    attempt: int
    run_workflow_id: str
    incarnation: str = ""
    cursor: int = 0
    evict: str = ""
    graph: str = ""
    strategy: str = ""
    queue: str = ""
    worker: str = ""
    named: bool = False
    affinity: str = ""
    home_timeout_s: float = 0.0
    absent: str = ""
    lost: bool = False
    priority: RunPriority | None = None
    home_queue: str = ""
    task_queue: str = ""
    park_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPage:
    """Part of several replies: a page of a log.

    ``start`` is the sequence number of ``ops[0]``; a reader whose cursor is behind ``start``,
    or who knows another incarnation, forgets what it has first. What lies before the log is in
    ``segments``, and what the latest checkpoint needs of it in ``head``; both are given to
    readers whose cursor lies before it.

    Args:
        incarnation: Identity of the log that the positions belong to.
        ops: Entries of the log, packed.
        more: Whether there are entries after these.
    """

    incarnation: str
    start: int
    ops: tuple[bytes, ...] = ()
    more: bool = False
    head: Pack | None = None
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """Part of ``AttachReply``: what the log shows that earlier attempts of the run applied.

    ``answered`` are the tasks, nested ones included, that recorded an answer of their own.
    ``spent`` is the checkpoint whose resume value, of whatever run, is not given any more: an
    interrupt has taken it, or it was refused.

    Args:
        checkpoints: How many checkpoints the run has made.
        null_writes: Whether its input, or its resume value, is in the log.
    """

    checkpoints: int = 0
    null_writes: bool = False
    answered: tuple[str, ...] = ()
    spent: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachReply:
    """Reply to ``attach``. ``outcome`` is set when the run has already ended.

    ``undo`` are runs whose checkpoints are to be dropped before anything else is done. ``home`` is
    the thread's, once this has been applied; ``None``: it has none. ``moved``: this has moved it.
    ``carries``: results of tasks may carry the next step (``TaskOutput.step``).

    Args:
        status: An ``AttachStatus``.
        epoch: The epoch that the grant begins; steps carry it.
        page: What of the log the asking process has not read.
        namespaces: Nested namespaces that have a workflow, the latest.
        applied: What earlier attempts of the run have done.
        active_run: Who has the thread instead; with QUEUED and REJECTED.
        active_run_workflow_id: Its workflow.
    """

    status: int
    epoch: int = 0
    page: LogPage | None = None
    namespaces: tuple[str, ...] = ()
    applied: Applied | None = None
    active_run: str = ""
    active_run_workflow_id: str = ""
    outcome: bytes = b""
    undo: tuple[str, ...] = ()
    home: Home | None = None
    moved: bool = False
    carries: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """Part of ``StepRequest``: schedule one task as an Activity named after its node.

    ``parcel``: what another worker needs to run the task; then ``queue`` is one that several
    workers may poll. b"": the process that asks has the task itself. ``home_key``: tasks of the
    namespace with the same one are run by the worker that ran the first of them, unless it does not
    take one within ``home_timeout_s``; 0: however long that takes.

    Args:
        key: Names the task within its attempt; the process finds the live task by it.
        node: The node, which becomes the Activity's type.
        queue: Task queue of the process that holds the task.
        summary: A line for Temporal's UI.
        heartbeat_s: How long its process may be silent.
        step: LangGraph's superstep.
        priority: Of the run.
        eager: The process that asks has the workflow in its cache, as far as it knows: it may be
            given the Activity with the answer to the workflow task that schedules it.
    """

    key: str
    node: str
    queue: str
    summary: str = ""
    heartbeat_s: float = 10.0
    step: int = 0
    priority: RunPriority | None = None
    parcel: bytes = b""
    home_key: str = ""
    home_timeout_s: float = 0.0
    eager: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """Part of ``TaskSpec`` and ``TaskInput``: a task for another worker.

    ``body`` is opaque (see ``worker/away.py``): what the task's checkpoint does not hold. A large
    one is a blob, ``body_ref``.

    Args:
        run_id: The run.
        attempt: Number of the attempt that waits for the task.
        epoch: Its epoch.
        thread_id: The thread.
        thread_workflow_id: Its workflow.
        run_workflow_id: Workflow id of the run.
        graph: Name of the run's graph.
        mailbox: Workflow id of the mailbox of the process that drives the run.
        body: See above.
        body_ref: See above.
        priority: Of the run, as are the following.
        affinity: See ``AttachRequest``.
        home_timeout_s: See ``AttachRequest``.
    """

    run_id: str
    attempt: int
    epoch: int
    thread_id: str
    thread_workflow_id: str
    run_workflow_id: str
    graph: str
    mailbox: str
    body: bytes = b""
    body_ref: BlobRef | None = None
    priority: RunPriority | None = None
    affinity: str = ""
    home_timeout_s: float = 0.0


class TaskStatus(IntEnum):
    """How the Activity of a task ended."""

    FINISHED = 1
    """LangGraph committed the task: its writes, or its error, are in the result."""
    NO_WRITES = 2
    """The task left nothing to record (a command for the parent graph, a cancellation)."""
    UNKNOWN = 3
    """This process has no such task; its attempt is over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRequest:
    """Update ``step`` of a thread workflow: ops to append and tasks to run, in this order.

    ``seq`` numbers the requests of one epoch, so that concurrent ones apply in order and a
    retried one applies once. ``requires`` are tasks whose results must be in the log first: a
    checkpoint is never recorded before the writes that produced it. ``watch`` are tasks that
    have not started yet, for which the sender wants to know whether they are lost. ``outcome``
    ends the run. An ``extra`` request appends ops before the one with the same ``seq``: results of
    lost tasks, which may be appended twice without harm. ``open_as`` are the names of the graphs
    of ``open``, in the same order; "" for one without. ``new`` are those of ``open`` that the
    sender knows to have never been opened; of others it is looked whether they were closed.
    ``cancel`` are tasks that nobody waits for any more. ``fence``: with the outcome, a worker may
    still be at one of them. ``round`` orders those who write to a namespace in one epoch, as
    ``TaskInput.round``; 0: the process that drives the run. ``stays``: to be answered when the
    epoch is over, whatever has ended it, and by the reply it is told whether the outcome of the run
    was recorded, which may have come with a result; or earlier, before the workflow continues as
    new. ``life`` is that of the log which the ops may build on, as it was read before
    (``Incarnation.life``): a namespace that was dropped since, and begun anew, takes none of them;
    "": they build on nothing that was there before the attempt.

    Args:
        epoch: Of the grant that the sender acts under.
        run_id: The run.
        ops: Entries to append, packed.
        tasks: Tasks to schedule.
        open: Nested namespaces that get a workflow.
    """

    epoch: int
    seq: int
    run_id: str
    ops: tuple[bytes, ...] = ()
    tasks: tuple[TaskSpec, ...] = ()
    open: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    watch: tuple[str, ...] = ()
    outcome: bytes = b""
    extra: bool = False
    open_as: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    cancel: tuple[str, ...] = ()
    round: int = 0
    fence: bool = False
    stays: bool = False
    life: str = ""


def by_queue(request: StepRequest) -> StepRequest:
    """A step without eager tasks: which process has the workflow in its cache is not known."""
    return replace(request, tasks=tuple(replace(task, eager=False) for task in request.tasks))


@dataclass(frozen=True, kw_only=True, slots=True)
class BeginRequest:
    """Update ``begin`` of a thread workflow: ``attach`` and the first step of the attempt in one.

    The sender has had the last run of the thread, and presumes what it would be told. If anything
    is otherwise, the request is refused (``names.NOT_AS_LEFT``), and nothing has changed. Repeated,
    it is its step.

    Args:
        attach: For the first attempt of a run; its position is the end of the log.
        step: Of the epoch after the last one.
    """

    attach: AttachRequest
    step: StepRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReply:
    """Reply to ``step``.

    With ``again`` (the workflow is about to continue as new) or with a required task in
    ``lost`` nothing was applied, and the sender repeats the request under the same ``seq``;
    the writes of a lost task then travel among its ops. ``log_end`` answers an outcome: the length
    of the log, if all of it since the attempt was granted came from the attempt, else 0. ``ended``
    are watched tasks that are over, and not lost: what they left is in the log. ``over``: the
    outcome of the attempt is recorded.
    """

    again: bool = False
    lost: tuple[str, ...] = ()
    log_end: int = 0
    ended: tuple[str, ...] = ()
    over: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AppendRequest:
    """Update ``append`` of a thread workflow: ops from outside any run.

    ``incarnation`` is that of the log whose values the ops build on; empty when they build on
    none. ``close`` ends nested namespaces with all they hold. ``compact``: free what dropped
    checkpoints held now, not with the next archive. ``undone`` are runs whose checkpoints are gone.

    Of ops that edit a state, ``base`` is the checkpoint that was edited and ``due`` are the nodes
    to run after the edit. ``latest`` is the latest checkpoint that a DROP leaves. ``graph`` names
    the graph of a thread that has had no run. A copy ends with ``standing`` and ``status``, those
    of its source, and with ``spent``, as in ``Applied``. ``over`` are nested namespaces that the
    sender has written to and is done with: those that have ended may be closed again. ``epoch``:
    the sender acts for the attempt that has the thread, which must still be this one; 0: for none.
    ``open_as``: as in ``StepRequest``.

    Args:
        ops: Entries to append, packed.
        open: Nested namespaces that get a workflow.
    """

    ops: tuple[bytes, ...] = ()
    open: tuple[str, ...] = ()
    incarnation: str = ""
    close: tuple[str, ...] = ()
    compact: bool = False
    undone: tuple[str, ...] = ()
    base: str = ""
    due: tuple[str, ...] = ()
    latest: str = ""
    graph: str = ""
    standing: Standing | None = None
    status: str = ""
    spent: str = ""
    over: tuple[str, ...] = ()
    epoch: int = 0
    open_as: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadRequest:
    """Query ``read`` of a thread workflow: the log after a cursor.

    ``erasing``: also answered after the thread was deleted, to whoever removes what is left.
    ``runs``: name the runs as well. ``standing``: tell where the thread stands, for a copy.
    ``closing``: give all of a namespace that is at rest.

    Args:
        incarnation: Identity of the log that ``cursor`` belongs to; "": the reader knows none.
        cursor: Sequence number of the first entry the reader has not read.
    """

    incarnation: str = ""
    cursor: int = 0
    erasing: bool = False
    runs: bool = False
    standing: bool = False
    closing: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadSummary:
    """Part of ``ReadReply``: a thread as a list shows it. Times are seconds since 1970.

    ``status``: "interrupted" if it waits, else how the last run ended ("done", "error",
    "cancelled", "lost"), or "" if none did or the state was changed by hand since.
    ``asks``: the nodes that wait for an answer. ``error_type`` and ``error_text`` are of the last
    run to end, if it failed; ``closed_run`` has ended since, and not told the thread how.

    Args:
        thread_id: The thread.
        graph: Graph of the last run.
        active_run: The run that has the thread.
        waiting: How many runs want it next.
        created_s: When it was begun.
        updated_s: When something was written last.
        home: The worker that runs it; ``None``: whichever comes first.
    """

    thread_id: str
    graph: str = ""
    status: str = ""
    active_run: str = ""
    waiting: int = 0
    created_s: float = 0.0
    updated_s: float = 0.0
    asks: tuple[str, ...] = ()
    error_type: str = ""
    error_text: str = ""
    closed_run: str = ""
    home: Home | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadReply:
    """Reply to ``read``. ``namespaces`` are the latest ones; all of them are in the log.

    ``runs`` are the latest runs, oldest first, if they were asked for; the last of them are
    ``announced`` and have not asked for the thread yet. ``spent`` is that of ``Applied``.
    ``shelves`` says where closed namespaces are; those in ``forgotten`` are dropped. ``snapshot``
    is all of a namespace, if that was asked for and nothing is under way in it.

    Args:
        page: Entries after the reader's cursor.
        deleted: The thread is deleted.
        summary: The thread as a list shows it.
        standing: Where it stands, if that was asked for.
    """

    page: LogPage
    namespaces: tuple[str, ...] = ()
    deleted: bool = False
    summary: ThreadSummary | None = None
    runs: tuple[str, ...] = ()
    standing: Standing | None = None
    announced: tuple[str, ...] = ()
    spent: str = ""
    shelves: Pack | None = None
    forgotten: tuple[str, ...] = ()
    snapshot: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveRequest:
    """Activity input of ``langgraph:archive``: move the log up to ``end`` into archives.

    ``compact``: rewrite the archives without what was dropped. ``workflow_id`` is that of the
    thread or namespace. ``park``: leave next to nothing in the workflow.

    Args:
        thread_id: The thread.
        namespace: Its nested namespace; "" for the thread itself.
        base: Sequence number of the first entry.
        generation: How many compactions there were before.
    """

    thread_id: str
    namespace: str
    base: int
    end: int
    compact: bool = False
    generation: int = 0
    workflow_id: str = ""
    park: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveReply:
    """Activity result of ``langgraph:archive``.

    ``garbage`` is a pack of ``BlobList``: blobs nothing refers to once this is applied.

    Args:
        segments: All archives there are now.
        head: What the latest checkpoint needs of them.
    """

    segments: tuple[Segment, ...]
    head: Pack
    garbage: BlobRef | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscardRequest:
    """Activity input of ``langgraph:discard``: remove blobs nothing refers to any more.

    Args:
        thread_id: The thread.
        garbage: A ``BlobList``.
    """

    thread_id: str
    garbage: BlobRef


@dataclass(frozen=True, kw_only=True, slots=True)
class CloseRequest:
    """Activity input of ``langgraph:close``: put nested namespaces that have ended on shelves.

    Args:
        thread_id: The thread.
        namespaces: The namespaces, whose workflows are open.
        forget: Closed ones of which nothing is to be left.
        shelves: Where closed ones are; ``None``: there are none.
    """

    thread_id: str
    namespaces: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    shelves: Pack | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    """Part of ``CloseReply``, ``RetireRequest`` and ``Snapshot``: a namespace that is on a shelf.

    Args:
        namespace: The namespace.
        incarnation: Identity of the log that was put there.
        base: Number of its first entry that is in no archive.
        end: Its length.
    """

    namespace: str
    incarnation: str
    base: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CloseReply:
    """Activity result of ``langgraph:close``.

    ``gone`` are those that have no open workflow. What is in none of both is not at rest yet.
    ``garbage`` is a pack of ``BlobList``, as in ``ArchiveReply``.

    Args:
        shelves: Where closed namespaces are now; ``None``: there are none.
        closed: Those that are on a shelf.
    """

    shelves: Pack | None = None
    closed: tuple[Closed, ...] = ()
    gone: tuple[str, ...] = ()
    garbage: BlobRef | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RetireRequest:
    """Activity input of ``langgraph:retire``: let the workflows of closed namespaces end.

    Args:
        thread_id: The thread.
        closed: The namespaces, as they are on their shelves.
        at: Length of the thread's log; a workflow that was opened later does not end.
    """

    thread_id: str
    closed: tuple[Closed, ...]
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RetireReply:
    """Activity result of ``langgraph:retire``.

    Args:
        changed: Namespaces that somebody has written to since: they stay open.
        left: Those that are still to end.
    """

    changed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReopenRequest:
    """Activity input of ``langgraph:reopen``: take a closed namespace from its shelf.

    Args:
        thread_id: The thread.
        namespace: The namespace.
        shelves: Where closed ones are.
    """

    thread_id: str
    namespace: str
    shelves: Pack


@dataclass(frozen=True, kw_only=True, slots=True)
class ReopenReply:
    """Activity result of ``langgraph:reopen``.

    Args:
        kept: The namespace; ``None``: it is on no shelf, so it was never closed.
    """

    kept: Kept | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EraseRequest:
    """Activity input of ``langgraph:erase``: remove all blobs of a deleted thread or namespace.

    Args:
        thread_id: The thread.
        namespace: Its nested namespace; "" for the thread itself.
        workflow_id: The workflow that held the log.
        deleted_s: When it was deleted: blobs that are younger belong to its successor.
    """

    thread_id: str
    namespace: str
    workflow_id: str
    deleted_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskInput:
    """Activity input of a task: the key under which its process finds the live task.

    ``parcel``: as in ``TaskSpec``. ``round``: when the task was scheduled, in milliseconds since
    1970: of those who run the same task after each other in one epoch, the later has the higher
    one, and what the earlier still writes to nested namespaces is refused.

    Args:
        key: As in ``TaskSpec``.
    """

    key: str
    parcel: bytes = b""
    round: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOutput:
    """Activity result of a task: its writes as an op; ``error`` names what the node raised.
    ``home_queue`` is that of the worker, if it ran the task for another one. ``step`` is a
    ``StepRequest``, packed: what LangGraph has made of the writes of its superstep, and the tasks
    of the next one. It is applied as an Update would be; if it is not, its sender sends it as one.

    Args:
        status: A ``TaskStatus``.
        op: The writes, packed; b"": there are none.
    """

    status: int
    op: bytes = b""
    error: str = ""
    home_queue: str = ""
    step: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStart:
    """Workflow input of ``LangGraphRun``: the admission record of one run.

    ``record`` is opaque to the workflow (see ``record.py``). ``caller_queue`` is the task queue of
    the process of an embedded caller, tried first; ``task_queue`` is the shared one.
    A large record is a blob, ``record_ref``. ``strategy``, ``affinity`` and ``home_timeout_s``: see
    ``AttachRequest``. ``home_queue`` is the task queue of the thread's home, as far as whoever
    starts the run knows it.

    Args:
        run_id: The run.
        thread_id: The thread.
        thread_workflow_id: Its workflow.
        graph: Name of the graph.
        heartbeat_s: How long a process that drives the run may be silent.
        max_lost_attempts: So many lost attempts in a row end it.
        give_up_s: So long after the first of them it ends; 0: never.
        run_timeout_s: So long after its start it is cancelled; 0: never.
        priority: Before which other runs it comes.
    """

    run_id: str
    thread_id: str
    thread_workflow_id: str
    graph: str
    task_queue: str
    record: bytes
    caller_queue: str = ""
    heartbeat_s: float = 10.0
    max_lost_attempts: int = 50
    record_ref: BlobRef | None = None
    strategy: str = ""
    give_up_s: float = 0.0
    affinity: str = ""
    home_timeout_s: float = 0.0
    home_queue: str = ""
    run_timeout_s: float = 0.0
    priority: RunPriority | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """Update ``listen`` of a run workflow, and Activity input: a mailbox that joins a run's stream.

    ``queue`` is that of the process that drives the run, if it was found. ``deltas``: whoever
    listens can put chunks together, also of pieces in any order, and unpack them (see
    ``MailItem``).

    Args:
        run_id: The run.
        mailbox: Workflow id of the listener's mailbox.
        stream_id: Names the stream in it.
    """

    run_id: str
    mailbox: str
    stream_id: str
    queue: str = ""
    deltas: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRequest:
    """Activity input: have the process that drives a run stop it, because it was cancelled.

    Args:
        run_id: The run.
    """

    run_id: str


class DriveStatus(IntEnum):
    """How one attempt left its run."""

    ENDED = 1
    QUEUED = 2
    """The thread is busy; the run waits for its turn without holding a worker."""
    MOVED = 3
    """A newer attempt has the run, or this process gives it up: schedule another attempt."""
    AWAY = 4
    """The thread's home is another worker: schedule the next attempt there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerStream:
    """Part of ``DriveReply`` and ``DriveRequest``: where the stream goes of a run whose caller
    hosts a worker, when another one drives it.

    The fields say what those of the ``Call`` of the same name say (``values/record.py``), which
    such a caller does not fill in its record.

    Args:
        mailbox: Workflow id of the caller's mailbox.
        callbacks: Serialized as the record is; b"": none.
        message_events: Whether messages are sent as events.
        known: The chunk of the thread that the caller has.
    """

    mailbox: str
    callbacks: bytes = b""
    message_events: bool = False
    known: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriveRequest:
    """Activity input of ``langgraph:drive``.

    ``at_caller``: on the queue of an embedded caller, whose process has the live objects; then
    ``record`` is empty. ``strategy``, ``affinity``, ``home_timeout_s``, ``absent`` and ``lost``:
    see ``AttachRequest``. ``listeners`` joined the run so far. ``stream`` is where the chunks go of
    a run that has left the process of its caller. ``cancelled``: somebody has cancelled the run
    before this Activity could be told, and its caller's process is to stop it.

    Args:
        run_id: The run.
        attempt: Number of the attempt, from 1.
        thread_id: The thread.
        thread_workflow_id: Its workflow.
        run_workflow_id: Workflow id of the run.
        graph: Name of the graph.
        record_ref: The record, if it is large.
        priority: Of the run.
    """

    run_id: str
    attempt: int
    thread_id: str
    thread_workflow_id: str
    run_workflow_id: str
    graph: str
    record: bytes = b""
    record_ref: BlobRef | None = None
    at_caller: bool = False
    strategy: str = ""
    listeners: tuple[Listener, ...] = ()
    affinity: str = ""
    home_timeout_s: float = 0.0
    absent: str = ""
    lost: bool = False
    stream: CallerStream | None = None
    priority: RunPriority | None = None
    cancelled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class DriveReply:
    """Activity result of ``langgraph:drive``. ``queue`` is where the next attempt should go;
    ``at_home``: it is that of the thread's home. ``stream``: see ``DriveRequest``.

    Args:
        status: A ``DriveStatus``.
        outcome: With ENDED an ``Outcome``, packed.
    """

    status: int
    outcome: bytes = b""
    queue: str = ""
    at_home: bool = False
    stream: CallerStream | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatusReply:
    """Reply to the Query ``status`` of a run workflow.

    Args:
        state: "scheduled", "running", "queued" or "retrying"; then the outcome's status.
        attempt: Number of the latest attempt.
        queue: Task queue of the process that drives it.
        last_failure: Why the last attempt was lost.
        home: The worker the attempt is meant for, because it is the thread's home; "": it is meant
            for any.
        home_since_s: Since when attempts are meant for it, in seconds since 1970.
    """

    state: str
    attempt: int
    queue: str = ""
    last_failure: str = ""
    home: str = ""
    home_since_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorInfo:
    """Part of ``Outcome``: an exception as plain data.

    ``args`` and ``attributes`` are plain msgpack: a list and a map. ``type_name`` is the qualified
    name of the class, to be found among classes that are loaded already. ``exceptions`` are the
    members of an exception group and ``cause`` is what it was raised from, each an ``ErrorInfo``.

    Args:
        message: Its text.
        notes: Its notes.
        traceback: The traceback's text; of the outermost only.
    """

    type_name: str
    message: str
    args: bytes = b""
    attributes: bytes = b""
    notes: tuple[str, ...] = ()
    traceback: str = ""
    exceptions: tuple[bytes, ...] = ()
    cause: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunBounds:
    """How often a run is driven, and second argument of Update ``resume``.

    ``give_up_s``: seconds after the first of losses in a row; 0: for ever.

    Args:
        heartbeat_s: How long a process that drives the run may be silent.
        max_lost_attempts: So many lost attempts in a row end it.
        run_timeout_s: So long after its start it is cancelled; 0: never.
    """

    heartbeat_s: float = 10.0
    max_lost_attempts: int = 50
    give_up_s: float = 0.0
    run_timeout_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline:
    """Part of ``Outcome`` and ``Snapshot``: an interrupt that answers itself with ``default``.

    ``default`` is plain msgpack. ``at_s`` is Unix time, known once the thread has begun to wait.

    Args:
        interrupt_id: LangGraph's id of the interrupt.
        within_s: How long it waits.
        bounds: Of the run that goes on with the default.
    """

    interrupt_id: str
    within_s: float
    default: bytes
    bounds: RunBounds
    at_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Result of a run: Workflow result, and part of ``StepRequest`` and ``DriveReply``.

    ``chunks`` counts what the attempt streamed. ``tail`` holds the last ones a plain ``ainvoke``
    needs, serialized. ``refused``: the thread waits as it did before the run. ``at`` is the
    checkpoint at which it ended; ``nodes`` are those that ask there, or are due at a breakpoint.
    ``asked`` are the interrupts that are open, also of a run that failed or was cancelled.
    ``answered``: a task of a nested namespace took an answer, of which the news may come later.
    ``unsent``: why a chunk was not streamed, or the result is not in ``tail``: no serializer takes
    what it holds. ``home_queue``: task queue of the thread's home, for the next call of the same
    caller.

    Args:
        status: "done", "interrupted", "error" or "cancelled".
        attempt: Number of the attempt that ended it.
        error: What it failed with.
        deadlines: Interrupts that answer themselves.
        asks: Nodes that wait for an answer.
    """

    status: str
    attempt: int = 0
    chunks: int = 0
    tail: tuple[bytes, ...] = ()
    error: ErrorInfo | None = None
    deadlines: tuple[Deadline, ...] = ()
    asks: tuple[str, ...] = ()
    refused: bool = False
    at: str = ""
    nodes: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    answered: bool = False
    unsent: str = ""
    home_queue: str = ""


@dataclass(kw_only=True, slots=True)
class ActiveRun:
    """Part of ``Snapshot``: the run that has the thread.

    ``attempt`` 0: reserved, nobody attached yet. ``stop``: a later run wants the thread, after the
    superstep ("interrupt") or at once, with what this one did undone ("rollback"). ``boundary``:
    a superstep has ended since. ``queue``: of the process that drives it. ``cancelled``: somebody
    cancels it, so that no further superstep begins.

    Args:
        run_id: The run.
        run_workflow_id: Workflow id of the run.
        first_epoch: Epoch of its first attempt.
        checkpoints: How many it has made.
        null_writes: Whether its input, or its resume value, is in the log.
        answered: Tasks that recorded an answer of their own.
        namespaces: Nested ones it has used, the latest.
        alone: Nobody else has written to the log since the attempt was granted.
        expired_s: It is cancelled because its time, so many seconds, is over; 0: it is not.
        worker: Name of the worker that drives it.
        begun: It has attached with its first step (``BeginRequest``).
    """

    run_id: str
    run_workflow_id: str
    attempt: int = 0
    first_epoch: int = 0
    checkpoints: int = 0
    null_writes: bool = False
    answered: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    alone: bool = True
    stop: str = ""
    boundary: bool = False
    queue: str = ""
    cancelled: bool = False
    expired_s: float = 0.0
    worker: str = ""
    begun: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiter:
    """Part of ``Snapshot``: a run in the run queue of the thread.

    Args:
        run_id: The run.
        run_workflow_id: Workflow id of the run.
    """

    run_id: str
    run_workflow_id: str


@dataclass(kw_only=True, slots=True)
class ClosingState:
    """Part of ``Snapshot``: the nested namespaces of a thread that have ended (see
    ``workflow/core/closing.py``).

    Args:
        over: Open ones that are to be closed, in this order.
        retiring: Those that are on a shelf, and whose workflows are to end.
        forget: Closed ones of which nothing is to be left.
        shelves: Where closed ones are; ``None``: there are none.
    """

    over: tuple[str, ...] = ()
    retiring: tuple[Closed, ...] = ()
    forget: tuple[str, ...] = ()
    shelves: Pack | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Part of ``ThreadStart``: the state as carried over continue-as-new.

    Args:
        epoch: This and what says nothing else is as in ``ThreadState``.
        seq: Its ``next_seq``.
        log: Entries that are in no archive: ``ThreadLog.entries``.
        namespaces: As there.
        ended: Runs with their outcomes, oldest first.
        waiting: As there.
        active: As there.
        lost: As there.
        running: Tasks that get new Activities.
        base: This and what follows up to ``discards`` is as in ``ThreadLog``.
        segments: As there.
        head: As there.
        generation: As there.
        garbage: As there.
        compact: As there.
        uncompacted: As there.
        discards: Blobs that are to be removed again, in case the Activity was not through.
        summary: As in ``ThreadState``.
        undo: As there.
        deadlines: As there.
        standing: As there; ``None`` of releases that did not keep it.
        announced: As there.
        given_at: The checkpoint with the latest resume value.
        given_spent: Whether that is not given any more (see ``Applied``).
        home: As in ``ThreadState``.
        priority: As in ``ThreadState``.
        closing: As there; ``None``: no namespaces are or were closed.
        round: As in ``ThreadState``.
        task_homes: As there.
        carried: As there, packed, by number.
        park_s: As in ``ThreadState``.
        parked: As there.
    """

    epoch: int
    seq: int
    log: tuple[bytes, ...]
    namespaces: tuple[str, ...]
    ended: tuple[tuple[str, bytes], ...]
    waiting: tuple[Waiter, ...]
    active: ActiveRun | None
    lost: tuple[str, ...]
    running: tuple[TaskSpec, ...] = ()
    base: int = 0
    segments: tuple[Segment, ...] = ()
    head: Pack | None = None
    generation: int = 0
    garbage: bool = False
    compact: bool = False
    uncompacted: int = 0
    discards: tuple[BlobRef, ...] = ()
    summary: ThreadSummary | None = None
    undo: tuple[str, ...] = ()
    deadlines: tuple[Deadline, ...] = ()
    standing: Standing | None = None
    announced: tuple[Announcement, ...] = ()
    given_at: str = ""
    given_spent: bool = False
    home: Home | None = None
    priority: RunPriority | None = None
    closing: ClosingState | None = None
    round: int = 0
    task_homes: tuple[tuple[str, str], ...] = ()
    carried: tuple[bytes, ...] = ()
    park_s: float = 0.0
    parked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerCard:
    """Memo, and reply to the Query ``who``, of a worker's workflow: the process behind a name.

    ``space`` is what tells process ids of this machine apart: two processes with the same one may
    look whether the other is there. ``runs`` are driven there, those of its own callers included.

    Args:
        worker: Name of the worker.
        queue: Task queue of the runs whose home it is.
        process: Unique name of the process.
        host: Its machine.
        pid: Its process id there.
        space: As said above.
        since_s: When it began, in seconds since 1970.
        named: Whether somebody gave the name.
        graphs: Names of the graphs it serves.
        runs: Ids of its runs.
    """

    worker: str
    queue: str
    process: str
    host: str = ""
    pid: int = 0
    space: str = ""
    since_s: float = 0.0
    named: bool = False
    graphs: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


# -- streams: on their way to a caller in another process ------------------------------------------

KNOWN_SLOT = 1
"""See ``MailItem.slot``."""

COMPRESSED_FROM_BYTES = 20_000
"""Less is not worth compressing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MailItem:
    """Part of ``Mail``: a chunk, or with ``more`` a piece of one, numbered within its attempt.

    ``event``: it is no chunk but an event for the caller's callback handlers. ``slot``, from 1: the
    chunk is to be kept, in place of the one kept under this number, because the next one of its
    kind may be sent as the difference to it; then ``delta`` is set. Under ``KNOWN_SLOT`` a caller
    keeps the chunk it had before (``Call.known``), from the beginning. ``piece`` numbers the
    pieces of a chunk from 1, so that they may arrive in any order; 0: they come in theirs.
    ``whole_bytes``: the chunk, or the difference, is compressed, and has this many bytes; 0: it is
    not. ``end``: it is no chunk but the recorded ``Outcome``, has no number, and comes at any time
    after that is recorded; for callers that take it (``Call.ends``).

    Args:
        attempt: Attempt of the run that sends it; a newer one starts the stream over.
        seq: Number of the chunk or event within the attempt, from 0.
        data: The bytes, or a piece of them.
    """

    attempt: int
    seq: int
    data: bytes
    more: bool = False
    event: bool = False
    slot: int = 0
    delta: bool = False
    piece: int = 0
    whole_bytes: int = 0
    end: bool = False


def compressed(data: bytes) -> bytes | None:
    """A chunk as it travels; ``None``: as it is."""
    if len(data) < COMPRESSED_FROM_BYTES:
        return None
    # The fastest: what does not travel saves more time than this takes, but not much more.
    small = zlib.compress(data, 1)
    return small if len(small) < 0.9 * len(data) else None


def decompressed(data: bytes, size: int) -> bytes:
    """The inverse of ``compressed``.

    Args:
        data: What ``compressed`` gave.
        size: Bytes of what it was given; no more are decompressed.

    Raises:
        WireError: It is nothing of this size.
    """
    whole = inflate(data, at_most=size)
    if len(whole) != size:
        raise WireError(f"A compressed chunk that has not the {size:,} bytes it is said to have.")
    return whole


class MailStatus(IntEnum):
    """Answer to ``Mail``."""

    GONE = 0
    TAKEN = 1
    FULL = 2
    """Nothing was taken: what came before is unread. Send it again later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """Query ``deliver`` of a mailbox workflow: mail of a stream (``run_id``: its ``stream_id``).

    Arguments of Queries are not recorded in history. The reply is a ``MailStatus``.

    Args:
        items: Chunks and events, in order.
    """

    run_id: str
    items: tuple[MailItem, ...]
