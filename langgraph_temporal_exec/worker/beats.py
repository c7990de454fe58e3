"""Worker side: how Activities show that they are alive, and why one was ended from outside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from ..protocol import names

CANCEL_GRACE_S = 30.0
"""How long a cancelled run may take to stop and record that it was cancelled."""


EVERY = 0.5
"""How often an Activity heartbeats that a run hangs on, as a share of its heartbeat timeout: one
that is late by half the timeout does no harm. Each is an action on Temporal Cloud."""

BESIDE_DRIVE = 3
"""Times the heartbeat timeout of runs: that of a task in the process that drives its run, of whose
death the Activity ``drive`` tells."""

EVERY_OF_TASKS = 0.7
"""How often such a task does. If it comes too late, only the Activity is lost: the node goes on,
and its result travels by itself."""


@contextlib.asynccontextmanager
async def heartbeating(details: str = "", *, every: float = EVERY) -> AsyncIterator[None]:
    """Heartbeat regularly. That an Activity has begun the server knows.

    The SDK sends fewer if it is let: it holds heartbeats back for up to 80 % of the timeout
    (temporalio/features#67), and with them the news of a cancellation. See ``service.WorkerHost``.

    Args:
        details: Can be read from outside, and are told at once; "": there are none.
        every: After which share of the heartbeat timeout.
    """
    timeout = activity.info().heartbeat_timeout
    interval = timeout.total_seconds() * every if timeout else 5.0

    async def beat() -> None:
        if details:
            activity.heartbeat(details)
        while True:
            await asyncio.sleep(interval)
            activity.heartbeat(*([details] if details else []))

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()


def lost_because() -> str:
    """Why Temporal ended this Activity; "" when somebody cancelled the run."""
    details = activity.cancellation_details()
    if activity.is_worker_shutdown() or (details and details.worker_shutdown):
        return "the worker shut down"
    if details is None or details.cancel_requested:
        return ""
    return "Temporal gave the attempt up (no heartbeat arrived, or the run was terminated)"


def moved(reason: str) -> ApplicationError:
    return ApplicationError(
        f"The attempt ended: {reason}. The run moves to another worker.",
        type=names.WORKER_SHUTDOWN,
        non_retryable=True,
        # Part of normal operation: the SDK need not log it with a stack trace.
        category=ApplicationErrorCategory.BENIGN,
    )
