"""What a user brings along: a saver of their own and an application of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.storage.store import Store
from langgraph_temporal_exec.studio import mirror
from langgraph_temporal_exec.studio.app import install
from tests.studio.graphs import GATES

QUEUE = "custom"

# As if there were thousands of threads: a look at all of them reads those that changed, no more.
mirror.LOOK_S = 0.0


async def make_saver() -> TemporalSaver:
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
    return TemporalSaver(client, task_queue=QUEUE, id_prefix=QUEUE)


HELD = "held"


class HeldStore(Store):
    """Its reads of threads that are called so wait at a gate."""

    async def checkpoint(self, config: RunnableConfig) -> CheckpointTuple | None:
        if config["configurable"]["thread_id"].startswith(HELD):
            gate = Path(os.environ[GATES]) / f"{HELD}.open"
            while not gate.exists():  # noqa: ASYNC110  # opened by a process
                await asyncio.sleep(0.05)
        return await super().checkpoint(config)


async def make_held() -> TemporalSaver:
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
    saver = TemporalSaver(client, task_queue=QUEUE, id_prefix=HELD)
    saver._caller.store = HeldStore(saver._store.transport, saver.serde)
    return saver


def no_saver() -> str:
    return "none"


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    app.state.mine = "started"
    yield


async def _hello(request: Request) -> JSONResponse:
    return JSONResponse({"mine": request.app.state.mine})


app = install(Starlette(routes=[Route("/hello", _hello)], lifespan=_lifespan))
