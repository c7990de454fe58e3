"""Worker side: sends the stream of a run to a caller in another process.

Chunks travel in order, in batches, as arguments of Queries to the mailbox workflow the caller's
process hosts: no history. The run never depends on it: a caller that is gone is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from temporalio.client import Client
from temporalio.service import RPCError

from .._serde import dump_exact
from .._threads import LoopThread
from ..errors import UnserializableError
from ..protocol import names
from ..protocol.messages import Mail, MailItem
from ..protocol.wire import pack

logger = logging.getLogger(__name__)

MAX_BACKLOG = 256
"""Chunks that may wait before the graph waits for the caller."""

BATCH_BYTES = 400_000
PUSH_TIMEOUT = timedelta(seconds=3)
PUSH_TRIES = 2


class Relay:
    """Streams one attempt to one mailbox.

    Args:
        client: For the Queries.
        thread: The worker's loop, on which they are sent.
        serde: Serializes chunks.
        mailbox: Workflow id of the caller's mailbox; empty when nobody listens.
    """

    def __init__(
        self,
        client: Client,
        thread: LoopThread,
        serde: SerializerProtocol,
        *,
        mailbox: str,
        run_id: str,
        attempt: int,
    ) -> None:
        self._client = client
        self._thread = thread
        self._serde = serde
        self._mailbox = mailbox
        self._run_id = run_id
        self._attempt = attempt
        self._seq = 0
        self._backlog: list[MailItem] = []
        self._pump: asyncio.Task[None] | None = None
        self.listening = bool(mailbox)

    def offer(self, chunk: Any) -> bool:
        """Send a chunk, from any thread; ``False`` when the sender should wait (``drain``)."""
        seq, self._seq = self._seq, self._seq + 1
        if not self.listening:
            return True
        try:
            data = dump_exact(self._serde, chunk, what="a stream chunk")
        except UnserializableError as exc:
            # The caller sees the gap in the numbers and says so.
            logger.warning("run %s: chunk %d is not relayed: %s", self._run_id, seq, exc)
            return True
        for start in range(0, len(data), BATCH_BYTES):
            end = start + BATCH_BYTES
            piece = MailItem(
                attempt=self._attempt, seq=seq, data=data[start:end], more=end < len(data)
            )
            self._thread.loop.call_soon_threadsafe(self._add, piece)
        return len(self._backlog) < MAX_BACKLOG

    async def drain(self) -> None:
        """Return when all chunks were delivered or the caller is gone."""
        await self._thread.call(self._drain())

    async def _drain(self) -> None:
        while self._pump is not None:
            await asyncio.wait([self._pump])

    def _add(self, item: MailItem) -> None:
        if not self.listening:
            return
        self._backlog.append(item)
        if self._pump is None:
            self._pump = asyncio.create_task(self._run_pump())

    async def _run_pump(self) -> None:
        try:
            while self._backlog and self.listening:
                size, count = 0, 0
                for item in self._backlog:
                    size += len(item.data)
                    if count and size > BATCH_BYTES:
                        break
                    count += 1
                batch = tuple(self._backlog[:count])
                del self._backlog[:count]
                self.listening = await self._push(batch)
        finally:
            self._pump = None

    async def _push(self, batch: tuple[MailItem, ...]) -> bool:
        handle = self._client.get_workflow_handle(self._mailbox)
        mail = pack(Mail(run_id=self._run_id, items=batch))
        for attempt in range(PUSH_TRIES):
            try:
                heard: bool = await handle.query(
                    names.DELIVER_QUERY, mail, result_type=bool, rpc_timeout=PUSH_TIMEOUT
                )
            except RPCError as exc:
                logger.debug("run %s: its caller does not answer: %s", self._run_id, exc)
                await asyncio.sleep(0.1 * 2**attempt)
            else:
                return heard
        return False
