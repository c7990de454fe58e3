"""Where a task runs, by what the saver's options say of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from langgraph_temporal_exec import NodeOptions, SubagentOptions, SubagentTimeoutError, UsageError
from langgraph_temporal_exec.options import Options
from langgraph_temporal_exec.seam.contract import SeamTask, ToolCall
from langgraph_temporal_exec.worker.placement import limits, placement

TASK = SeamTask(
    within="",
    id="t",
    name="tools",
    checkpoint_ns="",
    checkpoint_id="c",
    checkpoint_stored=False,
    step=1,
    tools=(),
    graph="agent",
    peers=3,
)
RENDER = ToolCall(name="render", id="1")
SEARCH = ToolCall(name="search", id="2")
RESEARCH = ToolCall(name="task", id="3", subagent="researcher")
GPU = NodeOptions(task_queue="gpu")
HOUR = timedelta(hours=1)


def _queue(calls: tuple[ToolCall, ...] = (), **options: Any) -> str:
    return placement(Options(**options), replace(TASK, calls=calls)).queue


def test_in_place_by_default() -> None:
    assert _queue() == ""
    assert _queue((RENDER,), tools={"search": GPU}) == ""


def test_of_a_node_in_any_graph_or_in_one() -> None:
    assert _queue(nodes={"tools": GPU}) == "gpu"
    assert _queue(nodes={"agent:tools": GPU}) == "gpu"
    assert _queue(nodes={"other:tools": GPU}) == ""
    own = NodeOptions(task_queue="own")
    assert _queue(nodes={"tools": GPU, "agent:tools": own}) == "own"


def test_of_a_tool_before_its_node() -> None:
    assert _queue((RENDER,), tools={"render": GPU}) == "gpu"
    assert _queue((RENDER,), tools={"render": NodeOptions()}, nodes={"tools": GPU}) == ""


def test_of_a_task_with_several_calls() -> None:
    both = (RENDER, SEARCH)
    assert _queue(both, tools={"render": GPU}) == ""
    assert _queue(both, tools={"render": GPU, "search": GPU}) == "gpu"


def test_of_a_sub_agent() -> None:
    agents = SubagentOptions(task_queue="agents")
    assert _queue((RESEARCH,), subagents=agents) == "agents"
    assert _queue((RESEARCH,), subagents={"researcher": agents}) == "agents"
    assert _queue((RESEARCH,), subagents={"writer": agents}) == ""
    assert _queue((RENDER,), subagents=agents) == ""
    assert _queue((RESEARCH,), tools={"task": GPU}) == "gpu"


def test_a_workers_own_queue_is_in_place() -> None:
    assert _queue(nodes={"tools": GPU}, task_queue="gpu") == ""


def test_spread() -> None:
    assert _queue(spread=True) == "langgraph"
    assert _queue(spread=True, nodes={"tools": GPU}) == "gpu"
    assert _queue(spread=True, nodes={"tools": NodeOptions(inline=True)}) == ""
    options = Options(spread=True)
    assert placement(options, replace(TASK, peers=1)).queue == ""
    assert placement(options, replace(TASK, spread=False)).queue == ""
    assert placement(options, replace(TASK, obstacle="it does not travel")).queue == ""
    assert placement(Options(), replace(TASK, spread=True)).queue == "langgraph"
    with pytest.raises(UsageError, match="spread is 'yes'"):
        placement(Options(), replace(TASK, spread="yes"))


@pytest.mark.parametrize("on_timeout", ["tell", "fail"])
def test_how_long_a_sub_agent_may_take(on_timeout: Any) -> None:
    given = SubagentOptions(timeout=HOUR, on_timeout=on_timeout)
    where = placement(Options(subagents=given), replace(TASK, calls=(RESEARCH,)))
    found = limits(where, (RESEARCH,), "t")
    assert (found.timeout, found.call_id) == (HOUR, "3")
    assert found.exceeded is not None
    if on_timeout == "fail":
        with pytest.raises(SubagentTimeoutError, match=r"'researcher' .* 1:00:00"):
            found.exceeded("")
    else:
        assert "'researcher' did not end within its timeout of 1:00:00" in found.exceeded("")


def test_how_long_another_task_may_take() -> None:
    options = Options(tools={"render": NodeOptions(timeout=HOUR)})
    where = placement(options, replace(TASK, calls=(RENDER,)))
    found = limits(where, (RENDER,), "t")
    assert (found.timeout, found.exceeded) == (HOUR, None)
