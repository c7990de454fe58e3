"""Namespaces that have ended: which are closed, and that nothing of them can be lost."""

from __future__ import annotations

from typing import Any

import pytest

from langgraph_temporal_exec.protocol.messages import (
    AppendRequest,
    Closed,
    CloseReply,
    CloseRequest,
    Outcome,
    ReadRequest,
    RetireReply,
    RetireRequest,
    Snapshot,
    ThreadStart,
)
from langgraph_temporal_exec.protocol.names import RETIRE_SIGNAL
from langgraph_temporal_exec.protocol.stored import Pack
from langgraph_temporal_exec.protocol.wire import pack, unpack
from langgraph_temporal_exec.workflow.core.closing import OPEN_NAMESPACES
from langgraph_temporal_exec.workflow.core.effects import DeleteNamespace, Discard, OpenNamespace
from langgraph_temporal_exec.workflow.core.thread_state import ThreadState
from tests.support.thread_ops import attach, garbage, put, step, writes

SHELVES = Pack(data=b"list")


def begun(*, closes: bool = True, **fields: Any) -> ThreadState:
    start = ThreadStart(thread_id="t", rules=1, **fields)
    state = ThreadState.begun(start, run_id="life", now_s=1.0)
    state.closing.enabled = closes
    return state


def ran(
    state: ThreadState, run: str, *namespaces: str, done: tuple[str, ...] = (), status: str = "done"
) -> None:
    """A run that uses namespaces; the tasks of some have a result."""
    attach(state, run)
    state.step(step(state, 0, run=run, ops=(put(f"c-{run}"),), open=namespaces))
    results = tuple(writes(f"c-{run}", task, "messages") for task in done)
    outcome = pack(Outcome(status=status))
    state.step(step(state, 1, run=run, ops=results, outcome=outcome))


def as_closed(namespace: str, end: int = 1) -> Closed:
    return Closed(namespace=namespace, incarnation="x.0", base=0, end=end)


def shelve(state: ThreadState, **reply: Any) -> CloseRequest:
    """All that is asked for is put on shelves."""
    request = state.close()
    assert isinstance(request, CloseRequest)
    reply.setdefault("closed", tuple(map(as_closed, request.namespaces)))
    state.closed(request, CloseReply(shelves=SHELVES, **reply))
    return request


def retire(state: ThreadState, *changed: str, left: tuple[str, ...] = ()) -> RetireRequest:
    request = state.close()
    assert isinstance(request, RetireRequest)
    state.close_ended(request, RetireReply(changed=changed, left=left))
    return request


def test_what_a_run_used_is_closed_when_nothing_is_left_to_be_done() -> None:
    state = begun()
    attach(state, "r1")
    state.step(step(state, 0, ops=(put("c1"),), open=("a:1", "b:2|c:3", "keeps")))
    state.step(step(state, 1, ops=(writes("c1", "1", "messages"),)))
    assert not state.wants_closing()
    state.step(step(state, 2, outcome=pack(Outcome(status="done"))))
    request = shelve(state, garbage=garbage("old"))
    # One that keeps its state from call to call has no task in its name.
    assert request == CloseRequest(thread_id="t", namespaces=("a:1", "b:2|c:3"))
    assert state.namespaces == ["keeps"]
    # Until it is known how it ends, they count as open for whoever moves or deletes the thread.
    assert state.read(ReadRequest()).namespaces == ("keeps", "a:1", "b:2|c:3")
    assert not state.wants_closing()
    state.log.discarded(garbage("old"))
    assert [c.namespace for c in retire(state).closed] == ["a:1", "b:2|c:3"]
    assert state.read(ReadRequest()).namespaces == ("keeps",)
    assert state.read(ReadRequest()).shelves == SHELVES
    assert not state.wants_closing()


def test_of_a_run_that_waits_what_has_a_result_is_closed() -> None:
    state = begun()
    ran(state, "r1", "a:1", "a:2", "a:1|b:3", done=("1",), status="interrupted")
    assert shelve(state).namespaces == ("a:1", "a:1|b:3")
    assert state.namespaces == ["a:2"]


def test_a_history_without_the_patch_closes_nothing() -> None:
    state = begun(closes=False)
    ran(state, "r1", "a:1", done=("1",))
    assert not state.wants_closing()
    assert state.close() is None
    assert unpack(Snapshot, state.snapshot()).closing is None
    # But keeps what others closed.
    state = begun()
    ran(state, "r1", "a:1")
    shelve(state)
    again = begun(closes=False, snapshot=state.snapshot())
    assert begun(snapshot=again.snapshot()).closing.state == state.closing.state


def test_who_is_entered_meanwhile_stays_open() -> None:
    state = begun()
    ran(state, "r1", "a:1", "a:2", "a:3")
    request = state.close()
    assert isinstance(request, CloseRequest)
    attach(state, "r2")
    assert state.step(step(state, 0, run="r2", open=("a:1",))) == []
    state.append(AppendRequest(open=("a:2",)))
    state.closed(request, CloseReply(closed=tuple(map(as_closed, request.namespaces))))
    assert state.namespaces == ["a:1", "a:2"]
    assert state.closing.leaving == ("a:3",)
    # And those that were written to before they could end; of others it is asked again.
    retire(state, left=("a:3",))
    assert state.closing.leaving == ("a:3",)
    retire(state, "a:3")
    assert state.namespaces == ["a:1", "a:2", "a:3"]


def test_only_what_may_be_on_a_shelf_is_looked_for() -> None:
    state = begun()
    assert state.recalled(("a:1",)) == ()
    ran(state, "r1", "a:1", "a:2", "keeps")
    shelve(state)
    attach(state, "r2")
    # It is being retired: whatever the sender knows, it must be waited for.
    assert state.recalled(("a:1", "a:3", "keeps"), new=("a:1", "a:3")) == ("a:1",)
    retire(state)
    assert state.recalled(("a:1", "a:3"), new=("a:3",)) == ("a:1",)
    effects = state.step(step(state, 0, run="r2", open=("a:1",)))
    assert effects == [OpenNamespace(namespace="a:1")]
    assert state.recalled(("a:1",)) == ()
    # Somebody else writes to the thread: it may have been opened since it was read.
    state.append(AppendRequest())
    assert state.recalled(("a:3",), new=("a:3",)) == ("a:3",)


def test_what_is_not_at_rest_is_asked_for_again() -> None:
    state = begun()
    ran(state, "r1", "a:1", "a:2", "a:3")
    shelve(state, closed=(as_closed("a:1"),), gone=("a:3",))
    assert state.namespaces == ["a:2"]
    retire(state)
    request = state.close()
    assert request == CloseRequest(thread_id="t", namespaces=("a:2",), shelves=SHELVES)
    state.closing.given_up(request)
    assert state.close() == request


def test_dropped_namespaces_are_taken_from_shelves() -> None:
    state = begun()
    ran(state, "r1", "a:1", "a:2")
    shelve(state)
    retire(state)
    effects = state.append(AppendRequest(close=("a:1",)))
    assert effects == [DeleteNamespace(namespace="a:1")]
    assert state.read(ReadRequest()).forgotten == ("a:1",)
    # Begun anew, it must not find what it had.
    assert state.recalled(("a:1", "a:2")) == ("a:2",)
    assert shelve(state).forget == ("a:1",)
    assert state.read(ReadRequest()).forgotten == ()
    assert not state.wants_closing()


def test_those_who_wrote_to_closed_ones_say_when_they_are_done() -> None:
    state = begun()
    ran(state, "r1", "a:1")
    shelve(state)
    retire(state)
    state.append(AppendRequest(open=("a:1",)))
    assert not state.wants_closing()
    state.append(AppendRequest(over=("a:1", "unknown:2")))
    assert shelve(state).namespaces == ("a:1",)


def test_what_is_recorded_is_carried_over() -> None:
    state = begun()
    ran(state, "r1", "a:1", "a:2")
    shelve(state, closed=(as_closed("a:1"),))
    state.closing.forget(("gone:3",))
    again = begun(snapshot=state.snapshot())
    assert again.closing.state == state.closing.state
    assert retire(again).closed == (as_closed("a:1"),)
    assert [e.namespace for e in state.delete() if isinstance(e, DeleteNamespace)] == ["a:2", "a:1"]
    assert not state.wants_closing()


def test_garbage_is_removed_before_anything_is_put_on_shelves_again() -> None:
    state = begun()
    ran(state, "r1", "a:1")
    request = state.close()
    assert isinstance(request, CloseRequest)
    reply = CloseReply(shelves=SHELVES, closed=(as_closed("a:1"),), garbage=garbage("g"))
    assert state.closed(request, reply) == [Discard(garbage=garbage("g"))]
    assert not state.wants_closing()
    state.log.discarded(garbage("g"))
    assert state.wants_closing()


def test_a_run_that_uses_very_many_closes_the_first_of_them_itself() -> None:
    state = begun()
    attach(state, "r1")
    state.step(step(state, 0, ops=(put("c1"),)))
    for n in range(OPEN_NAMESPACES):
        state.step(step(state, n + 1, open=(f"a:{n}",), ops=(writes("c1", str(n), "messages"),)))
        # The result of the one before is in the log.
        state.closing.note_result(str(n), state.namespaces)
    request = state.close()
    assert isinstance(request, CloseRequest)
    assert request.namespaces[0] == "a:0"
    used = state.in_use()
    assert not set(used).intersection(request.namespaces)
    assert len(used) == OPEN_NAMESPACES // 2


# -- a namespace itself ----------------------------------------------------------------------------


def child(**fields: Any) -> ThreadState:
    return begun(namespace="a:1", **fields)


def told(state: ThreadState, at: int = 5, **other: Any) -> None:
    here = {"incarnation": state.log.incarnation, "base": state.log.base, "end": state.log.end}
    state.signalled(RETIRE_SIGNAL, [*{**here, **other}.values(), at])


def test_a_workflow_ends_only_if_it_is_on_a_shelf_as_it_is() -> None:
    state = child()
    state.enter_epoch(3)
    state.step(step(state, 0, ops=(put("c1"),)))
    assert not state.may_retire()
    for other in ({"end": 0}, {"base": 1}, {"incarnation": "x.0"}):
        told(state, **other)
        assert not state.may_retire()
    told(state)
    assert state.may_retire()
    state.step(step(state, 1, ops=(put("c2"),)))
    assert not state.may_retire()
    assert not begun().may_retire()


@pytest.mark.parametrize("args", [(), ("x.0", 0, 1), ("x.0", "0", 1, 2), ("x.0", 0, 1, True)])
def test_signals_that_make_no_sense_are_passed_over(args: tuple[Any, ...]) -> None:
    state = child()
    assert state.signalled(RETIRE_SIGNAL, args) == []
    assert state.retire_at == ("", 0, 0)


def test_what_was_told_to_an_earlier_workflow_ends_no_later_one() -> None:
    first = child()
    first.step(step(first, 0, ops=(put("c1"),)))
    kept = first.at_rest()
    again = child(snapshot=kept, incarnation="life", epoch=7, opened_at=6)
    told(again, at=5)
    assert not again.may_retire()
    told(again, at=6)
    assert again.may_retire()
    # It goes on where it was, under the epoch of its thread.
    assert again.log.incarnation == first.log.incarnation
    assert again.log.end == first.log.end
    assert again.refuses(6)
    assert not again.refuses(7)
    assert again.next_seq == 0


def test_a_namespace_at_work_is_put_on_no_shelf() -> None:
    state = child()
    state.enter_epoch(1)
    state.step(step(state, 0, ops=(put("c1"),)))
    assert unpack(Snapshot, state.at_rest()).log == tuple(state.log.entries)
    assert state.read(ReadRequest(closing=True)).snapshot == state.at_rest()
    assert state.read(ReadRequest()).snapshot == b""
    state.log.discards.append(garbage("g"))
    assert state.at_rest() == b""
    state.log.discarded(garbage("g"))
    state.retired = True
    assert state.at_rest() == b""
    assert state.read(ReadRequest()).deleted
