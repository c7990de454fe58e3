"""With external storage on the client, archives and large values go there; when it fails, or is not
there, nothing is wedged and nothing is lost."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.types import Command
from temporalio.client import Client
from temporalio.contrib.aws.s3driver import S3StorageDriver
from temporalio.converter import ExternalStorage, PayloadCodec

from langgraph_temporal_exec import StorageError, UnreadableError
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.blob import EXTERNAL_PIECE_BYTES
from langgraph_temporal_exec.storage.blobs import EXTERNAL_AT
from tests.conftest import TemporalServer
from tests.storage.aes import ENCRYPTED, Aes
from tests.storage.conftest import MakeSaver, converse, history
from tests.storage.driver import Files, FolderS3, blobs_of, storage
from tests.storage.graphs import big, noisy, turn
from tests.storage.test_lifetime import settled
from tests.support.graphs import config

SMALL = 50_000
"""Size of the log at which it moves into archives; three turns of ``noisy``."""

REFERENCE = 1_000
"""Bytes; more than what a history has of a blob that is elsewhere, less than any blob here."""

Connect = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def connect(temporal_server: TemporalServer) -> Connect:
    """Connects clients; without an external storage, as one that lacks it."""

    async def make(
        external: ExternalStorage | None = None, codec: PayloadCodec | None = None
    ) -> Client:
        address, namespace = temporal_server.address, temporal_server.namespace
        plain = await Client.connect(address, namespace=namespace)
        converter = dataclasses.replace(
            plain.data_converter, external_storage=external, payload_codec=codec
        )
        return await Client.connect(address, namespace=namespace, data_converter=converter)

    return make


@pytest.fixture
async def client(connect: Connect, files: Files) -> Client:
    """A client with external storage."""
    client: Client = await connect(storage(files))
    return client


async def known_blobs(client: Client, prefix: str) -> Any:
    """``blobs_of``, when visibility knows them all."""
    seen: Any = None
    while True:
        found = await blobs_of(client, prefix)
        if found == seen:
            return found
        seen = found
        await asyncio.sleep(0.5)


def ids(turns: range) -> list[str]:
    """Of the messages of these turns."""
    return [f"{who}{n}" for n in turns for who in "qa"]


async def messages(graph: Any, thread_id: str = "t") -> list[str]:
    """Ids of a thread's messages now, after its whole history was read."""
    states = await history(graph, thread_id)
    assert len(states) == 3 * len(states[0][0]["messages"]) // 2
    return [id_ for _, _, id_ in states[0][0]["messages"]]


# -- where the bytes are ----------------------------------------------------------------------


@pytest.mark.parametrize("encrypted", [False, True])
async def test_archives_are_kept_by_the_driver(
    connect: Connect, make_saver: MakeSaver, task_queue: str, files: Files, encrypted: bool
) -> None:
    """The server has references. Whoever has the same client reads all, also without a worker."""
    key = os.urandom(32)
    codec = Aes(key) if encrypted else None
    client = await connect(storage(files), codec)
    saver = make_saver(client=client, archive_bytes=SMALL)
    async with saver.worker(noisy()):
        await converse(noisy().with_config(checkpointer=saver), range(12))
        assert (await settled(saver)).page.segments
        found = await known_blobs(client, task_queue)
        assert found["archive"]
        assert found["head"]
        for payload in [*found["archive"], *found["head"]]:
            (elsewhere,) = payload.external_payloads
            assert payload.ByteSize() < REFERENCE < elsewhere.size_bytes
        kept = sum(files.stored[w] for w in files.stored if "/archive/" in w)
        # Nine tenths of what was said, which cannot be compressed to less than three quarters.
        assert kept > 12 * 20_000 * 0.9 * 0.75
        # What is in the folder is encrypted, or is not.
        contents = [file.read_bytes() for file in files.folder.iterdir()]
        assert all((ENCRYPTED in content) is encrypted for content in contents)
        other = await connect(storage(Files(files.folder)), Aes(key) if encrypted else None)
        cold = noisy().with_config(checkpointer=make_saver(client=other))
        assert await messages(cold) == ids(range(12))
    # Without a worker.
    other = await connect(storage(Files(files.folder)), Aes(key) if encrypted else None)
    cold = noisy().with_config(checkpointer=make_saver(client=other))
    assert await messages(cold) == ids(range(12))


async def test_what_stays_the_same_is_not_stored_again(make_saver: MakeSaver, files: Files) -> None:
    """A state is summed up with every archive; nobody deletes what that replaces."""
    saver = make_saver(archive_bytes=SMALL)
    async with saver.worker(noisy()):
        await converse(noisy().with_config(checkpointer=saver), range(45))
        await settled(saver)
    state = 45 * 20_000
    summed_up = sum(files.stored[w] for w in files.stored if "/head/" in w)
    # With more than a dozen archives, whole each time it would be more than six times the state.
    archives = sum("/archive/" in w for w in files.stored)
    assert archives >= 12
    assert state * 0.8 < summed_up < state * 3, summed_up / state


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


async def test_a_selector_may_leave_it_in_temporal(
    connect: Connect, make_saver: MakeSaver, task_queue: str, files: Files
) -> None:
    """So it is how one stops to use a storage; what Temporal would refuse is cut."""
    none = ExternalStorage(drivers=[files], driver_selector=lambda context, payload: None)
    saver = make_saver(client=await connect(none))
    async with saver.worker(big()):
        graph = big().with_config(checkpointer=saver)
        await graph.ainvoke({"kind": "string", "megabytes": 10}, config("t"))
        cold = big().with_config(checkpointer=make_saver())
        assert len((await cold.aget_state(config("t"))).values["value"]) == 10_000_000
    assert not files.stored


async def test_a_selector_may_choose_what_lasts(
    connect: Connect, make_saver: MakeSaver, client: Client, files: Files
) -> None:
    """As in docs/how-to/external-storage.md: results and streams are not kept then."""

    def lasting(context: Any, payload: Any) -> Any:
        return files if context.target.type == names.BLOB_WORKFLOW else None

    only = ExternalStorage(drivers=[files], driver_selector=lasting)
    for at_work, kinds in ((await connect(only), {"blob"}), (client, {"blob", "mailbox", "run"})):
        files.stored.clear()
        saver = make_saver(client=at_work)
        async with saver.worker(noisy(600)):
            remote = noisy(600).with_config(checkpointer=make_saver(client=at_work))
            chunks = remote.astream(turn(0), config(f"{len(kinds)}"), stream_mode="values")
            assert len([chunk async for chunk in chunks]) == 2
        assert {workflow_id.split("/")[1] for workflow_id in files.stored} == kinds


@pytest.mark.long
async def test_temporals_own_driver_takes_the_largest_values(
    connect: Connect, make_saver: MakeSaver, task_queue: str, tmp_path: Path
) -> None:
    """Its default limit is 50 MiB, ours is 64 MB. It is called on several event loops."""
    bucket = FolderS3(tmp_path)
    driver = S3StorageDriver(client=bucket, bucket="payloads")
    client = await connect(ExternalStorage(drivers=[driver]))
    saver = make_saver(client=client)
    async with saver.worker(big()):
        graph = big().with_config(checkpointer=saver)
        await graph.ainvoke({"kind": "string", "megabytes": 60}, config("t"))
        cold = big().with_config(checkpointer=make_saver(client=client))
        assert len((await cold.aget_state(config("t"))).values["value"]) == 60_000_000
    assert max(bucket.sizes.values()) < EXTERNAL_PIECE_BYTES * 1.01
    assert len(bucket.loops) > 1
    for payload in (await known_blobs(client, task_queue))["value"]:
        assert payload.ByteSize() < (REFERENCE if payload.external_payloads else EXTERNAL_AT)
    # All of a thread is found by the beginning of its keys.
    prefix = names.blob_workflow_prefix(task_queue, "t").replace("/", "%2F")
    blobs = [key for key in bucket.sizes if f"/wt/{names.BLOB_WORKFLOW}/" in key]
    assert blobs
    assert all(f"/wt/{names.BLOB_WORKFLOW}/wi/{prefix}" in key for key in blobs)


# -- with and without it ----------------------------------------------------------------------


async def test_it_can_be_switched_on_and_off(
    connect: Connect, make_saver: MakeSaver, client: Client, task_queue: str, files: Files
) -> None:
    """Threads go on, and are read whole, wherever their archives are."""
    off = ExternalStorage(drivers=[files], driver_selector=lambda context, payload: None)
    clients = [await connect(), client, await connect(off)]
    inside = outside = 0
    for i, at_work in enumerate(clients):
        saver = make_saver(client=at_work, archive_bytes=SMALL)
        async with saver.worker(noisy()):
            graph = noisy().with_config(checkpointer=saver)
            await converse(graph, range(9 * i, 9 * (i + 1)))
            await settled(saver)
            assert await messages(graph) == ids(range(9 * (i + 1)))
        archives = (await known_blobs(client, task_queue))["archive"]
        before = inside, outside
        outside = sum(bool(payload.external_payloads) for payload in archives)
        inside = len(archives) - outside
        grew = (inside > before[0], outside > before[1])
        assert grew == [(True, False), (False, True), (True, False)][i]
    cold = noisy().with_config(checkpointer=make_saver())
    assert await messages(cold) == ids(range(27))


async def test_whoever_lacks_it_is_told(
    connect: Connect, make_saver: MakeSaver, client: Client, files: Files
) -> None:
    """A reader, a caller, a worker. Nothing is lost, and those who have it go on."""
    plain = await connect()
    lacks = r"cannot be read here .*not configured.*Give .*`external_storage`"
    saver = make_saver(archive_bytes=SMALL)
    async with saver.worker(noisy(), noisy(300).copy({"name": "large"})):
        graph = noisy().with_config(checkpointer=saver)
        await converse(graph, range(6))
        await settled(saver)
        without = noisy().with_config(checkpointer=make_saver(client=plain))
        with pytest.raises(UnreadableError, match=f"blob.*{lacks}"):
            await without.aget_state(config("t"))
        with pytest.raises(UnreadableError, match=f"blob.*{lacks}"):
            await without.aupdate_state(config("t"), {"turn": 1}, as_node="answer")
        # The run is the workers'. Its result is too large for whoever asks for it later.
        await converse(without, range(6, 7))
        large, caller = noisy(300).copy({"name": "large"}), make_saver(client=plain)
        run = await caller.astart(large, turn(0), config("u"))
        with pytest.raises(UnreadableError, match=f"result of run.*thread 'u'.*{lacks}"):
            await run.aresult()
        # It is recorded.
        assert await messages(noisy().with_config(checkpointer=make_saver()), "u") == ids(range(1))
    without = noisy().with_config(checkpointer=make_saver(client=plain))
    with pytest.raises(UnreadableError, match=f"blob.*{lacks}"):
        await without.aget_state(config("t"))
    lacking = make_saver(client=plain, archive_bytes=SMALL)
    async with lacking.worker(noisy()):
        with pytest.raises(UnreadableError, match=f"given up.*blob.*{lacks}"):
            await converse(noisy().with_config(checkpointer=make_saver()), range(7, 8))
    saver = make_saver(archive_bytes=SMALL)
    async with saver.worker(noisy()):
        graph = noisy().with_config(checkpointer=saver)
        await converse(graph, range(7, 9))
        # What the caller without it has begun is there, but for the input of the run given up.
        assert await messages(graph) == ids(range(9))


# -- when it fails ----------------------------------------------------------------------------


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


async def test_runs_go_on_while_nothing_can_be_archived(
    make_saver: MakeSaver, files: Files
) -> None:
    saver = make_saver(archive_bytes=SMALL)
    async with saver.worker(noisy()):
        graph = noisy().with_config(checkpointer=saver)
        files.failing = True
        await converse(graph, range(8))
        assert await messages(graph) == ids(range(8))
        handle = saver.client.get_workflow_handle(
            names.thread_workflow_id(saver.options.id_prefix, "t")
        )
        while True:
            pending = (await handle.describe()).raw_description.pending_activities
            if any(activity.last_failure.message for activity in pending):
                break
            await asyncio.sleep(0.1)
        assert not files.stored
        files.failing = False
        assert (await settled(saver)).page.segments
        cold = noisy().with_config(checkpointer=make_saver())
        assert await messages(cold) == ids(range(8))


async def test_a_storage_that_does_not_answer_is_a_typed_error(
    make_saver: MakeSaver, files: Files
) -> None:
    silent = r"blob.*cannot be read here .*disk does not answer.*storage does not answer"
    saver = make_saver(archive_bytes=SMALL)
    async with saver.worker(noisy()):
        graph = noisy().with_config(checkpointer=saver)
        await converse(graph, range(6))
        await settled(saver)
    saver = make_saver(archive_bytes=SMALL)
    async with saver.worker(noisy()):
        files.silent = True
        for reader in (saver, make_saver()):
            graph = noisy().with_config(checkpointer=reader)
            with pytest.raises(UnreadableError, match=silent):
                await graph.aget_state(config("t"))
            # Embedded, and remote.
            with pytest.raises(UnreadableError, match=silent):
                await converse(graph, range(6, 7))
        files.silent = False
        await converse(graph, range(6, 8))
        assert await messages(graph) == ids(range(8))


# -- deletion ---------------------------------------------------------------------------------


async def test_a_copy_is_its_own_and_deletion_leaves_the_drivers_objects(
    make_saver: MakeSaver, client: Client, task_queue: str, files: Files
) -> None:
    saver = make_saver(archive_bytes=SMALL)
    async with saver.worker(noisy()):
        graph = noisy().with_config(checkpointer=saver)
        await converse(graph, range(6))
        await settled(saver)
        exported = [item async for item in saver.aexport_thread("t")]
        await saver.acopy_thread("t", "copy")
        await settled(saver, "copy")
        before = {file.name for file in files.folder.iterdir()}
        await saver.adelete_thread("t")
        assert {file.name for file in files.folder.iterdir()} == before
        assert (await graph.aget_state(config("t"))).values == {}
        assert await messages(graph, "copy") == ids(range(6))
        copied = [item async for item in saver.aexport_thread("copy")]
        assert len(copied) == len(exported) == 18
        await saver.adelete_thread("copy")
        assert await known_blobs(client, task_queue) == {}


async def test_a_thread_whose_objects_are_gone_can_be_deleted(
    make_saver: MakeSaver, client: Client, task_queue: str, files: Files
) -> None:
    """As a bucket's lifecycle rule would have it."""
    saver = make_saver(archive_bytes=SMALL)
    async with saver.worker(noisy()):
        await converse(noisy().with_config(checkpointer=saver), range(6))
        await settled(saver)
    for file in files.folder.iterdir():
        file.unlink()
    saver = make_saver(archive_bytes=SMALL)
    async with saver.worker(noisy()):
        graph = noisy().with_config(checkpointer=saver)
        with pytest.raises(UnreadableError, match="lost the object"):
            await graph.aget_state(config("t"))
        assert await known_blobs(client, task_queue)
        await saver.adelete_thread("t")
        assert await known_blobs(client, task_queue) == {}
        await converse(graph, range(2))
        assert await messages(graph) == ids(range(2))
