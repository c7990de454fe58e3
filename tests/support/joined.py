"""Whether whoever joined a run is known where the run is driven."""

from __future__ import annotations

from temporalio.client import Client


async def is_joined(client: Client, workflow_id: str, readers: int = 1) -> bool:
    """Whether the process that drives a run was told of readers; before, they have not joined.

    Args:
        client: Of the server.
        workflow_id: Of the run's workflow.
        readers: How many.
    """
    events = client.get_workflow_handle(workflow_id).fetch_history_events()
    replies = [
        event.workflow_execution_update_completed_event_attributes.outcome.success.payloads
        async for event in events
    ]
    return sum(p.data == b"true" for reply in replies for p in reply) >= readers
