"""With external storage on the client, large values go there; when it fails, nothing is wedged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from langgraph.types import Command
from temporalio.client import Client

from langgraph_temporal_exec import StorageError
from langgraph_temporal_exec.protocol import names
from tests.conftest import TemporalServer
from tests.storage.conftest import MakeSaver
from tests.storage.driver import Files, storage
from tests.storage.graphs import big
from tests.support.graphs import config


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
async def client(temporal_server: TemporalServer, files: Files) -> Client:
    """A client with external storage."""
    plain = await Client.connect(temporal_server.address, namespace=temporal_server.namespace)
    converter = dataclasses.replace(plain.data_converter, external_storage=storage(files))
    return await Client.connect(
        temporal_server.address, namespace=temporal_server.namespace, data_converter=converter
    )


async def test_large_values_are_kept_by_the_driver(
    make_saver: MakeSaver, client: Client, task_queue: str, files: Files
) -> None:
    saver = make_saver()
    async with saver.worker(big()):
        graph = big().with_config(checkpointer=saver)
        await graph.ainvoke({"kind": "string", "megabytes": 10}, config("t"))
        assert max(f.stat().st_size for f in files.folder.iterdir()) > 10_000_000
        done = await graph.ainvoke(Command(resume="x" * 3_000_000), config("t"))
        assert len(done["answer"]) == 3_000_000
        cold = big().with_config(checkpointer=make_saver())
        state = await cold.aget_state(config("t"))
        assert (len(state.values["value"]), len(state.values["answer"])) == (10_000_000, 3_000_000)
        query = f"WorkflowId STARTS_WITH '{task_queue}/'"
        async for execution in client.list_workflows(query):
            handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
            info = (await handle.describe()).raw_description.workflow_execution_info
            assert info.history_size_bytes < 400_000


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_a_storage_that_fails_is_a_typed_error_and_the_thread_stays_usable(
    make_saver: MakeSaver, client: Client, task_queue: str, files: Files, mode: str
) -> None:
    host = make_saver()
    caller = host if mode == "embedded" else make_saver()
    async with host.worker(big()):
        graph = big().with_config(checkpointer=caller)
        await graph.ainvoke({"kind": "string", "megabytes": 0}, config("t"))
        files.failing = True
        with pytest.raises(StorageError, match=r"'value'.*node 'make'.*thread 't'.*disk is full"):
            await graph.ainvoke({"kind": "string", "megabytes": 1}, config("t"))
        with pytest.raises(StorageError, match=r"input.*thread 't'.*disk is full"):
            await graph.ainvoke({"kind": "string", "value": "v" * 400_000}, config("t"))
        with pytest.raises(StorageError, match=r"'value'.*thread 't'.*disk is full"):
            await graph.aupdate_state(config("t"), {"value": "v" * 400_000}, as_node="make")
        state = await graph.aget_state(config("t"))
        assert state.next == ("make",)
        assert state.values["value"] == ""
        info = await caller.aget_thread("t")
        assert info is not None
        assert info.status == "error"
        files.failing = False
        done = await graph.ainvoke(None, config("t"))
        assert len(done["value"]) == 1_000_000
        cold = big().with_config(checkpointer=make_saver())
        assert len((await cold.aget_state(config("t"))).values["value"]) == 1_000_000
    running = await client.get_workflow_handle(names.thread_workflow_id(task_queue, "t")).describe()
    assert running.raw_description.pending_workflow_task.attempt <= 1
    caller.close()
