"""Benchmark floor, workflow side: the round trips of a superstep and nothing else."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

ACTIVITY_TIMEOUT = timedelta(seconds=30)


def process_queue(task_queue: str) -> str:
    """The queue of the floor's Activities: as with pinned tasks, not the workflow's own."""
    return f"{task_queue}-pinned"


@activity.defn
async def no_op(body: bytes) -> bytes:
    return body


@workflow.defn
class FloorWorkflow:
    """Stays open, as a thread does, and answers Updates."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.update
    async def at_once(self, body: bytes) -> bytes:
        """A superstep that is only recorded."""
        return body

    @workflow.update
    async def by_activity(self, body: bytes) -> bytes:
        """A superstep that is recorded and runs one task."""
        return await workflow.execute_activity(
            no_op,
            body,
            task_queue=process_queue(workflow.info().task_queue),
            start_to_close_timeout=ACTIVITY_TIMEOUT,
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
