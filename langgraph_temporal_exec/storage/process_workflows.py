"""Shared: workflows that live as long as a process of ours: the mailbox of a caller, the card of a
worker. Their Workflow Tasks run in that process itself, on a queue that only it polls. While the
process lives its workflow continues as new again and again; where it was killed and nobody can end
it, Temporal does.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

LIFETIME = timedelta(hours=24)
"""The workflow of a process that was killed disappears by itself after this long."""

RENEWED_S = 12 * 3600.0
"""That of one that lives continues as new each time this has passed."""


def process_key() -> str:
    """A new name for something of this process: ``host-pid-random``, unique."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


async def start_workflow_of_process(
    client: Client,
    workflow: str,
    *,
    workflow_id: str,
    task_queue: str,
    summary: str,
    memo: Mapping[str, Any] | None = None,
) -> WorkflowHandle[Any, Any]:
    """Starts one. Its only argument is ``RENEWED_S``.

    Args:
        client: Client of the worker that polls ``task_queue``.
        workflow: Type of the workflow.
        workflow_id: Its id.
        task_queue: Queue that only this process polls.
        summary: What Temporal's UI shows of it.
        memo: What lists of workflows show of it.

    Returns:
        Its handle, bound to the chain of runs that this has begun.

    Raises:
        WorkflowAlreadyStartedError: One with this id runs.
        RPCError: Temporal did not start it.
    """
    return await client.start_workflow(
        workflow,
        RENEWED_S,
        id=workflow_id,
        task_queue=task_queue,
        run_timeout=LIFETIME,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        memo=memo,
        static_summary=summary,
    )
