"""Demo: a caller in a process of its own, the one that gets killed.

Usage: python -m examples.demo_caller SERVER THREAD_ID TEXT
"""

from __future__ import annotations

import asyncio
import sys

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from temporalio.client import Client

from examples.demo_agent import agent
from langgraph_temporal_exec import TemporalSaver


async def main(address: str, thread_id: str, text: str) -> None:
    """Call the agent as any program would, and print its answer."""
    saver = TemporalSaver(await Client.connect(address))
    durable = agent.with_config(checkpointer=saver)
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    result = await durable.ainvoke({"messages": [HumanMessage(text)]}, config)
    print(result["messages"][-1].text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
