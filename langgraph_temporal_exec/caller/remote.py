"""Caller side: a run that is driven by a worker in another process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from .._exits import torn_down
from ..errors import NoWorkersError, RunFailedError, StreamLostError
from ..logs import about
from ..protocol import names
from ..protocol.messages import MailItem, MailStatus, Outcome, decompressed
from ..protocol.wire import WireError, pack, unpack
from ..seam.chunks import ShownInterrupts
from ..storage.mail import Ordered
from ..storage.rpc import is_unreachable
from ..storage.thread_client import UNTAKEN_EVENTS, Transport
from ..values.exact import load_exact
from ..workflow import mailbox_sinks
from .admitted import AdmittedRun
from .handlers import Event

logger = logging.getLogger(__name__)

TAIL_GRACE_S = 2.0
"""How long to wait for chunks that are still under way when the outcome is known."""

MAX_UNREAD = 1_000
MAX_UNREAD_BYTES = 16_000_000
"""Mail that waits in this process for a slow reader; the rest waits on the worker."""

QUIET_BEFORE_PROBE_S = 1.5
PROBE_EVERY_S = 30.0
CANCEL_WAIT_S = 10.0

FAILED_EVENTS = UNTAKEN_EVENTS + 2
"""Events of a run whose first workflow task was only ever begun and failed."""


class Inbox:
    """Mail of one run: filled by the mailbox's thread, read on the loop of the call."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[MailItem] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._lock = threading.Lock()

    def put(self, items: tuple[MailItem, ...]) -> MailStatus:
        """Take mail, or refuse it while too much is unread."""
        with self._lock:
            if len(self._items) >= MAX_UNREAD or self._bytes >= MAX_UNREAD_BYTES:
                return MailStatus.FULL
            self._items.extend(items)
            self._bytes += sum(len(item.data) for item in items)
        # The loop is closed when the caller's process is about to end.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._filled.set)
        return MailStatus.TAKEN

    def get_nowait(self) -> MailItem | None:
        """The next item, if there is one."""
        with self._lock:
            if not self._items:
                self._filled.clear()
                return None
            item = self._items.popleft()
            self._bytes -= len(item.data)
            return item

    async def get(self) -> MailItem:
        """The next item."""
        while (item := self.get_nowait()) is None:
            await self._filled.wait()
        return item


async def stream_remote(
    run: AdmittedRun,
    *,
    leaves: Callable[[], bool] = lambda: False,
    known: bytes = b"",
    keep: Callable[[bytes], None] = lambda data: None,
    lives: Callable[[str], None] = lambda queue: None,
    begin: Callable[[], Awaitable[None]] | None = None,
) -> AsyncGenerator[Any, None]:
    """Record a run and yield what its worker streams; the result comes from the run itself.

    If its call wants the result alone, the worker streams nothing, and the outcome has the chunks
    of the result, or they are sent at the end if they are too large for it. ``known`` is the chunk
    the worker was told that this process has, and ``keep`` is given the one to be known by the next
    call. ``lives`` is given the task queue of the thread's home. A run that is recorded already is
    let go on by ``begin`` instead, when this process listens.

    Among the chunks are ``Event``s for the callback handlers of the call. Closing the stream
    cancels the run, unless ``leaves()`` says that its caller only goes away.

    Raises:
        WorkflowAlreadyStartedError: There is a run of this id.
        NoWorkersError: No worker gave a sign of life; the run was withdrawn, nothing ran.
        StreamLostError: The stream, or a result without one, cannot be read here; the run goes on.
        Exception: What a node raised.
    """
    run_id, thread_id = run.identity.run_id, run.identity.thread_id
    transport, serde, result_only = run.store.transport, run.store.serde, run.call.result_only
    arrived = Inbox()
    order = Ordered(known)
    shown = ShownInterrupts()

    # How it has ended, if the worker tells before the run's workflow does. With all chunks here,
    # that is all there is to know.
    told: Outcome | None = None
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def whole(item: MailItem) -> Iterator[Any]:
        nonlocal told
        try:
            if item.end:
                told = _outcome_of(item)
                return
            for last, data in order.accept(item):
                if last.event:
                    yield Event(attempt=last.attempt, data=data)
                else:
                    yield from shown.filter(last.attempt, load_exact(serde, data))
        except WireError as exc:
            raise StreamLostError(
                f"The stream of run {run_id} (thread {thread_id!r}) cannot be read: {exc} The run "
                "goes on; read its result with get_state."
            ) from exc

    mailbox_sinks.listen(run_id, arrived.put)
    background: list[asyncio.Task[Any]] = []
    starting = asyncio.ensure_future((begin or run.record)())
    finished = False
    try:
        await asyncio.shield(starting)
        outcome = asyncio.create_task(_first(run.outcome(), ended))
        probe = asyncio.create_task(
            _watch_for_worker(transport, run_id, thread_id, lambda: order.attempt > 0)
        )
        background += [outcome, probe]
        while True:
            item = await next_item(arrived, outcome, probe)
            if item is None:
                break
            for chunk in whole(item):
                yield chunk
            if told is not None and not ended.done() and _is_complete(order, told):
                ended.set_result(pack(told))
        data = await _result(outcome, probe)
        expected = unpack(Outcome, data)
        lives(expected.home_queue)
        # A worker of an earlier release streams all the same.
        has_result = result_only and bool(expected.tail) and not order.received
        while order.received < expected.chunks and order.attempt == expected.attempt:
            if has_result:
                break
            try:
                item = await asyncio.wait_for(arrived.get(), TAIL_GRACE_S)
            except TimeoutError:
                break
            for chunk in whole(item):
                yield chunk
        finished = True
        received, last = 0, b""
        if order.attempt == expected.attempt:
            received, last = order.received, order.last
        keep(order.large if received else next(reversed(expected.tail), b""))
        for chunk in run.finish(data, received=received, last=last, streamed=not result_only):
            yield chunk
    except (asyncio.CancelledError, GeneratorExit):
        # The death of a caller does not stop its run.
        if not finished and not leaves() and not torn_down():
            await cancel_run(transport, run_id, starting, *background[:1])
        raise
    finally:
        mailbox_sinks.stop(run_id)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)


def _outcome_of(item: MailItem) -> Outcome:
    """The outcome in an item of mail.

    Raises:
        WireError: There is none in it.
    """
    data = decompressed(item.data, item.whole_bytes) if item.whole_bytes else item.data
    return unpack(Outcome, data)


def _is_complete(order: Ordered, outcome: Outcome) -> bool:
    return order.attempt == outcome.attempt and order.received >= outcome.chunks


async def _first(outcome: Coroutine[Any, Any, bytes], ended: asyncio.Future[bytes]) -> bytes:
    """The outcome, from whoever tells it first."""
    asked = asyncio.ensure_future(outcome)
    try:
        await asyncio.wait([asked, ended], return_when=asyncio.FIRST_COMPLETED)
        return ended.result() if ended.done() else asked.result()
    finally:
        asked.cancel()


async def next_item(
    arrived: Inbox,
    outcome: asyncio.Task[bytes],
    probe: asyncio.Task[None],
) -> MailItem | None:
    """The next chunk; ``None`` when the outcome is known and nothing is waiting."""
    if (item := arrived.get_nowait()) is not None:
        return item
    getter = asyncio.ensure_future(arrived.get())
    try:
        await asyncio.wait([getter, outcome, probe], return_when=asyncio.FIRST_COMPLETED)
        if getter.done():
            return getter.result()
        if not outcome.done() and probe.done():
            probe.result()
        return None if outcome.done() else await getter
    finally:
        if not getter.done():
            getter.cancel()


async def _result(outcome: asyncio.Task[bytes], probe: asyncio.Task[None]) -> bytes:
    try:
        return outcome.result()
    except RunFailedError:
        # Terminated by the probe of this very call? Then its error is the one that helps.
        await asyncio.wait([probe], timeout=TAIL_GRACE_S)
        if probe.done():
            probe.result()
        raise


async def _watch_for_worker(
    transport: Transport, run_id: str, thread_id: str, heard: Callable[[], bool]
) -> None:
    """Fail when no worker picks the run up; later only warn, for then it is under way."""
    options = transport.options
    handle = transport.client.get_workflow_handle(transport.run_workflow_id(run_id))
    await asyncio.sleep(QUIET_BEFORE_PROBE_S)
    left = max(1.0, options.no_worker_timeout.total_seconds() - QUIET_BEFORE_PROBE_S)
    seen = False
    while True:
        try:
            await handle.query(
                names.RUN_STATUS_QUERY,
                rpc_timeout=timedelta(seconds=left),
                result_type=bytes,
            )
            seen = True
        except RPCError as exc:
            if is_unreachable(exc):
                await asyncio.sleep(1.0)
                continue
            why = await transport.stuck(handle.id)
            if not seen and not heard():
                events = await _events(handle)
                seen = events > UNTAKEN_EVENTS
                if why and UNTAKEN_EVENTS < events <= FAILED_EVENTS:
                    await _withdraw(transport, run_id)
                    raise transport.unreadable(
                        f"the call on thread {thread_id!r}",
                        f"{why}. The run was withdrawn: nothing ran, the thread is unchanged",
                    ) from exc
            if not seen and not heard():
                await _withdraw(transport, run_id)
                raise NoWorkersError(
                    f"{transport.no_workers(f'the graph for thread {thread_id!r}')} The run was "
                    "withdrawn: nothing ran, the thread is unchanged."
                ) from exc
            about(logger, thread_id=thread_id, run_id=run_id).warning(
                "no worker answers on task queue %r; run %s goes on when one starts%s",
                options.task_queue,
                run_id,
                why and f" that can read it ({why})",
            )
        await asyncio.sleep(PROBE_EVERY_S)


async def _events(handle: WorkflowHandle[Any, Any]) -> int:
    """Events of a run; while Temporal does not tell, as many as one has that was begun."""
    with contextlib.suppress(RPCError):
        return (await handle.describe()).history_length
    return FAILED_EVENTS + 1


async def _withdraw(transport: Transport, run_id: str) -> None:
    handle = transport.client.get_workflow_handle(transport.run_workflow_id(run_id))
    # Closed in the meantime: then a worker did pick it up, and the outcome is on its way.
    with contextlib.suppress(RPCError):
        await handle.terminate(reason="no worker answered its caller")


async def cancel_run(transport: Transport, run_id: str, *pending: asyncio.Future[Any]) -> None:
    """The consumer went away on purpose: stop the run, as plain LangGraph would.

    ``pending``: the start, which must be recorded before it can be cancelled, then the outcome,
    which is waited for.
    """
    handle = transport.client.get_workflow_handle(transport.run_workflow_id(run_id))

    async def stop() -> None:
        if pending:
            await asyncio.wait(pending[:1], timeout=CANCEL_WAIT_S)
        with contextlib.suppress(RPCError):
            await handle.cancel()
            if pending[1:]:
                await asyncio.wait(pending[1:], timeout=CANCEL_WAIT_S)

    task = asyncio.ensure_future(stop())
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.shield(task)
