"""Demo: an ordinary deep agent. Nothing in this file knows about Temporal.

It plans with `write_todos`, works on files in a folder, and hands the investigation to a
sub-agent. `demo_ledger.Ledger` notes which process started and finished what, so that the demo
can prove afterwards what ran twice and what did not.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from deepagents import create_deep_agent
from deepagents.backends import FilesystemBackend
from langchain_core.tools import tool

from examples.demo_ledger import Ledger
from examples.demo_model import make_model

WORK = Path(os.environ.get("DEMO_DIR", tempfile.gettempdir()))
"""The agent's files, the ledger, and the marks that end the slow jobs."""

SLOW_JOB_S = 600.0
"""After this long a slow job gives up, so that nothing waits for a demo that is gone."""

LEDGER = "ledger.jsonl"
FILES = "files"


async def _slow_job(name: str) -> None:
    """Poll a job that somebody else runs, as a tool does with a build or a test cluster."""
    for _ in range(int(SLOW_JOB_S / 0.1)):
        if done_mark(WORK, name).exists():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{name} did not end within {SLOW_JOB_S:.0f} s")


def done_mark(work: Path, name: str) -> Path:
    """The file whose existence ends a slow job."""
    return work / f"{name}.done"


@tool
async def fetch_metrics(service: str) -> str:
    """Latency of a service over the last hour."""
    return f"{service}: p50 40 ms, p99 2,300 ms since 09:12; error rate unchanged"


@tool
async def trace_requests(service: str) -> str:
    """Sample slow requests of a service. Takes a while."""
    await _slow_job("trace_requests")
    return f"{service}: 94% of slow requests wait for the connection pool of `pricing`"


@tool
async def load_test(service: str) -> str:
    """Test a service under production load. Takes a while."""
    await _slow_job("load_test")
    return f"{service}: p99 85 ms with 50 connections in the pool of `pricing`"


agent = create_deep_agent(
    model=make_model("main"),
    name="incident-agent",
    tools=[load_test],
    backend=FilesystemBackend(root_dir=WORK / FILES),
    middleware=[Ledger("main", WORK / LEDGER)],
    system_prompt=(
        "You handle incidents. For a new one: plan with write_todos, have the `investigator` "
        "find the cause with one `task` call, write what it found to /report.md, and answer in "
        "one sentence. To verify a fix: run load_test on the service, write the result to "
        "/verified.md, and answer in one sentence. Call one tool at a time."
    ),
    subagents=[
        {
            "name": "investigator",
            "description": "Finds out why a service is slow.",
            "system_prompt": (
                "First call fetch_metrics, then trace_requests, one at a time. Then name the "
                "cause in one sentence."
            ),
            "model": make_model("investigator"),
            "tools": [fetch_metrics, trace_requests],
            "middleware": [Ledger("investigator", WORK / LEDGER)],
        }
    ],
)
