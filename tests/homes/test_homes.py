"""Threads with a home: workers with disks of their own, killed, stopped and started again."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.runtime import RunControl
from langgraph.types import Command
from temporalio.client import Client

from langgraph_temporal_exec import (
    DuplicateWorkerError,
    RunFailedError,
    SubagentOptions,
    TemporalSaver,
    UsageError,
    WorkerStoppedError,
)
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.worker.claim import kept_name
from langgraph_temporal_exec.worker.hosting import WorkerOptions
from tests.conftest import TemporalServer
from tests.faults.lab import POLL_S, Process
from tests.homes import disks
from tests.support.warm import WARM

WAIT_S = 60.0
HEARTBEAT_S = 3


def _config(thread_id: str, **more: Any) -> Any:
    return {"configurable": {"thread_id": thread_id, **more}}


class Place:
    """Worker processes with directories of their own on one task queue, and savers."""

    def __init__(self, folder: Path, client: Client, address: str, task_queue: str) -> None:
        self.folder = folder
        self.client = client
        self.task_queue = task_queue
        self._address = address
        self.processes: list[Process] = []
        self.savers: list[TemporalSaver] = []

    def saver(self, **options: Any) -> TemporalSaver:
        """A saver of a process without a worker."""
        saver = TemporalSaver(
            self.client,
            task_queue=self.task_queue,
            id_prefix=self.task_queue,
            heartbeat_timeout=timedelta(seconds=HEARTBEAT_S),
            **options,
        )
        self.savers.append(saver)
        return saver

    def disk(self, name: str) -> Path:
        """A directory."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    async def worker(
        self, disk: str, *options: str, target: str = "plain", queue: str = ""
    ) -> Process:
        """Start a worker on a disk, and wait until it polls."""
        command = [WARM, "-m", "langgraph_temporal_exec.cli", "worker"]
        command += [f"tests.homes.disks:{target}"]
        command += ["--address", self._address, "--task-queue", queue or self.task_queue]
        command += ["--id-prefix", self.task_queue]
        command += ["--heartbeat-timeout", str(HEARTBEAT_S), *options]
        worker = self._start(command, disk)
        await self.until(lambda: "serving task queue" in worker.output, worker)
        return worker

    async def command(self, *words: str) -> list[str]:
        """The output of a command, by lines."""
        command = [WARM, "-m", "langgraph_temporal_exec.cli", *words, "--address", self._address]
        command += ["--task-queue", self.task_queue, "--id-prefix", self.task_queue]
        process = self._start(command, "command")
        await self.until(lambda: process.exit_code is not None)
        assert process.exit_code == 0, process.report()
        return process.output.splitlines()

    async def web(self, disk: str, *options: str) -> Web:
        """Start a process that hosts a worker and calls graphs."""
        command = [WARM, "-m", "tests.homes.web", "--address", self._address]
        command += ["--task-queue", self.task_queue, *options]
        web = Web(
            subprocess.Popen(  # noqa: ASYNC220 # it is only begun here
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**_environment(), "DISK": str(self.disk(disk))},
                cwd=Path(__file__).parents[2],
            )
        )
        self.processes.append(web)  # type: ignore[arg-type] # has `discard` too
        assert await web.said() == {"ready": True}
        return web

    def _start(self, command: list[str], disk: str) -> Process:
        name = f"{disk}-{len(self.processes)}"
        process = Process(name, command, self.folder, DISK=str(self.disk(disk)))
        self.processes.append(process)
        return process

    async def until(self, holds: Any, process: Process | None = None) -> None:
        """Wait for something."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not holds():
                    assert process is None or process.exit_code is None, process.report()
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            said = "\n".join(p.report() for p in self.processes if isinstance(p, Process))
            raise AssertionError(said) from None

    async def stop(self, process: Process) -> None:
        """SIGTERM, and wait for the end."""
        process.send(signal.SIGTERM)
        await self.until(lambda: process.exit_code is not None)

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            process.discard()
        for saver in self.savers:
            saver.close()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


class Web:
    """A process of ``tests.homes.web``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def said(self) -> Any:
        """The next line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            return json.loads(await asyncio.to_thread(self._process.stdout.readline))

    async def call(self, graph: str, thread: str, input: Any, **more: Any) -> Any:
        """Call a graph there."""
        assert self._process.stdin is not None
        line = {"graph": graph, "thread": thread, "input": input, **more}
        self._process.stdin.write(f"{json.dumps(line)}\n")
        self._process.stdin.flush()
        return await self.said()

    def discard(self) -> None:
        """End it, whatever it does."""
        with self._process:
            self._process.kill()


@pytest.fixture
async def place(
    tmp_path: Path,
    client: Client,
    temporal_server: TemporalServer,
    task_queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Place]:
    made = Place(tmp_path, client, temporal_server.address, task_queue)
    monkeypatch.setenv("DISK", str(made.disk("here")))
    yield made
    made.close()


async def _turn(graph: Any, thread: str, line: str, **more: Any) -> Any:
    async with asyncio.timeout(WAIT_S):
        return await graph.ainvoke({"line": line}, _config(thread, **more))


@pytest.mark.compat
async def test_every_turn_of_a_thread_finds_its_files(place: Place) -> None:
    await asyncio.gather(*(place.worker(name) for name in "abc"))
    diary = disks.diary.with_config(checkpointer=place.saver())

    async def thread(name: str) -> str:
        used = set()
        for turn in range(4):
            page = await _turn(diary, name, f"line {turn}")
            assert page["lines"] == [f"line {n}" for n in range(turn + 1)]
            used.add(page["disk"])
        (only,) = used
        return str(only)

    homes = await asyncio.gather(*(thread(f"t{n}") for n in range(12)))
    assert len(set(homes)) > 1, "one worker got all threads"


async def test_with_none_any_worker_takes_a_run(place: Place) -> None:
    await asyncio.gather(*(place.worker(name) for name in "ab"))
    diary = disks.diary.with_config(checkpointer=place.saver())

    async def until_both(thread: str, **more: Any) -> None:
        used = set()
        async with asyncio.timeout(WAIT_S):
            while len(used) < 2:
                pages = [await _turn(diary, thread, "x", **more) for _ in range(4)]
                used |= {page["disk"] for page in pages}

    await until_both("t", affinity="none")
    info = await place.savers[0].aget_thread("t")
    assert info is not None
    assert info.home == ""


@pytest.mark.compat
async def test_a_question_is_answered_where_it_was_asked(place: Place) -> None:
    await place.worker("a", "--name", "disk-a")
    asking = disks.asking.with_config(checkpointer=place.saver())
    for n in range(4):
        await _turn(asking, f"t{n}", "question")
    await place.worker("b", "--name", "disk-b")
    saver = place.saver()
    async with asyncio.timeout(WAIT_S):
        # By a call, by a handle, and by Temporal's own client.
        page = await asking.ainvoke(Command(resume="one"), _config("t0"))
        assert (page["lines"], page["disk"]) == (["question", "one"], "a")
        page = await (await saver.aresume("t1", "two")).aresult()
        assert (page["lines"], page["disk"]) == (["question", "two"], "a")
        handle = place.client.get_workflow_handle(names.thread_workflow_id(place.task_queue, "t2"))
        run = await saver.aget_run(await handle.execute_update("resume", "three"))
        page = await run.aresult()
        assert (page["lines"], page["disk"]) == (["question", "three"], "a")
        info = await saver.aget_thread("t3")
    assert info is not None
    assert (info.home, info.moved_from, info.status) == ("disk-a", "", "interrupted")


async def test_large_results_are_found_by_the_next_turn(place: Place) -> None:
    pytest.importorskip("deepagents")
    await asyncio.gather(*(place.worker(name, target="graphs") for name in "ab"))
    saver = place.saver(graph="keeper")
    agent = disks.asking.with_config(checkpointer=saver)

    async def said(thread: str, text: str) -> str:
        message = {"messages": [{"role": "user", "content": text}]}
        async with asyncio.timeout(WAIT_S):
            run = await saver.astart(agent, message, _config(thread))
            answer = (await run.aresult())["messages"][-1]
        assert isinstance(answer, AIMessage)
        return answer.text

    async def thread(name: str) -> None:
        evicted = await said(name, "produce")
        (path,) = {word.strip(".,'\"`") for word in evicted.split() if "large_tool" in word}
        assert "line of a large result" in await said(name, f"load {path}")
        await said(name, f"save /{name}.txt of {name}")
        assert f"of {name}" in await said(name, f"load /{name}.txt")

    await asyncio.gather(*(thread(f"t{n}") for n in range(6)))


async def test_killed_in_the_middle_and_started_again(place: Place) -> None:
    first = await place.worker("a", "--name", "disk-a")
    await place.worker("b", "--name", "disk-b")
    # Under "prefer" too: it is back in time.
    saver = place.saver(home_timeout=timedelta(seconds=40))
    holding = disks.holding.with_config(checkpointer=saver)
    diary = disks.diary.with_config(checkpointer=saver)
    while (page := await _turn(diary, "t", "first"))["disk"] != "a":
        await saver.adelete_thread("t")
    call = asyncio.create_task(_turn(holding, "t", "second"))
    await place.until(lambda: (place.disk("a") / "held").exists(), first)
    first.kill()
    await place.worker("a", "--name", "disk-a")
    (place.folder / "go").touch()
    page = await call
    assert (page["lines"], page["disk"]) == (["first", "second"], "a")
    info = await saver.aget_thread("t")
    assert info is not None
    assert (info.home, info.moved_from) == ("disk-a", "")


@pytest.mark.long
async def test_a_frozen_home_is_passed_over(place: Place) -> None:
    """It takes what it has asked for before, and nothing of it is heard: that is no loss."""
    saver = place.saver(home_timeout=timedelta(seconds=2), max_lost_attempts=1)
    diary = disks.diary.with_config(checkpointer=saver)
    home = await place.worker("a", "--name", "disk-a")
    await _turn(diary, "t", "first")
    await place.worker("b", "--name", "disk-b")
    home.send(signal.SIGSTOP)
    run = await saver.astart(diary, {"line": "second"}, _config("t"))
    async with asyncio.timeout(3 * WAIT_S):
        assert (await run.aresult())["disk"] == "b"
    info = await saver.aget_thread("t")
    assert info is not None
    assert (info.home, info.moved_from) == ("disk-b", "disk-a")


async def test_a_run_that_kills_its_home_again_and_again_is_lost(place: Place) -> None:
    """That it is sent home in between, by a worker that lives, is no success."""
    saver = place.saver(affinity="require", max_lost_attempts=3)
    diary = disks.diary.with_config(checkpointer=saver)
    holding = disks.holding.with_config(checkpointer=saver)
    home = await place.worker("a", "--name", "disk-a")
    await _turn(diary, "t", "first")
    await place.worker("b", "--name", "disk-b")
    run = await saver.astart(holding, {"line": "second"}, _config("t"))
    held = place.disk("a") / "held"
    for _ in range(3):
        await place.until(held.exists, home)
        held.unlink()
        home.kill()
        home = await place.worker("a", "--name", "disk-a")
    with pytest.raises(RunFailedError, match="3 times in a row"):
        await asyncio.wait_for(run.aresult(), WAIT_S)
    assert not held.exists()


async def test_prefers_its_home_and_moves_when_that_is_gone(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    first = await place.worker("a", "--name", "disk-a")
    saver = place.saver(home_timeout=timedelta(seconds=2))
    diary = disks.diary.with_config(checkpointer=saver)
    await _turn(diary, "t", "first")
    second = await place.worker("b", "--name", "disk-b")
    first.kill()
    page = await _turn(diary, "t", "second")
    assert (page["lines"], page["disk"]) == (["second"], "b")
    info = await saver.aget_thread("t")
    assert info is not None
    assert (info.home, info.moved_from) == ("disk-b", "disk-a")
    await place.until(lambda: "moves from worker disk-a" in second.output, second)
    assert "WARNING" in second.output
    assert "stays behind" in second.output
    # It stays there, also when the first one is back.
    await place.worker("a", "--name", "disk-a")
    assert (await _turn(diary, "t", "third"))["lines"] == ["second", "third"]


async def test_a_worker_without_a_name_that_has_left_is_not_waited_for(place: Place) -> None:
    first = await place.worker("a")
    # So long that the test would end first.
    saver = place.saver(home_timeout=timedelta(hours=1))
    diary = disks.diary.with_config(checkpointer=saver)
    await _turn(diary, "t", "first")
    await place.worker("b")
    await place.stop(first)
    assert (await _turn(diary, "t", "second"))["disk"] == "b"
    # Nor is one that is killed under a run.
    holding = disks.holding.with_config(checkpointer=saver)
    call = asyncio.create_task(_turn(holding, "t", "third"))
    await place.until(lambda: (place.disk("b") / "held").exists())
    await place.worker("c")
    place.processes[1].kill()
    (place.folder / "go").touch()
    assert (await call)["disk"] == "c"


async def test_requires_its_home_and_waits_for_it(place: Place) -> None:
    first = await place.worker("a", "--queue-file", str(place.folder / "queue-a"))
    saver = place.saver(affinity="require")
    diary = disks.diary.with_config(checkpointer=saver)
    await _turn(diary, "t", "first")
    info = await saver.aget_thread("t")
    assert info is not None
    home = info.home
    await place.worker("b", "--queue-file", str(place.folder / "queue-b"))
    await place.stop(first)
    run = await saver.astart(diary, {"line": "second"}, _config("t"))

    async with asyncio.timeout(WAIT_S):
        while not (problem := await run.aproblem()):  # noqa: ASYNC110 # another process's doing
            await asyncio.sleep(POLL_S)
    assert home in problem
    assert await run.astatus() == "scheduled"
    info = await saver.aget_thread("t")
    assert info is not None
    assert home in info.note
    # With a bound it ends.
    short = await saver.astart(
        diary, {"line": "short"}, _config("u", give_up_after=timedelta(seconds=2))
    )
    await asyncio.wait_for(short.aresult(), WAIT_S)
    short = await saver.astart(
        diary, {"line": "short"}, _config("t", give_up_after=timedelta(seconds=2))
    )
    with pytest.raises(RunFailedError, match=home):
        await asyncio.wait_for(short.aresult(), WAIT_S)
    # It is back under its name.
    await place.worker("a", "--queue-file", str(place.folder / "queue-a"))
    page = await asyncio.wait_for(run.aresult(), WAIT_S)
    assert (page["lines"], page["disk"]) == (["first", "second"], "a")


@pytest.mark.compat
@pytest.mark.parametrize("affinity", ["prefer", "require"])
async def test_two_web_processes(place: Place, affinity: str) -> None:
    one = await place.web("a", "--name", "web-a", "--affinity", affinity)
    two = await place.web("b", "--name", "web-b", "--affinity", affinity)
    said = await one.call("diary", "t", {"line": "first"})
    assert said == {"output": {"line": "first", "lines": ["first"], "disk": "a"}}
    said = await two.call("diary", "t", {"line": "second"})
    assert said["output"]["lines"] == ["first", "second"]
    assert said["output"]["disk"] == "a"
    # With its stream, as from a call in process; the second time it is known where the thread is.
    for line in ("third", "fourth"):
        said = await two.call("diary", "t", {"line": line}, stream=True)
        assert ["custom", f"wrote {line}"] in said["chunks"]
        assert said["chunks"][0][0] == "values"
        assert said["chunks"][-1][1]["lines"][-1] == line
        assert said["chunks"][-1][1]["disk"] == "a"
    said = await two.call("diary", "t", {"line": "fifth"}, sync=True)
    assert said["output"]["lines"][-1] == "fifth"
    assert said["output"]["disk"] == "a"
    said = await two.call("diary", "u", {"line": "first"}, sync=True)
    assert said["output"]["disk"] == "b"
    said = await one.call("diary", "u", {"line": "second"}, sync=True)
    assert (said["output"]["lines"], said["output"]["disk"]) == (["first", "second"], "b")


async def test_a_caller_that_leaves_cancels_its_run_elsewhere(place: Place) -> None:
    await place.worker("a", "--name", "disk-a")
    remote = disks.holding.with_config(checkpointer=place.saver())
    await _turn(disks.diary.with_config(checkpointer=place.saver()), "t", "first")
    saver = place.saver()
    async with saver.worker(*disks.plain.values(), name="here"):
        here = disks.holding.with_config(checkpointer=saver)
        call = asyncio.create_task(_turn(here, "t", "second"))
        await place.until(lambda: (place.disk("a") / "held").exists())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        (place.folder / "go").touch()
        runs = [run async for run in saver.alist_runs("t")]
        async with asyncio.timeout(WAIT_S):
            while (status := await runs[-1].astatus()) == "running":  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        assert status == "cancelled"
        assert (await _turn(remote, "t", "third"))["lines"] == ["first", "second", "third"]


async def test_what_cannot_leave_the_process_is_refused(place: Place) -> None:
    await place.worker("a", "--name", "disk-a")
    await _turn(disks.diary.with_config(checkpointer=place.saver()), "t", "first")
    saver = place.saver()
    async with saver.worker(*disks.plain.values(), name="here"), asyncio.timeout(WAIT_S):
        diary = disks.diary.with_config(checkpointer=saver)
        with pytest.raises(UsageError, match="control"):
            await diary.ainvoke({"line": "second"}, _config("t"), control=RunControl())
        assert (await _turn(diary, "t", "third"))["lines"] == ["first", "third"]


async def test_a_name_is_of_one_process_at_a_time(place: Place) -> None:
    first = await place.worker("a", "--name", "disk-a")
    saver = place.saver()
    with pytest.raises(DuplicateWorkerError, match=f"process {first.pid}"):
        async with saver.worker(disks.diary, name="disk-a"):
            pass
    first.kill()
    # At once: it was a process of this machine.
    async with saver.worker(disks.diary, name="disk-a"):
        other = place.saver()
        with pytest.raises(DuplicateWorkerError, match=f"process {os.getpid()}"):
            async with other.worker(disks.diary, name="disk-a"):
                pass
    async with saver.worker(disks.diary, name="disk-a"):
        pass


async def test_whose_name_is_taken_stops(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    slow, quick = place.saver(), place.saver()
    with caplog.at_level(logging.ERROR, "langgraph_temporal_exec"):
        async with slow.worker(disks.diary, name="disk-a"):
            # One that does not answer for long is taken for dead.
            twin = TemporalSaver(
                await Client.connect(place.client.service_client.config.target_host),
                task_queue=place.task_queue,
                id_prefix=place.task_queue,
            )
            taken = WorkerOptions(name="disk-a", alone=True)
            async with twin._worker((disks.diary,), taken):
                await place.until(lambda: "this worker stops" in caplog.text)
                diary = disks.diary.with_config(checkpointer=slow)
                with pytest.raises(WorkerStoppedError):
                    await _turn(diary, "t", "first")
                diary = disks.diary.with_config(checkpointer=quick)
                assert (await _turn(diary, "t", "first"))["lines"][-1] == "first"
            twin.close()


async def test_workers_are_listed(place: Place) -> None:
    first = await place.worker("a", "--name", "disk-a")
    second = await place.worker("b")
    saver = place.saver()
    holding = disks.holding.with_config(checkpointer=saver)
    call = asyncio.create_task(_turn(holding, "t", "first"))
    await place.until(lambda: list(place.folder.glob("*/held")))

    async def listed(count: int) -> dict[int, Any]:
        async with asyncio.timeout(WAIT_S):
            while len(found := await asyncio.to_thread(saver.list_workers)) != count:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        return {worker.pid: worker for worker in found}

    found = await listed(2)
    assert {pid: worker.answers for pid, worker in found.items()} == {
        first.pid: True,
        second.pid: True,
    }
    named = found[first.pid]
    assert (named.name, named.named, named.task_queue) == ("disk-a", True, place.task_queue)
    assert named.graphs == ("asking", "diary", "holding")
    runs = [run.run_id async for run in saver.alist_runs("t")]
    assert [*named.runs, *found[second.pid].runs] == runs
    shown = [json.loads(line) for line in (await place.command("workers", "list", "--json"))]
    assert {w["name"]: w["graphs"] for w in shown}["disk-a"] == ["asking", "diary", "holding"]
    table = await place.command("workers", "list")
    assert len(table) == 3
    assert table[0].split()[:2] == ["worker", "answers"]
    (place.folder / "go").touch()
    await call
    await place.stop(second)
    assert list(await listed(1)) == [first.pid]
    first.kill()
    assert not (await listed(1))[first.pid].answers


@pytest.mark.long
async def test_a_sub_agent_finds_its_files_again(place: Place, task_queue: str) -> None:
    pytest.importorskip("deepagents")
    subs = f"{task_queue}-subs"
    workers = await asyncio.gather(
        *(place.worker(d, "--name", f"sub-{d}", target="graphs", queue=subs) for d in "abc")
    )
    timeout = timedelta(seconds=2)
    where = SubagentOptions(task_queue=subs)
    saver = place.saver(subagents={"clerk": where}, home_timeout=timeout)
    agent = disks.agent()
    async with saver.worker(agent, name="main"):
        durable = agent.with_config(checkpointer=saver)

        async def said(thread: str, text: str) -> str:
            message = {"messages": [{"role": "user", "content": text}]}
            async with asyncio.timeout(WAIT_S):
                answer = (await durable.ainvoke(message, _config(thread)))["messages"][-1]
            assert isinstance(answer, AIMessage)
            return answer.text

        async def thread(name: str) -> None:
            await said(name, f"delegate save /{name}.txt kept by {name}")
            for _ in range(2):
                assert f"kept by {name}" in await said(name, f"delegate load /{name}.txt")

        await asyncio.gather(*(thread(f"t{n}") for n in range(6)))
        disks_of = {n: next(place.folder.glob(f"*/t{n}.txt")).parent.name for n in range(6)}
        assert len(set(disks_of.values())) > 1, "one worker got all of them"
        # Killed for good: another one takes its place, without the files.
        workers["abc".index(disks_of[0])].kill()
        message = {"messages": [{"role": "user", "content": "delegate load /t0.txt"}]}
        stuck = await saver.astart(agent, message, _config("t0", affinity="require"))

        async def problem() -> None:
            # A server has no event.
            while f"for worker 'sub-{disks_of[0]}'" not in await stuck.aproblem():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)

        await asyncio.wait_for(problem(), WAIT_S)
        info = await saver.aget_thread("t0")
        assert info is not None
        assert "node 'tools' waits since" in info.note
        await stuck.acancel()
        assert "not found" in await said("t0", "delegate load /t0.txt")
        await said("t0", "delegate save /again.txt here")
        assert "here" in await said("t0", "delegate load /again.txt")


async def test_a_program_with_a_file_is_the_home_its_threads_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISK", str(tmp_path))
    homes = set()
    for turn in range(2):
        async with TemporalSaver.local(tmp_path / "threads.db") as saver:
            diary = disks.diary.with_config(checkpointer=saver)
            page = await _turn(diary, "t", f"line {turn}")
            info = await saver.aget_thread("t")
        assert len(page["lines"]) == turn + 1
        assert info is not None
        assert not info.moved_from
        homes.add(info.home)
    assert len(homes) == 1


@pytest.mark.parametrize(
    "name", ["", "a/b", "a@b", "a#b", "a~b", "x" * 201, 7, "a\nb", "a\0b", " a", "a ", "\udc80"]
)
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="name of a worker"):
        WorkerOptions(name=name)


def test_a_queue_file_keeps_a_name(tmp_path: Path) -> None:
    file = tmp_path / "queue"
    kept = kept_name(file, "langgraph")
    assert kept_name(file, "langgraph") == kept
    assert file.read_text().strip() == names.home_queue("langgraph", kept)
    with pytest.raises(UsageError, match="task queue 'other'"):
        kept_name(file, "other")
    # A folder that is not there may be a disk that is not mounted.
    for unusable in (tmp_path, tmp_path / "no folder" / "queue", tmp_path / "nul\0", "~nobody-x/q"):
        with pytest.raises(UsageError, match="cannot be used"):
            kept_name(unusable, "langgraph")
    assert [path.name for path in tmp_path.iterdir()] == ["queue"]
    with pytest.raises(UsageError, match="give one of them"):
        WorkerOptions(name="disk-a", worker_queue_file=file)


async def test_affinities_are_checked(client: Client) -> None:
    wrong: Any = "always"
    with pytest.raises(UsageError, match="affinity is 'always'"):
        TemporalSaver(client, affinity=wrong)
    with pytest.raises(UsageError, match="home_timeout"):
        TemporalSaver(client, home_timeout=timedelta(0))
    saver = TemporalSaver(client, affinity="require")
    with pytest.raises(UsageError, match="needs a worker that comes back"):
        async with saver.worker(disks.diary):
            pass
    with pytest.raises(UsageError, match="affinity is 'always'"):
        await disks.diary.with_config(checkpointer=saver).ainvoke(
            {"line": ""}, _config("t", affinity="always")
        )
