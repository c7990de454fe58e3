"""Public API: which threads there are, what state each is in, and a thread as plain data."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, is_dataclass, replace
from dataclasses import fields as dataclass_fields
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args

from langchain_core.load import dumpd
from langchain_core.load.serializable import Serializable
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Interrupt
from pydantic import BaseModel

from .errors import RunFailedError, RunNotFoundError, TemporalExecError, UsageError
from .protocol.messages import ReadRequest, ThreadSummary
from .runs import RunFailure, failure_of, problem_of
from .seam import hooks
from .storage import visibility
from .storage.rpc import WHOLE_DEPLOYMENT
from .storage.store import Store
from .storage.thread_client import UNBOUNDED_CURSOR

ThreadStatus = Literal["idle", "busy", "interrupted", "error", "lost", "unreadable"]
"""What a thread is doing: nothing, a run, waiting for an answer; or that its last run failed or was
lost, or that this process cannot read it. See ``ThreadInfo``."""

T = TypeVar("T")

AT_ONCE = 16
"""Threads of a list that are read at the same time."""

MAX_LOOKED_AT = 20
"""Runs no worker has taken of which one thread's status looks whether they are still open."""


@dataclass(frozen=True, kw_only=True)
class ThreadInfo:
    """A thread as a list shows it.

    Args:
        thread_id: The thread.
        status: "busy" while a run has it or is about to, "interrupted" while it waits for an
            answer or at a breakpoint, "error" when its last run failed, "lost" when that ended
            without an outcome (its workers lost it too often, or none could read it: see
            ``error``), else "idle". It is that of the latest checkpoint: who
            edits the state, or drops it, may change it. "unreadable": this process cannot read
            it, see ``problem``.
        graph: Name of the graph of its last run, or of who edited it; "" when it is not known.
        created_at: When it was made.
        updated_at: When something was last written to it.
        interrupts: What it waits for, as ``get_state`` shows it.
        waiting: Runs behind the active one, or behind the first that no worker has taken yet.
        error: Why its last run failed; ``None`` when it did not.
        note: Of the run it is busy with: that no worker polls its task queue, or why those that
            do cannot take it or have not kept it, while it waits for the next; "" otherwise.
        home: Name of the worker that drives its runs, because it drove one first (``affinity``);
            "": it has none.
        home_since: When that became the home; ``None`` without one.
        moved_from: The worker that was its home before, where the files of its nodes stayed; "": it
            has not moved.
        problem: Why it cannot be read: written with a payload codec or serializer that this
            process does not have, by another release, or damaged. Then of the rest only
            ``thread_id`` and ``created_at`` are sure.
    """

    thread_id: str
    status: ThreadStatus
    graph: str
    created_at: datetime
    updated_at: datetime
    interrupts: tuple[Interrupt, ...] = ()
    waiting: int = 0
    error: RunFailure | None = None
    note: str = ""
    home: str = ""
    home_since: datetime | None = None
    moved_from: str = ""
    problem: str = ""


async def thread(store: Store, thread_id: str) -> ThreadInfo | None:
    """One thread."""
    summary = None
    try:
        seen = await store.look(thread_id)
        if seen is None or seen[0].summary is None:
            return None
        reply, replica = seen
        summary = seen[0].summary
        found = await store.latest(replica)
        checkpoint_id = "" if found is None else found.checkpoint["id"]
        paths = replica.task_paths("", checkpoint_id)
        return await _told(store, summary, reply.announced, found, paths)
    except WHOLE_DEPLOYMENT:
        raise
    except Exception as exc:
        # Codecs and serializers are the user's, and raise what they like.
        return await _unreadable(store, thread_id, summary, exc)


async def _unreadable(
    store: Store, thread_id: str, summary: ThreadSummary | None, exc: Exception
) -> ThreadInfo | None:
    began = await visibility.began(store.transport, thread_id)
    if began is None:
        return None
    return ThreadInfo(
        thread_id=thread_id,
        status="unreadable",
        graph="" if summary is None else summary.graph,
        created_at=began,
        updated_at=began if summary is None else datetime.fromtimestamp(summary.updated_s, UTC),
        problem=str(exc) if isinstance(exc, TemporalExecError) else f"{type(exc).__name__}: {exc}",
    )


async def _told(
    store: Store,
    summary: ThreadSummary,
    announced: Sequence[str],
    found: CheckpointTuple | None,
    paths: Mapping[str, str],
) -> ThreadInfo:
    """The thread, with what Temporal alone knows of its runs."""
    note = ""
    for run_id in (*filter(None, [summary.active_run]), *announced[:MAX_LOOKED_AT]):
        # One that was announced may have been terminated by hand: of that no thread hears.
        run = await store.transport.open_run(store.transport.run_workflow_id(run_id))
        if run is not None:
            summary = replace(summary, active_run=run_id)
            if not await store.transport.is_served(run):
                note = f"no worker polls task queue {run.task_queue!r}"
            else:
                note = await problem_of(store, run_id, summary.thread_id)
            break
    failure = await _failure(store, summary)
    return replace(_info(summary, found, paths), error=failure, note=note)


async def _failure(store: Store, summary: ThreadSummary) -> RunFailure | None:
    """Why the last run failed."""
    if run_id := summary.closed_run:
        try:
            failure = await failure_of(store, run_id, summary.thread_id)
        except RunNotFoundError as exc:
            failure = RunFailure.of(RunFailedError(str(exc)))
        # One that was cancelled before it began, or was not to wait, leaves what was before.
        if failure is not None and not failure.type_name.endswith(".ThreadBusyError"):
            return failure
    if not summary.error_type:
        return None
    return RunFailure(type_name=summary.error_type, message=summary.error_text)


async def glance(store: Store, thread_id: str) -> ThreadInfo | None:
    """One thread, as cheaply as can be: without ``interrupts``, and its status is of its last
    run."""
    request = ReadRequest(cursor=UNBOUNDED_CURSOR)
    reply = await store.reader.recorded(thread_id, "", request)
    return None if reply is None or reply.summary is None else _info(reply.summary, None, {})


def _info(
    summary: ThreadSummary, latest: CheckpointTuple | None, paths: Mapping[str, str]
) -> ThreadInfo:
    writes = (latest.pending_writes or ()) if latest is not None else ()
    interrupts = hooks.in_task_order(writes, paths)
    home = summary.home
    status: ThreadStatus = "idle"
    if summary.active_run:
        status = "busy"
    elif summary.status == "interrupted":
        status = "interrupted"
    elif summary.status == "error":
        status = "error"
    elif summary.status == "lost":
        status = "lost"
    return ThreadInfo(
        thread_id=summary.thread_id,
        status=status,
        graph=summary.graph,
        created_at=datetime.fromtimestamp(summary.created_s, UTC),
        updated_at=datetime.fromtimestamp(summary.updated_s, UTC),
        interrupts=interrupts,
        waiting=summary.waiting,
        home="" if home is None else home.worker,
        home_since=None if home is None else datetime.fromtimestamp(home.since_s, UTC),
        moved_from="" if home is None else home.moved_from,
    )


async def threads(
    store: Store, *, status: ThreadStatus | None, graph: str | None, limit: int | None
) -> AsyncIterator[ThreadInfo]:
    """All threads, some read at a time; the first are there before the last are looked up."""
    if status not in (None, *get_args(ThreadStatus)):
        known = ", ".join(map(repr, get_args(ThreadStatus)))
        raise UsageError(f"There is no status {status!r} of a thread; it is one of {known}.")
    many = store.of_many()
    left = limit
    reading = _in_order(visibility.each_thread(store.transport), lambda t: thread(many, t))
    async with aclosing(reading) as infos:
        async for info in infos:
            # Deleted since, or of another kind.
            if info is None or status not in (None, info.status) or graph not in (None, info.graph):
                continue
            if left is not None and left <= 0:
                return
            yield info
            left = None if left is None else left - 1


async def _in_order(
    items: AsyncIterator[str], read: Callable[[str], Awaitable[T]]
) -> AsyncGenerator[T, None]:
    """What is read of each item, some at a time, in the order of the items."""
    reading: deque[asyncio.Future[T]] = deque()
    try:
        async for item in items:
            reading.append(asyncio.ensure_future(read(item)))
            if len(reading) >= AT_ONCE:
                yield await reading.popleft()
        while reading:
            yield await reading.popleft()
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def export(store: Store, thread_id: str) -> AsyncIterator[dict[str, Any]]:
    """All checkpoints of a thread, oldest first."""
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    found = [item async for item in store.checkpoints(config)]
    for item in sorted(found, key=lambda i: str(i.checkpoint["id"])):
        configurable = item.config["configurable"]
        parent = item.parent_config
        yield _plain(
            {
                "thread_id": thread_id,
                "checkpoint_ns": configurable.get("checkpoint_ns", ""),
                "checkpoint_id": item.checkpoint["id"],
                "parent_checkpoint_id": parent["configurable"]["checkpoint_id"] if parent else None,
                "ts": item.checkpoint["ts"],
                "metadata": item.metadata,
                "values": item.checkpoint["channel_values"],
                "pending_writes": [
                    {"task_id": task_id, "channel": channel, "value": value}
                    for task_id, channel, value in item.pending_writes or ()
                ],
            }
        )


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """JSON-compatible: LangChain's objects in LangChain's form, others as far as they have one."""
    plain: dict[str, Any] = json.loads(json.dumps(_langchain_forms(value), default=_form))
    return plain


def _langchain_forms(value: Any) -> Any:
    """Not left to ``dumpd``: of a value it has no form for it gives the ``repr``, all of it."""
    if isinstance(value, dict):
        return {
            k if isinstance(k, str | int | float | None) else str(k): _langchain_forms(v)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_langchain_forms(v) for v in value]
    return dumpd(value) if isinstance(value, Serializable) else value


def _form(value: Any) -> Any:
    """What JSON has no form for: the fields of an object, the items of a set, else its text."""
    if isinstance(value, Interrupt):
        fields: Any = {"value": value.value, "id": value.id}
    elif isinstance(value, BaseModel):
        # Not ``dict(value)``, which a model may have given another meaning.
        fields = {**vars(value), **(value.model_extra or {})}
    elif is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name, None) for f in dataclass_fields(value)}
    elif isinstance(value, (set, frozenset)):
        fields = list(value)
    else:
        return str(value)
    return _langchain_forms(fields)
