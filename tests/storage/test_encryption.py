"""Encryption: nothing of the state is in the server's database in plain, and all of it works."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.types import Command
from temporalio.client import Client
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverter,
    DefaultFailureConverterWithEncodedAttributes,
)

from langgraph_temporal_exec import TemporalSaver, UnreadableError
from langgraph_temporal_exec.caller.outcome import await_outcome
from langgraph_temporal_exec.local import start_server
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import RunStart
from langgraph_temporal_exec.protocol.wire import pack
from langgraph_temporal_exec.worker.upkeep import Upkeep
from tests.storage.aes import ENCRYPTED, Aes, found_in, payloads_of, secret
from tests.storage.test_lifetime import settled
from tests.storage.vault import LARGE, Losing, VaultError, large, vault

pytestmark = pytest.mark.exhaustive

PREFIX = "vault"
RECORDED = {
    *("input", "output", "nested", "interrupt", "answer", "update", "large", "tool"),
    *("configurable", "metadata", "tag", "name"),
}
"""Kinds of secrets in the state, or beside it."""

RAISED = {"message", "argument", "note", "attribute", "lost", "cause", "upkeep"}
"""Kinds of secrets in exceptions."""


def secretive(thread_id: str) -> Any:
    """A config with secrets in all parts that are recorded."""
    return {
        "configurable": {"thread_id": thread_id, "user": secret("configurable")},
        "metadata": {"why": secret("metadata")},
        "tags": [secret("tag")],
        "run_name": secret("name"),
    }


def call(kind: str, **more: Any) -> Any:
    return {"kind": kind, "text": [secret("input")], **more}


@asynccontextmanager
async def served(path: Path, converter: DataConverter | None) -> AsyncIterator[Client]:
    """A server on a file; stopped, all that it keeps is in that file."""
    server = await start_server(path)
    settings: dict[str, Any] = server.client.config()
    if converter is not None:
        settings["data_converter"] = converter
    try:
        yield Client(**settings)
    finally:
        await server.shutdown()


def deployed(client: Client, **options: Any) -> TemporalSaver:
    """A saver that archives and continues as new all the time."""
    # Heartbeats, three in this time, bring cancellations.
    options["heartbeat_timeout"] = timedelta(seconds=4)
    saver = TemporalSaver(client, task_queue=PREFIX, id_prefix=PREFIX, **options)
    saver._store.transport.archive_bytes = 3_000
    saver._store.transport.roll_events = 40
    return saver


async def states(graph: Any, thread_id: str) -> list[Any]:
    """All of a thread, interrupts included."""
    config = {"configurable": {"thread_id": thread_id}}
    return [
        (s.values, s.next, s.metadata, [i.value for t in s.tasks for i in t.interrupts])
        async for s in graph.aget_state_history(config)
    ]


async def converse(graph: Any, thread_id: str) -> None:
    """A question and its answer, an update from outside, a large input."""
    config = secretive(thread_id)
    chunks = [c async for c in graph.astream(call("ask"), config, stream_mode="custom")]
    assert secret("chunk") in chunks
    state = await graph.aget_state(config, subgraphs=True)
    assert state.tasks[0].interrupts[0].value == {"really": secret("interrupt")}
    done = await graph.ainvoke(Command(resume=secret("answer")), config)
    assert done["text"][-1] == secret("answer")
    await graph.aupdate_state(config, {"text": [secret("update")]}, as_node="tools")
    done = await graph.ainvoke(call("plain", big=large()), config)
    assert done["text"][-1] == secret("tool")


async def fail(graph: Any, thread_id: str) -> None:
    with pytest.raises(VaultError) as caught:
        await graph.ainvoke(call("fail"), secretive(thread_id))
    assert caught.value.args == (secret("message"), {"given": secret("argument")})
    assert secret("note") in caught.value.__notes__


async def cancel(graph: Any, thread_id: str, started: asyncio.Event) -> None:
    started.clear()
    running = asyncio.create_task(graph.ainvoke(call("wait"), secretive(thread_id)))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def copy_prune_delete(saver: TemporalSaver, graph: Any, thread_id: str) -> None:
    assert (await settled(saver, thread_id)).page.segments
    before = await states(graph, thread_id)
    await saver.acopy_thread(thread_id, "copy")
    assert await states(graph, "copy") == before
    await saver.aprune(["copy"])
    await settled(saver, "copy")
    assert await states(graph, "copy") == before[:1]
    await saver.adelete_thread("copy")
    assert await states(graph, "copy") == []


async def lose(client: Client) -> None:
    """Attempts that fail with words of their own, outside of what is recorded."""
    serde = Losing()
    host, caller = deployed(client, serde=serde), deployed(client)
    graph = vault().with_config(checkpointer=caller)
    async with host.worker(vault()):
        serde.failures = 1
        done = await graph.ainvoke(call("plain"), secretive("lost"))
        assert done["text"][-1] == secret("tool")
        # And a run that is given up for it.
        serde.failures = 2
        transport = caller._store.transport
        start = RunStart(
            run_id="given-up",
            thread_id="given-up",
            thread_workflow_id=transport.thread_workflow_id("given-up"),
            graph="vault",
            task_queue=PREFIX,
            record=b"msgpack\0",
            max_lost_attempts=2,
        )
        await client.start_workflow(
            names.RUN_WORKFLOW,
            pack(start),
            id=transport.run_workflow_id("given-up"),
            task_queue=PREFIX,
        )
        with pytest.raises(UnreadableError, match="unexpected end of file"):
            await await_outcome(transport, "given-up", "given-up")
    caller.close()


def fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first archive fails with a secret, and is tried again."""
    move: Any = Upkeep._move
    failures = [ValueError(secret("upkeep"))]

    async def moved(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return await move(*args)

    monkeypatch.setattr(Upkeep, "_move", moved)


async def play(client: Client, modes: Sequence[str], **options: Any) -> None:
    """What users do, by a caller with a worker and by one without; then all is read again."""
    started = asyncio.Event()
    host, caller = deployed(client, **options), deployed(client, **options)
    expected = {}
    async with host.worker(vault(started)):
        for mode in modes:
            saver = host if mode == "embedded" else caller
            graph = vault(started).with_config(checkpointer=saver)
            await converse(graph, mode)
            await fail(graph, mode)
            await cancel(graph, mode, started)
            if mode == "embedded":
                await copy_prune_delete(saver, graph, mode)
            expected[mode] = await states(graph, mode)
    caller.close()
    # Without a worker, by a process that knows nothing.
    cold = vault().with_config(checkpointer=deployed(client, **options))
    for mode, before in expected.items():
        assert await states(cold, mode) == before
        assert max(len(values.get("big", "")) for values, *_ in before) > LARGE * 0.99


@pytest.mark.parametrize(
    ("failures", "modes"),
    [
        (DefaultFailureConverter, ("embedded", "remote")),
        (DefaultFailureConverterWithEncodedAttributes, ("remote",)),
    ],
)
async def test_a_codec_encrypts_everything(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failures: type[DefaultFailureConverter],
    modes: Sequence[str],
) -> None:
    """With Temporal's default for failures too: ours name no more than classes."""
    converter = DataConverter(payload_codec=Aes(os.urandom(32)), failure_converter_class=failures)
    async with served(tmp_path / "temporal.db", converter) as client:
        fail_once(monkeypatch)
        await play(client, modes)
        await lose(client)
        query = f"WorkflowId STARTS_WITH '{PREFIX}/' AND ExecutionStatus = 'ContinuedAsNew'"
        assert (await client.count_workflows(query)).count
        encodings = {p.metadata["encoding"] for p in await payloads_of(client, PREFIX)}
        assert encodings == {ENCRYPTED}
    assert found_in(tmp_path / "temporal.db") == set()


async def test_without_a_codec_all_of_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail."""
    async with served(tmp_path / "temporal.db", None) as client:
        fail_once(monkeypatch)
        await play(client, ["embedded"])
        await lose(client)
    assert found_in(tmp_path / "temporal.db") >= RECORDED | RAISED


async def test_the_serializer_of_langgraph_encrypts_what_is_state(tmp_path: Path) -> None:
    """Not what is no value of LangGraph's: how nodes ended, and labels for Temporal's UI."""
    serde = EncryptedSerializer.from_pycryptodome_aes(key=os.urandom(32))
    async with served(tmp_path / "temporal.db", None) as client:
        await play(client, ["embedded", "remote"], serde=serde)
    found = found_in(tmp_path / "temporal.db")
    assert found & RECORDED <= {"tool"}
    assert found - RECORDED == {"message", "argument", "note", "attribute"}
