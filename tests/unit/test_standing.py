"""Where a thread stands, told by headers: what LangGraph's own reading of the writes says."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.base import WRITES_IDX_MAP

from langgraph_temporal_exec.protocol.messages import (
    AppendRequest,
    Outcome,
    Snapshot,
    StepRequest,
    ThreadSummary,
)
from langgraph_temporal_exec.protocol.standing import Place, Standing
from langgraph_temporal_exec.protocol.stored import Op, OpKind, Value
from langgraph_temporal_exec.protocol.wire import pack, unpack
from langgraph_temporal_exec.seam import hooks
from langgraph_temporal_exec.workflow.core.thread_log import ThreadLog
from langgraph_temporal_exec.workflow.core.thread_state import ThreadState

CHECKPOINTS = ["c1", "c2", "c3", "c4"]
TASKS = ["t1", "t2", hooks.NULL_TASK_ID]
CHANNELS = ["x", "__interrupt__", "__resume__", "__error__", "__error_source_node__"]

puts = st.builds(
    put := lambda c: Op(kind=OpKind.PUT, checkpoint_id=c), st.sampled_from(CHECKPOINTS)
)


def written(checkpoint_id: str, task_id: str, *channels: str, node: str = "") -> Op:
    """Writes of one task."""
    # The node that failed stands behind the error, where no write of a channel takes its place.
    keys = {**WRITES_IDX_MAP, "__error_source_node__": 9}
    values = tuple(
        Value(channel=c, key=keys.get(c, i), type="msgpack", data=b"")
        for i, c in enumerate(channels)
    )
    return Op(
        kind=OpKind.WRITES,
        checkpoint_id=checkpoint_id,
        task_id=task_id,
        task_path=f"~__pregel_pull, {node}" if node else "",
        values=values,
    )


writes = st.builds(
    lambda c, t, channels: written(c, t, *channels),
    st.sampled_from(CHECKPOINTS),
    st.sampled_from(TASKS),
    st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3, unique=True),
)
drops = st.builds(
    lambda c: Op(kind=OpKind.DROP, dropped=tuple(sorted(c))),
    st.sets(st.sampled_from(CHECKPOINTS), min_size=1, max_size=2),
)


@given(st.lists(st.one_of(puts, writes, drops), max_size=30))
def test_as_langgraph_reads_it(ops: list[Op]) -> None:
    standing = Standing()
    live: set[str] = set()
    pending: dict[str, dict[tuple[str, int], Any]] = {}
    left: set[tuple[str, str]] = set()
    for op in ops:
        if op.kind == OpKind.WRITES and op.checkpoint_id < standing.top:
            # Of tasks that ended before the latest checkpoint no more is remembered than they left.
            continue
        if op.kind == OpKind.WRITES and (op.checkpoint_id, op.task_id) in left:
            # Nor when that checkpoint was dropped: a task that has ended does not go on.
            continue
        latest = max(live.difference(op.dropped), default="")
        moved = standing.add(op, latest=latest)
        before = max(live, default="")
        if op.kind == OpKind.PUT:
            live.add(op.checkpoint_id)
            left.update(
                (checkpoint, task)
                for checkpoint, slots in pending.items()
                for task, channel, _ in slots.values()
                if checkpoint < op.checkpoint_id and channel == "x"
            )
        elif op.kind == OpKind.DROP:
            live.difference_update(op.dropped)
            for gone in op.dropped:
                pending.pop(gone, None)
        else:
            slots = pending.setdefault(op.checkpoint_id, {})
            for value in op.values:
                slot = (op.task_id, int(value.key))
                # As InMemorySaver does: of what a task has written to channels the first stays.
                if slot not in slots or slot[1] < 0:
                    slots[slot] = (op.task_id, value.channel, ["question"])
        top = max(live, default="")
        assert (standing.top, moved) == (top, top != before)
        asked = hooks.questions(pending.get(top, {}).values()) if top else {}
        assert set(standing.place.asking) == set(asked)
        assert unpack(Snapshot, pack(_snapshot(standing))).standing == standing


def _snapshot(standing: Standing | None, **more: Any) -> Snapshot:
    parts: dict[str, Any] = {"log": (), "standing": standing, **more}
    return Snapshot(
        epoch=1, seq=0, namespaces=(), ended=(), waiting=(), active=None, lost=(), **parts
    )


def _asked() -> ThreadState:
    """A thread whose run has asked, with the place of the question."""
    state = ThreadState(log=ThreadLog(life="life"), summary=ThreadSummary(thread_id="t", graph="g"))
    state.reserve("r", "w")
    question = written("c2", "task", "__interrupt__", node="ask")
    outcome = Outcome(status="interrupted", at="c2", nodes=("ask",), asks=("ask",))
    state.step(
        StepRequest(
            epoch=0,
            seq=0,
            run_id="r",
            ops=(pack(put("c2")), pack(question)),
            outcome=pack(outcome),
        )
    )
    return state


def _edit(state: ThreadState, *due: str) -> None:
    request = AppendRequest(ops=(pack(put("c3")),), base=state.standing.top, due=due)
    state.append(request)


def test_an_edit() -> None:
    state = _asked()
    assert (state.status, state.waits_not(), state.standing.place.asking) == (
        "interrupted",
        "",
        ("task",),
    )
    _edit(state, "ask", "other")
    assert (state.status, state.summary.asks) == ("interrupted", ("ask",))
    state = _asked()
    _edit(state, "other")
    assert (state.status, state.waits_not()) == ("", "it waits for nothing.")
    assert state.standing.places["c2"] == Place(asking=("task",), nodes=("ask",))


def test_threads_of_earlier_releases() -> None:
    """They decide as they did until they continue as new, and wait for the same then."""
    state = _asked()
    state.by_log = False
    _edit(state, "other")
    assert state.waits_not() == ""
    log = (pack(put("c2")), pack(written("c2", "task", "__interrupt__", node="ask")))
    summary = ThreadSummary(thread_id="t", graph="g", status="interrupted", asks=("ask",))
    for snapshot in (
        _snapshot(None, log=log, summary=summary),
        _snapshot(None, summary=summary),
        _snapshot(None, log=log[:1], summary=summary),
    ):
        again = ThreadState.restore("life", root=True, snapshot=pack(snapshot))
        assert (again.status, again.waits_not()) == ("interrupted", "")
        _edit(again, "other")
        assert again.waits_not() == "it waits for nothing."
