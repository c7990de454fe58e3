"""Benchmark counts: actions, as a Temporal server itself counts them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.request
from collections import Counter
from collections.abc import Mapping
from typing import Any

from langgraph_temporal_exec import Cost
from langgraph_temporal_exec.local import LocalServer, start_server

NAMES = {
    "grpc_StartWorkflowExecution": "start_workflow",
    # Where it has started something.
    "grpc_ExecuteMultiOperation": "start_workflow",
    "grpc_SignalWorkflowExecution": "signal_workflow",
    "grpc_SignalWithStartWorkflowExecution": "signal_workflow_with_start",
    "grpc_QueryWorkflow": "query_workflow",
    "grpc_RecordActivityTaskHeartbeat": "record_activity_heartbeat",
    "command_StartChildWorkflowExecution": "start_child_workflow",
    "command_StartChildWorkflowExecution_Extra": "start_child_workflow",
    "command_ContinueAsNewWorkflowExecution": "continue_as_new_workflow",
    "command_SignalExternalWorkflowExecution": "signal_external_workflow",
    "command_ScheduleActivityTask": "schedule_activity",
    "command_BatchMarkers": "record_activity_markers",
    "command_StartTimer": "start_timer",
    "activity_retry": "retry_activity",
    "message_UpdateWorkflowExecution_Acceptance": "accept_workflow_update",
    "message_UpdateWorkflowExecution_Rejection": "reject_workflow_update",
}
"""Temporal Cloud's name for what the server counts under its own."""

NOT_BILLED = {"command_UpsertWorkflowSearchAttributes"}
"""Of versions of workflow code, which Temporal Cloud does not bill; others are not made here."""

SETTLES_S = 20
"""What was not counted by then, or too much, makes the difference that a test shows."""

_LINE = re.compile(r"action(?:_total)?\{(.*)\} (\S+)")


class CountingServer:
    """A dev server that counts actions, as Temporal's own metric has them.

    Args:
        server: The server.
        port: Where it serves its metrics.
    """

    def __init__(self, server: LocalServer, port: int) -> None:
        self.client = server.client
        self.address = server.address
        self.shutdown = server.shutdown
        self._port = port
        self._before: Counter[str] = Counter()

    @classmethod
    async def start(cls, port: int) -> CountingServer:
        return cls(await start_server(metrics_port=port), port)

    async def forget(self) -> None:
        """Count from now on."""
        self._before = await self._all()

    async def actions(self) -> Counter[str]:
        """Actions since then, by Temporal Cloud's names; the server's own where it has none."""
        return await self._all() - self._before

    async def seen(self) -> Counter[str]:
        """Those of them that histories show."""
        found = await self.actions()
        return Counter({k: n for k, n in found.items() if k not in Cost.UNSEEN})

    async def comes_to(self, expected: Mapping[Any, int]) -> None:
        """Wait until it has counted just these, of those that histories show.

        Metrics lag behind by a second.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLES_S):
                while await self.seen() != expected:  # noqa: ASYNC110 - in Temporal
                    await asyncio.sleep(0.05)
        seen = await self.seen()
        assert seen == expected, f"counted {dict(seen)} instead of {dict(expected)}"

    async def _all(self) -> Counter[str]:
        url = f"http://127.0.0.1:{self._port}/metrics"
        answer = await asyncio.to_thread(urllib.request.urlopen, url, timeout=30)
        with answer:
            text = answer.read().decode()
        found: Counter[str] = Counter()
        for labels, value in _LINE.findall(text):
            told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if told["namespace"] == self.client.namespace:
                kind = told["action_type"]
                if kind not in NOT_BILLED:
                    found[NAMES.get(kind, kind)] += int(float(value))
        return found
