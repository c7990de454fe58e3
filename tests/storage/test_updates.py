"""Updates that a server cannot apply at once."""

from __future__ import annotations

import itertools
import uuid

from temporalio import workflow
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from langgraph_temporal_exec.storage.rpc import send_update

ASKED = itertools.count()
UNKNOWN = SearchAttributeKey.for_keyword("nobody-has-registered-this")


@workflow.defn
class Refused:
    """Its first workflow task with an Update asks for what the server refuses, which fails that
    task after the Update was seen and before it was accepted."""

    @workflow.run
    async def run(self) -> None:
        """Stay."""
        await workflow.wait_condition(lambda: False)

    @workflow.update
    async def ask(self) -> str:
        """Answer, unless it is the first."""
        if next(ASKED) == 0:
            workflow.upsert_search_attributes([UNKNOWN.value_set("x")])
        return "answered"


async def test_one_whose_workflow_task_failed_is_sent_again(client: Client) -> None:
    queue = uuid.uuid4().hex
    async with Worker(
        client,
        task_queue=queue,
        workflows=[Refused],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=0,
    ):
        handle = await client.start_workflow(Refused.run, id=queue, task_queue=queue)
        seen: list[RPCError] = []

        async def send() -> str:
            try:
                return await handle.execute_update(Refused.ask)
            except RPCError as exc:
                seen.append(exc)
                raise

        assert await send_update(client, send) == "answered"
        assert [exc.status for exc in seen] == [RPCStatusCode.FAILED_PRECONDITION]
        await handle.terminate()
