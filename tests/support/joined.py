"""Whether whoever joined a run is known where the run is driven."""

from __future__ import annotations

from temporalio.client import Client


async def is_joined(client: Client, workflow_id: str) -> bool:
    """Whether the process that drives a run was told of a reader; before it is, nobody is joined.

    Args:
        client: Of the server.
        workflow_id: Of the run's workflow.
    """
    events = client.get_workflow_handle(workflow_id).fetch_history_events()
    replies = [
        event.workflow_execution_update_completed_event_attributes.outcome.success.payloads
        async for event in events
    ]
    return any(payload.data == b"true" for reply in replies for payload in reply)
