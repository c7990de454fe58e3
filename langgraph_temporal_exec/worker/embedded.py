"""Worker side: runs whose caller lives in the same process.

The caller's own ``astream`` generator iterates LangGraph's loop, so context variables, callbacks,
loop-bound clients and back-pressure are exactly those of plain LangGraph. The drive Activity is
only a heartbeating shell around it, and attaching does not wait for that shell: attempt 1 can
only ever belong to this process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, closing
from typing import Any

from temporalio.service import RPCError

from ..errors import (
    AttemptSupersededError,
    RunCancelledError,
    ThreadFullError,
    WorkerStoppedError,
)
from ..protocol.messages import AttachStatus, DriveReply, DriveStatus
from ..record import Call
from .attempt import Attempt, attach, thread_full
from .ports import Host, SaverPort
from .session import RunIdentity, Session

AwaitOutcome = Callable[[], Awaitable[bytes]]


class LiveRun:
    """One run of this process. Its state is touched on the worker's loop only.

    Args:
        run: The run, already recorded in Temporal.
        await_outcome: Waits for the run workflow's result, wherever the run is driven.
        let_go_of: Called with the run id when this process does not care for the run any more.
    """

    def __init__(
        self,
        host: Host,
        saver: SaverPort,
        run: RunIdentity,
        await_outcome: AwaitOutcome,
        let_go_of: Callable[[str], None],
    ) -> None:
        self.run = run
        self._let_go_of = let_go_of
        self._host = host
        self._saver = saver
        self._await_outcome = await_outcome
        self._attempts: asyncio.Queue[int] = asyncio.Queue()
        self._attempts.put_nowait(1)
        self._seen = 1
        self._replies: dict[int, asyncio.Future[DriveReply]] = {}
        self._elsewhere: asyncio.Task[bytes] | None = None
        self._session: Session | None = None
        self._stopped: BaseException | None = None
        self._outcome_known = False

    # -- the caller's side --------------------------------------------------------------------

    async def acquire(self) -> Session | bytes:
        """The next attempt of the run in this process, or the outcome it got elsewhere."""
        while True:
            attempt = await self._next_attempt()
            if isinstance(attempt, bytes):
                return attempt
            try:
                result = await attach(self._host, self._saver, self.run, attempt)
            except Exception as exc:
                self._let_go(attempt, exc)
                raise
            if isinstance(result, Session):
                self._session = result
                return result
            if result.status == AttachStatus.ENDED:
                self._settle(attempt, DriveStatus.ENDED, result.outcome)
                return result.outcome
            status = (
                DriveStatus.QUEUED if result.status == AttachStatus.QUEUED else DriveStatus.MOVED
            )
            self._settle(attempt, status)

    async def _next_attempt(self) -> int | bytes:
        if self._stopped is not None:
            raise self._stopped
        if not self._attempts.empty():
            return self._attempts.get_nowait()
        if self._elsewhere is None:
            self._elsewhere = asyncio.ensure_future(self._outcome())
        here = asyncio.ensure_future(self._attempts.get())
        await asyncio.wait([here, self._elsewhere], return_when=asyncio.FIRST_COMPLETED)
        if here.done():
            return here.result()
        here.cancel()
        return self._elsewhere.result()

    async def _outcome(self) -> bytes:
        return await self._await_outcome()

    def _let_go(self, attempt: int, exc: Exception) -> None:
        """The caller gets an error instead of a run: the run ends with it, or goes on without."""
        if isinstance(exc, ThreadFullError):
            reply = self._reply(attempt)
            if not reply.done():
                reply.set_exception(thread_full(exc))
        else:
            # Recorded is recorded: another attempt is made from the record.
            self._settle(attempt, DriveStatus.MOVED)
        self._let_go_of(self.run.run_id)

    async def ended(self, attempt: Attempt) -> None:
        """The caller's loop is over: tell the drive Activity."""
        status = DriveStatus.ENDED if attempt.outcome else DriveStatus.MOVED
        self._settle(attempt.session.attempt, status, attempt.outcome)

    async def abandon(self) -> None:
        """The caller went away on purpose: what is not recorded as ended is cancelled."""
        if self._outcome_known:
            return
        for attempt in self._replies:
            self._settle(attempt, DriveStatus.MOVED)
        handle = self._host.transport.client.get_workflow_handle(self.run.run_workflow_id)
        # Already closed, or no server: then there is nothing left to cancel from here.
        with contextlib.suppress(RPCError):
            await handle.cancel()

    # -- the drive Activity's side ------------------------------------------------------------

    async def drive(self, attempt: int) -> DriveReply:
        """Stay until the caller's loop is over."""
        if attempt > self._seen:
            self._seen = attempt
            self._attempts.put_nowait(attempt)
        return await asyncio.shield(self._reply(attempt))

    def cancel(self) -> None:
        """Somebody cancelled the run from outside."""
        if self._session is not None:
            self._session.reject(RunCancelledError(f"Run {self.run.run_id} was cancelled."))

    def lose(self, reason: str) -> None:
        """Temporal gave the current attempt up; the caller waits for the next one."""
        if self._session is not None:
            self._session.fail(AttemptSupersededError(reason))

    def stop(self) -> None:
        """The worker of this process stops."""
        self._stopped = WorkerStoppedError(
            f"The worker of this process stopped while run {self.run.run_id} (thread "
            f"{self.run.thread_id!r}) was running. The run is recorded and goes on as soon as "
            "another worker serves the graph; read it with get_state."
        )
        if self._session is not None:
            self._session.fail(self._stopped)
        if self._elsewhere is not None:
            self._elsewhere.cancel()

    def _reply(self, attempt: int) -> asyncio.Future[DriveReply]:
        if attempt not in self._replies:
            self._replies[attempt] = asyncio.get_running_loop().create_future()
        return self._replies[attempt]

    def _settle(self, attempt: int, status: DriveStatus, outcome: bytes = b"") -> None:
        self._outcome_known = self._outcome_known or bool(outcome)
        reply = self._reply(attempt)
        if not reply.done():
            reply.set_result(DriveReply(status=status, outcome=outcome, queue=self._host.queue))


class EmbeddedRuns:
    """The live runs of one worker, by run id; entries are removed by the drive Activity."""

    def __init__(self, host: Host, saver: SaverPort) -> None:
        self._host = host
        self._saver = saver
        self._runs: dict[str, LiveRun] = {}

    def get(self, run_id: str) -> LiveRun | None:
        """The live run of an id."""
        return self._runs.get(run_id)

    def remove(self, run_id: str) -> None:
        """Forget a run that is over."""
        self._runs.pop(run_id, None)

    def __len__(self) -> int:
        return len(self._runs)

    def stop(self) -> None:
        """Fail what still runs; on the worker's loop."""
        for live in list(self._runs.values()):
            live.stop()

    def _open(self, run: RunIdentity, await_outcome: AwaitOutcome) -> LiveRun:
        live = LiveRun(self._host, self._saver, run, await_outcome, self.remove)
        self._runs[run.run_id] = live
        return live

    async def astream(
        self,
        run: RunIdentity,
        graph: Any,
        call: Call,
        start: Callable[[], Awaitable[None]],
        await_outcome: AwaitOutcome,
        finish: Callable[[bytes], list[Any]],
    ) -> AsyncGenerator[Any, None]:
        """Start the run and stream it; ``finish`` turns an outcome from elsewhere into chunks."""
        thread = self._host.thread
        live = await thread.call(self._begin(run, start, await_outcome))
        try:
            while True:
                acquired = await thread.call(live.acquire())
                if isinstance(acquired, bytes):
                    self.remove(run.run_id)
                    for chunk in finish(acquired):
                        yield chunk
                    return
                attempt = Attempt(acquired, self._saver, graph, call, for_others=False)
                try:
                    # Closed here and now: what it records on closing is the run's outcome.
                    async with aclosing(attempt.astream()) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    return
                except Exception:
                    if acquired.error is None:
                        raise
                    # Superseded, or the server was away for long: the run goes on somewhere.
                finally:
                    await thread.call(live.ended(attempt))
        except (asyncio.CancelledError, GeneratorExit):
            await thread.call(live.abandon())
            raise

    def stream(
        self,
        run: RunIdentity,
        graph: Any,
        call: Call,
        start: Callable[[], Awaitable[None]],
        await_outcome: AwaitOutcome,
        finish: Callable[[bytes], list[Any]],
    ) -> Generator[Any, None, None]:
        """The same for a sync call, in the calling thread."""
        thread = self._host.thread
        live = thread.submit(self._begin(run, start, await_outcome)).result()
        try:
            while True:
                acquired = thread.submit(live.acquire()).result()
                if isinstance(acquired, bytes):
                    self.remove(run.run_id)
                    yield from finish(acquired)
                    return
                attempt = Attempt(acquired, self._saver, graph, call, for_others=False)
                try:
                    with closing(attempt.stream()) as chunks:
                        yield from chunks
                    return
                except Exception:
                    if acquired.error is None:
                        raise
                finally:
                    thread.submit(live.ended(attempt)).result()
        except (KeyboardInterrupt, GeneratorExit):
            thread.submit(live.abandon()).result()
            raise

    async def _begin(
        self, run: RunIdentity, start: Callable[[], Awaitable[None]], await_outcome: AwaitOutcome
    ) -> LiveRun:
        # Registered before the start: its first attempt may arrive before the reply does.
        live = self._open(run, await_outcome)
        try:
            await start()
        except BaseException:
            self.remove(run.run_id)
            raise
        return live
