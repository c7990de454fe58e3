"""Workflow side: what the thread state asks its shell to do."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol.messages import TaskSpec
from ...protocol.stored import BlobRef


@dataclass(frozen=True, kw_only=True, slots=True)
class StartTask:
    """Effect: schedule the Activity of a task.

    Args:
        spec: The task.
        epoch: For which it is started; when that is over it is not.
    """

    spec: TaskSpec
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelTask:
    """Effect: request cancellation of a task's Activity.

    Args:
        key: Of its ``TaskSpec``.
    """

    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenNamespace:
    """Effect: start the Child Workflow of a namespace and wait until it exists.

    ``graph``: the name of its graph, for Temporal's UI; may be empty.

    Args:
        namespace: The namespace.
    """

    namespace: str
    graph: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FenceNamespace:
    """Effect: tell the Child Workflow of a namespace that older epochs are over.

    Args:
        namespace: The namespace.
        epoch: The one that has begun.
    """

    namespace: str
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GiveTurn:
    """Effect: signal a waiting run workflow that the thread is reserved for it.

    Args:
        run_id: The run.
        run_workflow_id: Workflow id of the run.
    """

    run_id: str
    run_workflow_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteNamespace:
    """Effect: tell the Child Workflow of a namespace to end.

    Args:
        namespace: The namespace.
    """

    namespace: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerTaken:
    """Effect, of a nested namespace: tell the thread that a task recorded an answer.

    Args:
        epoch: In which the task ran.
        task_id: The task.
    """

    epoch: int
    task_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Discard:
    """Effect: have blobs removed that nothing refers to any more.

    Args:
        garbage: A ``BlobList``.
    """

    garbage: BlobRef


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelRun:
    """Effect: request cancellation of a run workflow whose thread is gone.

    Args:
        run_workflow_id: Workflow id of the run.
    """

    run_workflow_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRun:
    """Effect: have the process that drives a run stop it now, without waiting for a heartbeat.

    Args:
        run_id: The run.
        queue: Task queue of the process that drives it.
    """

    run_id: str
    queue: str


Effect = (
    StartTask
    | CancelTask
    | OpenNamespace
    | FenceNamespace
    | GiveTurn
    | DeleteNamespace
    | AnswerTaken
    | Discard
    | CancelRun
    | StopRun
)
