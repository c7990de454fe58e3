"""Contender: ``temporalio-deepagents``, Temporal's official plugin for deep agents.

The agent is built inside a workflow; each call of its model and of its tool is an Activity.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import Client
from temporalio.deepagents import DeepAgentsPlugin
from temporalio.worker import Worker

from benchmarks import contender
from benchmarks.contender import Caller, Fleet, Setup, UnsupportedError, Values
from benchmarks.contenders.deepagents_workflow import Run
from benchmarks.shapes.deep_agent import Scripted


def _queue(setup: Setup) -> str:
    return f"deepagents-{setup.variant}"


async def _client(setup: Setup) -> Client:
    plugin = DeepAgentsPlugin(model_provider=lambda name: Scripted())
    return await Client.connect(setup.address, namespace=setup.namespace, plugins=[plugin])


class Official(Caller):
    """Workflows that run the agent."""

    def __init__(self, setup: Setup, client: Client, fleet: Fleet | None = None) -> None:
        super().__init__(setup, fleet)
        self._client = client
        self._queue = _queue(setup)

    async def run(self, shape: str, given: Values) -> Values:
        """A workflow from its start to its result."""
        if shape != "deep_agent":
            raise UnsupportedError("it is for deep agents")
        messages = await self._client.execute_workflow(
            Run.run,
            given["messages"][0].text,
            id=f"deepagents-{uuid.uuid4()}",
            task_queue=self._queue,
        )
        return {"messages": [None] * messages}


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Caller]:
    """By variant."""
    client = await _client(setup)
    if setup.variant == "embedded":
        async with contender.on_thread(lambda: worker(setup)):
            yield Official(setup, client)
    else:
        async with contender.elsewhere("deepagents", setup) as fleet:
            yield Official(setup, client, fleet)


@asynccontextmanager
async def worker(setup: Setup) -> AsyncIterator[None]:
    """A worker; it inherits the plugin of its client."""
    async with Worker(await _client(setup), task_queue=_queue(setup), workflows=[Run]):
        yield
