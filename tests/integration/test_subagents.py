"""Sub-agents of deep agents: where the run is driven, and on other workers."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("deepagents")

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from temporalio.client import Client

from langgraph_temporal_exec import SubagentOptions, SubagentTimeoutError, TemporalSaver
from langgraph_temporal_exec.protocol import names
from tests.conftest import TemporalServer
from tests.parity.stage import LEDGER
from tests.support.delegating import delegator
from tests.support.graphs import config
from tests.support.placing import HEARTBEAT, ran, until, workers

PLACES = ["in place", "elsewhere"]
SOON = timedelta(seconds=2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tools leave marks of the processes that they run in."""
    monkeypatch.setenv("PLACING", str(tmp_path))
    monkeypatch.setenv(LEDGER, str(tmp_path))
    return tmp_path


Agent = tuple[Any, list[Any]]
Make = Callable[..., Any]


@pytest.fixture
def agent(temporal_server: TemporalServer, client: Client, task_queue: str, folder: Path) -> Make:
    """Opens the agent, with the worker in this process, and its sub-agents in their place."""

    @asynccontextmanager
    async def opened(place: str, count: int = 1, **options: Any) -> AsyncIterator[Agent]:
        there = f"{task_queue}-agents" if place == "elsewhere" else ""
        saver = TemporalSaver(
            client,
            task_queue=task_queue,
            id_prefix=task_queue,
            heartbeat_timeout=HEARTBEAT,
            subagents=SubagentOptions(task_queue=there, **options),
        )
        queues = [there] * count if there else []
        program = "tests.support.delegating"
        async with (
            workers(temporal_server.address, queues, task_queue, folder, program) as processes,
            saver.worker(),
            asyncio.timeout(120),
        ):
            yield delegator().with_config(checkpointer=saver), processes

    return opened


def _said(text: str) -> dict[str, Any]:
    return {"messages": [("human", text)]}


def _messages(result: Any) -> list[tuple[str, str, str]]:
    """Type, text and status of all messages."""
    return [(m.type, m.text, getattr(m, "status", "")) for m in result["messages"]]


def _told(result: Any) -> list[str]:
    """What tools answered."""
    return [text for kind, text, _ in _messages(result) if kind == "tool"]


def _plain() -> Any:
    graph = delegator()
    graph.checkpointer = InMemorySaver()
    return graph


def _chunk(chunk: Any) -> str:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|lc_run--\S+", "ID", repr(chunk))


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
async def test_ten_at_once_on_three_levels(agent: Make, folder: Path, place: str) -> None:
    """Ten sub-agents with tools at once, one of which delegates itself."""
    options: Any = {"stream_mode": ["updates"], "subgraphs": True}
    async with agent(place) as (graph, processes):
        seen = [_chunk(c) async for c in graph.astream(_said("many"), config("t"), **options)]
        result = (await graph.aget_state(config("t"))).values
    here = {p.pid for p in processes} or {os.getpid()}
    assert ran(folder, "looked at 3c") == ran(folder, "looked at x") == here
    plain = _plain()
    expected = [_chunk(c) async for c in plain.astream(_said("many"), config("t"), **options)]
    assert sorted(seen) == sorted(expected)
    assert _messages(result) == _messages((await plain.aget_state(config("t"))).values)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("on_timeout", ["tell", "fail"])
async def test_timed_out(agent: Make, folder: Path, place: str, on_timeout: str) -> None:
    """It is cancelled; the model that has delegated learns of it, or the run fails."""
    async with agent(place, timeout=SOON, on_timeout=on_timeout) as (graph, _):
        if on_timeout == "fail":
            with pytest.raises(SubagentTimeoutError, match=r"'researcher' .* 0:00:02"):
                await graph.ainvoke(_said("wait"), config("t"))
        else:
            result = await graph.ainvoke(_said("wait"), config("t"))
            *_, (kind, text, status), (_, last, _) = _messages(result)
            assert (kind, status, last) == ("tool", "error", "gone on")
            assert re.search(r"'researcher' did not end within its timeout of 0:00:02", text)
        # A busy machine may not have come as far as the tool.
        await until(lambda: ran(folder, "cancelled long") == ran(folder, "lingers long"))


async def test_timed_out_where_nobody_begins_it(agent: Make, folder: Path) -> None:
    async with agent("elsewhere", count=0, timeout=SOON) as (graph, _):
        result = await graph.ainvoke(_said("wait"), config("t"))
        assert "did not end within its timeout" in _told(result)[0]


async def test_its_worker_is_killed_in_its_second_step(agent: Make, folder: Path) -> None:
    """What it has done by then is not done again; nor is anything of the agent itself."""
    async with agent("elsewhere", count=2) as (graph, processes):
        call = asyncio.create_task(graph.ainvoke(_said("twice"), config("t")))
        await until(lambda: bool(ran(folder, "lingers two")))
        first = ran(folder, "lingers two")
        (killed,) = (p for p in processes if p.pid in first)
        killed.kill()
        await until(lambda: ran(folder, "lingers two") != first)
        (folder / "open-two").touch()
        assert _told(await call) == ["found both"]
        assert ran(folder, "looked at one") == first
        assert ran(folder, "lingered two") == ran(folder, "lingers two") - first


@pytest.mark.parametrize("place", PLACES)
async def test_cancelled(agent: Make, folder: Path, place: str) -> None:
    async with agent(place) as (graph, _):
        call = asyncio.create_task(graph.ainvoke(_said("wait"), config("t")))
        await until(lambda: bool(ran(folder, "lingers long")))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: bool(ran(folder, "cancelled long")))


@pytest.mark.parametrize("place", PLACES)
async def test_one_asks_while_another_runs(agent: Make, folder: Path, place: str) -> None:
    """The question is shown when the sibling has ended, and the sibling does not run again."""
    async with agent(place) as (graph, _):
        call = asyncio.create_task(graph.ainvoke(_said("approve"), config("t")))
        await until(lambda: bool(ran(folder, "lingers long")))
        (folder / "open-long").touch()
        (asked,) = (await call)["__interrupt__"]
        assert asked.value["action_requests"][0]["name"] == "send"
        assert not ran(folder, "sent letter")
        (folder / f"lingers long.{next(iter(ran(folder, 'lingers long')))}").unlink()
        answer = Command(resume={"decisions": [{"type": "approve"}]})
        result = await graph.ainvoke(answer, config("t"))
        assert _told(result) == ["it is sent", "waited"]
        assert ran(folder, "sent letter")
        assert not ran(folder, "lingers long")


async def test_temporal_shows_which_sub_agent_it_is(
    agent: Make, client: Client, task_queue: str, folder: Path
) -> None:
    """The Activity and the workflow of its namespace name it."""
    (folder / "open-long").touch()
    async with agent("elsewhere") as (graph, _):
        await graph.ainvoke(_said("wait"), config("t"))
    root = names.thread_workflow_id(task_queue, "t")
    history = await client.get_workflow_handle(root).fetch_history()
    summaries = [e.user_metadata.summary.data.decode() for e in history.events]
    assert any("task (researcher)" in summary for summary in summaries)
    (child,) = [
        e.start_child_workflow_execution_initiated_event_attributes.workflow_id
        for e in history.events
        if e.HasField("start_child_workflow_execution_initiated_event_attributes")
    ]
    described = await client.get_workflow_handle(child).describe()
    assert "researcher" in (await described.static_summary() or "")
