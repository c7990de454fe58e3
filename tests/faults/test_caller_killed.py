"""A run does not need whoever started it."""

from __future__ import annotations

import pytest

pytest.importorskip("deepagents")

from tests.faults.agent import REPORT_STEPS, RERUN, build_agent
from tests.faults.expected import plain, undisturbed
from tests.faults.lab import Lab
from tests.faults.ledger import ONCE


async def test_run_finishes_unwatched(lab: Lab) -> None:
    worker = await lab.worker()
    lab.ledger.arm("publish")
    caller = lab.call("report please")
    await lab.held("publish", worker)
    caller.kill()
    lab.ledger.release("publish")

    after_first = await undisturbed("report please")
    state = await lab.at_rest(build_agent(lab.folder))
    assert plain(state.values) == after_first
    assert lab.ledger.ran() == REPORT_STEPS

    later = lab.call("again with feeling", "--read-first")
    assert await lab.result(later) == await undisturbed("report please", "again with feeling")
    assert later.received("state") == [after_first]
    assert lab.ledger.ran() == {**REPORT_STEPS, "again-0": ONCE}


async def test_caller_and_worker_die_together(lab: Lab) -> None:
    """Embedded: one process hosts both, and nothing of it is left."""
    lab.ledger.arm("publish")
    both = lab.call("report please", "--host-worker")
    await lab.held("publish", both)
    both.kill()
    worker = await lab.worker()

    state = await lab.at_rest(build_agent(lab.folder))
    assert plain(state.values) == await undisturbed("report please")
    assert lab.ledger.ran() == {**REPORT_STEPS, "publish": RERUN}
    assert lab.ledger.pids("publish", "finished") == [worker.pid]
