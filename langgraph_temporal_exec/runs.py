"""Public API: handles of runs: started without waiting, or found by thread or id."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError

from ._exits import Owned, left_anywhere
from .caller.hub import Mailbox
from .caller.join import join_stream
from .caller.outcome import await_outcome, raise_failure
from .costs import Cost, cost_of_run
from .errors import (
    RunNotFoundError,
    ServerUnavailableError,
    StreamLostError,
    TemporalExecError,
)
from .protocol import names
from .protocol.messages import Outcome, ReadRequest, RunStatusReply
from .protocol.wire import unpack
from .seam import hooks, private
from .seam.chunks import invoked, result_of
from .storage.rpc import is_gone
from .storage.store import Store
from .storage.thread_client import UNBOUNDED_CURSOR, Transport
from .values.exact import load_exact

RunStatus = Literal[
    "scheduled", "no_workers", "queued", "running", "done", "interrupted", "error", "cancelled"
]
"""Of a run: waits for a worker, and no worker polls its task queue, waits for its thread, or is
driven; then how it has ended. "interrupted" is an end: it asked a question, and the answer begins
another run."""

STATUS_TIMEOUT = timedelta(seconds=3)

UNTAKEN_AFTER = timedelta(seconds=3)
"""A task that a worker has not begun by then waits for one."""


@dataclass(frozen=True, kw_only=True)
class RunFailure:
    """Why a run failed.

    Args:
        type_name: Qualified name of the exception's class, ``module.Class``.
        message: What it says.
    """

    type_name: str
    message: str

    @classmethod
    def of(cls, exc: Exception) -> RunFailure:
        """An exception that does not come from a node."""
        kind = type(exc)
        return cls(type_name=f"{kind.__module__}.{kind.__qualname__}", message=str(exc))

    def __str__(self) -> str:
        return f"{self.type_name.removeprefix('builtins.')}: {self.message}"


class Run:
    """One run of a thread; may be used in any process, by anybody who knows its ids.

    Each method has a sync twin without the ``a``.

    Args:
        store: Threads, as the saver it was found with has them.
        mailbox: Where its stream arrives in this process.
        run_id: The run.
        thread_id: Its thread.
    """

    def __init__(self, store: Store, mailbox: Mailbox, run_id: str, thread_id: str) -> None:
        self._store = store
        self._mailbox = mailbox
        self.run_id = run_id
        self.thread_id = thread_id

    def __repr__(self) -> str:
        return f"Run(run_id={self.run_id!r}, thread_id={self.thread_id!r})"

    async def aresult(self) -> Any:
        """Wait until the run has ended; what ``ainvoke`` would have returned.

        Returns:
            The output of the graph, with ``__interrupt__`` if it was interrupted. Where the worker
            that had the output is lost, or the output is above 1.5 MB: the thread's latest values.

        Raises:
            RunCancelledError: The run was cancelled.
            RunTimeoutError: It had not ended within its ``run_timeout``.
            RunFailedError: It was terminated or given up.
            GraphNotFoundError, ThreadBusyError, ThreadFullError, UnreadableError: It never began.
            ServerUnavailableError: Temporal does not answer.
            StreamLostError: Its output is lost, and its thread does not exist any more.
            Exception: What a node raised.
        """
        store = self._store
        outcome = unpack(Outcome, await await_outcome(store.transport, self.run_id, self.thread_id))
        raise_failure(outcome, self.run_id)
        if not outcome.tail:
            return invoked(*await self._recorded())
        return invoked(*result_of(load_exact(store.serde, data) for data in outcome.tail))

    async def _recorded(self) -> tuple[Any, list[Any]]:
        found = await self._store.checkpoint({"configurable": {"thread_id": self.thread_id}})
        if found is None:
            raise StreamLostError(
                f"Run {self.run_id} has ended, but its result is lost, and thread "
                f"{self.thread_id!r} does not exist any more."
            )
        values = found.checkpoint["channel_values"]
        replica = self._store.replica(self.thread_id)
        paths = replica.task_paths("", found.checkpoint["id"])
        return (
            private.output_of(values),
            list(hooks.in_task_order(found.pending_writes or (), paths)),
        )

    async def astream(self) -> AsyncGenerator[Any, None]:
        """The run's stream from now on; ends with the run. Leaving it does not stop the run.

        Yields:
            Chunks in the form the run was started with; ``(mode, chunk)`` for ``astart``.

        Raises:
            As ``aresult``, at the end of the stream.
        """
        chunks = Owned(
            join_stream(
                self._store.transport,
                self._store.serde,
                run_id=self.run_id,
                thread_id=self.thread_id,
                mailbox=await self._mailbox.address(),
            )
        )
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()
        data = await await_outcome(self._store.transport, self.run_id, self.thread_id)
        raise_failure(unpack(Outcome, data), self.run_id)

    async def acancel(self) -> None:
        """Ask the run to stop; returns at once. A run that has ended already is no error.

        Raises:
            ServerUnavailableError: Temporal does not answer.
        """
        handle = self._store.transport.client.get_workflow_handle(self._workflow_id)
        try:
            await handle.cancel()
        except (RPCError, RuntimeError) as exc:
            if isinstance(exc, RuntimeError) or not is_gone(exc):
                raise self._store.transport.translate(exc) from exc

    async def astatus(self) -> RunStatus:
        """What the run is doing, or how it ended.

        Raises:
            RunNotFoundError: Temporal does not know it (any more).
            RunFailedError: It was terminated or given up.
            GraphNotFoundError, ThreadBusyError, ThreadFullError, UnreadableError: It never began.
            ServerUnavailableError: Temporal does not answer.
        """
        transport = self._store.transport
        handle = transport.client.get_workflow_handle(self._workflow_id)
        description = await _describe(transport, self.run_id, self.thread_id)
        if description.status is not WorkflowExecutionStatus.RUNNING:
            data = await await_outcome(transport, self.run_id, self.thread_id)
            return _ended(unpack(Outcome, data).status)
        try:
            reply = unpack(
                RunStatusReply,
                await handle.query(
                    names.RUN_STATUS_QUERY, result_type=bytes, rpc_timeout=STATUS_TIMEOUT
                ),
            )
        except RPCError:
            # No worker answers: nobody drives it.
            served = await transport.is_served(description)
            return "scheduled" if served else "no_workers"
        if reply.state == "queued":
            return "queued"
        if reply.home and not transport.is_driven(description):
            return "scheduled"
        return "running" if reply.state == "running" else "scheduled"

    async def afailure(self) -> RunFailure | None:
        """Why the run failed; ``None`` while it goes on, and when it has ended otherwise.

        Raises:
            RunNotFoundError: Temporal does not know it (any more).
            ServerUnavailableError: Temporal does not answer.
        """
        return await failure_of(self._store, self.run_id, self.thread_id)

    async def aproblem(self) -> str:
        """Why a run that goes on waits for another worker; "" if it does not.

        Its last attempt was lost, or its worker could not read the call or the thread; or the
        workers that poll lack the payload codec; or it waits for the thread's home, which is named,
        with the time since when; or a task of the thread waits so for the worker that is to run it.
        """
        return await problem_of(self._store, self.run_id, self.thread_id)

    async def acost(self) -> Cost:
        """What the run has cost on Temporal so far: actions by kind, and bytes of history.

        Counted from histories, so it needs no worker, and shows nothing of what leaves no event:
        see ``Cost.UNSEEN``. Of the histories of the thread and of its nested graphs it holds the
        run's share.

        Raises:
            RunNotFoundError: Temporal does not know it (any more).
            StorageError: A history cannot be read.
            ServerUnavailableError: Temporal does not answer.
        """
        found = await cost_of_run(self._store, self.run_id, self.thread_id)
        if found is None:
            raise _not_found(self.run_id, self.thread_id)
        return found

    @property
    def _workflow_id(self) -> str:
        return self._store.transport.run_workflow_id(self.run_id)

    # -- sync ---------------------------------------------------------------------------------

    def result(self) -> Any:
        """Sync ``aresult``."""
        return self._wait(self.aresult())

    def stream(self) -> Iterator[Any]:
        """Sync ``astream``."""
        return left_anywhere(self._stream())

    def _stream(self) -> Generator[Any, None, None]:
        chunks = self.astream()
        try:
            while True:
                try:
                    yield self._wait(anext(chunks))
                except StopAsyncIteration:
                    return
        finally:
            self._wait(chunks.aclose())

    def cancel(self) -> None:
        """Sync ``acancel``."""
        self._wait(self.acancel())

    def status(self) -> RunStatus:
        """Sync ``astatus``."""
        status: RunStatus = self._wait(self.astatus())
        return status

    def failure(self) -> RunFailure | None:
        """Sync ``afailure``."""
        failure: RunFailure | None = self._wait(self.afailure())
        return failure

    def problem(self) -> str:
        """Sync ``aproblem``."""
        problem: str = self._wait(self.aproblem())
        return problem

    def cost(self) -> Cost:
        """Sync ``acost``."""
        cost: Cost = self._wait(self.acost())
        return cost

    def _wait(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return self._mailbox.loop_thread.wait(wait())


async def failure_of(store: Store, run_id: str, thread_id: str) -> RunFailure | None:
    """See ``Run.afailure``."""
    description = await _describe(store.transport, run_id, thread_id)
    if description.status is WorkflowExecutionStatus.RUNNING:
        return None
    try:
        data = await await_outcome(store.transport, run_id, thread_id)
    except ServerUnavailableError:
        raise
    except TemporalExecError as exc:
        # It ended without an outcome: given up, terminated, turned away.
        return RunFailure.of(exc)
    error = unpack(Outcome, data).error
    if error is None:
        return None
    return RunFailure(type_name=error.type_name, message=error.message)


async def problem_of(store: Store, run_id: str, thread_id: str) -> str:
    """See ``Run.aproblem``."""
    transport = store.transport
    workflow_id = transport.run_workflow_id(run_id)
    run = await transport.open_run(workflow_id)
    if run is None:
        return ""
    if why := await transport.stuck(workflow_id):
        return f"its workers cannot read it: {why}"
    handle = transport.client.get_workflow_handle(workflow_id)
    try:
        query = handle.query(names.RUN_STATUS_QUERY, result_type=bytes, rpc_timeout=STATUS_TIMEOUT)
        reply = unpack(RunStatusReply, await query)
    except RPCError:
        return ""
    if reply.home and not transport.is_driven(run):
        since = datetime.fromtimestamp(reply.home_since_s, UTC).isoformat(" ", "seconds")
        return f"it waits since {since} for worker {reply.home!r}, the home of its thread"
    if reply.state == "retrying":
        return reply.last_failure
    return await _untaken(transport, thread_id) if reply.state == "running" else ""


async def _untaken(transport: Transport, thread_id: str) -> str:
    """For which workers tasks of a thread wait; "" if they do not, or have just begun to."""
    now = datetime.now(UTC)
    told = []
    for node, queue, since in await transport.untaken_tasks(thread_id):
        if now - since < UNTAKEN_AFTER:
            continue
        at = since.isoformat(" ", "seconds")
        if (shared := names.shared_queue(queue)) is not None:
            told.append(f"node {node!r} waits since {at} for a worker of task queue {shared!r}")
        elif names.HOME_MARK in queue:
            home = names.worker_of(queue)
            told.append(f"node {node!r} waits since {at} for worker {home!r}, which has its files")
    return "; ".join(told)


async def _describe(
    transport: Transport, run_id: str, thread_id: str = ""
) -> WorkflowExecutionDescription:
    try:
        handle = transport.client.get_workflow_handle(transport.run_workflow_id(run_id))
        return await handle.describe()
    except RPCError as exc:
        if is_gone(exc):
            raise _not_found(run_id, thread_id) from exc
        raise transport.translate(exc) from exc


def _not_found(run_id: str, thread_id: str) -> RunNotFoundError:
    of = thread_id and f" of thread {thread_id!r}"
    return RunNotFoundError(
        f"Temporal knows no run {run_id!r}{of}; closed runs are kept for the namespace's retention."
    )


def _ended(status: str) -> RunStatus:
    known: dict[str, RunStatus] = {
        "done": "done",
        "interrupted": "interrupted",
        "error": "error",
        "cancelled": "cancelled",
    }
    return known[status]


async def runs_of(store: Store, mailbox: Mailbox, thread_id: str) -> AsyncIterator[Run]:
    """See ``TemporalSaver.alist_runs``."""
    request = ReadRequest(cursor=UNBOUNDED_CURSOR, runs=True)
    reply = await store.reader.read(thread_id, "", request)
    for run_id in reply.runs if reply is not None else ():
        yield Run(store, mailbox, run_id, thread_id)


async def find_run(store: Store, mailbox: Mailbox, run_id: str) -> Run:
    """A run by its id alone.

    Raises:
        RunNotFoundError: Temporal does not know it (any more).
    """
    memo = await (await _describe(store.transport, run_id)).memo()
    return Run(store, mailbox, run_id, str(memo["thread_id"]))
