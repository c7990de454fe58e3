"""Tasks that run on another worker than the one that drives their run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from temporalio.client import Client

from langgraph_temporal_exec import NodeOptions, TemporalSaver
from tests.conftest import TemporalServer
from tests.support import placing
from tests.support.graphs import config
from tests.support.placing import HEARTBEAT, everything, fan, ran, slow, workers


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACING", str(tmp_path))


def _saver(client: Client, task_queue: str, **options: Any) -> TemporalSaver:
    return TemporalSaver(
        client,
        task_queue=task_queue,
        id_prefix=task_queue,
        heartbeat_timeout=HEARTBEAT,
        **options,
    )


async def test_as_if_it_had_run_in_place(
    temporal_server: TemporalServer, client: Client, task_queue: str, tmp_path: Path
) -> None:
    """Result, streams, nested graph, interrupt and state of a task on another worker."""
    gpu = f"{task_queue}-gpu"
    options = {"stream_mode": ["custom", "updates", "values"], "subgraphs": True}
    saver = _saver(client, task_queue, nodes={"work": NodeOptions(task_queue=gpu)})
    async with (
        workers(temporal_server.address, [gpu], task_queue, tmp_path) as (process,),
        saver.worker(),
        asyncio.timeout(60),
    ):
        graph = everything().with_config(checkpointer=saver)
        plain = everything()
        plain.checkpointer = InMemorySaver()
        seen: list[list[Any]] = []
        for subject in (graph, plain):
            chunks = []
            for input in ({"x": ["start"]}, Command(resume="yes")):
                async for chunk in subject.astream(input, config("t"), **options):
                    chunks.append(chunk)
                state = await subject.aget_state(config("t"), subgraphs=True)
                chunks.append((state.values, state.next, [t.error for t in state.tasks]))
            seen.append([_without_ids(chunk) for chunk in chunks])
            if subject is graph:
                assert ran(tmp_path, "work") == ran(tmp_path, "first") == {process.pid}
                assert ran(tmp_path, "answer yes") == {process.pid}
                assert ran(tmp_path, "before") == ran(tmp_path, "after") == {os.getpid()}
        assert seen[0] == seen[1]


def _without_ids(value: Any) -> str:
    import re

    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}", "ID", repr(value))
