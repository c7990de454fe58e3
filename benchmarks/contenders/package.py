"""Contender: this package, with its worker in the caller's process or in another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import Client

from benchmarks import contender
from benchmarks.contender import Caller, Setup, graph_of
from benchmarks.contenders.plain import Plain
from langgraph_temporal_exec import TemporalSaver

SHAPES = (
    *("sequential", "one_step", "fanout", "chat", "turn"),
    *("deep_agent", "tokens", "large_state", "recovery"),
)


async def _saver(setup: Setup) -> TemporalSaver:
    client = await Client.connect(setup.address, namespace=setup.namespace)
    return TemporalSaver(client, task_queue=f"package-{setup.variant}")


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Caller]:
    """By variant."""
    if setup.variant == "embedded":
        async with worker(setup) as saver:
            yield Plain(setup, saver)
        return
    async with contender.elsewhere("package", setup) as fleet:
        saver = await _saver(setup)
        try:
            yield Plain(setup, saver, fleet)
        finally:
            saver.close()


@asynccontextmanager
async def worker(setup: Setup) -> AsyncIterator[TemporalSaver]:
    """A worker that serves all shapes."""
    saver = await _saver(setup)
    async with saver.worker(*map(graph_of, SHAPES)):
        yield saver
