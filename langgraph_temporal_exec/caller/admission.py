"""Caller side: what a root call of a graph with our saver does instead of running in place."""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from .._exits import Owned, torn_down
from .._loops import LoopThread
from ..errors import ServerUnavailableError
from ..logs import about
from ..protocol.delta import digest
from ..seam import hooks
from ..storage.known import KnownChunks
from ..storage.store import Store
from ..values.record import Call
from .admitted import AdmittedRun, Go
from .handlers import Event, Handlers
from .hub import Mailbox
from .join import join_stream, joined, other_run
from .remote import cancel_run, stream_remote

logger = logging.getLogger(__name__)


class WorkerHere(Protocol):
    """The worker of this process."""

    queue: str
    home_queue: str
    loop_thread: LoopThread

    def check(self) -> None:
        """Raise when the worker has stopped."""
        ...

    def serve(self, name: str, graph: Any) -> None:
        """A graph was called here: serve it to others as well."""
        ...

    def astream(self, run: AdmittedRun) -> AsyncGenerator[Any, None]:
        """Run in this process."""
        ...

    def stream(self, run: AdmittedRun) -> Generator[Any, None, None]:
        """Run in this process, sync."""
        ...


MAX_HOMES = 10_000
"""Threads of which a caller remembers where they are driven."""


@dataclass
class _Shared:
    """What the copies of one caller have in common (LangGraph copies savers).

    Args:
        host: The worker of this process, while it has one.
        known: What remote calls have got.
        homes: Task queues of the homes of threads, as the last calls were told; the longest unused
            first. May be out of date, which costs a call time, no more.
        lock: Guards ``homes``.
    """

    host: WorkerHere | None = None
    known: KnownChunks = field(default_factory=KnownChunks)
    homes: OrderedDict[str, str] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def home(self, thread_id: str) -> str:
        """Task queue of a thread's home; "": it is not known."""
        with self.lock:
            if thread_id in self.homes:
                self.homes.move_to_end(thread_id)
            return self.homes.get(thread_id, "")

    def learn(self, thread_id: str, queue: str) -> None:
        """Remember a thread's home; with "" forget it."""
        with self.lock:
            self.homes.pop(thread_id, None)
            if queue:
                self.homes[thread_id] = queue
            while len(self.homes) > MAX_HOMES:
                self.homes.popitem(last=False)


class Caller:
    """Implements ``hooks.Durable`` for the user's saver.

    Args:
        store: Threads, and the serializer of the saver.
        mailbox: Where streams of remote runs arrive.

    Attributes:
        session: ``None``: the user's saver is bound to no attempt.
        _shared: What the copies of a caller have in common.
    """

    session: hooks.Session | None = None

    def __init__(self, store: Store, mailbox: Mailbox) -> None:
        self.store = store
        self.mailbox = mailbox
        self._shared = _Shared()

    def with_serde(self, serde: SerializerProtocol) -> Self:
        """A copy for a copy of the saver with another serializer."""
        twin = copy.copy(self)
        twin.store = self.store.with_serde(serde)
        return twin

    @property
    def host(self) -> WorkerHere | None:
        """The worker of this process."""
        return self._shared.host

    @host.setter
    def host(self, host: WorkerHere | None) -> None:
        self._shared.host = host

    # -- calls that wait for their result -----------------------------------------------------

    async def astream(
        self,
        graph: Any,
        input: Any,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        result_only: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Run a root call durably; ``result_only``: of the stream, its end is enough."""
        call = Call(input=input, config=config, options=kwargs, result_only=result_only)
        run = AdmittedRun(self.store, graph, call)
        host = self.host
        if run_id := await other_run(self.store, input, run.full):
            for chunk in await self._joined(run, run_id):
                yield chunk
            return
        home = await self._home_of(run)
        if host is None or home:
            chunks = self._elsewhere(run, home=home)
        else:
            chunks = host.astream(self._embedded(run, host))
        async with aclosing(Owned(chunks)) as owned:
            async for chunk in owned:
                yield chunk

    def stream(
        self,
        graph: Any,
        input: Any,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        result_only: bool = False,
    ) -> Generator[Any, None, None]:
        """Run a sync root call durably."""
        call = Call(input=input, config=config, options=kwargs, sync=True, result_only=result_only)
        run = AdmittedRun(self.store, graph, call)
        host = self.host
        waiting = self.mailbox.loop_thread if host is None else host.loop_thread
        if run_id := waiting.submit(other_run(self.store, input, run.full)).result():
            yield from waiting.submit(self._joined(run, run_id)).result()
            return
        home = waiting.submit(self._home_of(run)).result()
        if host is not None and not home:
            yield from host.stream(self._embedded(run, host))
        else:
            yield from self._elsewhere_sync(run, home=home)

    async def _home_of(self, run: AdmittedRun) -> str:
        """Task queue of the thread's home, if that is known, there, and not this process."""
        shared, thread_id = self._shared, run.identity.thread_id
        queue = shared.home(thread_id) if run.identity.affinity else ""
        if not queue or (shared.host is not None and queue == shared.host.home_queue):
            return ""
        if await self.store.transport.has_left(queue):
            # Whoever takes the run finds out where it belongs now.
            shared.learn(thread_id, "")
            return ""
        return queue

    def _embedded(self, run: AdmittedRun, host: WorkerHere) -> AdmittedRun:
        """A run that is driven in this process, ready to be recorded."""
        host.check()
        host.serve(run.identity.graph, run.graph)
        run.encode(caller_queue=host.queue)
        run.follows = self
        return run

    def follow(self, run: AdmittedRun, go: Go) -> AsyncGenerator[Any, None]:
        """See ``AdmittedRun.follow``."""
        return self._elsewhere(run, go=go)

    def follow_sync(self, run: AdmittedRun, go: Go) -> Generator[Any, None, None]:
        """Sync ``follow``."""
        return self._elsewhere_sync(run, go=go)

    async def _elsewhere(
        self,
        run: AdmittedRun,
        leaves: Callable[[], bool] = lambda: False,
        *,
        home: str = "",
        go: Go | None = None,
    ) -> AsyncGenerator[Any, None]:
        """On whichever worker takes it, with a stream to this process's mailbox.

        Args:
            run: The run.
            leaves: See ``stream_remote``.
            home: Task queue of the thread's home; "": it is not known.
            go: Of a run that is recorded already; see ``AdmittedRun.follow``.
        """
        handlers = Handlers(run.full)
        ended: BaseException | None = None
        try:
            address = await self.mailbox.address()
            remote = self._remote(run, address, handlers, leaves, home=home, go=go)
            async with aclosing(Owned(remote)) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, Event):
                        await handlers.atell(self.store.serde, chunk)
                    else:
                        yield chunk
        except BaseException as exc:
            ended = exc
            raise
        finally:
            await handlers.aclose(ended)

    def _elsewhere_sync(
        self, run: AdmittedRun, *, home: str = "", go: Go | None = None
    ) -> Generator[Any, None, None]:
        thread = self.mailbox.loop_thread
        handlers = Handlers(run.full)
        ended: BaseException | None = None
        chunks: AsyncGenerator[Any, None] | None = None
        try:
            address = thread.submit(self.mailbox.address()).result()
            chunks = self._remote(run, address, handlers, home=home, go=go)
            while True:
                try:
                    chunk = thread.submit(_step(chunks)).result()
                except StopAsyncIteration:
                    return
                if isinstance(chunk, Event):
                    handlers.tell(self.store.serde, chunk)
                else:
                    yield chunk
        except BaseException as exc:
            ended = exc
            raise
        finally:
            if chunks is not None:
                thread.submit(chunks.aclose()).result()
            handlers.close(ended)

    def _remote(
        self,
        run: AdmittedRun,
        mailbox: str,
        handlers: Handlers,
        leaves: Callable[[], bool] = lambda: False,
        *,
        home: str,
        go: Go | None,
    ) -> AsyncGenerator[Any, None]:
        chunks, thread_id = self._shared.known, run.identity.thread_id
        known = chunks.get(thread_id)
        remote = run.streaming_to(
            mailbox,
            callbacks=handlers.description,
            message_events=hooks.wants_message_events(run.full),
            known=digest(known) if known else b"",
        )
        if go is None:
            remote.encode(home_queue=home)
        return stream_remote(
            remote,
            leaves=leaves,
            known=known,
            keep=partial(chunks.keep, thread_id),
            lives=partial(self._shared.learn, thread_id),
            begin=None if go is None else partial(go, remote.call.caller_stream(self.store.serde)),
        )

    async def _joined(self, run: AdmittedRun, run_id: str) -> list[Any]:
        """Somebody else runs the thread: wait for that run instead of starting one."""
        if self.host is not None:
            # It may be waiting for somebody who serves its graph.
            self.host.serve(run.identity.graph, run.graph)
        return await joined(
            self.store.transport,
            run.graph,
            run.call.options,
            run_id=run_id,
            thread_id=run.identity.thread_id,
        )

    # -- others -------------------------------------------------------------------------------

    async def astream_as(
        self,
        run_id: str,
        graph: Any,
        input: Any,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        leaves: Callable[[], bool],
    ) -> AsyncGenerator[Any, None]:
        """Run a call durably under an id its caller has given; join the run that has it already.

        Whoever calls again after a crash, with the same id, gets what the first call began.
        Closing the stream cancels the run, unless ``leaves()`` says that its caller only goes
        away.
        """
        call = Call(input=input, config=config, options=kwargs)
        run = AdmittedRun(self.store, graph, call, run_id)
        if self.host is not None:
            self.host.serve(run.identity.graph, graph)
        try:
            async with aclosing(Owned(self._elsewhere(run, leaves))) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        except WorkflowAlreadyStartedError:
            pass
        try:
            joined = join_stream(
                self.store.transport,
                self.store.serde,
                run_id=run_id,
                thread_id=run.identity.thread_id,
                mailbox=await self.mailbox.address(),
            )
            async with aclosing(Owned(joined)) as chunks:
                async for chunk in chunks:
                    yield chunk
            for chunk in run.finish(await run.outcome()):
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            if not leaves() and not torn_down():
                recorded = asyncio.ensure_future(asyncio.sleep(0))
                outcome = asyncio.ensure_future(run.outcome())
                await cancel_run(self.store.transport, run_id, recorded, outcome)
                outcome.cancel()
            raise

    async def start(
        self, graph: Any, input: Any, config: RunnableConfig, options: dict[str, Any]
    ) -> tuple[str, str]:
        """Record a run that nobody waits for, and any worker may drive; its id and its thread's."""
        call = Call(input=input, config=config, options=options)
        run = AdmittedRun(self.store, graph, call)
        thread_id, run_id = run.identity.thread_id, run.identity.run_id
        if self.host is not None:
            self.host.serve(run.identity.graph, graph)
        run.encode(home_queue=await self._home_of(run))
        await run.record()
        try:
            # Otherwise the thread would learn of it from whichever worker takes it, if any does.
            await self.store.transport.announce(thread_id, run.identity.graph, run_id)
        except (RPCError, ServerUnavailableError) as exc:
            log = about(logger, thread_id=thread_id, run_id=run_id)
            log.warning(
                "run %s is recorded, but thread %r does not list it yet: %s", run_id, thread_id, exc
            )
        return run_id, thread_id


async def _step(chunks: AsyncGenerator[Any, None]) -> Any:
    return await anext(chunks)
