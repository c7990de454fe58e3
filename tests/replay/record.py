"""Record the golden histories: ``python -m tests.replay.record`` writes the newest folder.

Histories are kept for ever: a thread's workflow stays open for years, and every later release has
to replay what this one did. A release whose workflow code makes other commands (behind a patch)
adds a folder, with what histories did not look like before, and leaves the others alone; recording
refuses to overwrite a folder.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gzip
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHistory

from langgraph_temporal_exec.caller import admitted
from langgraph_temporal_exec.local import start_server
from langgraph_temporal_exec.worker import outbox
from tests.replay.scenarios import IDENTITY, ROOT, SCENARIOS, Scenario, neutral_host

HISTORIES = Path(__file__).parent / "histories"
NEWEST = "v8"
MUST_FAIL = HISTORIES / "must_fail.json"
RUNS_OF_A_WORKFLOW = 3
"""Of a thread that continued as new often: the first, the middle and the last run."""

MACHINE = tuple(
    sorted({str(ROOT), sys.prefix, sys.base_prefix, str(Path.home())}, key=len, reverse=True)
)
"""Paths that tracebacks may hold."""


def save(path: Path, history: WorkflowHistory) -> None:
    """Write a history; the same history gives the same bytes."""
    document = {"workflow_id": history.workflow_id, "history": history.to_json_dict()}
    data = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)


def load(path: Path) -> WorkflowHistory:
    """Read a history."""
    data = path.read_bytes()
    document = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    return WorkflowHistory.from_json(document["workflow_id"], document["history"])


async def record(folder: Path) -> None:
    """Play every scenario against a server of its own, and keep what Temporal recorded."""
    server = await start_server()
    # Results carry what follows them, however slow the machine is.
    outbox.HOLD_S = 5.0
    # And runs end before they are driven.
    admitted.UNDRIVEN_S = 10.0
    try:
        for scenario in SCENARIOS[folder.name]:
            async with asyncio.timeout(120):
                await _record(server.address, scenario, folder)
    finally:
        await server.shutdown()
    if not MUST_FAIL.exists():
        thread = load(folder / "error.thread-t.0.json.gz")
        save(
            MUST_FAIL,
            WorkflowHistory.from_json(thread.workflow_id, tampered(thread.to_json_dict())),
        )


async def _record(address: str, scenario: Scenario, folder: Path) -> None:
    name = scenario.__name__

    async def connect() -> Client:
        return await Client.connect(address, identity=IDENTITY)

    with neutral_host():
        await scenario(name, connect)
    client = await connect()
    for kind in ("thread", "run"):
        for index, (workflow_id, run_ids) in enumerate(await _workflows(client, name, kind)):
            runs = [run_ids[i] for i in _chosen(len(run_ids))]
            label = f"{kind}-{index}" if kind == "run" else f"{kind}-{_label(workflow_id)}"
            for number, run_id in enumerate(runs):
                handle = client.get_workflow_handle(workflow_id, run_id=run_id)
                history = neutral(await handle.fetch_history())
                save(folder / f"{name}.{label}.{number}.json.gz", history)


def _label(workflow_id: str) -> str:
    return re.sub(r"\W+", "-", workflow_id.split("/thread/")[1].split(":")[0])


def _chosen(count: int) -> list[int]:
    if count <= RUNS_OF_A_WORKFLOW:
        return list(range(count))
    return [0, count // 2, count - 1]


async def _workflows(client: Client, prefix: str, kind: str) -> list[tuple[str, list[str]]]:
    """Workflow ids with the ids of their runs, both oldest first."""
    query = f"WorkflowId STARTS_WITH '{prefix}/{kind}/'"
    seen = -1
    while True:
        # Visibility lags.
        found = [e async for e in client.list_workflows(query)]
        if found and len(found) == seen:
            break
        seen = len(found)
        await asyncio.sleep(1)
    workflows: dict[str, list[str]] = {}
    for execution in sorted(found, key=lambda e: (e.start_time, e.history_length)):
        workflows.setdefault(execution.id, []).append(execution.run_id)
    return list(workflows.items())


def neutral(history: WorkflowHistory) -> WorkflowHistory:
    """The history without what names this machine; payloads keep their lengths."""
    document = history.to_json_dict()
    for part in _dicts(document):
        # Traces of this code, which replay does not look at.
        part.pop("stackTrace", None)
        if isinstance(part.get("data"), str) and "metadata" in part:
            data = base64.b64decode(part["data"])
            for path in MACHINE:
                data = data.replace(path.encode(), b"/".ljust(len(path), b"."))
            part["data"] = base64.b64encode(data).decode()
            _check(data.decode(errors="ignore"))
    _check(json.dumps(document))
    return WorkflowHistory.from_json(history.workflow_id, document)


def _dicts(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
    children = document.values() if isinstance(document, dict) else document
    for child in children:
        if isinstance(child, dict | list):
            yield from _dicts(child)


def _check(text: str) -> None:
    named = [path for path in MACHINE if path in text]
    # As the names of queues and the default identity of clients have it; it may be short.
    host = socket.gethostname()
    named += [name for name in (f"@{host}", f"{host}-{os.getpid()}") if name in text]
    if named:
        raise AssertionError(f"a history names this machine: {named}")


def tampered(document: dict[str, Any]) -> dict[str, Any]:
    """As if an earlier release had given the Activities of tasks other names."""
    changed = 0
    for part in _dicts(document):
        scheduled = part.get("activityTaskScheduledEventAttributes")
        if scheduled is not None:
            scheduled["activityType"]["name"] = f"node:{scheduled['activityType']['name']}"
            changed += 1
    assert changed
    return document


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", nargs="?", default=NEWEST, choices=SCENARIOS, help="below tests/replay/histories"
    )
    target = HISTORIES / parser.parse_args().folder
    target.mkdir(parents=True)
    asyncio.run(record(target))
