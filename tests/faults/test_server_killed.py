"""The Temporal server dies and comes back on its file: runs wait for it and lose nothing."""

from __future__ import annotations

import pytest

pytest.importorskip("deepagents")

from tests.faults.agent import REPORT_STEPS
from tests.faults.expected import undisturbed
from tests.faults.lab import Lab, Server
from tests.faults.ledger import ONCE

pytestmark = pytest.mark.exhaustive


async def test_node_outlives_the_server(own_lab: Lab, server: Server) -> None:
    """The server is back before the node ends."""
    worker = await own_lab.worker()
    own_lab.ledger.arm("publish")
    caller = own_lab.call("report please")
    await own_lab.held("publish", worker)
    server.kill()
    await server.start()
    own_lab.ledger.release("publish")

    assert await own_lab.result(caller) == await undisturbed("report please")
    _assert_finished_steps_ran_once(own_lab)


async def test_node_ends_while_the_server_is_away(own_lab: Lab, server: Server) -> None:
    worker = await own_lab.worker()
    own_lab.ledger.arm("publish")
    caller = own_lab.call("report please")
    await own_lab.held("publish", worker)
    server.kill()
    own_lab.ledger.release("publish")
    await own_lab.until(lambda: own_lab.ledger.ran()["publish"] == ONCE, "publish ends")
    await server.start()

    assert await own_lab.result(caller) == await undisturbed("report please")
    _assert_finished_steps_ran_once(own_lab)


def _assert_finished_steps_ran_once(lab: Lab) -> None:
    """Only the step that was under way may have run again: its heartbeats were not heard."""
    ran = lab.ledger.ran()
    publish = ran.pop("publish")
    assert 1 <= publish.finished <= publish.started <= 2
    assert ran == {step: once for step, once in REPORT_STEPS.items() if step != "publish"}
