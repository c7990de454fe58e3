"""What Temporal's sandbox loads anew for every workflow, and what all workflows of a worker share.

Sharing saves a worker most of what a workflow costs it to begin. It is right only as long as
nothing that is shared remembers anything of a workflow.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import types
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Self

import pytest
import temporalio.converter
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import PayloadCodec, SerializationContext, WithSerializationContext
from temporalio.worker import Replayer, WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from langgraph_temporal_exec._sandbox import sandboxed
from langgraph_temporal_exec.workflow.run import RunWorkflow
from langgraph_temporal_exec.workflow.thread import ThreadWorkflow
from tests.replay.record import HISTORIES, load
from tests.storage.aes import Aes

PACKAGE = "langgraph_temporal_exec"
WORKFLOWS = (ThreadWorkflow, RunWorkflow)
GOLDEN = sorted(HISTORIES.glob("v*/*.json.gz"))


class _Watching(SandboxedWorkflowRunner):
    """The sandbox, which tells what it has loaded."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance = super().create_instance(det)
        importer: Any = instance.importer  # type: ignore[attr-defined]
        anew = {n for n, m in importer.new_modules.items() if m is not sys.modules.get(n)}
        _loaded.setdefault(det.defn.cls, set()).update(n for n in anew if n.startswith(PACKAGE))
        return instance


_loaded: dict[type, set[str]] = {}


async def _histories() -> AsyncIterator[WorkflowHistory]:
    for path in GOLDEN:
        yield await asyncio.to_thread(load, path)


async def _replay_all(**settings: Any) -> None:
    results = await Replayer(workflows=WORKFLOWS, **settings).replay_workflows(
        _histories(), raise_on_replay_failure=False
    )
    assert not results.replay_failures


async def test_of_this_package_only_the_definition_is_loaded_anew() -> None:
    _loaded.clear()
    await _replay_all(workflow_runner=_Watching())
    packages = {PACKAGE, f"{PACKAGE}.workflow"}
    assert _loaded == {workflow: {*packages, workflow.__module__} for workflow in WORKFLOWS}


def _remembered() -> Iterator[tuple[str, str]]:
    """All that modules which workflows share, and their classes, hold besides code."""
    for name, module in sorted(sys.modules.items()):
        if not name.startswith((f"{PACKAGE}.protocol", f"{PACKAGE}.workflow")):
            continue
        for attribute, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == name:
                for member, held in vars(value).items():
                    if not callable(held) and not member.startswith("__"):
                        yield f"{name}.{attribute}.{member}", f"{id(held)} {held!r}"
            elif not attribute.startswith("__"):
                shown = "" if isinstance(value, types.ModuleType) else repr(value)
                yield f"{name}.{attribute}", f"{id(value)} {shown}"


async def test_workers_load_nothing_of_it_anew(client: Client) -> None:
    _loaded.clear()
    runner = _Watching(restrictions=sandboxed(client)["workflow_runner"].restrictions)
    await _replay_all(workflow_runner=runner)
    assert _loaded == {workflow: set() for workflow in WORKFLOWS}


async def test_no_workflow_leaves_anything_in_what_is_shared(client: Client) -> None:
    before = dict(_remembered())
    for module in ("core.thread_state", "thread", "run"):
        assert f"{PACKAGE}.workflow.{module}" in {name.rpartition(".")[0] for name in before}
    await _replay_all(workflow_runner=sandboxed(client)["workflow_runner"])
    assert dict(_remembered()) == before


class _PerWorkflow(PayloadCodec, WithSerializationContext):
    """Might use a key per workflow."""

    def with_context(self, context: SerializationContext) -> Self:
        return type(self)()

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)


@pytest.mark.parametrize(
    ("codec", "asks"), [(None, False), (Aes(b"0" * 16), False), (_PerWorkflow(), True)]
)
async def test_the_sandbox_is_asked_for_contexts_if_somebody_heeds_them(
    client: Client, codec: PayloadCodec | None, asks: bool
) -> None:
    converter = dataclasses.replace(temporalio.converter.default(), payload_codec=codec)
    settings: dict[str, Any] = {**client.config(), "data_converter": converter}
    runner = sandboxed(Client(**settings))["workflow_runner"]
    assert runner.asked == asks
