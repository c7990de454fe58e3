"""`--saver` and `LANGGRAPH_TEMPORAL_SAVER`: every command on an encrypted deployment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from langgraph_temporal_exec.cli.main import app
from langgraph_temporal_exec.protocol import names
from tests.conftest import TemporalServer
from tests.support import sealed
from tests.support.graphs import config
from tests.support.warm import WARM

ROOT = Path(__file__).parents[2]
SAVER = "tests.support.sealed:saver"
VARIABLE = "LANGGRAPH_TEMPORAL_SAVER"
START_S = 100


@pytest.fixture(autouse=True)
def deployment(
    temporal_server: TemporalServer, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tests.support.sealed makes its savers for."""
    monkeypatch.setenv(sealed.ADDRESS, temporal_server.address)
    monkeypatch.setenv(sealed.QUEUE, task_queue)
    monkeypatch.chdir(ROOT)


async def command(*arguments: str, **options: Any) -> tuple[int, str, str]:
    """A command on a thread, where it has a loop of its own: code, stdout, stderr."""
    done = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), **options)
    assert not done.exception or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@contextlib.asynccontextmanager
async def worker(*arguments: str) -> AsyncIterator[list[str]]:
    """The command as a process; gives the line by which it tells that it serves."""
    process = await asyncio.create_subprocess_exec(
        *(WARM, "-m", "langgraph_temporal_exec.cli", "worker", *arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout
    said: list[str] = []
    try:
        async with asyncio.timeout(START_S):
            while not any("serving task queue" in line for line in said):
                line = await process.stdout.readline()
                assert line, said
                said.append(line.decode())
        yield said
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(START_S):
            rest, _ = await process.communicate()
        said += rest.decode().splitlines()


async def test_every_command(task_queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = await sealed.saver()
    agent = sealed.graph.with_config(checkpointer=saver)
    async with worker("tests.support.sealed:graph", "--saver", SAVER) as said:
        assert f"serving task queue {task_queue} at" in "".join(said)
        asked = await agent.ainvoke({"x": ["in"]}, config("t"))
        assert asked["__interrupt__"]

        # Options, codec and serializer of the worker are the saver's.
        thread = saver.client.get_workflow_handle(names.thread_workflow_id(task_queue, "t"))
        summaries = []
        async for event in thread.fetch_history_events():
            if event.HasField("activity_task_scheduled_event_attributes"):
                payloads = [event.user_metadata.summary]
                (summary,) = await saver.client.data_converter.decode(payloads)
                summaries.append(summary)
        assert summaries
        assert all(sealed.SUMMARY in s for s in summaries)
        # Retention is applied behind the caller's back.
        async with asyncio.timeout(START_S):
            while len([c async for c in saver.alist(config("t"))]) != 1:  # noqa: ASYNC110 # it is done elsewhere
                await asyncio.sleep(0.1)

        monkeypatch.setenv(VARIABLE, SAVER)
        async with asyncio.timeout(START_S):
            while "t" not in (await command("threads", "list", "--json"))[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        code, out, err = await command("threads", "show", "t")
        assert (code, json.loads(out)["interrupts"][0]["value"]) == (0, "question"), err
        code, out, err = await command("threads", "export", "t")
        assert (code, "in" in json.loads(out)["values"]["x"]) == (0, True), err
        code, out, err = await command("threads", "resume", "t", "--value", '"yes"', "--wait")
        assert (code, err.strip()) == (0, "done"), err
        run_id = out.strip()
        code, out, err = await command("threads", "runs", "t")
        assert f"{run_id} done" in out.splitlines(), err
        code, out, err = await command("threads", "cancel", run_id)
        assert code == 0, err
        code, out, err = await command("threads", "delete", "t", "--purge", "--yes")
        assert (code, "is deleted" in err) == (0, True), err
        assert await saver.aget_thread("t") is None
    saver.close()


async def test_a_context_manager(task_queue: str) -> None:
    async with worker("tests.support.sealed:graph", "--saver", "tests.support.sealed:managed") as s:
        assert f"serving task queue {task_queue} at" in "".join(s)
    assert "the context has ended" in "".join(s)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("sealed", "is not of the form package.module:name"),
        ("tests.support.nowhere:saver", "no module 'tests.support.nowhere'"),
        ("tests.support.sealed:gone", "tests.support.sealed has no 'gone'"),
        ("tests.support.sealed:NUMBER", "is a int; it must be a function"),
        ("tests.support.sealed:nothing", "returned a NoneType; it must return a TemporalSaver"),
        ("tests.support.sealed:undecorated", "Decorate it with contextlib.asynccontextmanager"),
        ("tests.support.sealed:broken", "failed: KeyError: 'no key'"),
        ("tests.support.sealed:leaving", "failed: SystemExit: 3"),
    ],
)
async def test_a_saver_that_is_none(reference: str, said: str) -> None:
    code, out, err = await command("threads", "list", "--saver", reference)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: --saver or {VARIABLE}: {reference!r}")
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["threads", "list", "--address", "x:1"],
        ["threads", "show", "t", "--namespace", "x"],
        ["threads", "runs", "t", "--task-queue", "x"],
        ["threads", "delete", "t", "--id-prefix", "x"],
        ["threads", "export", "t", "--profile", "x"],
        ["worker", "a.b:c", "--heartbeat-timeout", "3"],
        ["worker", "a.b:c", "--keep-last", "3"],
        ["worker", "a.b:c", "--keep-days", "3"],
        ["worker", "a.b:c", "--park-days", "3"],
        ["worker", "a.b:c", "--metrics", "127.0.0.1:0"],
        ["studio", "a.b:c", "--database", "x.db"],
    ],
)
async def test_nothing_given_has_no_effect(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, SAVER)
    code, _, err = await command(*arguments)
    assert code == 1
    option = next(a for a in arguments if a.startswith("--"))
    assert err.startswith(f"error: {option} cannot be given together with a saver")


async def test_an_empty_saver_passes_over_the_variable(
    temporal_server: TemporalServer, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "no.such:saver")
    where = ["--address", temporal_server.address, "--id-prefix", task_queue]
    code, out, err = await command("threads", "list", "--json", "--saver", "", *where)
    assert (code, out) == (0, ""), err
