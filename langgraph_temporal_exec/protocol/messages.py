"""Shared wire: one frozen dataclass per message; each docstring opens with its Temporal kind.

Fields ending in ``_s`` are seconds. State travels as opaque, already serialized bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

Version = str | int | float


class OpKind(IntEnum):
    """What an entry of the op log records."""

    PUT = 1
    """A checkpoint and the channel values that are new in it."""
    WRITES = 2
    """Writes of one task, pending on a checkpoint."""
    DROP = 3
    """Checkpoints removed from the thread (pruning, deletion of runs). Its ``values``, without
    data, name what they stored and remaining checkpoints still refer to."""
    VALUES = 4
    """What is left of the PUT of a dropped checkpoint: values others still refer to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """Part of an op: one channel's value, serialized.

    ``key`` is the channel version for a PUT and the write index for WRITES. A PUT of a channel
    without a value has ``type == "empty"``.
    """

    channel: str
    key: Version
    type: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Op:
    """Part of several messages: one entry of a thread's op log.

    The header (everything but the serialized fields) is what later decisions need without
    decoding state: which run and attempt wrote it, to which checkpoint and task it belongs,
    which channels it holds at which version.
    """

    kind: int
    checkpoint_id: str = ""
    parent_id: str | None = None
    run_id: str = ""
    attempt: int = 0
    task_id: str = ""
    task_path: str = ""
    values: tuple[Value, ...] = ()
    checkpoint_type: str = ""
    checkpoint: bytes = b""
    metadata_type: str = ""
    metadata: bytes = b""
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadStart:
    """Workflow input of ``LangGraphThread``.

    ``namespace`` is "" for the thread itself. ``snapshot`` carries the state over
    continue-as-new. ``roll_events`` is the history length at which the workflow continues as
    new by itself (0: when the server suggests it).
    """

    thread_id: str
    namespace: str = ""
    id_prefix: str = ""
    incarnation: str = ""
    snapshot: bytes = b""
    roll_events: int = 0


class AttachStatus(IntEnum):
    """Answer to an attempt which asks for the thread."""

    GRANTED = 1
    QUEUED = 2
    STALE = 3
    ENDED = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachRequest:
    """Update ``attach`` of the root thread workflow: an attempt of a run asks for the thread.

    ``incarnation`` and ``cursor`` say what the asking process has already read. ``evict`` names
    the active run when the asker found its run workflow closed.
    """

    run_id: str
    attempt: int
    run_workflow_id: str
    incarnation: str = ""
    cursor: int = 0
    evict: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPage:
    """Part of several replies: a page of a log.

    ``start`` is the sequence number of ``ops[0]``; a reader whose cursor is behind ``start``,
    or who knows another incarnation, forgets what it has first.
    """

    incarnation: str
    start: int
    ops: tuple[bytes, ...] = ()
    more: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """Part of ``AttachReply``: what the log shows that earlier attempts of the run applied.

    ``answered`` are the tasks, nested ones included, that recorded an answer of their own.
    """

    checkpoints: int = 0
    null_writes: bool = False
    answered: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachReply:
    """Reply to ``attach``. ``outcome`` is set when the run has already ended."""

    status: int
    epoch: int = 0
    page: LogPage | None = None
    namespaces: tuple[str, ...] = ()
    applied: Applied | None = None
    active_run: str = ""
    active_run_workflow_id: str = ""
    outcome: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """Part of ``StepRequest``: schedule one task as an Activity named after its node."""

    key: str
    node: str
    queue: str
    summary: str = ""
    heartbeat_s: float = 10.0


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
    lost tasks, which may be appended twice without harm.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReply:
    """Reply to ``step``.

    With ``again`` (the workflow is about to continue as new) or with a required task in
    ``lost`` nothing was applied, and the sender repeats the request under the same ``seq``;
    the writes of a lost task then travel among its ops. ``log_end`` answers an outcome: the length
    of the log, if all of it since the attempt was granted came from the attempt, else 0.
    """

    again: bool = False
    lost: tuple[str, ...] = ()
    log_end: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class AppendRequest:
    """Update ``append`` of a thread workflow: ops from outside any run."""

    ops: tuple[bytes, ...] = ()
    open: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadRequest:
    """Query ``read`` of a thread workflow: the log after a cursor."""

    incarnation: str = ""
    cursor: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadReply:
    """Reply to ``read``."""

    page: LogPage
    namespaces: tuple[str, ...] = ()
    deleted: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskInput:
    """Activity input of a task: the key under which its process finds the live task."""

    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOutput:
    """Activity result of a task: its writes as an op; ``error`` names what the node raised."""

    status: int
    op: bytes = b""
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStart:
    """Workflow input of ``LangGraphRun``: the admission record of one run.

    ``record`` is opaque to the workflow (see ``record.py``). ``home_queue`` is
    the pinned queue of an embedded caller, tried first; ``task_queue`` is the shared one.
    """

    run_id: str
    thread_id: str
    thread_workflow_id: str
    graph: str
    task_queue: str
    record: bytes
    home_queue: str = ""
    heartbeat_s: float = 10.0
    max_lost_attempts: int = 50


class DriveStatus(IntEnum):
    """How one attempt left its run."""

    ENDED = 1
    QUEUED = 2
    """The thread is busy; the run waits for its turn without holding a worker."""
    MOVED = 3
    """A newer attempt has the run, or this process gives it up: schedule another attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriveRequest:
    """Activity input of ``langgraph:drive``.

    ``record`` is empty for the home queue of an embedded caller: that process has the live
    objects.
    """

    run_id: str
    attempt: int
    thread_id: str
    thread_workflow_id: str
    run_workflow_id: str
    graph: str
    record: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriveReply:
    """Activity result of ``langgraph:drive``. ``queue`` is where the next attempt should go."""

    status: int
    outcome: bytes = b""
    queue: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatusReply:
    """Reply to the Query ``status`` of a run workflow."""

    state: str
    attempt: int
    queue: str = ""
    last_failure: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorInfo:
    """Part of ``Outcome``: an exception as plain data.

    ``args`` and ``attributes`` are plain msgpack: a list and a map. ``type_name`` is the qualified
    name of the class, to be found among classes that are loaded already.
    """

    type_name: str
    message: str
    args: bytes = b""
    attributes: bytes = b""
    notes: tuple[str, ...] = ()
    traceback: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Result of a run: Workflow result, and part of ``StepRequest`` and ``DriveReply``.

    ``chunks`` counts what the attempt streamed. ``tail`` holds the last stream chunks a plain
    ``ainvoke`` needs, serialized, so that the result never depends on the relay.
    """

    status: str
    attempt: int = 0
    chunks: int = 0
    tail: tuple[bytes, ...] = ()
    error: ErrorInfo | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MailItem:
    """Part of ``Mail``: a chunk, or with ``more`` a piece of one, numbered within its attempt."""

    attempt: int
    seq: int
    data: bytes
    more: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """Query ``deliver`` of a mailbox workflow: stream chunks for one run, as an argument.

    Arguments of Queries are not recorded in history. The reply is whether anybody listens.
    """

    run_id: str
    items: tuple[MailItem, ...]
