"""Shared: exceptions that end programs, raised by code of a graph, and event loops torn down.

``SystemExit`` and ``KeyboardInterrupt`` leave any task of asyncio through its event loop, and take
every other run of the process along. ``GeneratorExit`` and ``CancelledError`` are taken for
somebody who has stopped the run. So what code of a graph raises is made an ordinary error before
it leaves the asyncio task or thread it was raised in: ``contained`` around the node, and around
every asyncio task that a node starts (a ``gather`` of tools, for example).

What comes from outside is not contained: a Ctrl-C, a coroutine that is closed, a cancelled task.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dis
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextvars import ContextVar
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar

from .errors import NodeExitError

_where: ContextVar[str] = ContextVar("langgraph_temporal_where", default="")
"""What is being executed here, for errors; "" outside of nodes."""

T = TypeVar("T")

_RAISE = dis.opmap["RAISE_VARARGS"]


def is_exit(exc: BaseException) -> bool:
    """Whether an exception would end more than the run whose code raised it."""
    if isinstance(exc, (Exception, asyncio.CancelledError)):
        return False
    if isinstance(exc, KeyboardInterrupt):
        # Signals reach the main thread alone.
        return _was_raised(exc) or threading.current_thread() is not threading.main_thread()
    return not isinstance(exc, GeneratorExit) or _was_raised(exc)


def _was_raised(exc: BaseException) -> bool:
    """Whether a ``raise`` raised it; a signal or ``close()`` throws it into running code."""
    traceback = exc.__traceback__
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_code.co_code[traceback.tb_lasti] == _RAISE


def as_error(exc: BaseException, where: str) -> NodeExitError:
    """The ordinary error that stands for it."""
    text = str(exc)
    told = f"{type(exc).__name__}({text})" if text else type(exc).__name__
    error = NodeExitError(
        f"{where} raised {told}, which ends programs. Here it ends this run: the thread can be "
        "used again, and the process and its other runs go on. Catch it where it is raised, and "
        "raise an Exception instead."
    )
    error.__cause__ = exc
    return error


@contextlib.contextmanager
def contained(where: str, *, sync: bool = False) -> Iterator[None]:
    """Code of a graph runs here: what would end the process leaves as ``NodeExitError``.

    Args:
        where: Begins the error's text, such as "Node 'pay' of thread '42'".
        sync: It is a plain call, which nobody can close from outside: any GeneratorExit is its own.
    """
    token = _where.set(where)
    try:
        yield
    except BaseException as exc:
        if not (is_exit(exc) or (sync and isinstance(exc, GeneratorExit))):
            raise
        raise as_error(exc, where) from exc
    finally:
        # Elsewhere than where it was set: a coroutine that is closed when it is collected.
        with contextlib.suppress(ValueError):
            _where.reset(token)


def own_cancellation(exc: asyncio.CancelledError, where: str) -> NodeExitError:
    """The error for a ``CancelledError`` that code of a graph raised (see ``is_cancelled``)."""
    error = NodeExitError(
        f"{where} raised CancelledError although nobody cancelled it, for example by waiting for "
        "a task or a future that something else has cancelled. The run ends with this error."
    )
    error.__cause__ = exc
    return error


def is_cancelled() -> bool:
    """Whether somebody cancels the asyncio task that is running; ``False`` outside of one."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine from which nothing escapes that would end the event loop of its task.

    No wrapping ``async def``: one that is cancelled before it begins would leave the coroutine
    inside it never awaited.
    """

    def __init__(self, coro: Coroutine[Any, Any, Any], where: str) -> None:
        self._coro = coro
        self._where = where

    def send(self, value: Any) -> Any:
        try:
            return self._coro.send(value)
        except StopIteration:
            raise
        except BaseException as exc:
            if not is_exit(exc):
                raise
            raise as_error(exc, self._where) from exc

    def throw(
        self,
        typ: Any,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        given: Any = typ if val is None else val
        if isinstance(given, GeneratorExit):
            # A future ended with it: who closes a coroutine calls close(). Thrown in, it would
            # close whatever is awaited in there, and be taken for somebody who has stopped the run.
            given = as_error(given, self._where)
        try:
            return self._coro.throw(given)
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as exc:
            # What a future ended with is thrown in, too.
            if exc is not given and not is_exit(exc):
                raise
            raise as_error(exc, self._where) from exc

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()

    def __getattr__(self, name: str) -> Any:
        # What debuggers and asyncio's own dumps look at.
        return getattr(self._coro, name)


def guard(loop: asyncio.AbstractEventLoop) -> None:
    """Have what nodes start on a loop contain what it raises: tasks, calls in threads; idempotent.

    What others start is not touched.
    """
    previous: Any = loop.get_task_factory()
    if getattr(previous, "contains_exits", False):
        return

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        where = _where.get()
        if where and asyncio.iscoroutine(coro):
            coro = _Contained(coro, where)
        if previous is None:
            return asyncio.Task(coro, loop=loop, **options)
        return previous(loop, coro, **options)

    factory.contains_exits = True  # type: ignore[attr-defined]
    loop.set_task_factory(factory)
    in_thread = loop.run_in_executor

    def run_in_executor(executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        where = _where.get()
        if where:
            return in_thread(executor, _in_thread, where, func, *args)
        return in_thread(executor, func, *args)

    loop.run_in_executor = run_in_executor  # type: ignore[assignment]


def _in_thread(where: str, func: Callable[..., Any], *args: Any) -> Any:
    with contained(where, sync=True):
        try:
            return func(*args)
        except StopIteration as exc:
            # No future takes it, so that whoever waits would wait for ever.
            raise RuntimeError(f"{where} raised StopIteration in a thread") from exc


_CLOSES: frozenset[CodeType] = frozenset({asyncio.Runner.close.__code__})


def torn_down(loop: asyncio.AbstractEventLoop | None = None) -> bool:
    """Whether this code is run by an event loop whose program is over.

    ``asyncio.run`` and its kin cancel what is left when the main task has ended, by returning or
    by an exception such as ``SystemExit``: that is the end of a process, not somebody who cancels.

    Args:
        loop: Where this code belongs. What a loop has left behind when it ended is finished by
            the garbage collector, outside of it: nothing can be awaited then.
    """
    if loop is not None and not _runs_here(loop):
        return True
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _CLOSES or frame.f_code.co_name == "_cancel_all_tasks":
            return True
        frame = frame.f_back
    return False


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class Owned(AsyncGenerator[T, None]):
    """An async generator that is closed by the generator which iterates it, and by nobody else.

    A loop that is torn down closes all the generators it knows at once. Of those inside each other
    the outer ones then fail to close the inner ones ("asynchronous generator is already running"),
    and leave off halfway: a run would be neither cancelled nor given up. So a loop is to know the
    outermost alone, which is the one its consumer has.

    Args:
        chunks: Not begun yet. Whoever makes this closes it, however the iteration ends.
    """

    def __init__(self, chunks: AsyncGenerator[T, None]) -> None:
        self._chunks = chunks
        self._begun = False
        self._closing = False

    def __anext__(self) -> Coroutine[Any, Any, T]:
        return self.asend(None)

    def asend(self, value: None) -> Coroutine[Any, Any, T]:
        if self._begun:
            return self._chunks.asend(value)
        self._begun = True
        hooks = sys.get_asyncgen_hooks()
        # A generator takes the hooks it begins with. Without any, the garbage collector would throw
        # GeneratorExit into it, outside of every loop.
        sys.set_asyncgen_hooks(firstiter=None, finalizer=_left_to_its_owner)
        try:
            return self._chunks.asend(value)
        finally:
            sys.set_asyncgen_hooks(*hooks)

    def athrow(
        self,
        typ: Any,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Coroutine[Any, Any, T]:
        given: Any = typ if val is None else val
        return self._chunks.athrow(given)

    async def aclose(self) -> None:
        if self._closing:
            # It is closed, or its closing was cut off, which nothing can take up again.
            return
        self._closing = True
        await self._chunks.aclose()


def _left_to_its_owner(chunks: Any) -> None:
    """Its owner was not closed either: the loop of both has ended."""


def left_anywhere(chunks: Generator[T, None, None]) -> Generator[T, None, None]:
    """A generator whose closing waits for other threads, safe to be left to the garbage collector.

    A consumer that raises may leave its stream in a reference cycle, by keeping the exception. The
    collector closes all generators in there, on whichever thread it happens to run: that which is
    to be waited for, too, and every run of the worker would stand still. And what a program that
    ends still refers to is closed when no other thread runs any more. So the collector is not to
    see ``chunks``, which has one reference more than it can find.

    Args:
        chunks: Not begun yet, and not closed by anybody else.
    """
    is_finalizing, consumer = sys.is_finalizing, 0
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(chunks))
    try:
        for chunk in chunks:
            consumer = threading.get_ident()
            yield chunk
            consumer = 0
    finally:
        # In an interpreter that exits the process takes it along; its run goes on elsewhere.
        if not is_finalizing():
            if consumer in (0, threading.get_ident()):
                _close_hidden(chunks)
            else:
                closing = threading.Thread(
                    target=_close_hidden, args=(chunks,), name="langgraph-temporal-left"
                )
                closing.start()


def _close_hidden(chunks: Generator[Any, None, None]) -> None:
    try:
        chunks.close()
    finally:
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(chunks))
