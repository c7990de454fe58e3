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

from typing import Any

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


def sandboxed(client: Client) -> dict[str, Any]:
    """Arguments of a ``Worker`` that hosts workflows of this package.

    Args:
        client: Of the worker; its data converter says what may be left out.
    """
    converter = client.data_converter
    stores = converter.external_storage is not None
    asks = stores or _heeds_context(converter, client.namespace)
    restrictions = SandboxRestrictions.default.with_passthrough_modules(PACKAGE)
    kind = SandboxedWorkflowRunner if asks else _Unasked
    settings: dict[str, Any] = {"workflow_runner": kind(restrictions=restrictions)}
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


class _Unasked(SandboxedWorkflowRunner):
    """For data converters that heed no context, and store nothing elsewhere."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """A workflow in the sandbox that is not entered to ask for contexts."""
        instance = super().create_instance(det)
        # On the one instance: its class is private to the SDK.
        for question, answer in (
            ("get_serialization_context", None),
            ("get_external_store_context", StorageDriverStoreContext(target=None)),
        ):
            setattr(instance, question, lambda _, answer=answer: answer)
        return instance
