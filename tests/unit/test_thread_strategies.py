"""Runs that do not just wait in line: turned away, or the active one is stopped for them."""

from __future__ import annotations

import pytest

from langgraph_temporal_exec.protocol.messages import (
    AppendRequest,
    AttachReply,
    AttachRequest,
    AttachStatus,
    Outcome,
)
from langgraph_temporal_exec.protocol.wire import pack
from langgraph_temporal_exec.workflow.core.effects import CancelRun, Effect, GiveTurn, StartTask
from langgraph_temporal_exec.workflow.core.thread_state import ThreadState
from tests.support.thread_ops import attach, fresh, put, spec, step

CANCELLED = pack(Outcome(status="cancelled"))


def ask(state: ThreadState, run_id: str, strategy: str) -> tuple[AttachReply, list[Effect]]:
    """An attempt of a run with a strategy."""
    request = AttachRequest(
        run_id=run_id, attempt=1, run_workflow_id=f"wf-{run_id}", strategy=strategy
    )
    return state.attach(request)


def restored(state: ThreadState) -> ThreadState:
    """The state after continue-as-new."""
    return ThreadState.restore(state.log.life, root=True, snapshot=state.snapshot())


@pytest.mark.parametrize("strategy", ["reject", "interrupt", "rollback"])
def test_a_free_thread_is_given_whatever_the_strategy(strategy: str) -> None:
    assert ask(fresh(), "r1", strategy)[0].status == AttachStatus.GRANTED


def test_a_rejected_run_leaves_nothing_behind() -> None:
    state = fresh()
    attach(state, "r1")
    before = state.snapshot()
    reply, effects = ask(state, "r2", "reject")
    assert (reply.status, reply.active_run, effects) == (AttachStatus.REJECTED, "r1", [])
    assert state.snapshot() == before
    # One that has its place in line keeps it.
    attach(state, "r3")
    assert ask(state, "r3", "reject")[0].status == AttachStatus.QUEUED


def test_an_interrupted_run_begins_no_further_superstep() -> None:
    state = fresh()
    attach(state, "r1")
    attach(state, "r2")
    state.step(step(state, 0, ops=(put("c1"),), tasks=(spec("t1"),)))
    reply, effects = ask(state, "r3", "interrupt")
    assert (reply.status, effects) == (AttachStatus.QUEUED, [])
    state = restored(state)
    # A task of the same superstep, as `@task` makes them.
    assert state.step(step(state, 1, tasks=(spec("t2"),))) == [
        StartTask(spec=spec("t2"), epoch=state.epoch)
    ]
    effects = state.step(step(state, 2, ops=(put("c2"),), tasks=(spec("t3"),)))
    assert effects == [CancelRun(run_workflow_id="wf-r1")]
    assert set(state.running) == {"t1", "t2"}
    effects = state.step(step(state, 3, outcome=CANCELLED))
    assert GiveTurn(run_id="r3", run_workflow_id="wf-r3") in effects
    assert ask(state, "r3", "interrupt")[0].undo == ()


def test_a_run_that_nobody_drives_yet_is_stopped_at_once() -> None:
    state = fresh()
    attach(state, "r1")
    attach(state, "r2")
    state.step(step(state, 0, outcome=CANCELLED))
    assert ask(state, "r3", "interrupt")[1] == [CancelRun(run_workflow_id="wf-r2")]


@pytest.mark.parametrize("how", ["outcome", "closed", "evicted"])
def test_what_was_rolled_back_is_undone_by_whoever_comes_next(how: str) -> None:
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, ops=(put("c1"),), tasks=(spec("t1"),)))
    _, effects = ask(state, "r2", "rollback")
    assert effects == [CancelRun(run_workflow_id="wf-r1")]
    # It stays so, whatever comes later.
    ask(state, "r0", "interrupt")
    if how == "outcome":
        state.step(step(state, 1, outcome=CANCELLED))
    elif how == "closed":
        state.run_closed("r1")
    else:
        request = AttachRequest(run_id="r2", attempt=1, run_workflow_id="wf-r2", evict="r1")
        state.attach(request)
    state = restored(state)
    for _ in range(2):
        assert ask(state, "r0", "interrupt")[0].undo == ("r1",)
    state.append(AppendRequest(undone=("r1",)))
    assert ask(state, "r0", "interrupt")[0].undo == ()
