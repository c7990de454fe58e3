"""A worker that freezes is overtaken and stays without influence; one that stops hands over."""

from __future__ import annotations

import pytest

pytest.importorskip("deepagents")

import signal

from tests.faults.agent import REPORT_STEPS, RERUN, build_agent
from tests.faults.expected import plain, undisturbed
from tests.faults.lab import WAIT_S, Lab
from tests.faults.ledger import ONCE, Ran

pytestmark = pytest.mark.exhaustive


@pytest.mark.long
async def test_frozen_worker_wakes_up_too_late(lab: Lab) -> None:
    graph = build_agent(lab.folder)
    workers = await lab.workers()
    lab.ledger.arm("carve")
    caller = lab.call("carving please")
    frozen, other = await lab.held("carve", *workers)
    assert other is not None
    frozen.send(signal.SIGSTOP)

    after_first = await undisturbed("carving please")
    assert await lab.result(caller) == after_first
    assert lab.ledger.ran()["carve"] == RERUN
    before = await lab.at_rest(graph)

    # Its tool is a thread, so it does come to its end, and has a result to report.
    lab.ledger.release("carve")
    frozen.send(signal.SIGCONT)
    await lab.until(lambda: lab.ledger.ran()["carve"] == Ran(2, 2), "the late tool ends")

    # The next turn has only this worker, with whatever it believes to know of the thread.
    other.send(signal.SIGTERM)
    assert await lab.ended(other) == 0
    assert (await lab.at_rest(graph)).config == before.config
    later = lab.call("again please", "--read-first")
    after_second = await undisturbed("carving please", "again please")
    assert await lab.result(later) == after_second
    assert later.received("state") == [after_first]
    assert plain((await lab.at_rest(graph)).values) == after_second
    assert lab.ledger.ran() == {
        **dict.fromkeys(("carving-0", "gather", "carving-1", "carving-2", "again-0"), ONCE),
        "carve": Ran(2, 2),
    }


# Waiting for a heartbeat to be missed would take longer than any wait of these tests.
UNHELPFUL_HEARTBEAT_S = int(WAIT_S) * 10


async def test_stopped_worker_hands_over(lab: Lab) -> None:
    leaving = await lab.worker(heartbeat_s=UNHELPFUL_HEARTBEAT_S)
    lab.ledger.arm("publish")
    caller = lab.call("report please", heartbeat_s=UNHELPFUL_HEARTBEAT_S)
    await lab.held("publish", leaving)
    other = await lab.worker(heartbeat_s=UNHELPFUL_HEARTBEAT_S)
    leaving.send(signal.SIGTERM)

    assert await lab.result(caller) == await undisturbed("report please")
    assert await lab.ended(leaving) == 0
    assert lab.ledger.ran() == {**REPORT_STEPS, "publish": RERUN}
    assert lab.ledger.pids("publish", "finished") == [other.pid]


async def test_task_ends_within_the_grace_period(lab: Lab) -> None:
    leaving = await lab.worker(heartbeat_s=UNHELPFUL_HEARTBEAT_S)
    lab.ledger.arm("publish")
    caller = lab.call("report please", heartbeat_s=UNHELPFUL_HEARTBEAT_S)
    await lab.held("publish", leaving)
    await lab.worker(heartbeat_s=UNHELPFUL_HEARTBEAT_S)
    leaving.send(signal.SIGTERM)
    await lab.until(lambda: "stopping" in leaving.output, "it has the signal")
    lab.ledger.release("publish")

    assert await lab.result(caller) == await undisturbed("report please")
    assert await lab.ended(leaving) == 0
    # Not once more elsewhere: its result was recorded by the worker that leaves.
    assert lab.ledger.ran() == REPORT_STEPS
    assert lab.ledger.pids("publish", "finished") == [leaving.pid]
