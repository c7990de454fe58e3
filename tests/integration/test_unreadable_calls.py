"""What the workers of a queue cannot read ends a run with an error that says so, and nothing else.

The workers are other processes, with another key, another codec or without a class.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import types
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph.types import Command, StateSnapshot

from langgraph_temporal_exec import TemporalSaver, UnreadableError
from tests.conftest import TemporalServer
from tests.support.graphs import config
from tests.support.unread import READY, build, saver_with
from tests.support.warm import WARM

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
WAIT_S = 90.0
"""Bound of every wait."""


@dataclasses.dataclass
class Setting:
    """Makes savers, and workers in other processes, of one task queue."""

    address: str
    queue: str
    savers: list[TemporalSaver] = dataclasses.field(default_factory=list)

    async def caller(self, **keys: str) -> tuple[TemporalSaver, Any]:
        saver = await saver_with(self.address, self.queue, **keys)
        self.savers.append(saver)
        return saver, build().with_config(checkpointer=saver)

    @asynccontextmanager
    async def worker(self, **keys: str) -> AsyncIterator[None]:
        paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        options = {"address": self.address, "queue": self.queue, **keys}
        args = [part for name, value in options.items() for part in (f"--{name}", value)]
        process = await asyncio.create_subprocess_exec(
            *(WARM, "-m", "tests.support.unread", *args),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=PIPE,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(WAIT_S):
                while READY not in (await process.stdout.readline()).decode():
                    assert process.returncode is None
            async with asyncio.timeout(WAIT_S):
                yield
        finally:
            process.terminate()
            await process.wait()


@pytest.fixture
async def setting(temporal_server: TemporalServer, task_queue: str) -> AsyncIterator[Setting]:
    setting = Setting(temporal_server.address, task_queue)
    yield setting
    for saver in setting.savers:
        saver.close()


async def _status(saver: TemporalSaver, thread_id: str) -> tuple[str, bool]:
    info = await saver.aget_thread(thread_id)
    assert info is not None
    return info.status, info.error is not None and info.error.type_name.endswith("UnreadableError")


async def _asked(setting: Setting) -> tuple[TemporalSaver, Any, StateSnapshot]:
    """Thread "asks" waits for an answer: who can read it, and its state."""
    saver, graph = await setting.caller(serde="ours")
    async with setting.worker(serde="ours"):
        await graph.ainvoke({"text": "ask"}, config("asks"))
    return saver, graph, await graph.aget_state(config("asks"))


async def _still_asks(saver: TemporalSaver, graph: Any, before: StateSnapshot) -> None:
    assert await _status(saver, "asks") == ("interrupted", True)
    after = await graph.aget_state(config("asks"))
    assert (after.values, after.config, after.tasks) == (before.values, before.config, before.tasks)


async def test_a_serializer_with_another_key(setting: Setting) -> None:
    saver, graph, before = await _asked(setting)
    async with setting.worker(serde="other"):
        for thread_id, given in (("asks", Command(resume="yes")), ("new", {"text": "plain"})):
            with pytest.raises(UnreadableError, match="MAC check failed") as caught:
                await graph.ainvoke(given, config(thread_id))
            assert f"on thread {thread_id!r}" in str(caught.value)
    await _still_asks(saver, graph, before)
    async with setting.worker(serde="ours"):
        done = await graph.ainvoke(Command(resume="yes"), config("asks"))
        assert done["answer"] == "yes"
        await graph.ainvoke({"text": "plain"}, config("new"))
    assert await _status(saver, "asks") == await _status(saver, "new") == ("idle", False)


async def test_a_state_with_another_key(setting: Setting) -> None:
    saver, graph, before = await _asked(setting)
    async with setting.worker(serde="other"):
        _, other = await setting.caller(serde="other")
        for given in (Command(resume="yes"), {"text": "plain"}):
            with pytest.raises(UnreadableError, match="of thread 'asks' cannot be read"):
                await other.ainvoke(given, config("asks"))
    await _still_asks(saver, graph, before)
    # In this process, too.
    embedded, other = await setting.caller(serde="other")
    async with embedded.worker(build()):
        with pytest.raises(UnreadableError, match="of thread 'asks' cannot be read"):
            await other.with_config(checkpointer=embedded).ainvoke(
                Command(resume="yes"), config("asks")
            )
    assert await _status(saver, "asks") == ("interrupted", True)
    async with setting.worker(serde="ours"):
        done = await graph.ainvoke(Command(resume="yes"), config("asks"))
        assert done["answer"] == "yes"
    assert await _status(saver, "asks") == ("idle", False)


async def test_a_run_nobody_waits_for(setting: Setting) -> None:
    saver, graph = await setting.caller(serde="ours")
    async with setting.worker(serde="other"):
        run = await saver.astart(graph, {"text": "plain"}, config("started"))
        async with asyncio.timeout(WAIT_S):
            while "MAC check failed" not in await run.aproblem():  # noqa: ASYNC110 - until one tried
                await asyncio.sleep(0.1)
        with pytest.raises(UnreadableError, match="'started'"):
            await run.aresult()
        assert await run.aproblem() == ""
        assert (failure := await run.afailure()) is not None
        assert failure.type_name.endswith("UnreadableError")
        assert await _status(saver, "started") == ("lost", True)


async def test_another_worker_can_read(setting: Setting) -> None:
    _, graph = await setting.caller(serde="ours")
    async with setting.worker(serde="other"), setting.worker(serde="ours"):
        for i in range(6):
            done = await graph.ainvoke({"text": "plain"}, config(f"t{i}"))
            assert done["answer"] == "none"


@pytest.fixture
def only_here() -> Any:
    """A class of a module that other processes lack, and LangGraph's serializer has no form of."""
    module = types.ModuleType("only_here")
    code = "import dataclasses\n@dataclasses.dataclass\nclass Secret:\n    of: object\n"
    sys.modules["only_here"] = module
    exec(code, module.__dict__)
    yield module.Secret  # type: ignore[attr-defined] # made above
    del sys.modules["only_here"]


async def test_a_class_that_no_worker_has(setting: Setting, only_here: Any) -> None:
    # Not with the lowest supported versions, whose tests import this module.
    import numpy

    saver, graph = await setting.caller()
    async with setting.worker():
        with pytest.raises(UnreadableError, match=r"thread 't'.*only_here\.Secret"):
            await graph.ainvoke(
                {"text": "plain"}, config("t"), context=only_here(numpy.array([None]))
            )
        assert await _status(saver, "t") == ("lost", True)
        await graph.ainvoke({"text": "plain"}, config("t"))
        assert await _status(saver, "t") == ("idle", False)


async def test_a_payload_codec_that_no_worker_has(setting: Setting) -> None:
    saver, graph = await setting.caller(codec="ours")
    async with setting.worker(codec="other"):
        with pytest.raises(UnreadableError, match="payload codec"):
            await graph.ainvoke({"text": "plain"}, config("new"))
        assert await saver.aget_thread("new") is None
        run = await saver.astart(graph, {"text": "plain"}, config("started"))
        async with asyncio.timeout(WAIT_S):
            while "cannot read it" not in await run.aproblem():  # noqa: ASYNC110 - until they tried
                await asyncio.sleep(0.1)
        assert await run.astatus() == "scheduled"
        info = await saver.aget_thread("started")
        assert info is not None
        assert "cannot read it" in info.note
    async with setting.worker(codec="ours"):
        assert (await run.aresult())["answer"] == "none"


async def test_a_thread_with_another_payload_codec(setting: Setting) -> None:
    _, graph = await setting.caller(codec="ours")
    async with setting.worker(codec="ours"):
        await graph.ainvoke({"text": "ask"}, config("asks"))
    async with setting.worker(codec="other"):
        _, other = await setting.caller(codec="other")
        with pytest.raises(UnreadableError, match="payload codec"):
            await other.ainvoke(Command(resume="yes"), config("asks"))
    async with setting.worker(codec="ours"):
        assert (await graph.ainvoke(Command(resume="yes"), config("asks")))["answer"] == "yes"
