"""The table of exactly-once input: what a retried attempt passes to LangGraph."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.types import Command

from langgraph_temporal_exec.protocol.messages import Applied
from langgraph_temporal_exec.worker.retry_input import plan_input

pytestmark = pytest.mark.compat
RESUME_MAP = {"0123456789abcdef0123456789abcdef": "yes"}
NOTHING = Applied()
CHECKPOINT = Applied(checkpoints=2)
NULL_WRITES = Applied(null_writes=True)
ANSWERED = Applied(answered=("task",))
CONSUMED = Applied(null_writes=True, answered=("task",))


@pytest.mark.parametrize(
    "given", [{"x": 1}, None, Command(resume="yes"), Command(update={"x": 1}), 3]
)
def test_nothing_applied_passes_the_input_again(given: Any) -> None:
    config = {"configurable": {"thread_id": "t", "checkpoint_id": "c"}, "recursion_limit": 9}
    plan = plan_input(given, config, NOTHING, 25)
    assert plan.input is given
    assert plan.config == config
    assert not plan.keeps_breakpoints
    assert not plan.drop_resume


@pytest.mark.parametrize("applied", [CHECKPOINT, NULL_WRITES])
@pytest.mark.parametrize("given", [{"x": 1}, None, Command(resume="yes"), Command(goto="n"), 3])
def test_applied_input_is_not_passed_again(given: Any, applied: Applied) -> None:
    config = {"configurable": {"thread_id": "t", "checkpoint_id": "c"}, "recursion_limit": 9}
    plan = plan_input(given, config, applied, 9)
    assert plan.input is None
    assert plan.config["configurable"] == {"thread_id": "t"}
    assert plan.config["recursion_limit"] == 9 - applied.checkpoints
    assert plan.keeps_breakpoints


def test_a_resume_map_lives_only_in_the_config_and_is_passed_again() -> None:
    plan = plan_input(Command(resume=RESUME_MAP), {"configurable": {}}, CHECKPOINT, 25)
    assert plan.input == Command(resume=RESUME_MAP)
    plan = plan_input(Command(resume={"plain": "dict"}), {"configurable": {}}, CHECKPOINT, 25)
    assert plan.input is None


def test_answers_of_a_resume_map_come_from_the_map_alone() -> None:
    plan = plan_input(Command(resume=RESUME_MAP), {"configurable": {}}, ANSWERED, 25)
    assert plan.input == Command(resume=RESUME_MAP)
    assert plan.unanswer == {"task"}
    assert plan_input(Command(resume="yes"), {"configurable": {}}, CONSUMED, 25).unanswer == set()


def test_a_consumed_answer_is_dropped() -> None:
    assert plan_input(Command(resume="yes"), {"configurable": {}}, CONSUMED, 25).drop_resume
    assert not plan_input(Command(resume="yes"), {"configurable": {}}, NULL_WRITES, 25).drop_resume


def test_the_recursion_budget_never_reaches_zero() -> None:
    plan = plan_input({}, {"configurable": {}}, Applied(checkpoints=5), 2)
    assert plan.config["recursion_limit"] == 1
