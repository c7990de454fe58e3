"""Caller side: what a root call of a graph with our saver does instead of running in place."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from .._exits import Owned, torn_down
from .._loops import LoopThread
from ..errors import MissingThreadIdError, UsageError
from ..logs import about
from ..options import Options, check_give_up, check_lost_attempts, check_strategy
from ..protocol import names
from ..protocol.blob import plan
from ..protocol.delta import digest
from ..protocol.messages import RunStart
from ..protocol.wire import pack
from ..seam import hooks
from ..storage.blobs import BlobStore
from ..storage.known import KnownChunks
from ..storage.thread_client import Transport, check_thread_id
from ..values.ops import MAX_OP_BYTES
from ..values.record import Call, encode
from .handlers import Event, Handlers
from .join import Reads, join_stream, joined, other_run
from .mailbox import Mailbox
from .outcome import await_outcome, finish
from .remote import cancel_run, stream_remote

logger = logging.getLogger(__name__)

STRATEGY_KEY = "multitask_strategy"
ATTEMPTS_KEY = "max_lost_attempts"
GIVE_UP_KEY = "give_up_after"
"""Keys of ``configurable`` with which one call overrides the saver's options."""


class EmbeddedPort(Protocol):
    """The worker of this process, if it has one."""

    queue: str
    thread: LoopThread

    def run_identity(
        self,
        *,
        run_id: str,
        thread_id: str,
        thread_workflow_id: str,
        run_workflow_id: str,
        graph: str,
        strategy: str,
    ) -> Any:
        """The run as the worker side names it."""
        ...

    def check(self) -> None:
        """Raise when the worker has stopped."""
        ...

    def serve(self, name: str, graph: Any) -> None:
        """A graph was called here: serve it to others as well."""
        ...

    def astream(
        self,
        run: Any,
        graph: Any,
        call: Call,
        start: Callable[[], Awaitable[None]],
        await_outcome: Callable[[], Awaitable[bytes]],
        finish: Callable[[bytes], list[Any]],
    ) -> AsyncGenerator[Any, None]:
        """Run in this process."""
        ...

    def stream(
        self,
        run: Any,
        graph: Any,
        call: Call,
        start: Callable[[], Awaitable[None]],
        await_outcome: Callable[[], Awaitable[bytes]],
        finish: Callable[[bytes], list[Any]],
    ) -> Generator[Any, None, None]:
        """Run in this process, sync."""
        ...


class Caller:
    """Implements ``hooks.Durable`` for the user's saver.

    Args:
        transport: RPCs.
        serde: Serializer of the saver.
        host: Returns the worker of this process, or ``None``.
        mailbox: Where streams of remote runs arrive.
        blobs: Where large inputs are kept.
        reader: Reads threads.
        known: What remote calls have got.
    """

    session: hooks.Session | None = None

    def __init__(
        self,
        transport: Transport,
        serde: SerializerProtocol,
        host: Callable[[], EmbeddedPort | None],
        mailbox: Mailbox,
        blobs: BlobStore,
        reader: Reads,
        known: KnownChunks,
    ) -> None:
        self.blobs = blobs
        self.known = known
        self._reader = reader
        self._transport = transport
        self._serde = serde
        self._host = host
        self._mailbox = mailbox

    @property
    def _options(self) -> Options:
        return self._transport.options

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
        prepared = _Prepared(self, graph, call)
        host = self._host()
        if run_id := await other_run(self._transport, self._reader, input, prepared.full):
            for chunk in await prepared.joined(host, run_id):
                yield chunk
            return
        if host is not None:
            async with aclosing(Owned(prepared.embedded(host))) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        async with aclosing(Owned(self._elsewhere(prepared))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _elsewhere(
        self, prepared: _Prepared, leaves: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[Any, None]:
        """On whichever worker takes it, with a stream to this process's mailbox."""
        handlers = Handlers(prepared.full)
        ended: BaseException | None = None
        try:
            address = await self._mailbox.address()
            async with aclosing(Owned(prepared.remote(address, handlers, leaves))) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, Event):
                        await handlers.atell(self._serde, chunk)
                    else:
                        yield chunk
        except BaseException as exc:
            ended = exc
            raise
        finally:
            await handlers.aclose(ended)

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
        prepared = _Prepared(self, graph, call, run_id)
        if host := self._host():
            host.serve(prepared.name, graph)
        try:
            async with aclosing(Owned(self._elsewhere(prepared, leaves))) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        except WorkflowAlreadyStartedError:
            pass
        try:
            joined = join_stream(
                self._transport,
                self._serde,
                run_id=run_id,
                thread_id=prepared.thread_id,
                mailbox=await self._mailbox.address(),
            )
            async with aclosing(Owned(joined)) as chunks:
                async for chunk in chunks:
                    yield chunk
            for chunk in prepared._finish(await prepared._outcome()):
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            if not leaves() and not torn_down():
                recorded = asyncio.ensure_future(asyncio.sleep(0))
                outcome = asyncio.ensure_future(prepared._outcome())
                await cancel_run(self._transport, run_id, recorded, outcome)
                outcome.cancel()
            raise

    async def start(
        self, graph: Any, input: Any, config: RunnableConfig, options: dict[str, Any]
    ) -> tuple[str, str]:
        """Record a run that nobody waits for; its id and its thread's."""
        prepared = _Prepared(self, graph, Call(input=input, config=config, options=options))
        return await prepared.start(self._host()), prepared.thread_id

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
        prepared = _Prepared(self, graph, call)
        host = self._host()
        waiting = self._mailbox.thread if host is None else host.thread
        if run_id := waiting.submit(
            other_run(self._transport, self._reader, input, prepared.full)
        ).result():
            yield from waiting.submit(prepared.joined(host, run_id)).result()
            return
        if host is not None:
            yield from prepared.embedded_sync(host)
            return
        thread = self._mailbox.thread
        handlers = Handlers(prepared.full)
        ended: BaseException | None = None
        chunks: AsyncGenerator[Any, None] | None = None
        try:
            address = thread.submit(self._mailbox.address()).result()
            chunks = prepared.remote(address, handlers)
            while True:
                try:
                    chunk = thread.submit(_step(chunks)).result()
                except StopAsyncIteration:
                    return
                if isinstance(chunk, Event):
                    handlers.tell(self._serde, chunk)
                else:
                    yield chunk
        except BaseException as exc:
            ended = exc
            raise
        finally:
            if chunks is not None:
                thread.submit(chunks.aclose()).result()
            handlers.close(ended)


async def _step(chunks: AsyncGenerator[Any, None]) -> Any:
    return await anext(chunks)


class _Prepared:
    """One checked call, ready to be recorded."""

    def __init__(self, caller: Caller, graph: Any, call: Call, run_id: str = "") -> None:
        self._caller = caller
        self._transport = caller._transport
        self._serde = caller._serde
        full = hooks.full_config(graph, call.config)
        thread_id = full["configurable"].get("thread_id")
        if thread_id is None or str(thread_id) == "":
            raise MissingThreadIdError(
                "This graph has a TemporalSaver, so each call needs a thread_id: "
                'graph.ainvoke(input, {"configurable": {"thread_id": "..."}}). Nothing was run.'
            )
        self.strategy = check_strategy(
            full["configurable"].pop(STRATEGY_KEY, caller._options.multitask_strategy)
        )
        self.max_lost_attempts = check_lost_attempts(
            full["configurable"].pop(ATTEMPTS_KEY, caller._options.max_lost_attempts)
        )
        self.give_up_after = check_give_up(
            full["configurable"].pop(GIVE_UP_KEY, caller._options.give_up_after)
        )
        given = call.config.get("configurable", {})
        ours = {STRATEGY_KEY, ATTEMPTS_KEY, GIVE_UP_KEY}
        if not ours.isdisjoint(given):
            # For us, not for nodes and metadata.
            rest = {k: v for k, v in given.items() if k not in ours}
            call = replace(call, config={**call.config, "configurable": rest})
        hooks.check_call(graph, full, call.options)
        check_thread_id(str(thread_id))
        self.full = full
        self.thread_id = str(thread_id)
        self.graph = graph
        self.name = caller._options.graph or str(graph.name)
        self.call = call
        self.run_id = run_id or uuid.uuid4().hex

    def embedded(self, host: EmbeddedPort) -> AsyncGenerator[Any, None]:
        """In this process, worker included."""
        host.check()
        host.serve(self.name, self.graph)
        start = self._starter(self.call, home_queue=host.queue)
        return host.astream(
            self._identity(host), self.graph, self.call, start, self._outcome, self._finish
        )

    def embedded_sync(self, host: EmbeddedPort) -> Generator[Any, None, None]:
        """The same, sync."""
        host.check()
        host.serve(self.name, self.graph)
        start = self._starter(self.call, home_queue=host.queue)
        return host.stream(
            self._identity(host), self.graph, self.call, start, self._outcome, self._finish
        )

    def remote(
        self, mailbox: str, handlers: Handlers, leaves: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[Any, None]:
        """On a worker elsewhere, which sends chunks and events to a mailbox."""
        if self.call.options.get("control") is not None:
            raise UsageError(
                f"`control=` of the call on thread {self.thread_id!r} is an object of this "
                "process, but the graph runs on a worker in another one. Nothing was run. Cancel "
                "the call instead, or host the worker in this process: saver.worker(graph)."
            )
        call = replace(
            self.call,
            mailbox=mailbox,
            callbacks=handlers.description,
            message_events=hooks.wants_message_events(self.full),
            deltas=True,
        )
        chunks = self._caller.known
        known = chunks.get(self.thread_id)
        call = replace(call, known=digest(known) if known else b"")
        return stream_remote(
            self._transport,
            self._serde,
            run_id=self.run_id,
            thread_id=self.thread_id,
            start=self._starter(call),
            leaves=leaves,
            result_only=call.result_only,
            known=known,
            keep=partial(chunks.keep, self.thread_id),
        )

    async def joined(self, host: EmbeddedPort | None, run_id: str) -> list[Any]:
        """Somebody else runs the thread: wait for that run instead of starting one."""
        if host is not None:
            # It may be waiting for somebody who serves its graph.
            host.serve(self.name, self.graph)
        options = self.call.options
        return await joined(
            self._transport, self.graph, options, run_id=run_id, thread_id=self.thread_id
        )

    async def start(self, host: EmbeddedPort | None) -> str:
        """Record the run and return its id; any worker may drive it."""
        if host is not None:
            host.serve(self.name, self.graph)
        await self._starter(self.call)()
        try:
            # Otherwise the thread would learn of it from whichever worker takes it, if any does.
            await self._transport.announce(self.thread_id, self.name, self.run_id)
        except RPCError as exc:
            log = about(logger, thread_id=self.thread_id, run_id=self.run_id)
            log.warning(
                "run %s is recorded, but thread %r does not list it yet: %s",
                self.run_id,
                self.thread_id,
                exc,
            )
        return self.run_id

    def _identity(self, host: EmbeddedPort) -> Any:
        return host.run_identity(
            run_id=self.run_id,
            thread_id=self.thread_id,
            thread_workflow_id=self._transport.thread_workflow_id(self.thread_id),
            run_workflow_id=self._transport.run_workflow_id(self.run_id),
            graph=self.name,
            strategy="" if self.strategy == "enqueue" else self.strategy,
        )

    async def _outcome(self) -> bytes:
        return await await_outcome(self._transport, self.run_id, self.thread_id)

    def _finish(self, data: bytes) -> list[Any]:
        return finish(self._serde, data, received=0, run_id=self.run_id, thread_id=self.thread_id)

    def _starter(self, call: Call, *, home_queue: str = "") -> Callable[[], Awaitable[None]]:
        """Record the run: once the server has accepted the start, it will finish."""
        options = self._transport.options
        blobs = self._caller.blobs
        record = encode(self._serde, call, self.full, self.thread_id)
        uploads = []
        if len(record) > MAX_OP_BYTES:
            what = f"the input of the call on thread {self.thread_id!r}"
            upload = plan(record, scope=self.run_id, what=what, piece_bytes=blobs.piece_bytes)
            uploads.append(upload)
        start = RunStart(
            run_id=self.run_id,
            thread_id=self.thread_id,
            thread_workflow_id=self._transport.thread_workflow_id(self.thread_id),
            graph=self.name,
            task_queue=options.task_queue,
            record=b"" if uploads else record,
            record_ref=uploads[0].ref if uploads else None,
            home_queue=home_queue,
            heartbeat_s=options.heartbeat_timeout.total_seconds(),
            strategy="" if self.strategy == "enqueue" else self.strategy,
            max_lost_attempts=self.max_lost_attempts,
            give_up_s=self.give_up_after.total_seconds() if self.give_up_after else 0.0,
        )

        async def send() -> None:
            try:
                await blobs.upload(self.thread_id, uploads)
                await self._transport.client.start_workflow(
                    names.RUN_WORKFLOW,
                    pack(start),
                    id=self._transport.run_workflow_id(self.run_id),
                    task_queue=options.task_queue,
                    # Also when it has ended: a call that is repeated is no second run.
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    task_timeout=timedelta(seconds=names.WORKFLOW_TASK_TIMEOUT_S),
                    memo={"thread_id": self.thread_id, "graph": self.name},
                    static_summary=f"{self.name} · thread {self.thread_id}"[:200],
                    # The worker of this process may take the first workflow task from the
                    # reply, which saves a round trip.
                    request_eager_start=bool(home_queue),
                )
            except (RPCError, RuntimeError) as exc:
                raise self._transport.translate(exc) from exc

        return send
