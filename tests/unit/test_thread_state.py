"""The thread as a pure state machine: who may write, in which order, and what is read back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from langgraph_temporal_exec.protocol.messages import (
    Announcement,
    AppendRequest,
    ArchiveReply,
    ArchiveRequest,
    AttachRequest,
    AttachStatus,
    BeginRequest,
    ErrorInfo,
    Outcome,
    ReadRequest,
    RunPriority,
    StepRequest,
    TaskOutput,
    TaskStatus,
    ThreadSummary,
)
from langgraph_temporal_exec.protocol.names import (
    NULL_TASK_ID,
    PARK_SIGNAL,
    RUN_CLOSED_SIGNAL,
    RUN_TIMEOUT_CLASS,
    STOP_SIGNAL,
)
from langgraph_temporal_exec.protocol.stored import BlobRef, Op, OpKind, Pack, Segment
from langgraph_temporal_exec.protocol.wire import WireError, pack, unpack
from langgraph_temporal_exec.workflow.core.effects import (
    AnswerTaken,
    CancelRun,
    CancelTask,
    DeleteNamespace,
    Discard,
    FenceNamespace,
    GiveTurn,
    OpenNamespace,
    StartTask,
)
from langgraph_temporal_exec.workflow.core.thread_log import ThreadLog
from langgraph_temporal_exec.workflow.core.thread_state import (
    ERROR_TEXT_BYTES,
    MAX_ANNOUNCED,
    MAX_WAITING,
    REMEMBERED_NAMESPACES,
    REMEMBERED_OUTCOME_BYTES,
    REMEMBERED_RUNS,
    ThreadState,
)
from tests.support.thread_ops import (
    attach,
    drop,
    fresh,
    garbage,
    logged,
    logged_ids,
    put,
    spec,
    step,
    writes,
)


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


def begin(state: ThreadState, **parts: Any) -> BeginRequest:
    """What the process of the last run would send."""
    request = AttachRequest(
        run_id="r2",
        attempt=1,
        run_workflow_id="wf-r2",
        incarnation=state.log.incarnation,
        cursor=state.log.end,
        worker="w",
        affinity="prefer",
        home_queue="q~w",
    )
    step_parts = {"ops": (put("c2"),), "tasks": (spec("t2"),), **parts.pop("step", {})}
    epoch = parts.pop("epoch", state.epoch + 1)
    first = StepRequest(epoch=epoch, seq=0, run_id="r2", stays=True, **step_parts)
    return BeginRequest(attach=replace(request, **parts), step=first)


def after_a_run() -> ThreadState:
    state = fresh(has_home=True, in_order=True)
    request = AttachRequest(run_id="r1", attempt=1, run_workflow_id="wf-r1", worker="w")
    state.attach(replace(request, affinity="prefer", home_queue="q~w"))
    state.step(step(state, 0, ops=(put("c1"),), outcome=pack(Outcome(status="done"))))
    return state


def test_a_run_begins_as_the_process_of_the_last_one_presumes() -> None:
    state = after_a_run()
    request = begin(state)
    assert (state.begins(request), state.has_begun(request)) == (True, False)
    state.begin(request)
    assert state.epoch == request.step.epoch
    assert not state.refuses(request.step.epoch)
    assert state.has_begun(request), "sent again, it is its step"
    state.step(replace(request.step, tasks=(), outcome=pack(Outcome(status="done"))))
    assert state.has_begun(request)


def test_a_run_that_had_to_ask_has_not_begun_so() -> None:
    """The request that was refused may come once more, by whatever way."""
    state = after_a_run()
    request = begin(state)
    state.append(AppendRequest(ops=(put("c3"),)))
    assert not state.begins(request)
    state.attach(replace(request.attach, cursor=0))
    assert state.epoch == request.step.epoch
    assert not state.has_begun(request)
    assert not state.begins(request)


def test_the_outcome_of_another_run_is_not_its_own() -> None:
    state = after_a_run()
    request = begin(state)
    attach(state, "r3")
    state.step(step(state, 0, run="r3", outcome=pack(Outcome(status="done"))))
    assert state.outcome_epoch == request.step.epoch
    assert not state.has_begun(request)
    assert not state.begins(request)


@pytest.mark.parametrize(
    "parts",
    [
        {"cursor": 0},
        {"incarnation": "another"},
        {"epoch": 2},
        {"epoch": 4},
        {"attempt": 2},
        {"run_id": "r1"},
        {"worker": "another"},
    ],
)
def test_it_does_not_if_the_process_knows_another_thread(parts: dict[str, Any]) -> None:
    state = after_a_run()
    assert state.epoch == 2
    assert not state.begins(begin(state, **parts))


@pytest.mark.parametrize("other", ["active", "waits", "announced", "wrote", "opened", "undo"])
def test_nor_if_somebody_else_has_been_there(other: str) -> None:
    state = after_a_run()
    request = begin(state)
    if other == "active":
        attach(state, "r3")
    elif other == "waits":
        attach(state, "r3")
        attach(state, "r4")
    elif other == "announced":
        state.announce(Announcement(run_id="r3", run_workflow_id="wf", graph="g"))
    elif other == "wrote":
        state.append(AppendRequest(ops=(put("c3"),)))
    elif other == "opened":
        state.append(AppendRequest(open=("sub:1",), open_as=("g",)))
    else:
        state.undo.append("r0")
    assert not state.begins(request)
    assert not state.has_begun(request)


def test_a_newer_attempt_fences_the_older_one_down_the_tree() -> None:
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, ops=(put("c1"),), tasks=(spec("t1"),), open=("ns",)))
    assert list(state.running) == ["t1"]
    reply, effects = attach(state, "r1", 2)
    assert reply.status == AttachStatus.GRANTED
    assert reply.applied is not None
    assert reply.applied.checkpoints == 1
    assert effects == [CancelTask(key="t1"), FenceNamespace(namespace="ns", epoch=2)]
    assert state.refuses(1)
    # What the old attempt's task still returns is not recorded.
    late = TaskOutput(status=TaskStatus.FINISHED, op=writes("c1", "t1", "x"))
    state.task_ended("t1", 1, late)
    assert [op.kind for op in logged(state)] == [OpKind.PUT, OpKind.OPEN]
    assert attach(state, "r1", 1)[0].status == AttachStatus.STALE


def carrying(state: ThreadState, *, seq: int, key: str = "t1", **parts: Any) -> TaskOutput:
    """The result of a task, with a step."""
    request = step(state, seq, **parts)
    return TaskOutput(status=TaskStatus.FINISHED, op=writes("c1", key, "x"), step=pack(request))


def superstep(*keys: str) -> ThreadState:
    """A thread with tasks under way."""
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, ops=(put("c1"),), tasks=tuple(map(spec, keys))))
    return state


def test_a_result_carries_the_next_step() -> None:
    state = superstep("t1")
    output = carrying(state, seq=1, ops=(put("c2"),), tasks=(spec("t2"),), requires=("t1",))
    state.task_ended("t1", state.epoch, output)
    assert state.advance() == [StartTask(spec=spec("t2"), epoch=state.epoch)]
    assert (list(state.running), state.next_seq, state.carried) == (["t2"], 2, {})
    assert [unpack(Op, data).kind for data in state.log.entries] == [
        OpKind.PUT,
        OpKind.WRITES,
        OpKind.PUT,
    ]
    # The same step again, as an Update.
    assert state.step(step(state, 1, ops=(put("c2"),), tasks=(spec("t2"),))) == []


def test_a_result_may_carry_the_outcome() -> None:
    state = fresh()
    attach(state, "r1")
    first = replace(step(state, 0, tasks=(spec("t1"),)), stays=True)
    state.step(first)
    assert state.stays_with(first)
    epoch = state.epoch
    end = step(state, 1, ops=(put("c2"),), requires=("t1",), outcome=pack(Outcome(status="done")))
    output = TaskOutput(status=TaskStatus.FINISHED, op=writes("c1", "t1", "x"), step=pack(end))
    state.task_ended("t1", epoch, output)
    assert state.active is not None, "it is applied in its turn"
    state.advance()
    assert (state.active, state.summary.status, state.outcome_end) == (None, "done", state.log.end)
    assert state.refuses(epoch), "the step that stays is answered"
    assert state.has_outcome_of(end), "it may come once more, by itself"
    attach(state, "r2")
    assert state.has_outcome_of(end)
    assert not state.has_outcome_of(step(state, 0))


def test_a_step_without_tasks_does_not_stay() -> None:
    state = fresh()
    attach(state, "r1")
    alone = replace(step(state, 0, ops=(put("c1"),)), stays=True)
    state.step(alone)
    assert not state.stays_with(alone)


def test_a_carried_step_waits_for_those_before_it_and_for_what_it_requires() -> None:
    state = superstep("t1", "t2")
    output = carrying(state, seq=2, tasks=(spec("t3"),), requires=("t1", "t2"))
    state.task_ended("t1", state.epoch, output)
    assert state.advance() == []
    state.step(step(state, 1))
    assert state.advance() == []
    state.task_ended("t2", state.epoch, TaskOutput(status=TaskStatus.FINISHED))
    assert state.advance() == [StartTask(spec=spec("t3"), epoch=state.epoch)]


def test_a_carried_step_that_has_come_by_itself_before_is_dropped() -> None:
    state = superstep("t1", "t2")
    state.step(step(state, 1, tasks=(spec("t3"),)))
    state.task_ended("t1", state.epoch, carrying(state, seq=1, tasks=(spec("t3"),)))
    assert (state.advance(), state.carried, state.next_seq) == ([], {}, 2)


def test_a_carried_step_survives_continue_as_new() -> None:
    state = superstep("t1", "t2")
    state.task_ended("t1", state.epoch, carrying(state, seq=1, tasks=(spec("t3"),)))
    again = ThreadState.restore("life", root=True, snapshot=state.snapshot())
    assert again.advance() == [StartTask(spec=spec("t3"), epoch=state.epoch)]


@pytest.mark.parametrize(
    "parts",
    [
        {"open": ("ns",)},
        {"watch": ("t2",)},
        {"cancel": ("t2",)},
        {"outcome": pack(Outcome(status="done"))},
        {"extra": True},
        {"round": 3},
    ],
    ids=str,
)
def test_a_step_that_needs_an_answer_is_not_taken_from_a_result(parts: dict[str, Any]) -> None:
    state = superstep("t1")
    state.task_ended("t1", state.epoch, carrying(state, seq=1, **parts))
    assert (state.carried, state.advance()) == ({}, [])


def test_a_carried_step_that_requires_a_lost_task_is_left_to_its_sender() -> None:
    state = superstep("t1", "t2")
    state.task_lost("t2", state.epoch)
    output = carrying(state, seq=1, tasks=(spec("t3"),), requires=("t1", "t2"))
    state.task_ended("t1", state.epoch, output)
    assert (state.advance(), state.carried, state.next_seq) == ([], {}, 1)
    assert state.missing(step(state, 1, requires=("t1", "t2"))) == ("t2",)


def test_a_newer_attempt_drops_what_results_have_carried() -> None:
    state = superstep("t1", "t2")
    state.task_ended("t1", state.epoch, carrying(state, seq=2, tasks=(spec("t3"),)))
    attach(state, "r1", 2)
    assert state.carried == {}


def test_a_result_whose_step_cannot_be_read_changes_nothing() -> None:
    state = superstep("t1")
    before = state.snapshot()
    broken = (b"no step", pack(step(state, 1, ops=(put("c2"), b"no op"))))
    for data in broken:
        output = TaskOutput(status=TaskStatus.FINISHED, op=writes("c1", "t1", "x"), step=data)
        with pytest.raises(WireError):
            state.task_ended("t1", state.epoch, output)
    assert state.snapshot() == before


def test_a_run_that_leaves_a_task_behind_fences_its_namespaces() -> None:
    outcome = pack(Outcome(status="done"))
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, open=("ns",)))
    assert state.step(step(state, 1, outcome=outcome)) == []
    attach(state, "r2")
    state.step(step(state, 0, run="r2", open=("ns2",)))
    ended = state.step(replace(step(state, 1, run="r2", outcome=outcome), fence=True))
    assert ended == [FenceNamespace(namespace="ns2", epoch=state.epoch)]


def announced(*runs: str, **fields: Any) -> ThreadState:
    """A thread whose runs nobody has taken yet."""
    state = fresh(in_order=True, **fields)
    for run in runs:
        state.announce(announcement(run))
    return state


def announcement(run: str, task_queue: str = "shared") -> Announcement:
    return Announcement(run_id=run, run_workflow_id=f"wf-{run}", task_queue=task_queue)


def turns(state: ThreadState) -> list[str]:
    """In which order runs get the thread if each asks for it and ends at once."""
    order = []
    while state.active is not None:
        run = state.active.run_id
        attach(state, run)
        order.append(run)
        state.step(step(state, 0, run=run, outcome=pack(Outcome(status="done"))))
    return order


@pytest.mark.parametrize("asks", ["a", "b", "c", "d"])
def test_runs_that_nobody_has_taken_keep_their_order(asks: str) -> None:
    """Whichever a worker takes first; "d" is one whose caller waits, which nobody announces."""
    state = announced("a", "b", "c")
    reply, effects = attach(state, asks)
    assert effects == []
    assert reply.status == (AttachStatus.GRANTED if asks == "a" else AttachStatus.QUEUED)
    for later in "abcd":
        attach(state, later)
    assert turns(state) == list("abcd")


def test_a_run_behind_another_one_lets_in_who_was_there_before_it() -> None:
    state = announced()
    attach(state, "active")
    for run in "ab":
        state.announce(announcement(run))
    assert state.read(ReadRequest()).summary.waiting == 2
    attach(state, "b")
    attach(state, "a")
    assert turns(state) == ["active", "a", "b"]


def test_a_run_that_ended_before_anybody_took_it_lets_the_next_one_in() -> None:
    state = announced("a", "b")
    attach(state, "b")
    assert state.run_closed("a") == [GiveTurn(run_id="b", run_workflow_id="wf-b")]
    assert turns(state) == ["b"]


def test_runs_of_another_task_queue_are_not_waited_for() -> None:
    """It may be one that nobody serves."""
    state = announced()
    state.announce(announcement("a", "elsewhere"))
    assert attach(state, "b")[0].status == AttachStatus.GRANTED
    assert attach(state, "a")[0].status == AttachStatus.QUEUED


def test_histories_without_the_patch_give_the_thread_to_whoever_asks_first() -> None:
    state = announced("a", "b")
    state.in_order = False
    assert attach(state, "b")[0].status == AttachStatus.GRANTED


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
    assert logged_ids(state) == ["c1", "c1", "c2"]


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
    assert logged_ids(state) == ["c1", "c2"]


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
    state = ThreadState(log=ThreadLog(life="life"), root=False)
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
    assert logged_ids(state) == ["c0", "c1"]


def test_a_closed_run_frees_the_thread() -> None:
    state = fresh()
    attach(state, "r1")
    attach(state, "r2")
    assert state.run_closed("unknown") == []
    effects = state.run_closed("r1")
    assert GiveTurn(run_id="r2", run_workflow_id="wf-r2") in effects
    assert state.run_closed("r2") == []
    assert attach(state, "r3")[0].status == AttachStatus.GRANTED


def test_a_run_whose_time_is_over_has_failed() -> None:
    """Its process records a cancellation, because it does not know why it was cancelled."""
    state = fresh()
    attach(state, "r")
    assert state.signalled(STOP_SIGNAL, ("r", 2.5)) == []
    assert state.active is not None
    assert state.active.cancelled
    state.step(step(state, 0, run="r", outcome=pack(Outcome(status="cancelled", attempt=1))))
    summary = state.read(ReadRequest()).summary
    assert summary is not None
    assert (summary.status, summary.error_type) == ("error", RUN_TIMEOUT_CLASS)
    assert "had not ended after 2.5 s" in summary.error_text
    recorded = unpack(Outcome, state.ended["r"])
    assert (recorded.status, recorded.attempt) == ("error", 1)
    assert state.active is None


def test_a_run_that_was_done_in_the_last_moment_is_done() -> None:
    state = fresh()
    attach(state, "r")
    state.stop("r", 2.5)
    state.step(step(state, 0, run="r", outcome=pack(Outcome(status="done", attempt=1))))
    assert state.status == "done"


def test_a_run_whose_time_is_over_between_attempts_has_failed() -> None:
    state = fresh()
    attach(state, "r")
    state.signalled(RUN_CLOSED_SIGNAL, ("r", 2.5))
    assert state.summary.error_type == RUN_TIMEOUT_CLASS
    assert state.status == "error"
    assert state.active is None
    # Its attempt that was taken for lost is told so.
    reply, _ = attach(state, "r", attempt=2)
    assert reply.status == AttachStatus.ENDED


def test_a_run_whose_time_is_over_in_the_run_queue_leaves_no_trace() -> None:
    state = fresh()
    attach(state, "first")
    attach(state, "second")
    state.signalled(RUN_CLOSED_SIGNAL, ("second", 2.5))
    assert not state.waiting
    assert state.summary.error_type == ""
    assert state.active is not None
    assert state.active.run_id == "first"


@pytest.mark.parametrize("args", [("r", 0.0), ("r", "2"), ("r", True), ("r", 1.0, 1.0), (1, 2.0)])
def test_a_signal_that_makes_no_sense_stops_nothing(args: tuple[object, ...]) -> None:
    state = fresh()
    attach(state, "r")
    assert state.signalled(STOP_SIGNAL, args) == []
    assert state.signalled(RUN_CLOSED_SIGNAL, args) == []
    assert state.active is not None
    assert not state.active.cancelled


def test_the_priority_of_the_last_run_is_kept() -> None:
    state = fresh()
    priority = RunPriority(key=2, fairness_key="tenant")
    state.attach(AttachRequest(run_id="r", attempt=1, run_workflow_id="w", priority=priority))
    assert state.priority == priority
    again = ThreadState.restore("life", root=True, snapshot=state.snapshot())
    assert again.priority == priority


def test_an_active_run_found_closed_is_evicted() -> None:
    state = fresh()
    attach(state, "r1")
    assert attach(state, "r2", evict="other")[0].status == AttachStatus.QUEUED
    assert attach(state, "r2", evict="r1")[0].status == AttachStatus.GRANTED
    assert not state.waiting


def test_a_nested_namespace_takes_newer_epochs_from_steps() -> None:
    state = ThreadState(log=ThreadLog(life="life"), root=False)
    assert state.enter_epoch(3) == []
    state.step(StepRequest(epoch=3, seq=0, run_id="r1", tasks=(spec("t1"),)))
    assert not state.refuses(3)
    assert state.refuses(2)
    assert state.fence(3) == []
    assert state.fence(4) == [CancelTask(key="t1")]
    assert state.refuses(3)


def test_the_end_of_the_log_is_told_to_whoever_wrote_all_of_it() -> None:
    outcome = pack(Outcome(status="done"))
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, ops=(put("c1"),)))
    state.step(step(state, 1, outcome=outcome))
    assert state.outcome_end == 1
    attach(state, "r2")
    state.append(AppendRequest(ops=(put("foreign"),)))
    state.step(step(state, 0, run="r2", outcome=outcome))
    assert state.outcome_end == 0
    # What was appended before an attempt was granted, that attempt has read.
    attach(state, "r3")
    state.append(AppendRequest(ops=(put("foreign"),)))
    attach(state, "r3", 2)
    state.step(step(state, 0, run="r3", outcome=outcome))
    assert state.outcome_end == 3


def test_namespaces_open_once_and_the_log_says_so() -> None:
    state = fresh()
    attach(state, "r1")
    assert state.step(step(state, 0, open=("a", "b"))) == [
        OpenNamespace(namespace="a"),
        OpenNamespace(namespace="b"),
    ]
    assert state.append(AppendRequest(open=("a",))) == []
    assert [(op.kind, op.opened) for op in logged(state)] == [
        (OpKind.OPEN, ("a",)),
        (OpKind.OPEN, ("b",)),
    ]


def test_closed_namespaces_end_and_may_be_opened_again() -> None:
    state = fresh()
    state.append(AppendRequest(open=("a", "b")))
    # One that is not remembered may still exist.
    assert state.append(AppendRequest(close=("a", "forgotten"))) == [
        DeleteNamespace(namespace="a"),
        DeleteNamespace(namespace="forgotten"),
    ]
    assert state.namespaces == ["b"]
    assert state.append(AppendRequest(open=("a",))) == [OpenNamespace(namespace="a")]


def test_a_thread_remembers_its_latest_namespaces_only() -> None:
    names = tuple(f"ns{i}" for i in range(REMEMBERED_NAMESPACES + 1))
    state = fresh()
    attach(state, "r1")
    assert len(state.step(step(state, 0, open=names))) == len(names)
    assert tuple(state.namespaces) == names[1:]
    # A takeover fences what was used lately, not everything that ever was.
    _, effects = attach(state, "r1", 2)
    assert effects == [FenceNamespace(namespace=n, epoch=2) for n in names[1:]]
    # All of them are in the log, and the forgotten one opens again.
    assert len(logged(state)) == len(names)
    assert state.append(AppendRequest(open=names[:1])) == [OpenNamespace(namespace=names[0])]


def test_deletion_ends_everything_and_leaves_the_log_to_whoever_erases_it() -> None:
    state = fresh()
    attach(state, "r0")
    state.step(step(state, 0, run="r0", outcome=pack(Outcome(status="done"))))
    attach(state, "r1")
    attach(state, "r2")
    state.step(step(state, 0, ops=(put("c1"),), tasks=(spec("t1"),), open=("ns",)))
    assert state.delete() == [
        CancelTask(key="t1"),
        CancelRun(run_workflow_id="wf-r1"),
        CancelRun(run_workflow_id="wf-r2"),
        DeleteNamespace(namespace="ns"),
    ]
    assert state.read(ReadRequest()).deleted
    erasing = state.read(ReadRequest(erasing=True))
    assert (erasing.deleted, len(erasing.page.ops), erasing.runs) == (False, 2, ("r0",))
    assert state.delete() == []


def test_a_full_line_turns_away_new_runs_only() -> None:
    state = fresh()
    assert not state.run_queue_is_full("r1")
    attach(state, "r0")
    state.step(step(state, 0, run="r0", outcome=pack(Outcome(status="done"))))
    attach(state, "r1")
    for i in range(MAX_WAITING):
        assert not state.run_queue_is_full(f"w{i}")
        attach(state, f"w{i}")
    assert state.run_queue_is_full("new")
    assert not any(state.run_queue_is_full(known) for known in ("r0", "r1", "w0"))


def test_a_result_that_its_process_no_longer_has_counts_as_lost() -> None:
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, tasks=(spec("t1"), spec("t2"))))
    state.task_ended("t1", 1, TaskOutput(status=TaskStatus.UNKNOWN))
    state.task_ended("t2", 1, TaskOutput(status=TaskStatus.NO_WRITES))
    following = step(state, 1, requires=("t1", "t2"))
    assert state.ready(following)
    assert state.missing(following) == ("t1",)


def test_a_summary_shows_graph_status_and_line() -> None:
    state = fresh()
    request = AttachRequest(run_id="r1", attempt=1, run_workflow_id="wf-r1", graph="agent")
    state.attach(request)
    attach(state, "r2")
    busy = state.read(ReadRequest()).summary
    assert busy == ThreadSummary(thread_id="t", graph="agent", active_run="r1", waiting=1)
    state.run_closed("r2")
    state.step(step(state, 0, outcome=pack(Outcome(status="interrupted"))))
    idle = state.read(ReadRequest()).summary
    assert idle == ThreadSummary(thread_id="t", graph="agent", status="interrupted")


# -- continue-as-new --------------------------------------------------------------------------


def archived_with_garbage(state: ThreadState) -> None:
    """An archive is in place, blobs are being removed, and more of the log can be freed."""
    state.append(AppendRequest(ops=(drop("c0"), put("c1")), compact=True))
    request = state.archive("", "wf")
    assert request is not None
    segment = Segment(first=0, end=2, pack=Pack(data=b"s"))
    reply = ArchiveReply(segments=(segment,), head=Pack(data=b"h"), garbage=garbage("g1"))
    assert state.log.archived(request, reply) == [Discard(garbage=garbage("g1"))]
    state.append(AppendRequest(ops=(put("c2"), drop("c1")), compact=True))


@pytest.mark.parametrize("with_waiters", [True, False])
def test_a_snapshot_restores_everything(with_waiters: bool) -> None:
    state = fresh()
    archived_with_garbage(state)
    attach(state, "r0")
    state.step(step(state, 0, run="r0", outcome=pack(Outcome(status="done"))))
    attach(state, "r1")
    if with_waiters:
        attach(state, "r2")
    state.step(step(state, 0, ops=(put("c3"),), open=("ns",)))
    state.step(step(state, 1, tasks=(spec("t1"), spec("t2"))))
    state.task_lost("t1", state.epoch)
    again = ThreadState.restore("life", root=True, snapshot=state.snapshot())
    # Asked about before the step of the outcome is answered, never after continue-as-new.
    again.outcome_end, again.outcome_epoch = state.outcome_end, state.outcome_epoch
    assert again == state
    assert (again.log.generation, again.log.base, again.log.garbage, again.log.compact) == (
        1,
        2,
        True,
        True,
    )


def test_what_was_under_way_is_taken_up_again() -> None:
    state = fresh()
    archived_with_garbage(state)
    attach(state, "r1")
    state.step(step(state, 0, tasks=(spec("t1"), spec("t2"))))
    state.task_ended("t1", 1, TaskOutput(status=TaskStatus.FINISHED, op=writes("c2", "t1", "x")))
    again = ThreadState.restore("life", root=True, snapshot=state.snapshot())
    assert again.restart() == [StartTask(spec=spec("t2"), epoch=1), Discard(garbage=garbage("g1"))]


def test_an_archive_under_way_is_asked_for_again_after_a_roll() -> None:
    state = fresh(archive_bytes=1)
    state.append(AppendRequest(ops=(put("c1"),)))
    request = state.archive("", "wf")
    assert request is not None
    again = ThreadState.restore("life", root=True, snapshot=state.snapshot())
    again.log.archive_bytes = 1
    assert again.archive("", "wf") == request


# -- outcomes ---------------------------------------------------------------------------------


def test_a_long_outcome_is_remembered_without_its_stream() -> None:
    state = fresh()
    attach(state, "r1")
    many = REMEMBERED_OUTCOME_BYTES
    long = Outcome(status="done", chunks=3, tail=(b"x" * many,), unsent="y" * many)
    state.step(step(state, 0, outcome=pack(long)))
    remembered = unpack(Outcome, attach(state, "r1", 2)[0].outcome)
    assert (remembered.status, remembered.chunks, remembered.tail) == ("done", 3, ())
    assert len(pack(remembered)) < many


@pytest.mark.parametrize(
    "error",
    [
        ErrorInfo(type_name="a.B", message="m" * 100_000),
        ErrorInfo(type_name="a.B", message="\N{WHITE SMILING FACE}" * 100_000),
        ErrorInfo(type_name="a." + "B" * 100_000, message="m"),
        ErrorInfo(type_name="a.B", message="m", args=msgpack.packb(["x" * 100_000])),
        ErrorInfo(type_name="a.B", message="m", attributes=msgpack.packb({"k": "x" * 100_000})),
        ErrorInfo(type_name="a.B", message="m", notes=("n" * 100_000,)),
        ErrorInfo(type_name="a.B", message="m", traceback="t" * 100_000),
    ],
    ids=["message", "wide characters", "type", "args", "attributes", "notes", "traceback"],
)
def test_an_outcome_is_remembered_in_short_whatever_its_error_holds(error: ErrorInfo) -> None:
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, outcome=pack(Outcome(status="error", error=error))))
    kept = attach(state, "r1", 2)[0].outcome
    assert len(kept) <= REMEMBERED_OUTCOME_BYTES
    remembered = unpack(Outcome, kept)
    assert remembered.error is not None
    assert (remembered.status, remembered.error.type_name[:2]) == ("error", "a.")
    assert isinstance(msgpack.unpackb(remembered.error.args or b"\x90"), list)


def test_outcomes_of_the_latest_runs_are_remembered() -> None:
    state = fresh()
    outcome = pack(Outcome(status="done"))
    runs = [f"r{i}" for i in range(REMEMBERED_RUNS + 1)]
    for run in runs:
        attach(state, run)
        state.step(step(state, 0, run=run, outcome=outcome))
    assert list(state.ended) == runs[1:]


def _announced(run: str) -> Announcement:
    return Announcement(run_id=run, run_workflow_id=f"wf-{run}", graph="g")


def _shown(state: ThreadState) -> tuple[tuple[str, ...], tuple[str, ...]]:
    reply = state.read(ReadRequest(runs=True))
    return reply.runs, reply.announced


def test_an_announced_run_is_shown_and_has_no_place() -> None:
    state = fresh()
    state.announce(_announced("r1"))
    state.announce(_announced("r1"))
    state.announce(_announced("r2"))
    assert _shown(state) == (("r1", "r2"), ("r1", "r2"))
    assert (state.active, state.summary.graph) == (None, "g")
    # Whoever comes first gets the thread.
    assert attach(state, "r3")[0].status == AttachStatus.GRANTED
    assert attach(state, "r2")[0].status == AttachStatus.QUEUED
    assert _shown(state) == (("r3", "r2", "r1"), ("r1",))
    again = ThreadState.restore("life", root=True, snapshot=state.snapshot())
    assert _shown(again) == _shown(state)


def test_an_announcement_that_comes_late_changes_nothing() -> None:
    state = fresh()
    attach(state, "r1")
    attach(state, "r2")
    state.step(step(state, 0, outcome=pack(Outcome(status="done"))))
    state.run_closed("r3")
    for run in ("r1", "r2", "r3"):
        state.announce(_announced(run))
    assert _shown(state) == (("r1", "r3", "r2"), ())
    state.delete()
    state.announce(_announced("r4"))
    assert state.announced == {}


def test_an_announced_run_ends_with_its_thread_or_without_it() -> None:
    state = fresh()
    for run in ("r1", "r2"):
        state.announce(_announced(run))
    state.run_closed("r1")
    assert _shown(state) == (("r1", "r2"), ("r2",))
    assert state.summary.closed_run == "r1"
    # What is known of it is no outcome.
    assert attach(state, "r1")[0].status == AttachStatus.GRANTED
    assert CancelRun(run_workflow_id="wf-r2") in state.delete()


def test_announced_runs_have_a_bound() -> None:
    state = fresh()
    for n in range(MAX_ANNOUNCED + 1):
        state.announce(_announced(f"r{n}"))
    assert list(state.announced) == [f"r{n}" for n in range(1, MAX_ANNOUNCED + 1)]
    assert state.size() >= 120 * MAX_ANNOUNCED


def test_the_last_failure_is_told_until_a_run_ends_well() -> None:
    state = fresh()
    error = ErrorInfo(type_name="a.Class", message="x" * 2 * ERROR_TEXT_BYTES)
    for outcome, told in (
        (Outcome(status="error", error=error), ("a.Class", "x" * ERROR_TEXT_BYTES)),
        (Outcome(status="done"), ("", "")),
    ):
        state.run_closed(f"lost before {outcome.status}")
        run = f"r {outcome.status}"
        attach(state, run)
        state.step(step(state, 0, run=run, outcome=pack(outcome)))
        summary = state.summary
        assert (summary.error_type, summary.error_text, summary.closed_run) == (*told, "")
    state.run_closed("lost")
    assert state.summary.closed_run == "lost"


# -- tasks that other workers run -----------------------------------------------------------------


def test_a_later_round_fences_an_earlier_one_within_an_epoch() -> None:
    """Two workers have had the same task; each writes to the namespace of the graph it calls."""
    state = fresh(root=False)
    first = StepRequest(epoch=1, seq=0, run_id="r", tasks=(spec("a"),), round=5)
    assert state.enter_epoch(1, 5) == []
    state.step(first)
    effects = state.enter_epoch(1, 7)
    assert effects == [CancelTask(key="a")]
    assert state.refuses(1, 5)
    assert state.refuses(1, 0)
    assert not state.refuses(1, 7)
    # Its steps are numbered from the beginning.
    again = StepRequest(epoch=1, seq=0, run_id="r", tasks=(spec("b"),), round=7)
    assert state.ready(again)
    assert [e.spec.key for e in state.step(again) if isinstance(e, StartTask)] == ["b"]
    # Of a round that is over nothing is begun anew.
    assert state.enter_epoch(1, 5) == []
    assert list(state.running) == ["b"]


def test_a_newer_epoch_begins_with_the_process_that_drives_the_run() -> None:
    state = fresh(root=False)
    state.enter_epoch(1, 5)
    state.fence(2)
    assert (state.epoch, state.round) == (2, 0)
    assert not state.refuses(2, 0)
    assert state.refuses(1, 5)


def test_rounds_survive_continue_as_new() -> None:
    state = fresh(root=False)
    state.enter_epoch(1, 5)
    restored = ThreadState.restore("life", root=False, snapshot=state.snapshot())
    assert restored.refuses(1, 4)
    assert not restored.refuses(1, 5)


def test_a_task_that_nobody_waits_for_is_cancelled() -> None:
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, tasks=(spec("a"), spec("b"))))
    effects = state.step(step(state, 1, cancel=("a", "unknown")))
    assert effects == [CancelTask(key="a")]
    assert list(state.running) == ["b"]
    # What it still returns is not recorded.
    state.task_ended("a", 1, TaskOutput(status=TaskStatus.FINISHED, op=writes("c1", "a", "x")))
    assert logged(state) == []


def test_a_watched_task_that_is_over_is_told() -> None:
    state = fresh()
    attach(state, "r1")
    state.step(step(state, 0, tasks=(spec("a"), spec("b"), spec("c"))))
    state.task_ended("a", 1, TaskOutput(status=TaskStatus.FINISHED, op=writes("c1", "a", "x")))
    state.task_lost("b", 1)
    asked = step(state, 1, watch=("a", "b", "c"))
    assert state.missing(asked) == ("b",)
    assert state.over(asked) == ("a",)


def resting(*, park_s: float = 60.0) -> ThreadState:
    """A thread whose last run has ended at 100."""
    state = fresh(park_s=park_s)
    state.touch(100.0)
    request = AttachRequest(run_id="r1", attempt=1, run_workflow_id="wf-r1", park_s=park_s)
    state.attach(request)
    assert state.parks_at is None, "a run has it"
    state.step(step(state, 0, ops=(put("c1"),), outcome=pack(Outcome(status="done"))))
    return state


def archived(state: ThreadState) -> ArchiveRequest:
    request = state.archive("", "w")
    assert request is not None
    pack_ = Pack(data=b"head")
    segment = Segment(first=0, end=request.end, pack=Pack(data=b"ops"))
    state.archived(request, ArchiveReply(segments=(segment,), head=pack_))
    return request


def test_a_thread_that_rests_is_parked_when_all_of_its_log_is_in_archives() -> None:
    state = resting()
    assert state.parks_at == 160.0
    state.park()
    assert state.parks_at is None
    assert state.wants_archive()
    assert not state.leaves_history
    assert archived(state).park
    assert state.leaves_history
    again = ThreadState.restore("life", root=True, snapshot=state.snapshot())
    assert (again.parks_at, again.leaves_history) == (None, False), "it is parked"
    again.touch(500.0)
    assert again.parks_at == 560.0


@pytest.mark.parametrize("late", [False, True])
def test_what_comes_while_it_is_being_parked_ends_that(late: bool) -> None:
    state = resting()
    state.park()
    if late:
        archived(state)
    state.touch(170.0)
    attach(state, "r2")
    assert not state.leaves_history
    assert not state.wants_archive()


def test_an_archive_that_was_under_way_is_not_enough() -> None:
    state = resting()
    state.log.archive_bytes = 1
    first = state.archive("", "w")
    assert first is not None
    state.park()
    assert not state.leaves_history
    reply = ArchiveReply(segments=(), head=Pack(data=b"head"))
    state.archived(first, reply)
    assert not state.leaves_history
    assert archived(state).park
    assert state.leaves_history


def test_the_last_attempt_says_whether_it_is_parked() -> None:
    state = resting()
    attach(state, "r2")
    state.step(step(state, 0, outcome=pack(Outcome(status="done"))))
    assert state.parks_at is None


def test_an_archive_of_an_earlier_rest_is_not_enough() -> None:
    state = resting()
    state.park()
    first = state.archive("", "w")
    assert first is not None
    state.touch(170.0)
    state.attach(AttachRequest(run_id="r2", attempt=1, run_workflow_id="wf-r2", park_s=60.0))
    state.step(step(state, 0, ops=(put("c2"),), outcome=pack(Outcome(status="done"))))
    state.park()
    state.archived(first, ArchiveReply(segments=(), head=Pack(data=b"head")))
    assert not state.leaves_history
    assert archived(state).park
    assert state.leaves_history


def test_it_is_not_parked_while_blobs_are_being_removed() -> None:
    state = resting()
    garbage = BlobRef(size=1, scope="head", pieces=(b"p",), piece=1)
    state.log.discards.append(garbage)
    state.park()
    assert not state.wants_archive()
    state.log.discarded(garbage)
    assert not state.leaves_history
    archived(state)
    assert state.leaves_history


@pytest.mark.parametrize("park_s", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_a_time_that_makes_no_sense_parks_nothing(park_s: float) -> None:
    state = resting(park_s=park_s)
    assert state.park_s == 0.0
    assert state.parks_at is None


def test_only_a_namespace_is_told_to_park() -> None:
    thread = resting()
    assert thread.signalled(PARK_SIGNAL, []) == []
    assert not thread.wants_archive()
    nested = ThreadState(log=ThreadLog(life="life"), root=False)
    nested.step(StepRequest(epoch=3, seq=0, run_id="r1", ops=(put("c1"),)))
    nested.signalled(PARK_SIGNAL, [])
    assert nested.wants_archive()
