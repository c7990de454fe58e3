"""Worker side: runs whose caller lives in the same process.

The caller's own ``astream`` generator iterates LangGraph's loop, so context variables, callbacks,
loop-bound clients and back-pressure are exactly those of plain LangGraph. The drive Activity is
only a heartbeating shell around it, and attaching does not wait for that shell: attempt 1 can
only ever belong to this process. The shell comes a second later (``admitted.UNDRIVEN_S``); of a run
that has ended by then, or has to go elsewhere, this process tells the workflow itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import aclosing, closing
from functools import partial
from typing import Any, TypeVar

from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from .._exits import Owned, is_cancelled, torn_down
from .._loops import LoopThread
from ..errors import (
    AttemptSupersededError,
    RunCancelledError,
    RunTimeoutError,
    UsageError,
    WorkerStoppedError,
)
from ..logs import about
from ..protocol import names
from ..protocol.expired import expired_text
from ..protocol.messages import (
    AttachStatus,
    CallerStream,
    DriveReply,
    DriveStatus,
    Home,
    Listener,
    Outcome,
)
from ..protocol.stored import BlobRef
from ..protocol.wire import pack, unpack
from ..seam.chunks import ShownInterrupts
from ..storage.rpc import NotAsLeftError
from ..storage.store import Store
from .attempt import TURNED_AWAY, Attempt, attach, may_presume, turned_away
from .ports import CalledRun, Host
from .relay import Relay, Relays
from .session import Session
from .slots import Slot

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_CLOSING = 20

START_WAIT_S = 10.0
"""How long an abandoned call waits for the start of its run to be answered."""

REPORT_S = 10.0
"""How long the report of an attempt's end may take; a drive Activity asks for it otherwise."""

TIMER_S = 0.05
"""Timers may ring so much early."""


class LiveRun:
    """One run of this process. Its state is touched on the worker's loop only.

    Args:
        host: The worker of this process.
        called: The run; entered here before it is recorded in Temporal.
        loop: The event loop of the caller; ``None`` for a sync call.
        remove: Takes the run out of the table of live runs.
        report: Tells the run's workflow how the first attempt ended (``RunWorkflow.report``).

    Attributes:
        run: Which run it is.
        relays: Streams to those who joined it; ``None``: nobody has.
        _began: When the request that records it was sent, by a clock that never goes back.
        _starting: The request that records the run, while it is under way.
        _attempts: Numbers of attempts whose drive Activities have come here, to be taken up.
        _seen: The latest of them.
        _asked: A drive Activity has come: it reports how attempts end. Before, this process does.
        _replies: By attempt: what its drive Activity is waiting for.
        _elsewhere: The outcome, if another process drives the run; asked for once.
        _session: The attempt that was granted the thread here.
        _slot: What its loop needs to run here, or waits for.
        _stopped: Set when the worker stops.
        _cancelled: Somebody cancelled the run from outside.
        _closed: The caller is gone: no further attempt is taken up here.
        _outcome: How the run ended; b"" as long as it has not.
        _failure: Why the thread did not take the run.
        _presumes: It may begin as if the thread was granted, if that was left by this process.
        _home: The thread's home, which is to drive it instead; ``None``: it is not.
        _stream: Where it is to send the chunks then.
    """

    def __init__(
        self,
        host: Host,
        called: CalledRun,
        *,
        loop: asyncio.AbstractEventLoop | None,
        remove: Callable[[str], None],
        report: Callable[[LiveRun, DriveReply | None], None],
    ) -> None:
        self._report = report
        self._asked = False
        self.run = called.identity
        self.loop = loop
        self._host = host
        self._called = called
        self._began = 0.0
        self._starting: asyncio.Future[None] | None = None
        self._remove = remove
        self._attempts: asyncio.Queue[int] = asyncio.Queue()
        self._attempts.put_nowait(1)
        self._seen = 1
        self._replies: dict[int, asyncio.Future[DriveReply]] = {}
        self._elsewhere: asyncio.Future[bytes] | None = None
        self._session: Session | None = None
        self._slot: Slot | None = None
        self._stopped: asyncio.Event = asyncio.Event()
        self._cancelled = False
        self._closed = False
        self._outcome = b""
        self._failure: ApplicationError | None = None
        self._presumes = may_presume(host.store, called.call)
        self._home: Home | None = None
        self._stream: CallerStream | None = None
        self.relays: Relays | None = None

    # -- the caller's side --------------------------------------------------------------------

    async def start(self) -> None:
        """Record the run. A cancelled caller does not take the request back: see ``abandon``."""
        self._began = time.monotonic()
        self._starting = asyncio.ensure_future(self._called.record())
        await asyncio.shield(self._starting)

    async def acquire(self) -> Session | Home | bytes:
        """The next attempt of the run in this process, or the worker that is to drive it instead
        (``go``), or the outcome it got elsewhere.

        Raises:
            WorkerStoppedError: The worker of this process stops; the run goes on elsewhere.
            ThreadFullError, ThreadBusyError, TaskQueueError: The thread does not take this run;
                it has ended.
            UnreadableError: Nor can this process read the thread.
        """
        while True:
            attempt = await self._next_attempt()
            if isinstance(attempt, bytes):
                return attempt
            try:
                attached = attach(
                    self._host, self.run, attempt, presumes=self._presumes and attempt == 1
                )
                result = await self._unless_stopped(attached)
            except TURNED_AWAY as exc:
                self._failure = turned_away(exc)
                raise
            if isinstance(result, Session):
                self._session = result
                if self._cancelled:
                    result.reject(self._cancellation())
                await self._take_slot()
                return result
            if result.status == AttachStatus.ENDED:
                self._outcome = result.outcome
                return result.outcome
            if result.status == AttachStatus.AWAY and result.home is not None:
                return result.home
            queued = result.status == AttachStatus.QUEUED
            self._answer(attempt, DriveStatus.QUEUED if queued else DriveStatus.MOVED)

    async def go(self, home: Home, stream: CallerStream) -> None:
        """Let the thread's home drive the run; the caller listens."""
        self._home, self._stream = home, stream
        for attempt in list(self._replies) or [self._seen]:
            self._answer(attempt, DriveStatus.AWAY)

    async def _take_slot(self) -> None:
        """Wait until the process may drive one more run. Not before the thread is granted: a run
        that waits for its turn has no slot, and one that stops another does so at once."""
        self._give_slot_back()
        self._slot = self._host.run_slots.ask(self.run.priority)
        if self._cancelled:
            return
        if not self._slot.started:
            logger.info(
                "run %s of thread %r waits for another run of this process to end: as many as "
                "max_concurrent_runs are driven here",
                self.run.run_id,
                self.run.thread_id,
            )
        # Cancelled, it has nothing more to do than to record that.
        with contextlib.suppress(concurrent.futures.CancelledError):
            await self._unless_stopped(_granted(self._slot))

    def _give_slot_back(self) -> None:
        if self._slot is not None:
            self._slot.give_back()

    @property
    def under_way(self) -> bool:
        """Whether its loop runs here."""
        return self._slot is not None and self._slot.started and not self._slot.ended

    @property
    def unreported(self) -> bool:
        """Whether it has ended here, and its workflow has not been told yet."""
        return bool(self._outcome) or self._failure is not None

    async def _next_attempt(self) -> int | bytes:
        if not self._attempts.empty():
            return self._attempts.get_nowait()
        if self._elsewhere is None:
            self._elsewhere = asyncio.ensure_future(self._called.outcome())
        here = asyncio.ensure_future(self._attempts.get())
        either: list[asyncio.Future[Any]] = [here, self._elsewhere]
        try:
            await self._unless_stopped(asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED))
            return here.result() if here.done() else self._elsewhere.result()
        finally:
            here.cancel()

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._stop_error()
            return task.result()
        finally:
            task.cancel()
            stopped.cancel()

    async def ended(self, attempt: Attempt, *, dying: bool = False) -> None:
        """The caller's loop of an attempt is over: tell its drive Activity.

        ``dying``: so is the caller.
        """
        self._give_slot_back()
        self._closed = self._closed or dying
        if isinstance(attempt.session.error, NotAsLeftError):
            self._host.last_runs.shared(self.run.thread_id)
            self._presumes = False
            if not self._closed:
                # It begins once more.
                self._attempts.put_nowait(attempt.session.attempt)
                return
        self._outcome = self._outcome or attempt.outcome
        if self._closed and not self._outcome:
            # Now: of a loop that is torn down, the caller may never come to `close`. The next
            # attempt would find this run here for ever, and move on each time.
            self._remove(self.run.run_id)
        status = DriveStatus.ENDED if self._outcome else DriveStatus.MOVED
        self._answer(attempt.session.attempt, status)

    async def abandon(self) -> None:
        """The caller went away on purpose: what is not recorded as ended is cancelled."""
        if self._outcome or self._stopped.is_set():
            return
        if self._starting is not None and not self._starting.done():
            # What is on its way to the server must be recorded before it can be cancelled.
            await asyncio.wait([self._starting], timeout=START_WAIT_S)
        handle = self._host.store.transport.client.get_workflow_handle(self.run.run_workflow_id)
        # Never recorded, already closed, or no server: there is nothing to cancel from here.
        with contextlib.suppress(RPCError):
            await handle.cancel()

    async def close(self) -> None:
        """The caller is gone, with a result, an error or without either; answer every drive."""
        self._give_slot_back()
        if self.relays is not None:
            await self.relays.finish()
        self._closed = True
        if self._elsewhere is not None:
            self._elsewhere.cancel()
        for attempt in list(self._replies) or ([self._seen] if self.unreported else []):
            self._answer(attempt, self._last_word)
        # With something to report the entry stays until that is reported.
        if not self.unreported and self._home is None:
            self._remove(self.run.run_id)

    # -- the drive Activity's side ------------------------------------------------------------

    async def drive(self, attempt: int) -> DriveReply:
        """Stay until the caller's loop is over."""
        self._asked = True
        if attempt > self._seen and not self._closed:
            self._seen = attempt
            self._attempts.put_nowait(attempt)
        reply = self._reply(attempt)
        if self._closed or self._home is not None:
            self._answer(attempt, self._last_word)
        return await asyncio.shield(reply)

    def cancel(self) -> None:
        """Somebody cancelled the run from outside."""
        self._cancelled = True
        if self._session is not None:
            self._session.reject(self._cancellation())
        if not self.under_way:
            self._give_slot_back()

    def _cancellation(self) -> RunCancelledError:
        limit_s, run = self.run.run_timeout_s, self.run
        # The server's clock began later than this one: it cannot have been that before.
        if limit_s and time.monotonic() - self._began >= limit_s - TIMER_S:
            return RunTimeoutError(expired_text(run.run_id, run.thread_id, limit_s))
        return RunCancelledError(f"Run {self.run.run_id} was cancelled.")

    def listen(self, listener: Listener, make: Callable[..., Relay]) -> None:
        """Somebody elsewhere joins the run."""
        relays = self.relays or Relays(partial(make, attempt=self._seen))
        relays.join(listener)
        self.relays = relays

    def lose(self, attempt: int, reason: str) -> None:
        """An attempt was given up; the caller waits for the next one, or is gone itself."""
        if self.loop is not None and not self.loop.is_running():
            # It may go on here as a run of anybody, and the caller asks Temporal if it comes back.
            self._closed = True
            self._remove(self.run.run_id)
        if self._session is not None and self._session.attempt == attempt:
            self._session.fail(AttemptSupersededError(reason))

    def stop(self) -> None:
        """The worker of this process stops."""
        self._stopped.set()
        if self._session is not None:
            self._session.fail(self._stop_error())

    def _stop_error(self) -> WorkerStoppedError:
        return WorkerStoppedError(
            f"The worker of this process stopped while run {self.run.run_id} (thread "
            f"{self.run.thread_id!r}) was running. The run is recorded and goes on as soon as "
            "another worker serves the graph; read it with get_state."
        )

    @property
    def _last_word(self) -> DriveStatus:
        if self._outcome:
            return DriveStatus.ENDED
        return DriveStatus.MOVED if self._home is None else DriveStatus.AWAY

    def _reply(self, attempt: int) -> asyncio.Future[DriveReply]:
        if attempt not in self._replies:
            self._replies[attempt] = asyncio.get_running_loop().create_future()
        return self._replies[attempt]

    def _answer(self, attempt: int, status: DriveStatus) -> None:
        reply = self._reply(attempt)
        if reply.done():
            return
        if self._failure is not None:
            reply.set_exception(self._failure)
            # Whoever asks may not come.
            reply.exception()
            self._report_unasked(attempt, None)
            return
        if status is DriveStatus.AWAY and self._home is not None:
            queue, stream = self._home.queue, self._stream
            away = DriveReply(status=status, queue=queue, at_home=True, stream=stream)
            reply.set_result(away)
            self._report_unasked(attempt, away)
            return
        # The next attempt comes back here only as long as a caller waits for it.
        leaves = self._closed or self._stopped.is_set()
        queue = "" if leaves else self._host.queue
        reply.set_result(DriveReply(status=status, outcome=self._outcome, queue=queue))
        self._report_unasked(attempt, reply.result())

    @property
    def stored_input(self) -> tuple[BlobRef, ...]:
        """See ``CalledRun``."""
        return self._called.stored_input

    def _report_unasked(self, attempt: int, reply: DriveReply | None) -> None:
        """Tell how the first attempt ended if no drive Activity does; ``None``: one is to come."""
        if attempt == 1 and not self._asked:
            self._report(self, reply)


def _going(
    thread: LoopThread, live: LiveRun, home: Home
) -> Callable[[CallerStream], Awaitable[None]]:
    """What lets a home drive a run, from any event loop."""

    async def go(stream: CallerStream) -> None:
        await thread.call(live.go(home, stream))

    return go


async def cancel_if_cancelled(client: Client, run_workflow_id: str, reply: DriveReply) -> bool:
    """Have a run that its caller abandoned shown as Canceled in Temporal, not as Completed.

    Returns:
        Whether the attempt recorded that its run was cancelled.

    Raises:
        RPCError: Its workflow could not be cancelled.
    """
    if not reply.outcome or unpack(Outcome, reply.outcome).status != "cancelled":
        return False
    await client.get_workflow_handle(run_workflow_id).cancel()
    return True


async def forget_input(
    store: Store, refs: Sequence[BlobRef], *, thread_id: str, run_id: str
) -> None:
    """Remove a large input: it is in the thread by the time its run has ended."""
    try:
        await store.blobs.remove(thread_id, refs)
    except RPCError as exc:
        # It goes with the thread.
        about(logger, thread_id=thread_id, run_id=run_id).warning(
            "the input of run %s of thread %r was not removed: %s", run_id, thread_id, exc
        )


async def _granted(slot: Slot) -> None:
    try:
        await asyncio.wrap_future(slot.granted)
    except asyncio.CancelledError:
        if slot.granted.cancelled() and not is_cancelled():
            raise concurrent.futures.CancelledError from None
        raise


class EmbeddedRuns:
    """The live runs of one worker, by run id."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._runs: dict[str, LiveRun] = {}
        # Runs whose end has been reported, and which Temporal may not have closed yet; also of
        # callers elsewhere.
        self.closing: deque[str] = deque(maxlen=MAX_CLOSING)
        # The loop itself holds only weak references to them.
        self._reports: set[asyncio.Task[None]] = set()

    def get(self, run_id: str) -> LiveRun | None:
        """The live run of an id."""
        return self._runs.get(run_id)

    def remove(self, run_id: str) -> None:
        """Forget a run that is over."""
        live = self._runs.pop(run_id, None)
        if live is not None:
            self.closing.append(live.run.run_workflow_id)

    def ids(self) -> list[str]:
        """Ids of the live runs."""
        return list(self._runs)

    @property
    def under_way(self) -> bool:
        """Whether the loop of any of them runs."""
        return any(live.under_way for live in self._runs.values())

    @property
    def unreported(self) -> bool:
        """Whether any of them has ended, and its workflow has not been told yet."""
        return any(live.unreported for live in self._runs.values())

    def stop(self) -> None:
        """Fail what still runs; on the worker's loop."""
        for live in list(self._runs.values()):
            live.stop()

    async def _open(self, called: CalledRun, loop: asyncio.AbstractEventLoop | None) -> LiveRun:
        # Entered before the run is recorded: its first attempt may arrive before the reply does.
        live = LiveRun(self._host, called, loop=loop, remove=self.remove, report=self._report)
        self._runs[live.run.run_id] = live
        return live

    def _report(self, live: LiveRun, reply: DriveReply | None) -> None:
        task = asyncio.ensure_future(self._told(live, reply))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _told(self, live: LiveRun, reply: DriveReply | None) -> None:
        run, store = live.run, self._host.store
        client = store.transport.client
        try:
            if reply is not None and await cancel_if_cancelled(client, run.run_workflow_id, reply):
                # Its Activity comes for the outcome.
                return
            async with asyncio.timeout(REPORT_S):
                taken: bool = await client.get_workflow_handle(run.run_workflow_id).execute_update(
                    names.REPORT_UPDATE,
                    pack(reply) if reply is not None else b"",
                    result_type=bool,
                )
            if not taken or reply is None:
                return
            if reply.status in (DriveStatus.ENDED, DriveStatus.AWAY):
                self.remove(run.run_id)
            if reply.status == DriveStatus.ENDED and live.stored_input:
                ids = {"thread_id": run.thread_id, "run_id": run.run_id}
                await forget_input(store, live.stored_input, **ids)
        except Exception as exc:
            if isinstance(exc, RPCError) and exc.status is RPCStatusCode.NOT_FOUND:
                # It was terminated, and nobody will ask.
                self.remove(run.run_id)
                return
            # No matter, as refused by a release that does not know of reports: a drive Activity
            # comes, a second after the start of the run.
            logger.debug("the end of run %s was not reported: %s", run.run_id, type(exc).__name__)

    async def astream(self, called: CalledRun) -> AsyncGenerator[Any, None]:
        """Record the run and stream it."""
        thread = self._host.loop_thread
        loop = asyncio.get_running_loop()

        async def told(coro: Coroutine[Any, Any, None]) -> None:
            """Have the worker's loop do it, and wait for that as long as this loop is run."""
            done = thread.submit(coro)
            # A generator that is closed by a loop which is torn down may not be run any further.
            if not (torn_down(loop) and isinstance(sys.exception(), GeneratorExit)):
                await asyncio.shield(asyncio.wrap_future(done))

        live = await thread.call(self._open(called, loop))
        shown = ShownInterrupts()
        try:
            await thread.call(live.start())
            while True:
                acquired = await thread.call(live.acquire())
                if isinstance(acquired, bytes):
                    for chunk in called.finish(acquired):
                        yield chunk
                    return
                if isinstance(acquired, Home):
                    followed = called.follow(_going(thread, live, acquired))
                    try:
                        async with aclosing(Owned(followed)) as chunks:
                            async for chunk in chunks:
                                yield chunk
                    except UsageError:
                        # What was called with cannot leave this process.
                        await told(live.abandon())
                        raise
                    return
                attempt = self._attempt(acquired, called, lambda: not torn_down(loop))
                try:
                    # Closed here and now: what it records on closing is the run's outcome.
                    async with aclosing(Owned(attempt.astream())) as chunks:
                        async for chunk in chunks:
                            if live.relays is not None:
                                live.relays.offer(chunk)
                            for item in shown.filter(acquired.attempt, chunk):
                                yield item
                    return
                except Exception:
                    if acquired.error is None:
                        raise
                    # Superseded, or the server was away for long: the run goes on somewhere.
                finally:
                    await told(live.ended(attempt, dying=torn_down(loop)))
        except (asyncio.CancelledError, GeneratorExit):
            # The death of a caller does not stop its run.
            if not torn_down(loop):
                await told(live.abandon())
            raise
        finally:
            await told(live.close())

    def _attempt(self, session: Session, called: CalledRun, asked: Callable[[], bool]) -> Attempt:
        return Attempt(session, self._host.store, called.graph, called.call, asked=asked)

    def stream(self, called: CalledRun) -> Generator[Any, None, None]:
        """Record the run of a sync call and stream it, in the calling thread."""
        thread = self._host.loop_thread
        live = thread.submit(self._open(called, None)).result()
        shown = ShownInterrupts()
        try:
            thread.submit(live.start()).result()
            while True:
                acquired = thread.submit(live.acquire()).result()
                if isinstance(acquired, bytes):
                    yield from called.finish(acquired)
                    return
                if isinstance(acquired, Home):
                    try:
                        with closing(called.follow_sync(_going(thread, live, acquired))) as chunks:
                            yield from chunks
                    except UsageError:
                        thread.submit(live.abandon()).result()
                        raise
                    return
                attempt = self._attempt(acquired, called, lambda: True)
                try:
                    with closing(attempt.stream()) as own:
                        for chunk in own:
                            if live.relays is not None:
                                live.relays.offer(chunk)
                            yield from shown.filter(acquired.attempt, chunk)
                    return
                except Exception:
                    if acquired.error is None:
                        raise
                finally:
                    thread.submit(live.ended(attempt)).result()
        except (KeyboardInterrupt, GeneratorExit):
            thread.submit(live.abandon()).result()
            raise
        finally:
            thread.submit(live.close()).result()
