"""The saver contract: all capabilities of langgraph-checkpoint-conformance, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver


@pytest.mark.compat
@pytest.mark.parametrize("capability", sorted(c.value for c in ALL_CAPABILITIES))
async def test_capability(client: Client, task_queue: str, capability: str) -> None:
    @checkpointer_test(name=f"TemporalSaver-{task_queue}")
    async def factory() -> AsyncIterator[TemporalSaver]:
        saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
        async with saver.worker():
            yield saver

    report = await validate(factory, capabilities={capability})
    result = report.results[capability]
    assert result.detected
    assert result.passed, "\n".join(result.failures)
    assert result.tests_passed > 0
