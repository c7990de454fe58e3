"""Worker side: threads whose task queue nobody serves any more are taken over to this worker's.

The task queue of a workflow changes only as it continues as new, which takes a worker on the old
one. So this process visits the old queue: it polls it for workflow tasks, not for runs, until the
threads that are wanted have left it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field

from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig

from .._loops import LoopThread
from .._sandbox import sandboxed
from ..errors import ServerUnavailableError
from ..protocol import names
from ..protocol.messages import ReadRequest
from ..storage.thread_client import UNBOUNDED_CURSOR, Transport
from ..workflow.run import RunWorkflow
from ..workflow.thread import ThreadWorkflow

logger = logging.getLogger(__name__)

LOOK_S = 0.1
"""Pause before the server is asked again whether a thread has moved."""

LEAVE_S = 60.0
"""How long a visit waits for one workflow."""


@dataclass(kw_only=True)
class _Leaving:
    """A workflow that is to leave the queue that is visited."""

    workflow_id: str
    until_s: float
    moved: asyncio.Future[bool] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Mover:
    """Moves threads to the task queue of this process; implements ``transport.Mover``.

    Args:
        transport: RPCs, and the queue to which threads are moved.
        thread: The worker's loop.
        deployment: That of the worker: versioned workflows are given to no other.
    """

    def __init__(
        self,
        transport: Transport,
        thread: LoopThread,
        deployment: WorkerDeploymentConfig | None,
    ) -> None:
        self._transport = transport
        self._thread = thread
        self._deployment = deployment
        # By task queue; all of it is touched on the worker's loop only.
        self._leaving: dict[str, dict[str, _Leaving]] = {}
        self._visits: dict[str, asyncio.Task[None]] = {}

    async def move(self, workflow_id: str, queue: str, within_s: float) -> bool:
        """Have a thread or namespace leave its queue; whether it has, in the given time.

        What takes longer goes on in the background.
        """
        return await self._thread.call(self._move(workflow_id, queue, within_s))

    async def left(self, queue: str) -> None:
        """Return when this process does not poll a queue that is not its own any more."""
        await self._thread.call(self._left(queue))

    async def _left(self, queue: str) -> None:
        if visit := self._visits.get(queue):
            await asyncio.wait([visit])

    async def stop(self) -> None:
        """End all visits."""
        visits = list(self._visits.values())
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)

    async def _move(self, workflow_id: str, queue: str, within_s: float) -> bool:
        leaving = await self._send_off(workflow_id, queue)
        await asyncio.wait([leaving.moved], timeout=within_s)
        return leaving.moved.done() and leaving.moved.result()

    async def _send_off(self, workflow_id: str, queue: str) -> _Leaving:
        handle = self._transport.client.get_workflow_handle(workflow_id)
        # Closed since: then it needs no worker.
        with contextlib.suppress(RPCError):
            await handle.signal(names.MOVE_SIGNAL, self._transport.options.task_queue)
        return self._await_leave(workflow_id, queue)

    def _await_leave(self, workflow_id: str, queue: str) -> _Leaving:
        until_s = asyncio.get_running_loop().time() + LEAVE_S
        all_leaving = self._leaving.setdefault(queue, {})
        leaving = all_leaving.setdefault(
            workflow_id, _Leaving(workflow_id=workflow_id, until_s=until_s)
        )
        if queue not in self._visits:
            logger.info("nobody serves task queue %r: its threads that are used move here", queue)
            self._visits[queue] = asyncio.create_task(self._visit(queue, all_leaving))
        return leaving

    async def _visit(self, queue: str, all_leaving: dict[str, _Leaving]) -> None:
        try:
            # What comes while the last worker shuts down gets another one.
            while all_leaving:
                await self._serve(queue, all_leaving)
        except ServerUnavailableError as exc:
            logger.warning("task queue %r cannot be visited: %s", queue, exc)
        finally:
            del self._visits[queue]
            for leaving in all_leaving.values():
                if not leaving.moved.done():
                    leaving.moved.set_result(False)
            all_leaving.clear()

    async def _serve(self, queue: str, all_leaving: dict[str, _Leaving]) -> None:
        # This process may come to serve the queue in earnest.
        client = await self._transport.twin()
        worker = Worker(
            client,
            task_queue=queue,
            # Runs on that queue get workflow tasks too, but here is nobody to drive them.
            workflows=[ThreadWorkflow, RunWorkflow],
            **sandboxed(client),
            # Nothing is to wait for this process when it has left.
            max_cached_workflows=0,
            deployment_config=self._deployment,
        )
        running = asyncio.create_task(worker.run())
        try:
            while all_leaving and not running.done():
                for leaving in list(all_leaving.values()):
                    await self._look(queue, leaving)
                    if leaving.moved.done():
                        del all_leaving[leaving.workflow_id]
                await asyncio.sleep(LOOK_S)
        finally:
            await worker.shutdown()
            await asyncio.gather(running, return_exceptions=True)

    async def _look(self, queue: str, leaving: _Leaving) -> None:
        """Whether a workflow has left; its namespaces follow it."""
        try:
            if await self._transport.queue_of(leaving.workflow_id) == queue:
                if asyncio.get_running_loop().time() > leaving.until_s:
                    leaving.moved.set_result(False)
                return
            leaving.moved.set_result(True)
            # Also of one that has left because it was deleted.
            request = ReadRequest(cursor=UNBOUNDED_CURSOR, erasing=True)
            reply = await self._transport.read_workflow(leaving.workflow_id, request)
        except Exception as exc:
            # The server is away, for example: the next look tells.
            logger.debug("%s cannot be looked at: %s", leaving.workflow_id, exc)
            return
        if reply is None or reply.summary is None:
            return
        for namespace in reply.namespaces:
            self._await_leave(
                self._transport.thread_workflow_id(reply.summary.thread_id, namespace), queue
            )
