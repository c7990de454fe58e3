"""Shared: which threads and runs there are, from Temporal's visibility store.

The store lags behind by a moment, so nothing here decides what is recorded: it finds threads, and
what is told of each comes from the thread itself.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from temporalio.client import WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError

from ..protocol import names
from ..protocol.messages import WorkerCard
from .rpc import is_gone
from .thread_client import Transport

logger = logging.getLogger(__name__)


PAGE = 200
"""Threads that the server looks up at a time: the first of a list come soon."""


async def thread_ids(transport: Transport) -> list[str]:
    """The ids of all threads."""
    return [thread_id async for thread_id in each_thread(transport)]


async def each_thread(transport: Transport) -> AsyncIterator[str]:
    """The ids of all threads, as the server looks them up; the newest threads first."""
    prefix = f"{transport.options.id_prefix}/thread/"
    query = (
        f"WorkflowType = '{names.THREAD_WORKFLOW}' AND ExecutionStatus = 'Running' "
        f"AND WorkflowId STARTS_WITH '{prefix}'"
    )
    async for execution in transport.client.list_workflows(query, page_size=PAGE):
        # Child Workflows (namespaces) carry no memo.
        if "thread_id" in execution.raw_info.memo.fields:
            memo = await _memo(execution)
            unreadable = names.thread_id_of(transport.options.id_prefix, execution.id)
            yield str(memo.get("thread_id", unreadable))


async def _memo(execution: WorkflowExecution) -> Mapping[str, Any]:
    """What a workflow carries for lists; nothing if it was encoded by a codec that is not here."""
    try:
        return await execution.memo()
    except Exception as exc:
        # The codec is the user's. Others are to be listed all the same.
        logger.warning("the memo of %r cannot be read: %s", execution.id, type(exc).__name__)
        return {}


async def began(transport: Transport, thread_id: str) -> datetime | None:
    """When a thread was made, without reading it; ``None``: there is none."""
    handle = transport.client.get_workflow_handle(transport.thread_workflow_id(thread_id))
    try:
        description = await handle.describe()
    except RPCError as exc:
        if is_gone(exc):
            return None
        raise transport.translate(exc) from exc
    return description.start_time


async def workers(transport: Transport) -> list[tuple[str, WorkerCard]]:
    """The workflows of all workers, and what each began with."""
    prefix = f"{transport.options.id_prefix}/worker/"
    query = (
        f"WorkflowType = '{names.WORKER_WORKFLOW}' AND ExecutionStatus = 'Running' "
        f"AND WorkflowId STARTS_WITH '{prefix}'"
    )
    found = []
    async for execution in transport.client.list_workflows(query):
        memo = await _memo(execution)
        since_s = execution.start_time.timestamp()
        card = WorkerCard(
            worker=str(memo.get("worker", execution.id.removeprefix(prefix))),
            queue=str(memo.get("queue", "")),
            process=str(memo.get("process", "")),
            host=str(memo.get("host", "")),
            pid=int(memo.get("pid", 0)),
            since_s=float(memo.get("since_s", since_s)),
            named=bool(memo.get("named", False)),
        )
        found.append((execution.id, card))
    return found


async def runs_since(transport: Transport, since: datetime) -> dict[str, dict[str, bool]]:
    """By thread the runs that are open or were closed since then, and whether each is open."""
    prefix = f"{transport.options.id_prefix}/run/"
    query = (
        f"WorkflowType = '{names.RUN_WORKFLOW}' AND WorkflowId STARTS_WITH '{prefix}' "
        f"AND (ExecutionStatus = 'Running' OR CloseTime > '{since.isoformat()}')"
    )
    found: dict[str, dict[str, bool]] = {}
    async for execution in transport.client.list_workflows(query):
        thread_id = str((await _memo(execution)).get("thread_id", ""))
        is_open = execution.status is WorkflowExecutionStatus.RUNNING
        found.setdefault(thread_id, {})[execution.id] = is_open
    return found
