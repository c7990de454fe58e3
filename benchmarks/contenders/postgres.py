"""Contender: ``AsyncPostgresSaver`` on a PostgreSQL of its own. It keeps checkpoints, and runs
nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from benchmarks.contender import Caller, Setup
from benchmarks.contenders.plain import Plain
from benchmarks.processes import die_with_parent

USER = "postgres"
"""Who runs the server where this process is root: PostgreSQL refuses that."""

READY_S = 30
STOP_S = 15


def _find(program: str) -> str:
    """A program of PostgreSQL: on PATH, or where Debian has it."""
    if found := shutil.which(program):
        return found
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not folders:
        raise FileNotFoundError(f"{program} was not found: it needs Debian's package postgresql")
    return str(folders[0] / program)


def _prepare(folder: Path) -> dict[str, Any]:
    """Make the folder; whose it is, as arguments of a child that runs there."""
    folder.mkdir()
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(USER)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@asynccontextmanager
async def _cluster(folder: Path) -> AsyncIterator[str]:
    """A new database, as it comes; its connection string."""
    child = _prepare(folder)
    data = str(folder / "data")
    made = await asyncio.create_subprocess_exec(
        *(_find("initdb"), "--pgdata", data, "--username", "bench", "--auth", "trust"),
        stdout=asyncio.subprocess.DEVNULL,
        cwd=folder,
        **child,
    )
    if await made.wait():
        raise RuntimeError(f"initdb exited with {made.returncode}")
    process = await asyncio.create_subprocess_exec(
        *(_find("postgres"), "-D", data, "-k", str(folder), "-c", "listen_addresses="),
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
        preexec_fn=die_with_parent,
        **child,
    )
    address = f"postgresql:///postgres?host={folder}&user=bench"
    try:
        async with asyncio.timeout(READY_S):
            await _answers(address)
        yield address
    finally:
        # Its fast shutdown: connections are closed.
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _answers(address: str) -> None:
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            await (await psycopg.AsyncConnection.connect(address)).close()
            return
        await asyncio.sleep(0.1)


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Caller]:
    """By variant."""
    async with (
        _cluster(Path(setup.directory) / "postgres") as address,
        AsyncPostgresSaver.from_conn_string(address) as saver,
    ):
        await saver.setup()
        if setup.variant == "sync":
            yield Plain(setup, saver, durability="sync")
        else:
            yield Plain(setup, saver)
