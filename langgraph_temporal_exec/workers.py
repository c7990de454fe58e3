"""Public API: which workers there are, and what each does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError

from .protocol import names
from .protocol.messages import WorkerCard
from .protocol.wire import unpack
from .storage import visibility
from .storage.store import Store

ANSWER_S = 3.0
"""How long a worker may take to answer before it is shown as one that does not."""

AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """A worker process, as a list shows it.

    Args:
        name: Its name, which threads have as their home.
        task_queue: The task queue it serves.
        host: The machine it runs on.
        pid: Its process id there.
        since: When it began.
        named: Whether somebody gave the name, so that it may come back under it.
        answers: Whether it has answered just now. One that was killed is listed for a day, or until
            another process takes its name.
        graphs: Names of the graphs it serves; of one that answers.
        runs: Ids of the runs it drives; of one that answers.
    """

    name: str
    task_queue: str
    host: str
    pid: int
    since: datetime
    named: bool
    answers: bool
    graphs: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


async def workers(store: Store) -> AsyncIterator[WorkerInfo]:
    """See ``TemporalSaver.alist_workers``."""
    found = await visibility.workers(store.transport)
    for start in range(0, len(found), AT_ONCE):
        batch = found[start : start + AT_ONCE]
        for info in await asyncio.gather(*(_asked(store, *worker) for worker in batch)):
            yield info


async def _asked(store: Store, workflow_id: str, card: WorkerCard) -> WorkerInfo:
    handle = store.transport.client.get_workflow_handle(workflow_id)
    answers = False
    try:
        answer = await handle.query(
            names.WHO_QUERY, result_type=bytes, rpc_timeout=timedelta(seconds=ANSWER_S)
        )
        if answer:
            card, answers = unpack(WorkerCard, answer), True
    except (RPCError, WorkflowQueryFailedError):
        # It is gone, or of another release; what is known of it is in the memo.
        pass
    return WorkerInfo(
        name=card.worker,
        task_queue=card.queue.rpartition("~")[0],
        host=card.host,
        pid=card.pid,
        since=datetime.fromtimestamp(card.since_s, UTC),
        named=card.named,
        answers=answers,
        graphs=card.graphs,
        runs=card.runs,
    )
