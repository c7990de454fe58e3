"""Shared: Temporal's workflow sandbox, without what costs much and changes nothing.

Workers of this package run their workflows in the SDK's sandbox, with its default restrictions, but
for two things.

It loads none of this package anew. For each workflow that begins, the module that defines it would
be executed again, to keep its state from others; there is none (``tests/replay/test_sandbox.py``
compares all that is shared before and after), and it took ten times as long as the rest of making
a workflow. So modules of ours see those they import as they are; what would differ in a replay
``tests/layering.py`` bans. What a worker of somebody else's does, the default, is right as well.

Of two questions the SDK asks it for every payload that a workflow task brings or leaves, three
times each, the answers are known beforehand unless the client's data converter is of a special
kind: they took more CPU of a worker than the workflows themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client
from temporalio.converter import (
    DataConverter,
    StorageDriverStoreContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

PACKAGE = "langgraph_temporal_exec"

Activate = Callable[[WorkflowActivation], WorkflowActivationCompletion]


class Cache(Protocol):
    """Is told which workflows a worker has in memory; from threads of the SDK."""

    def activated(self, workflow_id: str) -> None:
        """A workflow task of it was done here."""
        ...

    def evicted(self, workflow_id: str) -> None:
        """It is not in memory any more."""
        ...


def sandboxed(
    client: Client, *, cache: Cache | None = None, eager: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Arguments of a ``Worker`` that hosts workflows of this package.

    Args:
        client: Of the worker; its data converter says what may be left out.
        cache: Told of the workflows in ``eager``.
        eager: Types of those workflows whose Activities may come to the worker with the answer to
            the workflow task that schedules them.
    """
    converter = client.data_converter
    stores = converter.external_storage is not None
    asks = stores or _heeds_context(converter, client.namespace)
    restrictions = SandboxRestrictions.default.with_passthrough_modules(PACKAGE)
    runner = _Runner(restrictions=restrictions, asked=asks, cache=cache, eager=eager)
    settings: dict[str, Any] = {"workflow_runner": runner}
    if not stores:
        # With more than one the SDK makes an asyncio task for every payload, to store it nowhere.
        settings["max_workflow_task_external_storage_concurrency"] = 1
    return settings


def _heeds_context(converter: DataConverter, namespace: str) -> bool:
    """Whether what becomes of a value depends on the workflow or Activity it belongs to."""
    codec: object = converter.payload_codec
    if isinstance(codec, WithSerializationContext):
        return True
    context = WorkflowSerializationContext(namespace=namespace, workflow_id="")
    return converter.with_context(context) is not converter


@dataclass(frozen=True)
class _Runner(SandboxedWorkflowRunner):
    """The sandbox of one worker.

    Args:
        asked: Whether workflows are asked for contexts; not for data converters that heed none,
            and store nothing elsewhere.
        cache: See ``sandboxed``.
        eager: See ``sandboxed``.
    """

    asked: bool = True
    cache: Cache | None = None
    eager: frozenset[str] = frozenset()

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """A workflow in the sandbox."""
        workflow_type, workflow_id = det.info.workflow_type, det.info.workflow_id
        eager = workflow_type in self.eager
        if not eager:
            det = replace(det, disable_eager_activity_execution=True)
        instance = super().create_instance(det)
        # On the one instance: its class is private to the SDK.
        own: dict[str, Callable[..., Any]] = {}
        if not self.asked:
            nowhere = StorageDriverStoreContext(target=None)
            own["get_serialization_context"] = lambda _: None
            own["get_external_store_context"] = lambda _: nowhere
        if eager and self.cache is not None:
            own["activate"] = _told(self.cache, workflow_id, instance.activate)
        for method, ours in own.items():
            setattr(instance, method, ours)
        return instance


def _told(cache: Cache, workflow_id: str, activate: Activate) -> Activate:
    def told(act: WorkflowActivation) -> WorkflowActivationCompletion:
        if any(job.HasField("remove_from_cache") for job in act.jobs):
            cache.evicted(workflow_id)
        else:
            cache.activated(workflow_id)
        return activate(act)

    return told
