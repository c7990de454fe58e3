"""Workflow side of Temporal's deepagents plugin: a run of the agent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from langchain_core.messages import HumanMessage
from temporalio import workflow
from temporalio.deepagents import create_temporal_deep_agent, tool_as_activity

with workflow.unsafe.imports_passed_through():
    from benchmarks.shapes.deep_agent import PROMPT, look_up

TIMEOUT = timedelta(minutes=5)

LOOK_UP = tool_as_activity(look_up, start_to_close_timeout=TIMEOUT)


@workflow.defn
class Run:
    """One run of a deep agent; its model is known by name."""

    @workflow.run
    async def run(self, said: str) -> int:
        agent = create_temporal_deep_agent(
            model="scripted",
            tools=[LOOK_UP],
            system_prompt=PROMPT,
            activity_options={"start_to_close_timeout": TIMEOUT},
        )
        result: dict[str, Any] = await agent.ainvoke(
            {"messages": [HumanMessage(said)]}, {"recursion_limit": 10_000}
        )
        return len(result["messages"])
