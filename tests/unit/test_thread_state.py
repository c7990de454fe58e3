"""The thread as a pure state machine: who may write, in which order, and what is read back."""

from __future__ import annotations

import pytest

from langgraph_temporal_exec.protocol.messages import (
    AppendRequest,
    AttachRequest,
    AttachStatus,
    Op,
    OpKind,
    Outcome,
    ReadRequest,
    StepRequest,
    TaskOutput,
    TaskSpec,
    TaskStatus,
    Value,
)
from langgraph_temporal_exec.protocol.wire import pack, unpack
from langgraph_temporal_exec.workflow.thread_state import (
    NULL_TASK_ID,
    PAGE_BYTES,
    REMEMBERED_OUTCOME_BYTES,
    AnswerTaken,
    CancelRun,
    CancelTask,
    DeleteNamespace,
    FenceNamespace,
    GiveTurn,
    OpenNamespace,
    StartTask,
    ThreadState,
)


def attach(state: ThreadState, run: str, attempt: int = 1, evict: str = ""):
    return state.attach(
        AttachRequest(run_id=run, attempt=attempt, run_workflow_id=f"wf-{run}", evict=evict)
    )


def put(checkpoint_id: str) -> bytes:
    return pack(Op(kind=OpKind.PUT, checkpoint_id=checkpoint_id))


def writes(checkpoint_id: str, task_id: str, channel: str) -> bytes:
    value = Value(channel=channel, key=0, type="msgpack", data=b"\x01")
    return pack(
        Op(kind=OpKind.WRITES, checkpoint_id=checkpoint_id, task_id=task_id, values=(value,))
    )


def spec(key: str) -> TaskSpec:
    return TaskSpec(key=key, node="node", queue="pinned")


def step(state: ThreadState, seq: int, **parts: object) -> StepRequest:
    return StepRequest(epoch=state.epoch, seq=seq, run_id="r1", **parts)  # type: ignore[arg-type]


def logged(state: ThreadState) -> list[str]:
    page = state.read(ReadRequest()).page
    return [unpack(Op, data).checkpoint_id for data in page.ops if data]


def fresh() -> ThreadState:
    return ThreadState(incarnation="life")


def test_first_run_gets_the_thread() -> None:
    state = fresh()
    reply, effects = attach(state, "r1")
    assert reply.status == AttachStatus.GRANTED
    assert (reply.epoch, effects) == (1, [])
    assert not state.refuses(1)
    assert state.refuses(0)
    assert state.refuses(2)


def test_second_run_waits_and_gets_its_turn_when_the_first_ends() -> None:
    state = fresh()
    attach(state, "r1")
    for _ in range(2):
        reply, _ = attach(state, "r2")
        assert reply.status == AttachStatus.QUEUED
        assert reply.active_run_workflow_id == "wf-r1"
    attach(state, "r3")
    outcome = pack(Outcome(status="done"))
    effects = state.step(step(state, 0, outcome=outcome))
    assert effects == [GiveTurn(run_id="r2", run_workflow_id="wf-r2")]
    # Reserved for r2: a run that comes in between still waits.
    assert attach(state, "r4")[0].status == AttachStatus.QUEUED
    assert attach(state, "r2", 2)[0].status == AttachStatus.GRANTED
    ended, _ = attach(state, "r1", 2)
    assert (ended.status, ended.outcome) == (AttachStatus.ENDED, outcome)


def test_a_newer_attempt_fences_the_older_one_down_the_tree() -> None:
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, ops=(put("c1"),), tasks=(spec("t1"),), open=("ns",)))
    reply, effects = attach(state, "r1", 2)
    assert reply.status == AttachStatus.GRANTED
    assert reply.applied is not None
    assert reply.applied.checkpoints == 1
    assert effects == [CancelTask(key="t1"), FenceNamespace(namespace="ns", epoch=2)]
    assert state.refuses(1)
    # What the old attempt's task still returns is not recorded.
    late = TaskOutput(status=TaskStatus.FINISHED, op=writes("c1", "t1", "x"))
    state.task_ended("t1", 1, late)
    assert logged(state) == ["c1"]
    assert attach(state, "r1", 1)[0].status == AttachStatus.STALE


def test_attaching_twice_with_one_attempt_changes_nothing() -> None:
    state = fresh()
    first, _ = attach(state, "r1")
    second, effects = attach(state, "r1")
    assert (second.status, second.epoch, effects) == (AttachStatus.GRANTED, first.epoch, [])


def test_a_checkpoint_waits_for_the_tasks_it_requires() -> None:
    state = fresh()
    attach(state, "r1")
    effects = state.step(step(state, 0, ops=(put("c1"),), tasks=(spec("t1"),)))
    assert effects == [StartTask(spec=spec("t1"), epoch=1)]
    following = step(state, 1, ops=(put("c2"),), requires=("t1",))
    assert not state.ready(following)
    output = TaskOutput(status=TaskStatus.FINISHED, op=writes("c1", "t1", "x"))
    state.task_ended("t1", 1, output)
    assert state.ready(following)
    state.step(following)
    assert logged(state) == ["c1", "c1", "c2"]


def test_steps_apply_in_order_and_once() -> None:
    state = fresh()
    attach(state, "r1")
    second = step(state, 1, ops=(put("c2"),))
    assert not state.ready(second)
    first = step(state, 0, ops=(put("c1"),), tasks=(spec("t1"),))
    assert state.ready(first)
    state.step(first)
    assert state.step(first) == []
    assert state.ready(second)
    state.step(second)
    assert logged(state) == ["c1", "c2"]


def test_a_lost_task_is_reported_and_can_be_started_again() -> None:
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, tasks=(spec("t1"),)))
    state.task_lost("t1", 1)
    assert state.missing(step(state, 1, requires=("t1",))) == ("t1",)
    assert state.missing(step(state, 1, watch=("t1",))) == ("t1",)
    effects = state.step(step(state, 1, tasks=(spec("t1"),)))
    assert effects == [StartTask(spec=spec("t1"), epoch=1)]
    assert state.missing(step(state, 2, watch=("t1",))) == ()


def test_progress_of_a_run_is_what_a_retry_needs_to_know() -> None:
    state = fresh()
    attach(state, "r1")
    state.append(AppendRequest(ops=(put("c0"),)))
    state.step(step(state, 0, ops=(writes("c0", NULL_TASK_ID, "__resume__"),)))
    applied = attach(state, "r1", 2)[0].applied
    assert applied is not None
    assert (applied.checkpoints, applied.null_writes, applied.answered) == (0, True, ())
    state.step(step(state, 0, ops=(writes("c0", "task", "__resume__"),)))
    applied = attach(state, "r1", 3)[0].applied
    assert applied is not None
    assert applied.answered == ("task",)
    state.answer_taken(0, "of an earlier run")
    state.answer_taken(1, "nested")
    applied = attach(state, "r1", 4)[0].applied
    assert applied is not None
    assert applied.answered == ("task", "nested")


def test_a_nested_namespace_reports_answers() -> None:
    state = ThreadState(incarnation="life", root=False)
    state.enter_epoch(3)
    answer = writes("c0", "task", "__resume__")
    effects = state.step(StepRequest(epoch=3, seq=0, run_id="r1", ops=(answer,)))
    assert effects == [AnswerTaken(epoch=3, task_id="task")]
    state.step(StepRequest(epoch=3, seq=1, run_id="r1", tasks=(spec("t1"),)))
    output = TaskOutput(status=TaskStatus.FINISHED, op=answer)
    assert state.task_ended("t1", 3, output) == [AnswerTaken(epoch=3, task_id="task")]


def test_an_extra_step_does_not_take_a_turn() -> None:
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, ops=(put("c0"),), extra=True))
    state.step(step(state, 0, ops=(put("c1"),)))
    assert logged(state) == ["c0", "c1"]


def test_pruning_keeps_values_that_remaining_checkpoints_refer_to() -> None:
    state = fresh()
    kept = Value(channel="kept", key="1", type="msgpack", data=b"\x01")
    gone = Value(channel="gone", key="1", type="msgpack", data=b"\x02")
    state.append(
        AppendRequest(
            ops=(
                pack(Op(kind=OpKind.PUT, checkpoint_id="c1", values=(kept, gone))),
                put("c2"),
                pack(
                    Op(
                        kind=OpKind.DROP,
                        dropped=("c1",),
                        values=(Value(channel="kept", key="1", type="", data=b""),),
                    )
                ),
            )
        )
    )
    left = unpack(Op, state.read(ReadRequest()).page.ops[0])
    assert (left.kind, left.values) == (OpKind.VALUES, (kept,))


def test_a_closed_run_frees_the_thread() -> None:
    state = fresh()
    attach(state, "r1")
    attach(state, "r2")
    assert state.run_closed("unknown") == []
    effects = state.run_closed("r1")
    assert GiveTurn(run_id="r2", run_workflow_id="wf-r2") in effects
    assert state.waiter_gone("r2") == []
    assert attach(state, "r3")[0].status == AttachStatus.GRANTED


def test_an_active_run_found_closed_is_evicted() -> None:
    state = fresh()
    attach(state, "r1")
    assert attach(state, "r2", evict="other")[0].status == AttachStatus.QUEUED
    assert attach(state, "r2", evict="r1")[0].status == AttachStatus.GRANTED
    assert not state.waiting


def test_a_nested_namespace_takes_newer_epochs_from_steps() -> None:
    state = ThreadState(incarnation="life", root=False)
    assert state.enter_epoch(3) == []
    state.step(StepRequest(epoch=3, seq=0, run_id="r1", tasks=(spec("t1"),)))
    assert not state.refuses(3)
    assert state.refuses(2)
    assert state.fence(3) == []
    assert state.fence(4) == [CancelTask(key="t1")]
    assert state.refuses(3)


def test_the_end_of_the_log_is_told_to_whoever_wrote_all_of_it() -> None:
    state = fresh()
    assert state.log_end() == 0
    attach(state, "r1")
    state.step(step(state, 0, ops=(put("c1"),)))
    assert state.log_end() == 1
    state.append(AppendRequest(ops=(put("foreign"),)))
    assert state.log_end() == 0
    attach(state, "r1", 2)
    assert state.log_end() == 2


def test_namespaces_open_once() -> None:
    state = fresh()
    attach(state, "r1")
    assert state.step(step(state, 0, open=("a", "b"))) == [
        OpenNamespace(namespace="a"),
        OpenNamespace(namespace="b"),
    ]
    assert state.append(AppendRequest(open=("a",))) == []


def test_dropped_checkpoints_are_blank_and_cursors_stay_valid() -> None:
    state = fresh()
    state.append(AppendRequest(ops=(put("c1"), writes("c1", "t", "x"), put("c2"))))
    state.append(AppendRequest(ops=(pack(Op(kind=OpKind.DROP, dropped=("c1",))),)))
    assert logged(state) == ["c2", ""]
    page = state.read(ReadRequest(incarnation="life", cursor=2)).page
    assert (page.start, len(page.ops)) == (2, 2)


def test_pages_are_bounded_and_another_life_starts_over() -> None:
    state = fresh()
    big = pack(Op(kind=OpKind.PUT, checkpoint_id="c", checkpoint=b"x" * (PAGE_BYTES // 2)))
    state.append(AppendRequest(ops=(big, big, big)))
    first = state.read(ReadRequest()).page
    assert (len(first.ops), first.more) == (1, True)
    rest = state.read(ReadRequest(incarnation="life", cursor=2)).page
    assert (rest.start, len(rest.ops), rest.more) == (2, 1, False)
    other = state.read(ReadRequest(incarnation="earlier life", cursor=2)).page
    assert other.start == 0


def test_deletion_leaves_nothing() -> None:
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, ops=(put("c1"),), tasks=(spec("t1"),), open=("ns",)))
    assert state.delete() == [
        CancelTask(key="t1"),
        CancelRun(run_workflow_id="wf-r1"),
        DeleteNamespace(namespace="ns"),
    ]
    reply = state.read(ReadRequest())
    assert (reply.deleted, reply.page.ops) == (True, ())


@pytest.mark.parametrize("with_waiters", [True, False])
def test_a_snapshot_restores_everything(with_waiters: bool) -> None:
    state = fresh()
    attach(state, "r0")
    state.step(StepRequest(epoch=1, seq=0, run_id="r0", outcome=pack(Outcome(status="done"))))
    attach(state, "r1")
    if with_waiters:
        attach(state, "r2")
    state.step(step(state, 0, ops=(put("c1"),), open=("ns",)))
    state.step(step(state, 1, tasks=(spec("t1"),)))
    state.task_lost("t1", state.epoch)
    again = ThreadState.restore("life", root=True, snapshot=state.snapshot())
    assert again == state


def test_a_long_outcome_is_remembered_without_its_stream() -> None:
    state = fresh()
    attach(state, "r1")
    long = Outcome(status="done", chunks=3, tail=(b"x" * REMEMBERED_OUTCOME_BYTES,))
    state.step(step(state, 0, outcome=pack(long)))
    remembered = unpack(Outcome, attach(state, "r1", 2)[0].outcome)
    assert (remembered.status, remembered.chunks, remembered.tail) == ("done", 3, ())
