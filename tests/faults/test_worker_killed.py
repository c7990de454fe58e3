"""A worker dies inside a node: the run goes on elsewhere, and what had finished is not repeated."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("deepagents")

from langgraph_temporal_exec import RunFailedError
from tests.faults.agent import NOTES, REPORT_STEPS, RERUN, build_agent
from tests.faults.expected import plain, undisturbed
from tests.faults.lab import Lab
from tests.faults.ledger import Ran

pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize("how", ["ainvoke", "invoke"])
async def test_another_worker_takes_over(lab: Lab, how: str) -> None:
    workers = await lab.workers()
    lab.ledger.arm("publish")
    caller = lab.call("report please", "--how", how)
    victim, other = await lab.held("publish", *workers)
    assert other is not None
    victim.kill()

    assert await lab.result(caller) == await undisturbed("report please")
    assert lab.ledger.ran() == {**REPORT_STEPS, "publish": RERUN}
    assert lab.ledger.pids("publish", "finished") == [other.pid]
    assert (lab.folder / "files" / "notes.txt").read_text() == NOTES


async def test_stream_goes_on(lab: Lab) -> None:
    workers = await lab.workers()
    lab.ledger.arm("publish")
    caller = lab.call("report please", "--how", "astream")
    victim, _ = await lab.held("publish", *workers)
    # The model's fourth reply asked for the tool that is held now.
    await lab.until(lambda: caller.received("update").count(["model"]) == 4, "the stream is read")
    victim.kill()

    expected = await undisturbed("report please")
    assert await lab.result(caller) == expected
    assert caller.received("values")[-1] == expected
    updates = [u for u in caller.received("update") if u in (["model"], ["tools"])]
    assert updates == [["model"], ["tools"]] * 4 + [["model"]]
    assert lab.ledger.ran() == {**REPORT_STEPS, "publish": RERUN}


async def test_the_only_worker_comes_back(lab: Lab) -> None:
    worker = await lab.worker()
    lab.ledger.arm("publish")
    caller = lab.call("report please")
    await lab.held("publish", worker)
    worker.kill()
    back = await lab.worker()

    assert await lab.result(caller) == await undisturbed("report please")
    assert lab.ledger.ran() == {**REPORT_STEPS, "publish": RERUN}
    assert lab.ledger.pids("publish", "finished") == [back.pid]


async def test_sub_agent_resumes(lab: Lab) -> None:
    workers = await lab.workers()
    lab.ledger.arm("study")
    caller = lab.call("report please")
    victim, _ = await lab.held("study", *workers)
    victim.kill()

    assert await lab.result(caller) == await undisturbed("report please")
    assert lab.ledger.ran() == {**REPORT_STEPS, "study": RERUN}


async def test_killed_in_a_model_call(lab: Lab) -> None:
    workers = await lab.workers()
    lab.ledger.arm("report-3")
    caller = lab.call("report please")
    victim, _ = await lab.held("report-3", *workers)
    victim.kill()

    assert await lab.result(caller) == await undisturbed("report please")
    assert lab.ledger.ran() == {**REPORT_STEPS, "report-3": RERUN}


async def test_nothing_is_executed_again_by_itself(lab: Lab) -> None:
    """With one attempt the thread waits for a person, and shows it."""
    worker = await lab.worker()
    lab.ledger.arm("publish")
    async with lab.calling({"agent": build_agent(lab.folder)}) as graphs:
        agent = graphs["agent"]
        once = {"configurable": {**lab.config["configurable"], "max_lost_attempts": 1}}
        given = {"messages": [("user", "report please")]}
        call = asyncio.create_task(agent.ainvoke(given, once))
        await lab.held("publish", worker)
        worker.kill()
        await lab.worker()
        with pytest.raises(RunFailedError, match=r"continue it with ainvoke\(None, config\)"):
            await call
        info = await agent.checkpointer.aget_thread(lab.thread_id)
        assert info is not None
        assert info.status == "lost"
        assert "RunFailedError" in str(info.error)
        assert lab.ledger.ran()["publish"] == Ran(started=1, finished=0)
        result = await agent.ainvoke(None, lab.config)
        assert plain(result) == await undisturbed("report please")
    assert lab.ledger.ran() == {**REPORT_STEPS, "publish": RERUN}


async def test_finished_sibling_is_not_repeated(lab: Lab) -> None:
    """Of two parallel tools one is done when the worker dies in the other."""
    workers = await lab.workers()
    lab.ledger.arm("publish")
    caller = lab.call("both please")
    victim, _ = await lab.held("publish", *workers)
    async with lab.calling({"agent": build_agent(lab.folder)}) as graphs:
        await lab.state(
            graphs["agent"],
            lambda state: sum(task.result is not None for task in state.tasks) == 1,
            "the result of the finished tool is in the log",
        )
    victim.kill()

    assert await lab.result(caller) == await undisturbed("both please")
    ran = lab.ledger.ran()
    assert ran.pop("publish") == RERUN
    assert set(ran) == {"both-0", "gather", "both-1"}
    assert set(ran.values()) == {(1, 1)}


async def test_run_under_way_is_not_withdrawn(lab: Lab) -> None:
    """A caller that finds no worker gives up, but not on a run that a worker had begun."""
    worker = await lab.worker()
    lab.ledger.arm("report-1")
    caller = lab.call("report please", "--no-worker-timeout", "1")
    await lab.held("report-1", worker)
    worker.kill()
    await lab.worker()

    assert await lab.result(caller) == await undisturbed("report please")
    assert lab.ledger.ran() == {**REPORT_STEPS, "report-1": RERUN}
