"""Shared: the mailbox of this process, where streams of remote runs and of placed tasks arrive.

All savers of one client share one ``_Hub``: one thread, one worker that polls, and one mailbox
workflow per id prefix. Each saver has a ``Mailbox``, which LangGraph's copies of the saver share.
The hub opens with the first use and goes with the last ``Mailbox`` that used it, whether that was
closed or is simply not referred to any more. What is still open when the interpreter exits is
closed by one hook, all hubs at once and within ``EXIT_S``.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import weakref
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import TerminateWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from .._loops import LoopThread, settle
from .._sandbox import sandboxed
from ..protocol import names
from ..storage.process_workflows import process_key, start_workflow_of_process
from ..storage.rpc import is_away
from ..storage.thread_client import Transport
from ..workflow.mailbox import MailboxWorkflow

CLOSE_S = 2.0
"""How long the server may take to terminate a mailbox; one that is away is not waited for."""

EXIT_S = 0.8
"""How long the end of the interpreter waits for all that is still open."""


class Mailbox:
    """A saver's share in the hub of its client; joined with the first use.

    Args:
        transport: The client to poll with, and the names.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._hub: _Hub | None = None
        self._leave: weakref.finalize[[object], Mailbox] | None = None
        self._joining = threading.Lock()

    @property
    def loop_thread(self) -> LoopThread:
        """The hub's loop; also serves the sync API of callers without a worker."""
        return self._joined().loop_thread

    async def address(self) -> str:
        """Workflow id to which a worker sends the chunks; opens the mailbox if needed."""
        hub = self._joined()
        return await hub.loop_thread.call(hub.address(self._transport))

    def _joined(self) -> _Hub:
        with self._joining:
            if self._hub is None:
                share = object()
                self._hub = _join(self._transport.client, share)
                self._leave = weakref.finalize(self, self._hub.leave, share)
                # The hook below closes all hubs at once.
                self._leave.atexit = False
            return self._hub

    def close(self) -> None:
        """Leave the hub, and wait until it is closed if this was the last; idempotent.

        Used again, it joins again.
        """
        with self._joining:
            hub, self._hub = self._hub, None
            if hub is None or self._leave is None:
                return
            self._leave()
        if hub.retire():
            hub.loop_thread.join(CLOSE_S + 1.0)


class _Hub:
    """What the savers of one client share: a thread, a worker, and mailbox workflows."""

    def __init__(self, client: Client) -> None:
        self.loop_thread = LoopThread("langgraph-temporal-caller")
        self.shares: set[object] = set()
        self._of = id(client)
        self._client = client
        self._worker: Worker | None = None
        self._running: asyncio.Task[None] | None = None
        self._queue = ""
        self._mailboxes: dict[str, str] = {}
        self._opened: set[str] = set()
        self._opening = asyncio.Lock()
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    async def address(self, transport: Transport) -> str:
        """Workflow id of the mailbox for an id prefix; on this hub's loop."""
        prefix = transport.options.id_prefix
        async with self._opening:
            if prefix not in self._mailboxes:
                await self._open(transport, prefix)
            return self._mailboxes[prefix]

    async def _open(self, transport: Transport, prefix: str) -> None:
        key = process_key()
        workflow_id = names.mailbox_workflow_id(prefix, key)
        if self._worker is None:
            self._client = await transport.worker_client()
            self._queue = names.process_queue(transport.options.task_queue, f"mail-{key}")
            self._worker = Worker(
                self._client,
                task_queue=self._queue,
                workflows=[MailboxWorkflow],
                **sandboxed(self._client),
            )
            self._running = asyncio.create_task(self._worker.run())
        self._opened.add(workflow_id)
        try:
            await start_workflow_of_process(
                self._client,
                names.MAILBOX_WORKFLOW,
                workflow_id=workflow_id,
                task_queue=self._queue,
                summary="stream of remote runs to one caller process",
            )
        except RPCError as exc:
            raise transport.translate(exc) from exc
        self._mailboxes[prefix] = workflow_id

    # -- its end ------------------------------------------------------------------------------

    def leave(self, share: object) -> None:
        """A share is given up. By the garbage collector, on any thread and at any moment: takes
        no lock and waits for nothing."""
        self.shares.discard(share)
        if not self.shares:
            self.loop_thread.tell(self.retire)

    def retire(self) -> bool:
        """Close if nobody has a share any more; whether the hub closes."""
        with _lock:
            if self.shares:
                return False
            if not self._retired:
                self._retired = True
                if _hubs.get(self._of) is self:
                    del _hubs[self._of]
                self.loop_thread.tell(self._begin_close)
            return True

    def exit(self) -> None:
        """Close whoever has shares, because the interpreter exits; does not wait."""
        self.loop_thread.tell(self._begin_close, True)

    def _begin_close(self, exits: bool = False) -> None:
        if self._closing is None:
            self._closing = self.loop_thread.loop.create_task(self._close(exits=exits))

    async def _close(self, *, exits: bool) -> None:
        try:
            reached = await self._terminate_all()
            # An interpreter that exits cannot wait for the worker if the server is away: it
            # shuts down when its polls have ended. They end with the process.
            if self._worker is not None and (reached or not exits):
                await self._worker.shutdown()
                await settle()
        finally:
            _open_hubs.discard(self)
            await self.loop_thread.leave()

    async def _terminate_all(self) -> bool:
        """Terminate the mailboxes; ``False`` when the server cannot be reached: they end by
        their own timeout."""
        replies = await asyncio.gather(*map(self._terminate, self._opened))
        return all(replies)

    async def _terminate(self, workflow_id: str) -> bool:
        try:
            # Not through a handle: the SDK goes on for ten seconds when the server is away.
            await self._client.workflow_service.terminate_workflow_execution(
                TerminateWorkflowExecutionRequest(
                    namespace=self._client.namespace,
                    workflow_execution=WorkflowExecution(workflow_id=workflow_id),
                    reason="the caller's process ends, or uses it no more",
                    identity=self._client.identity,
                ),
                retry=False,
                timeout=timedelta(seconds=CLOSE_S),
            )
        except RPCError as exc:
            # Any answer but these is one of a server that is there.
            return not is_away(exc)
        return True


_lock = threading.Lock()
_hubs: dict[int, _Hub] = {}
"""Hubs that can be joined, by the identity of their client, which they keep alive."""

_open_hubs: set[_Hub] = set()


def _join(client: Client, share: object) -> _Hub:
    with _lock:
        hub = _hubs.get(id(client))
        if hub is None:
            hub = _hubs[id(client)] = _Hub(client)
            _open_hubs.add(hub)
        hub.shares.add(share)
        return hub


def _forget_all() -> None:
    """In a forked child, whose threads and connections are not there."""
    _hubs.clear()
    _open_hubs.clear()


@atexit.register
def _exit_all() -> None:
    hubs = list(_open_hubs)
    until = time.monotonic() + EXIT_S
    for hub in hubs:
        hub.exit()
    for hub in hubs:
        hub.loop_thread.join(max(0.0, until - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
