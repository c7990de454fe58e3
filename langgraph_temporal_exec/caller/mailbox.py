"""Caller side: the mailbox of this process, where streams of remote runs arrive."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import socket
import threading
import uuid
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from .._threads import LoopThread, settle
from ..protocol import names
from ..transport import Transport
from ..workflow.mailbox import MailboxWorkflow

LIFETIME = timedelta(hours=24)
"""A mailbox whose process was killed disappears by itself after this long."""

CLOSE_TIMEOUT = timedelta(seconds=2)

RENEW_AFTER_S = 12 * 3600.0


class Mailbox:
    """Hosts the mailbox workflow on a thread of its own; started by the first remote run.

    Args:
        transport: The client to poll with, and the names.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._client: Client = transport.client
        self._options = transport.options
        self._thread: LoopThread | None = None
        self._worker: Worker | None = None
        self._running: asyncio.Task[None] | None = None
        self._workflow_id = ""
        self._opened_at = 0.0
        self._lock: asyncio.Lock | None = None
        self._starting = threading.Lock()

    @property
    def thread(self) -> LoopThread:
        """The mailbox's loop; also serves the sync API of callers without a worker."""
        with self._starting:
            return self._start_thread()

    def _start_thread(self) -> LoopThread:
        if self._thread is None:
            self._thread = LoopThread("langgraph-temporal-caller")
            self._lock = asyncio.Lock()
            atexit.register(self.close)
        return self._thread

    async def address(self) -> str:
        """Workflow id to which a worker sends the chunks; opens the mailbox if needed."""
        return await self.thread.call(self._address())

    async def _address(self) -> str:
        assert self._lock is not None
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if not self._workflow_id or now - self._opened_at > RENEW_AFTER_S:
                await self._open()
                self._opened_at = now
            return self._workflow_id

    async def _open(self) -> None:
        key = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        workflow_id = names.mailbox_workflow_id(self._options.id_prefix, key)
        if self._worker is None:
            self._client = await self._transport.worker_client()
            self._queue = names.pinned_queue(self._options.task_queue, f"mail-{key}")
            self._worker = Worker(self._client, task_queue=self._queue, workflows=[MailboxWorkflow])
            self._running = asyncio.create_task(self._worker.run())
        try:
            await self._client.start_workflow(
                names.MAILBOX_WORKFLOW,
                id=workflow_id,
                task_queue=self._queue,
                execution_timeout=LIFETIME,
                static_summary="stream of remote runs to one caller process",
            )
        except RPCError as exc:
            raise self._transport.translate(exc) from exc
        self._workflow_id = workflow_id

    def close(self) -> None:
        """Terminate the mailbox and stop its thread; idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        atexit.unregister(self.close)
        with contextlib.suppress(concurrent.futures.TimeoutError):
            thread.submit(self._close()).result(timeout=10)
        thread.stop()

    async def _close(self) -> None:
        if self._workflow_id:
            handle = self._client.get_workflow_handle(self._workflow_id)
            # The server may be gone already; the mailbox then ends by its own timeout.
            with contextlib.suppress(RPCError):
                await handle.terminate("the caller's process ends", rpc_timeout=CLOSE_TIMEOUT)
            self._workflow_id = ""
        if self._worker is not None:
            await self._worker.shutdown()
            self._worker = None
            await settle()
