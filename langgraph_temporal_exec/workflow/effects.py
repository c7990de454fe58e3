"""Workflow side: what the thread state asks its shell to do."""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.messages import (
    TaskSpec,
)
from ..protocol.stored import (
    BlobRef,
)


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
    """Effect: start the Child Workflow of a namespace and wait until it exists.

    ``graph``: the name of its graph, for Temporal's UI; may be empty.
    """

    namespace: str
    graph: str = ""


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
class Discard:
    """Effect: have blobs removed that nothing refers to any more."""

    garbage: BlobRef


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelRun:
    """Effect: request cancellation of a run workflow whose thread is gone."""

    run_workflow_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRun:
    """Effect: have the process that drives a run stop it now, without waiting for a heartbeat."""

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
