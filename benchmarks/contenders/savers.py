"""Contender: LangGraph's own savers of this environment. They keep checkpoints, and run nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.contender import Caller, Setup
from benchmarks.contenders.plain import Plain


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Caller]:
    """By variant."""
    if setup.variant == "inmemory":
        yield Plain(setup, InMemorySaver())
        return
    path = str(Path(setup.directory) / "checkpoints.sqlite")
    async with AsyncSqliteSaver.from_conn_string(path) as saver:
        if setup.variant == "sqlite_sync":
            # Recorded before the loop goes on; LangGraph's default writes trail it.
            yield Plain(setup, saver, durability="sync")
        else:
            yield Plain(setup, saver)
