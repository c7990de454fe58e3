"""What a user brings along: a saver of their own and an application of their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.studio import mirror
from langgraph_temporal_exec.studio.app import install

QUEUE = "custom"

# As if there were thousands of threads: a look at all of them reads those that changed, no more.
mirror.LOOK_S = 0.0


async def make_saver() -> TemporalSaver:
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
    return TemporalSaver(client, task_queue=QUEUE, id_prefix=QUEUE)


def no_saver() -> str:
    return "none"


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    app.state.mine = "started"
    yield


async def _hello(request: Request) -> JSONResponse:
    return JSONResponse({"mine": request.app.state.mine})


app = install(Starlette(routes=[Route("/hello", _hello)], lifespan=_lifespan))
