"""What any client may send is read from a thread's history; what cannot be read stands apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgpack
import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.converter import DataConverter, PayloadCodec
from typer.testing import CliRunner

from langgraph_temporal_exec import StorageError, TemporalSaver
from langgraph_temporal_exec.cli.main import app
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import (
    AppendRequest,
    AttachRequest,
    BeginRequest,
    RunBounds,
    StepRequest,
    ThreadStart,
)
from langgraph_temporal_exec.protocol.stored import Op, OpKind
from langgraph_temporal_exec.protocol.wire import pack
from tests.conftest import TemporalServer
from tests.support.graphs import State, config
from tests.support.reading import check_status, check_without_worker

pytestmark = pytest.mark.compat

WAIT_S = 60.0
"""Bound of every wait."""

UNKNOWN = RawValue(Payload(metadata={"encoding": b"of/nobody"}, data=b"\xff"))
PROTO = RawValue(
    Payload(
        metadata={
            "encoding": b"json/protobuf",
            "messageType": b"temporal.api.common.v1.WorkflowExecution",
        },
        data=b'{"workflowId": "w"}',
    )
)

SIGNALS: list[tuple[str, list[Any]]] = [
    (name, args)
    for name in (names.RUN_CLOSED_SIGNAL, names.FENCE_SIGNAL, names.ANSWER_SIGNAL)
    for args in (
        [],
        [None],
        [1],
        [True],
        [1.5],
        ["text"],
        [b"bytes"],
        [[1, "list"]],
        [{"a": "map"}],
        [UNKNOWN],
        [PROTO],
        ["one", "two"],
        [1, None],
        [1, 2],
        [1, "task", "more"],
    )
] + [
    ("of nobody", []),
    ("of nobody", [b"x", UNKNOWN]),
    (names.STOP_SIGNAL, [1]),
    (names.STOP_SIGNAL, ["no run", "more"]),
    (names.PARK_SIGNAL, []),
    (names.PARK_SIGNAL, [1, "two"]),
    (names.MOVE_SIGNAL, [""]),
    (names.MOVE_SIGNAL, [b"bytes"]),
    # A message without its fields, with others, and with fields of other types.
    *((names.ANNOUNCE_SIGNAL, [x]) for x in ("text", UNKNOWN, b"", b"bytes", b"\x91\x01")),
    *((names.ANNOUNCE_SIGNAL, [msgpack.packb([1, *x])]) for x in ([["a"], "w"], ["r", None])),
]

ANSWERS: list[Any] = [True, 0, 1.5, "yes", "", b"raw", [1, ["two"]], {"x": 1}, {"x": {}}]


def _begin(**step: Any) -> bytes:
    return pack(
        BeginRequest(
            attach=AttachRequest(run_id="r", attempt=1, run_workflow_id="w"),
            step=StepRequest(epoch=1, seq=0, run_id="r", **step),
        )
    )


REFUSED: list[tuple[str, list[Any]]] = [
    (names.RESUME_UPDATE, []),
    (names.RESUME_UPDATE, [None]),
    (names.RESUME_UPDATE, ["yes", "bounds that are none"]),
    (names.RESUME_UPDATE, ["yes", b"bounds that are none"]),
    (names.RESUME_UPDATE, ["yes", None, "more"]),
    (names.RESUME_UPDATE, [UNKNOWN]),
    (names.RESUME_UPDATE, [PROTO]),
    (names.ATTACH_UPDATE, ["text"]),
    (names.ATTACH_UPDATE, [b"no message"]),
    (names.BEGIN_UPDATE, []),
    (names.BEGIN_UPDATE, [b"no message"]),
    (names.BEGIN_UPDATE, [_begin()]),
    (names.BEGIN_UPDATE, [_begin(ops=(b"no op",))]),
    (names.BEGIN_UPDATE, [_begin(outcome=b"no outcome")]),
    (names.BEGIN_UPDATE, [msgpack.packb([1, [1, "attach"], [2, "step"]])]),
    (names.STEP_UPDATE, []),
    (names.STEP_UPDATE, [None]),
    (names.APPEND_UPDATE, [b"x", b"y"]),
    (names.APPEND_UPDATE, [pack(AppendRequest(ops=(b"no op",)))]),
    (names.STEP_UPDATE, [pack(StepRequest(epoch=1, seq=0, run_id="r", outcome=b"no outcome"))]),
    (names.STEP_UPDATE, [msgpack.packb([1, "epoch", 0])]),
    (names.STEP_UPDATE, [msgpack.packb([1, 1, 0, [["a task"]]])]),
    ("of nobody", ["x"]),
]


def _asks() -> Any:
    async def ask(state: State) -> State:
        return {"x": [interrupt("sure?")]}

    return StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile(name="asks")


@pytest.fixture
async def saver(client: Client, task_queue: str) -> AsyncIterator[TemporalSaver]:
    """A saver whose worker each test starts itself."""
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    yield saver
    saver.close()


async def test_whatever_a_client_sends(saver: TemporalSaver, client: Client) -> None:
    graph = _asks().with_config(checkpointer=saver)
    thread = client.get_workflow_handle(saver._store.transport.thread_workflow_id("t"))
    async with saver.worker(_asks()):
        await graph.ainvoke({"x": []}, config("t"))
        for name, args in SIGNALS:
            await thread.signal(name, args=args)
        for name, args in REFUSED:
            with pytest.raises(WorkflowUpdateFailedError):
                await thread.execute_update(name, args=args)
        await check_without_worker(saver, "t")
        assert await check_status(saver, graph, "t") == "interrupted"
        for i, value in enumerate(ANSWERS):
            # With and without the second argument, which ours have.
            bounds: list[Any] = [[], [None], [pack(RunBounds())]][i % 3]
            run_id = await thread.execute_update(
                names.RESUME_UPDATE, args=[value, *bounds], result_type=str
            )
            assert (await (await saver.aget_run(run_id)).aresult())["x"] == [value]
            await saver.adelete_thread("t")
            await graph.ainvoke({"x": []}, config("t"))
            thread = client.get_workflow_handle(saver._store.transport.thread_workflow_id("t"))
            for name, args in SIGNALS[:: i + 1]:
                await thread.signal(name, args=args)
            await check_without_worker(saver, "t")
        run_id = await thread.execute_update(names.RESUME_UPDATE, "last", result_type=str)
        await (await saver.aget_run(run_id)).aresult()
        await check_without_worker(saver, "t")
    # No worker any more.
    assert await check_status(saver, graph, "t") == "idle"
    assert (await graph.aget_state(config("t"))).values["x"] == ["last"]


class _Backwards(PayloadCodec):
    """A codec that a client without it cannot undo."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"backwards"}, data=p.SerializeToString()[::-1])
            for p in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(p.data[::-1]) for p in payloads]


async def test_threads_that_cannot_be_read(
    saver: TemporalSaver, client: Client, temporal_server: TemporalServer, task_queue: str
) -> None:
    graph = _asks().with_config(checkpointer=saver)
    foreign = await Client.connect(
        temporal_server.address, data_converter=DataConverter(payload_codec=_Backwards())
    )
    other = TemporalSaver(foreign, task_queue=f"{task_queue}-other", id_prefix=task_queue)
    async with other.worker(_asks()):
        await _asks().with_config(checkpointer=other).ainvoke({"x": []}, config("of a codec"))
    other.close()
    garbage = Op(kind=OpKind.PUT, checkpoint_id="c", checkpoint_type="msgpack", checkpoint=b"\xc1")
    async with saver.worker(_asks()):
        await graph.ainvoke({"x": []}, config("asks"))
        await saver._store.transport.append("damaged", "", AppendRequest(ops=(pack(garbage),)))
    newer = bytearray(pack(ThreadStart(thread_id="of another version", id_prefix=task_queue)))
    newer[1] = 2
    await client.start_workflow(
        names.THREAD_WORKFLOW,
        bytes(newer),
        id=saver._store.transport.thread_workflow_id("of another version"),
        task_queue=task_queue,
        memo={"thread_id": "of another version"},
    )
    unreadable = {"of a codec", "damaged", "of another version"}

    async def listed(**wanted: Any) -> dict[str, str]:
        return {t.thread_id: t.status async for t in saver.alist_threads(**wanted)}

    async with asyncio.timeout(WAIT_S):
        while len(await listed()) < 4:  # noqa: ASYNC110 - visibility lags
            await asyncio.sleep(0.1)
    assert await listed() == {"asks": "interrupted", **dict.fromkeys(unreadable, "unreadable")}
    assert (await listed(status="unreadable")).keys() == unreadable
    assert await listed(status="interrupted") == {"asks": "interrupted"}
    assert await listed(graph="asks") == {"asks": "interrupted"}
    why = {t.thread_id: t.problem async for t in saver.alist_threads()}
    assert why.pop("asks") == ""
    assert "payload codec" in why["of a codec"]
    assert "wire version 2" in why["of another version"]
    assert why["damaged"]
    found = [item async for item in saver.alist(None)]
    assert {item.config["configurable"]["thread_id"] for item in found} == {"asks"}
    with pytest.raises(StorageError, match="3 of 4 threads cannot be read"):
        await saver.adelete_for_runs(["nobody's"])
    # Its own reader says what is wrong.
    with pytest.raises(StorageError, match="another payload codec"):
        await graph.aget_state(config("of a codec"))
    command = ["threads", "list", "--address", temporal_server.address]
    command += ["--task-queue", task_queue, "--id-prefix", task_queue]
    run = CliRunner().invoke
    done = await asyncio.to_thread(run, app, command, env={"COLUMNS": "200"})
    assert (done.exit_code, done.stdout.count("unreadable")) == (0, 3), done.output
    done = await asyncio.to_thread(run, app, [*command, "--json", "--status", "unreadable"])
    shown = {t["thread_id"]: t["problem"] for t in map(json.loads, done.stdout.splitlines())}
    assert shown.keys() == unreadable
    assert all(shown.values())


def test_the_proto_is_one() -> None:
    """Otherwise the test above would prove less."""
    payload = PROTO.payload
    (value,) = DataConverter.default.payload_converter.from_payloads([payload])
    assert value == WorkflowExecution(workflow_id="w")
