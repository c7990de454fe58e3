"""Shared wire: every name two processes must agree on, defined once."""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote

THREAD_WORKFLOW = "LangGraphThread"
RUN_WORKFLOW = "LangGraphRun"
MAILBOX_WORKFLOW = "LangGraphMailbox"
BLOB_WORKFLOW = "LangGraphBlob"
WORKER_WORKFLOW = "LangGraphWorker"

# Activity types of tasks are the names of the user's nodes; the prefix keeps a node called
# "drive" apart from this one.
DRIVE_ACTIVITY = "langgraph:drive"
ARCHIVE_ACTIVITY = "langgraph:archive"
DISCARD_ACTIVITY = "langgraph:discard"
ERASE_ACTIVITY = "langgraph:erase"
CLOSE_ACTIVITY = "langgraph:close"
RETIRE_ACTIVITY = "langgraph:retire"
REOPEN_ACTIVITY = "langgraph:reopen"
LISTEN_ACTIVITY = "langgraph:listen"
STOP_ACTIVITY = "langgraph:stop"

ATTACH_UPDATE = "attach"
STEP_UPDATE = "step"
BEGIN_UPDATE = "begin"
APPEND_UPDATE = "append"
DELETE_UPDATE = "delete"
LISTEN_UPDATE = "listen"
RESUME_UPDATE = "resume"
REPORT_UPDATE = "report"

READ_QUERY = "read"
RUN_STATUS_QUERY = "status"
DELIVER_QUERY = "deliver"
WHO_QUERY = "who"

TURN_SIGNAL = "turn"
FENCE_SIGNAL = "fence"
RUN_CLOSED_SIGNAL = "run_closed"
ANSWER_SIGNAL = "answer_taken"
DELETE_SIGNAL = "delete_namespace"
STOP_SIGNAL = "stop"
MOVE_SIGNAL = "move"
ANNOUNCE_SIGNAL = "announce"
LEAVE_SIGNAL = "leave"
RETIRE_SIGNAL = "retire"
PARK_SIGNAL = "park"

# Names of LangGraph's that workflows must know without importing it; `seam/private.py` compares
# them with what is installed.
NULL_TASK_ID = "00000000-0000-0000-0000-000000000000"
RESUME_CHANNEL = "__resume__"
INTERRUPT_CHANNEL = "__interrupt__"
ERROR_CHANNEL = "__error__"
ERROR_SOURCE_CHANNEL = "__error_source_node__"
PULL_PATH = "~__pregel_pull, "
"""What the path of a node's own task begins with; its name follows."""
NS_SEP, NS_END = "|", ":"
"""Of a nested namespace: what is between its levels, and between a node and its task's id."""

REMEMBERED_NAMESPACES = 500
"""Nested namespaces a thread tells without its log being read; with so many there may be others."""

# Types of ApplicationError that cross Temporal.
ERROR_TYPE = "langgraph."
"""What they begin with; messages show none of it."""
FENCED = "langgraph.AttemptSuperseded"
GRAPH_NOT_FOUND = "langgraph.GraphNotFound"
WORKER_SHUTDOWN = "langgraph.WorkerShutdown"
RUN_ERROR = "langgraph.RunError"
RUN_LOST = "langgraph.RunLost"
THREAD_DELETED = "langgraph.ThreadDeleted"
THREAD_FULL = "langgraph.ThreadFull"
THREAD_BUSY = "langgraph.ThreadBusy"
NOT_WAITING = "langgraph.NotWaiting"
BAD_ANSWER = "langgraph.BadAnswer"
STALE_READ = "langgraph.StaleRead"
NOT_AS_LEFT = "langgraph.NotAsLeft"
NO_GRAPH = "langgraph.NoGraph"
ELSEWHERE = "langgraph.Elsewhere"
UNREADABLE = "langgraph.Unreadable"
UNREACHED = "langgraph.UnreadableThread"

RUN_TIMEOUT_CLASS = "langgraph_temporal_exec.errors.RunTimeoutError"
"""What a run fails with whose time is over, as exceptions are named in outcomes."""

WORKFLOW_TASK_TIMEOUT_S = 5.0
"""How long a dead worker may hold a workflow task. Temporal's default of 10 s would be added to
many a failover; the longest replay, of 8,000 events, takes some 3 s."""

MAX_ID_PART = 180
"""Bytes of a thread id kept readable in a workflow id; Temporal allows 1,000 in all."""


def _id_part(text: str) -> str:
    """``text`` as one path segment: escaped, and hashed when too long to stay readable."""
    escaped = quote(text, safe=":@!$&()*+,;=-._~ ")
    if len(escaped) <= MAX_ID_PART:
        return escaped
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return f"{escaped[: MAX_ID_PART - 33].rstrip('%')}~{digest}"


def thread_workflow_id(prefix: str, thread_id: str, checkpoint_ns: str = "") -> str:
    """Workflow id of a thread (``checkpoint_ns == ""``) or of one nested namespace of it.

    The readable part of a namespace is its node names; the hash, of the full namespace with
    its task ids, makes the id unique.
    """
    root = f"{prefix}/thread/{_id_part(thread_id)}"
    if not checkpoint_ns:
        return root
    label = NS_SEP.join(part.split(NS_END)[0] for part in checkpoint_ns.split(NS_SEP))
    digest = hashlib.sha256(checkpoint_ns.encode()).hexdigest()[:16]
    return f"{root}/{_id_part(label)}:{digest}"


def thread_id_of(prefix: str, workflow_id: str) -> str:
    """The thread of a workflow id of ``thread_workflow_id``, as far as the id still tells it."""
    return unquote(workflow_id.removeprefix(f"{prefix}/thread/"))


def blob_workflow_prefix(prefix: str, thread_id: str) -> str:
    """What the workflow ids of all blobs of a thread, nested namespaces included, start with."""
    return f"{prefix}/blob/{hashlib.sha256(thread_id.encode()).hexdigest()[:32]}/"


def blob_workflow_id(prefix: str, thread_id: str, scope: str, digest: bytes) -> str:
    """Workflow id of one piece of a blob."""
    return f"{blob_workflow_prefix(prefix, thread_id)}{scope}/{digest.hex()}"


def run_workflow_id(prefix: str, run_id: str) -> str:
    """Workflow id of a run; the run id alone finds it."""
    return f"{prefix}/run/{run_id}"


def run_id_of(workflow_id: str) -> str:
    """The inverse of ``run_workflow_id``; run ids have no slash."""
    return workflow_id.rpartition("/")[2]


def mailbox_workflow_id(prefix: str, process_key: str) -> str:
    """Workflow id of the mailbox a caller's process hosts to receive streams."""
    return f"{prefix}/mailbox/{process_key}"


UPKEEP_SUFFIX = "#upkeep"
TASKS_SUFFIX = "#tasks"

HOME_MARK = "~"
"""In the name of the task queue of a worker, before the worker's."""


def upkeep_queue(task_queue: str) -> str:
    """Task queue of archiving and removal, which must not wait behind runs."""
    return f"{task_queue}{UPKEEP_SUFFIX}"


def tasks_queue(task_queue: str) -> str:
    """Task queue of tasks that any worker of a queue may run, whichever drives their runs."""
    return f"{task_queue}{TASKS_SUFFIX}"


def shared_queue(tasks: str) -> str | None:
    """The inverse of ``tasks_queue``; ``None`` for another task queue."""
    shared = tasks.removesuffix(TASKS_SUFFIX)
    return None if shared == tasks else shared


def blob_queue(task_queue: str) -> str:
    """Task queue nobody polls: the first workflow task of a blob never comes."""
    return f"{task_queue}#blobs"


def process_queue(task_queue: str, process_key: str) -> str:
    """Task queue that only one process polls."""
    return f"{task_queue}@{process_key}"


def home_queue(task_queue: str, worker: str) -> str:
    """Task queue of the runs whose threads have a worker, by its name, as their home."""
    return f"{task_queue}{HOME_MARK}{worker}"


def worker_of(home: str) -> str:
    """The inverse of ``home_queue``: the worker's name."""
    return home.rpartition(HOME_MARK)[2]


def worker_workflow_id(prefix: str, home: str) -> str:
    """Workflow id of the process that polls the task queue of a home."""
    return f"{prefix}/worker/{_id_part(home)}"
