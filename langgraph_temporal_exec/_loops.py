"""Shared: an event loop on a thread of its own, started on demand and stopped in order."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

from . import _native
from .errors import UsageError

T = TypeVar("T")

logger = logging.getLogger(__name__)

SETTLE_S = 0.05

LOOK_S = 0.5
"""Between two looks at a loop that may have been stopped."""


async def settle() -> None:
    """Give temporalio's native threads time to let go of Python objects.

    An interpreter that exits in the very moment a worker or a server was shut down aborts with
    "PyGILState_Release" in about one of five cases (measured with temporalio 1.35).
    """
    await asyncio.sleep(SETTLE_S)


class LoopThread:
    """A daemon thread that runs one event loop.

    Temporal's pollers and heartbeats live on such a thread, so that a node which blocks the
    user's loop does not make its worker look dead.

    Args:
        name: Name of the thread, seen in debuggers and dumps.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        _native.keep_out(self.loop)
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._stopping:
                try:
                    self.loop.run_forever()
                    break
                except (SystemExit, KeyboardInterrupt) as exc:
                    # asyncio lets these out of any callback. The task that raised one has it; the
                    # others of this loop belong to other runs.
                    logger.error("%r was raised on %s; its loop goes on", exc, self._thread.name)
        finally:
            self.loop.close()

    def submit(self, coro: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the loop, from any thread."""
        return asyncio.run_coroutine_threadsafe(coro, self.loop)

    def wait(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it, from any other thread.

        Raises:
            UsageError: This is the thread that would have to run it meanwhile.
        """
        if self.is_current:
            coro.close()
            raise UsageError("The sync API cannot be called on the loop that has to serve it.")
        return self.submit(coro).result()

    async def call(self, coro: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine that runs on the loop, from another loop or this one."""
        if asyncio.get_running_loop() is self.loop:
            return await coro
        return await asyncio.wrap_future(self.submit(coro))

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is this one."""
        return threading.current_thread() is self._thread

    def tell(self, call: Callable[..., object], *args: Any) -> None:
        """Have the loop call something soon, from any thread, also from a finalizer; nothing
        happens when the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(call, *args)

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, at most so many seconds."""
        if not self.is_current:
            self._thread.join(timeout)

    def stop(self) -> None:
        """Cancel what still runs, stop the loop and join the thread; idempotent."""
        if not self._thread.is_alive() or self.is_current:
            return
        # A task that refuses to be cancelled must not keep the interpreter from exiting.
        with contextlib.suppress(concurrent.futures.TimeoutError):
            self.submit(self._drain()).result(timeout=10)
        self._stopping = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=10)

    async def leave(self) -> None:
        """``stop`` by a task of the loop itself: its last act."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self._drain()
        self.loop.stop()

    async def _drain(self) -> None:
        me = asyncio.current_task()
        tasks = [t for t in asyncio.all_tasks() if t is not me]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()


async def stands_still(loop: asyncio.AbstractEventLoop, patience_s: float) -> None:
    """Return when a loop of another thread is closed, or has not been run for so long.

    A loop that somebody blocks is running; one that was stopped, or whose program has left it, not.
    """
    clock = asyncio.get_running_loop()
    still_since: float | None = None
    while not loop.is_closed():
        if loop.is_running():
            still_since = None
        elif still_since is None:
            still_since = clock.time()
        elif clock.time() - still_since >= patience_s:
            return
        await asyncio.sleep(min(LOOK_S, patience_s / 4))


class TaskElsewhere(Generic[T]):
    """A task on the loop of another thread, which can be cancelled and still be waited for.

    Args:
        loop: Where it runs.
        coro: What it runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T]) -> None:
        self.done: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._loop = loop
        self._coro = coro
        self._task: asyncio.Task[None] | None = None
        loop.call_soon_threadsafe(self._start)

    def cancel(self) -> None:
        """Cancel it; ``done`` follows when it has ended."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._never_ran)

    def _never_ran(self, _: asyncio.Task[None]) -> None:
        # Cancelled before its first step.
        if not self.done.done():
            self._coro.close()
            self.done.set_exception(asyncio.CancelledError())

    def _cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _run(self) -> None:
        try:
            self.done.set_result(await self._coro)
        except (Exception, asyncio.CancelledError) as exc:
            self.done.set_exception(exc)
        except BaseException:
            # Ends this loop, and must not end the loop of whoever waits.
            self.done.set_exception(asyncio.CancelledError())
            raise


class Context(Generic[T]):
    """A context for ``async with``, and for ``with`` in code that has no event loop.

    Entered with ``with``, it is kept on a loop on a thread of its own.

    Args:
        make: Makes the async context; called when this one is entered.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make
        self._context: AbstractAsyncContextManager[T] | None = None
        self._thread: LoopThread | None = None

    async def __aenter__(self) -> T:
        self._context = self._make()
        return await self._context.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._context is not None
        await self._context.__aexit__(kind, exc, traceback)

    def __enter__(self) -> T:
        self._thread = LoopThread("langgraph-temporal-context")
        try:
            return self._thread.submit(self.__aenter__()).result()
        except BaseException:
            self._thread.stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._thread is not None
        # What the block raises is not raised again on the other thread.
        try:
            self._thread.submit(self.__aexit__(None, None, None)).result()
        finally:
            self._thread.stop()
