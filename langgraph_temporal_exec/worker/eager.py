"""Worker side: eager tasks, which come with the answer to the workflow task that scheduled them.

Temporal calls it eager execution: if the process that completes a workflow task can run the
Activities which that schedules, the server gives them to it with the answer, and not to a task
queue first. Half of what the server writes for an Activity is saved, and a poll. The SDK asks for
it on two conditions: the Activity is on the task queue of its workflow, and the worker that has the
workflow takes Activities.

Tasks are for one process, and usually have a queue that only that one polls. So a task is sent to
the shared queue only while the process has the thread's workflow in its cache
(``EagerTasks.room``), by a ``TaskSpec`` that says so. The worker that has the workflows never polls
for Activities (``EagerSlots``).

**What can go wrong.** The workflow may be elsewhere by then, or the server, or the SDK, does not
do it. Then the task is on a queue that any process may poll. One that has no such task says so, and
one that is not taken times out (``EAGER_WAIT`` of the thread); either way the thread sends it to
the process's own queue. That costs a round trip, no more, and is a *miss*: the workflow counts as
elsewhere until it is seen here again. After ``MAX_MISSES`` in a row no task is eager for
``PAUSE_S``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import time
from typing import Any

from temporalio.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    Worker,
    WorkerTuner,
)

from ..workflow.thread import STARTS_AT_ONCE

logger = logging.getLogger(__name__)

LIMIT_OPTION = "max_eager_activity_reservations_per_workflow_task"
"""Option of the SDK's worker; not of the oldest releases that are supported."""

SDK_LIMIT = 3
"""What the SDK allows without it."""

MAX_MISSES = 3
PAUSE_S = 600.0
"""The workflow of one thread may move once. If this many in a row miss, the server makes none
eager, and seldom learns to."""

WORKFLOW_SLOTS = 100
"""Workflow tasks at once: the SDK's default, which a tuner does not have."""


class EagerSlots(CustomSlotSupplier):
    """Slots for eager Activities. There are none for others, so nothing is polled for."""

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Never returns: asked for before a poll."""
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """One for an Activity that may be eager."""
        return SlotPermit()

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """There is nothing to count."""

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """There is nothing to count."""


class EagerTasks:
    """Which tasks of this process are eager.

    Args:
        enabled: Whether any are.

    Attributes:
        enabled: As given.
        _here: Ids of the workflows in this process's cache, as far as it is known.
        _misses: How many there were in a row.
        _paused_until: When the next may be eager, by the monotonic clock.
        _has_option: Whether the SDK has ``LIMIT_OPTION``.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._here: set[str] = set()
        self._misses = 0
        self._paused_until = 0.0
        parameters = inspect.signature(Worker.__init__).parameters
        self._has_option = LIMIT_OPTION in parameters

    def settings(self) -> dict[str, Any]:
        """Arguments of the ``Worker`` that has the workflows, beside its Activities."""
        if not self.enabled:
            return {"disable_eager_activity_execution": True}
        fixed = FixedSizeSlotSupplier(WORKFLOW_SLOTS)
        tuner = WorkerTuner.create_composite(
            workflow_supplier=fixed,
            activity_supplier=EagerSlots(),
            local_activity_supplier=fixed,
            nexus_supplier=fixed,
        )
        return {"tuner": tuner, **({LIMIT_OPTION: STARTS_AT_ONCE} if self._has_option else {})}

    # From threads of the SDK, each a single operation on the set.

    def activated(self, workflow_id: str) -> None:
        """This process has done a workflow task."""
        self._here.add(workflow_id)

    def evicted(self, workflow_id: str) -> None:
        """A workflow has left the cache."""
        self._here.discard(workflow_id)

    # -- on the worker's loop -----------------------------------------------------------------

    def room(self, workflow_id: str) -> int:
        """How many tasks of a step to that workflow may be eager."""
        paused = not self.enabled or time.monotonic() < self._paused_until
        if paused or workflow_id not in self._here:
            return 0
        # The thread schedules no more than the option says in one workflow task.
        return sys.maxsize if self._has_option else SDK_LIMIT

    def arrived(self) -> None:
        """An eager task has come as such."""
        self._misses = 0

    def missed(self, workflow_id: str) -> None:
        """One has come by a queue."""
        if workflow_id not in self._here:
            # Of a wide superstep: the first was counted.
            return
        self._here.discard(workflow_id)
        self._misses += 1
        if self._misses >= MAX_MISSES:
            self._misses = 0
            self._paused_until = time.monotonic() + PAUSE_S
            logger.info(
                "tasks come by a queue for the next %g s: the server makes none eager", PAUSE_S
            )
