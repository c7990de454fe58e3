"""Worker side: tasks whose runs other workers drive, and which are run here.

Each worker polls the queue ``<task queue>#tasks`` beside its others. An Activity there brings a
*parcel*: which run waits for the task, from which checkpoint it starts, and what that does not
hold (``away.body_of``). From it ``PlacedTasks.run`` does what the worker that drives the run would
have done in place:

1. reads the thread, and takes the checkpoint;
2. has LangGraph make the task from it, with the same id (``seam.parcel.rebuild``);
3. runs it with LangGraph's own retries and timeouts, where code of graphs runs here. Graphs that it
   calls are driven by a session of its own: their steps go to the workflows of their namespaces, in
   the epoch of the run and in a *round* of this Activity, so that of two workers which have had the
   task after each other only the later one is heard;
4. sends what it streams to the process that waits, and at last the result;
5. ends with what LangGraph commits. That is the result of the Activity, and thereby recorded.

The Activity is cancelled when nobody waits any more: the run has ended, was cancelled, or moved to
another attempt. When this worker stops, it fails, and the task runs on another one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from langgraph.errors import GraphBubbleUp
from temporalio import activity
from temporalio.common import RawValue

from .._exits import guard
from .._loops import TaskElsewhere
from ..errors import (
    AttemptSupersededError,
    PlacementError,
    TemporalExecError,
    UnreadableError,
    UsageError,
)
from ..logs import about
from ..options import Options
from ..protocol.messages import (
    AttachReply,
    AttachStatus,
    Parcel,
    TaskInput,
    TaskOutput,
    TaskStatus,
)
from ..protocol.wire import pack, unpack
from ..seam import hooks
from ..seam import parcel as seam
from ..seam.contract import ToolCall
from ..storage.rpc import opaque, opaque_failures
from ..storage.store import Store
from ..values.exact import dump_exact, load_exact
from ..values.exceptions import describe
from ..values.record import RunIdentity
from .away import (
    ALIVE,
    ENDED,
    LEFT,
    STARTED,
    options_from_data,
    where_from_data,
    with_retries,
)
from .beats import CANCEL_GRACE_S, heartbeating, lost_because, moved
from .bound import BoundSaver
from .placement import limits
from .ports import Host
from .proxies import manager_for
from .registry import GraphRegistry
from .relay import Relay
from .retry_input import PlannedInput
from .session import Session

logger = logging.getLogger(__name__)


class PlacedTasks:
    """Runs tasks for others.

    Args:
        host: The worker of this process.
        registry: The graphs that are served, and where their code runs.
    """

    def __init__(self, host: Host, registry: GraphRegistry) -> None:
        self._host = host
        # Threads that others drive are not moved to this worker's queue.
        self._store = host.store.as_guest()
        self._registry = registry
        self._sending: set[asyncio.Task[None]] = set()

    @activity.defn(dynamic=True)
    @opaque_failures()
    async def run(self, args: Sequence[RawValue]) -> bytes:
        """One task: its type is the name of the node."""
        payload = activity.payload_converter().from_payload(args[0].payload, bytes)
        task = unpack(TaskInput, payload)
        parcel = unpack(Parcel, task.parcel)
        relay = Relay(
            self._store.transport.client,
            self._host.loop_thread,
            self._store.serde,
            mailbox=parcel.mailbox,
            stream_id=task.key,
            thread_id=parcel.thread_id,
            run_id=parcel.run_id,
            attempt=task.round,
            deltas=True,
        )
        # Who waits finds the process by this.
        async with heartbeating(self._host.queue):
            relay.offer((STARTED, self._host.queue))
            alive = asyncio.ensure_future(self._tell_alive(relay))
            try:
                return pack(
                    await _Placed(
                        self._host, self._store, self._registry, task, parcel, relay
                    ).run()
                )
            except asyncio.CancelledError:
                if reason := lost_because():
                    relay.offer((LEFT, reason))
                    self._send_rest(relay)
                    raise moved(reason) from None
                raise
            finally:
                alive.cancel()
                self._send_rest(relay)

    async def _tell_alive(self, relay: Relay) -> None:
        pause_s = self._store.options.heartbeat_timeout.total_seconds()
        while relay.listening:
            await asyncio.sleep(pause_s)
            relay.offer((ALIVE, None))

    def _send_rest(self, relay: Relay) -> None:
        """What is under way to who waits need not hold up the result that is recorded."""
        sending = asyncio.ensure_future(relay.drain())
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)


async def _guarded(rebuilt: seam.Rebuilt, within: hooks.Limits) -> None:
    """Run an async task; on the loop that runs code of graphs, which goes on whatever it raises."""
    guard(asyncio.get_running_loop())
    await hooks.arun_placed(rebuilt, within)


class _Placed:
    """One of them.

    Args:
        host: The worker of this process.
        store: Threads, which others drive.
        registry: Its graphs.
        task: What the Activity brings.
        parcel: Its parcel.
        relay: To who waits.
    """

    def __init__(
        self,
        host: Host,
        store: Store,
        registry: GraphRegistry,
        task: TaskInput,
        parcel: Parcel,
        relay: Relay,
    ) -> None:
        self._host = host
        self._store = store
        self._registry = registry
        self._round = task.round
        self._parcel = parcel
        self._relay = relay
        self._serde = store.serde
        self._log = about(
            logger, thread_id=parcel.thread_id, run_id=parcel.run_id, attempt=parcel.attempt
        )

    async def run(self) -> TaskOutput:
        """Run the task; the result of its Activity."""
        try:
            within, rebuilt, session = await self._rebuilt()
        except (TemporalExecError, UsageError) as exc:
            # No other worker of the queue is asked: it would serve the same.
            return self._failed(exc)
        except Exception as exc:
            # Of the user's serializer, channels or reducers.
            error = PlacementError(
                f"A task of thread {self._parcel.thread_id!r} could not be rebuilt by worker "
                f"{self._host.queue!r}: {type(exc).__name__}: {exc}"
            )
            error.__cause__ = exc
            return self._failed(error)
        with session.executing(rebuilt.task.id) as slot:
            await asyncio.wrap_future(slot.granted)
            raised = await self._executed(within, rebuilt, session)
        return await self._result(rebuilt, session, raised)

    async def _rebuilt(self) -> tuple[hooks.Limits, seam.Rebuilt, Session]:
        parcel, store = self._parcel, self._store
        root = self._registry.get(parcel.graph)
        if root is None:
            raise PlacementError(
                f"Worker {self._host.queue!r} of task queue {store.options.task_queue!r}, which is "
                f"to run a task of graph {parcel.graph!r}, serves no such graph, only "
                f"{self._registry.names() or 'none'}. Serve the agent there too."
            )
        ours = store.transport.thread_workflow_id(parcel.thread_id)
        if ours != parcel.thread_workflow_id:
            raise PlacementError(
                f"Worker {self._host.queue!r} of task queue {store.options.task_queue!r} belongs "
                f"to another deployment: it has the id_prefix {store.options.id_prefix!r}. Give "
                "both the same."
            )
        data = parcel.body
        if parcel.body_ref is not None:
            data = await store.blobs.fetch(parcel.thread_id, parcel.body_ref)
        self._serde = hooks.reviving(root, store.serde)
        try:
            body = load_exact(self._serde, data)
        except Exception as exc:
            raise UnreadableError(
                f"What a task of thread {parcel.thread_id!r} takes along cannot be read by worker "
                f"{self._host.queue!r}: give it the serializer of the worker that drives the run, "
                f"and let it import the classes. The cause: {type(exc).__name__}: {exc}"
            ) from exc
        parts = body["parts"]
        graph = seam.find_graph(root, self._registry.served(), parts["ns"], parts["graph"])
        session = await self._session(body, parts["ns"])
        saver = BoundSaver(store.with_serde(self._serde), session, _plan(body["answers"]))
        address = {
            "thread_id": parcel.thread_id,
            "checkpoint_ns": parts["ns"],
            "checkpoint_id": parts["checkpoint_id"],
        }
        found = await saver.aget_tuple({"configurable": address})
        if found is None:
            raise PlacementError(
                f"Checkpoint {parts['checkpoint_id']} of thread {parcel.thread_id!r}, from which a "
                f"task of node {parts['node']!r} was to start, is not there any more."
            )
        description = body["callbacks"]
        callbacks = manager_for(description, self._relay.tell)
        rebuilt = await seam.rebuild(
            graph,
            parts,
            found.checkpoint,
            root=root,
            checkpointer=saver,
            callbacks=callbacks,
            emit=self._emit,
            known=session.namespaces,
        )
        calls = tuple(
            ToolCall(name=name, id=id_, subagent=subagent) for name, id_, subagent in body["calls"]
        )
        where = where_from_data(body["where"])
        options = self._options(body)
        own = options.node(rebuilt.task.name, parts["graph"]).retry
        # What is said of a tool counts before what is said of its node.
        tools = {options.tools[call.name].retry for call in calls if call.name in options.tools}
        retry = tools.pop() if len(tools) == 1 else own
        where = replace(where, node=replace(where.node, retry=retry or own))
        within = limits(where, calls, parcel.thread_id)
        return within, rebuilt, session

    async def _session(self, body: dict[str, Any], ns: str) -> Session:
        parcel, store = self._parcel, self._store
        replica = store.recorded(parcel.thread_id)
        await store.reader.refresh(replica, "")
        grant = AttachReply(
            status=AttachStatus.GRANTED,
            epoch=parcel.epoch,
            namespaces=tuple({*replica.known_namespaces, ns} - {""}),
            carries=True,
        )
        run = RunIdentity(
            run_id=parcel.run_id,
            thread_id=parcel.thread_id,
            thread_workflow_id=parcel.thread_workflow_id,
            run_workflow_id=parcel.run_workflow_id,
            graph=parcel.graph,
            priority=parcel.priority,
            affinity=parcel.affinity,
            home_timeout_s=parcel.home_timeout_s,
        )
        session = Session(
            run=run,
            attempt=parcel.attempt,
            grant=grant,
            host=self._host,
            store=store,
            replica=replica,
            inside=self._round,
            options=self._options(body),
        )
        session.answers = body["answers"]
        return session

    def _options(self, body: dict[str, Any]) -> Options:
        """Those of the run; what is tried again, this worker's own say."""
        own, said = self._store.options, options_from_data(body["options"])
        for kind in ("nodes", "tools"):
            said[kind] = with_retries(said[kind], getattr(own, kind))
        # What runs inside is not spread further: it would wait for slots that its like holds.
        return replace(own, spread=False, **said)

    def _emit(self, kind: str, parts: tuple[Any, ...]) -> None:
        self._relay.offer((kind, parts))

    async def _executed(
        self, within: hooks.Limits, rebuilt: seam.Rebuilt, session: Session
    ) -> BaseException | None:
        """Run the node; what it raised.

        Raises:
            CancelledError: Nobody waits for the task any more, or this worker stops.
        """
        work: TaskElsewhere[None] | None = None
        if rebuilt.sync:
            done = _in_thread(lambda: hooks.run_placed(rebuilt, within), rebuilt.task.name)
        else:
            work = TaskElsewhere(self._registry.user_loop(), _guarded(rebuilt, within))
            done = work.done
        future = asyncio.wrap_future(done)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as exc:
            if future.done() and not future.cancelled():
                # Raised by the node itself.
                return future.exception()
            session.fail(AttemptSupersededError("nobody waits for the task any more"))
            if work is not None:
                work.cancel()
            # It is left behind if need be: a node in an OS thread cannot be stopped. Who waits is
            # to learn at once that this worker goes.
            if not lost_because():
                await asyncio.wait([future], timeout=CANCEL_GRACE_S)
            if future.done() and not future.cancelled():
                future.exception()
            raise exc
        except BaseException as exc:
            # asyncio makes another one of a TimeoutError, without its notes.
            return done.exception() if done.done() and not done.cancelled() else exc
        return None

    async def _result(
        self, rebuilt: seam.Rebuilt, session: Session, exc: BaseException | None
    ) -> TaskOutput:
        if session.error is not None:
            # Superseded, or the server was away for long: whoever has the task now reports it.
            raise opaque(session.error)
        node = rebuilt.task.name
        try:
            try:
                writes = rebuilt.commit(exc)
            except PlacementError as problem:
                exc = problem
                rebuilt.task.writes.clear()
                writes = rebuilt.commit(exc)
            op = b""
            if rebuilt.committed is not None:
                config, committed, task_id, path = rebuilt.committed
                op = await session.encoded(self._serde, config, committed, task_id, path, node)
            result: dict[str, Any] = {
                "writes": writes,
                "op": op,
                "round": self._round,
                "namespaces": session.written,
                "deadlines": [pack(deadline) for deadline in session.deadlines],
                "answered": session.answered_below,
                "unsent": self._relay.unsent,
                "refused": pack(describe(session.refused)) if session.refused else None,
                "drained": rebuilt.drained,
            }
            if isinstance(exc, GraphBubbleUp):
                result["left"] = seam.how_it_left(exc)
            elif exc is not None:
                result["error"] = pack(describe(exc))
            data = dump_exact(self._serde, (ENDED, result), what=f"what node {node!r} returned")
        except TemporalExecError as problem:
            # It cannot be recorded, or cannot travel.
            await session.leave()
            return self._failed(problem)
        except Exception as problem:
            # Of the user's serializer, which would raise it on the next worker as well.
            await session.leave()
            error = PlacementError(
                f"What node {node!r} of thread {self._parcel.thread_id!r} did on worker "
                f"{self._host.queue!r} cannot be recorded: {type(problem).__name__}: {problem}"
            )
            error.__cause__ = problem
            return self._failed(error)
        await session.leave()
        self._relay.send((ENDED,), data)
        raised = "" if exc is None else type(exc).__name__
        status = TaskStatus.FINISHED if op else TaskStatus.NO_WRITES
        return TaskOutput(
            status=status,
            op=op,
            error=raised,
            home_queue=self._host.home_queue if self._host.named else "",
        )

    def _failed(self, exc: Exception) -> TaskOutput:
        """The task did not run, or what it did cannot be told: who waits raises this."""
        self._log.warning("a task for another worker failed here: %s", exc)
        result = {"writes": [], "error": pack(describe(exc))}
        data = dump_exact(self._store.serde, (ENDED, result), what="an error")
        self._relay.send((ENDED,), data)
        return TaskOutput(status=TaskStatus.NO_WRITES, error=type(exc).__name__)


def _plan(answers: dict[str, Any]) -> PlannedInput:
    return PlannedInput(
        input=None,
        config={},
        drop_resume=answers.get("drop_resume", False),
        unanswer=frozenset(answers.get("unanswer", ())),
        spent=answers.get("spent", ""),
    )


def _in_thread(call: Callable[[], None], name: str) -> concurrent.futures.Future[None]:
    """Run a sync task in an OS thread of its own: any number may wait for tasks of their own."""
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def main() -> None:
        try:
            call()
        except BaseException as exc:
            done.set_exception(exc)
        else:
            done.set_result(None)

    threading.Thread(target=main, name=f"langgraph-temporal-task-{name}", daemon=True).start()
    return done
