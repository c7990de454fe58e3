"""Shared: what the saver does to whole threads: prune, retain, copy, purge."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from temporalio.client import WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from ..errors import NoWorkersError, ServerUnavailableError, StorageError, UsageError
from ..options import Retention
from ..protocol import names
from ..protocol.blob import Upload
from ..protocol.log import as_sent, blobs_of
from ..protocol.messages import AppendRequest, ReadRequest
from ..protocol.stored import BlobRef, Op, OpKind
from ..protocol.wire import pack
from ..seam.private import task_of
from .blobs import BlobGoneError, BlobStore, delete_execution
from .reader import Reader
from .replica import Replica
from .thread_client import UNBOUNDED_CURSOR, Transport

logger = logging.getLogger(__name__)

BATCH_BYTES = 400_000
"""Ops in one Update of a copy."""

REWRITES = 5
"""How often a log is read anew because its archives were rewritten meanwhile."""

WHOLE_DEPLOYMENT = (ServerUnavailableError, NoWorkersError, RPCError)
"""Errors of a reading that say nothing about the thread that was read."""

UUID6_EPOCH = datetime(1582, 10, 15, tzinfo=UTC)


class Saver(Protocol):
    """What is needed of a saver."""

    @property
    def reader(self) -> Reader: ...
    @property
    def transport(self) -> Transport: ...
    def replica(self, thread_id: str) -> Replica: ...
    def known_threads(self) -> Iterable[str]: ...
    def alist(self, config: RunnableConfig | None) -> Any: ...
    async def adelete_thread(self, thread_id: str) -> None: ...


async def thread_ids(transport: Transport) -> list[str]:
    """All threads, from Temporal's visibility store, which may lag behind by a moment."""
    prefix = f"{transport.options.id_prefix}/thread/"
    query = (
        f"WorkflowType = '{names.THREAD_WORKFLOW}' AND ExecutionStatus = 'Running' "
        f"AND WorkflowId STARTS_WITH '{prefix}'"
    )
    found = []
    async for execution in transport.client.list_workflows(query):
        # Child Workflows (namespaces) carry no memo.
        if "thread_id" in execution.raw_info.memo.fields:
            memo = await _memo(execution)
            unreadable = names.thread_id_of(transport.options.id_prefix, execution.id)
            found.append(str(memo.get("thread_id", unreadable)))
    return found


async def _memo(execution: WorkflowExecution) -> Mapping[str, Any]:
    """What a workflow carries for lists; nothing if it was encoded by a codec that is not here."""
    try:
        return await execution.memo()
    except Exception as exc:
        # The codec is the user's. Others are to be listed all the same.
        logger.warning("the memo of %r cannot be read: %s", execution.id, type(exc).__name__)
        return {}


async def began(transport: Transport, thread_id: str) -> datetime | None:
    """When a thread was made, without reading it; ``None``: there is none."""
    handle = transport.client.get_workflow_handle(transport.thread_workflow_id(thread_id))
    try:
        description = await handle.describe()
    except RPCError as exc:
        if exc.status is RPCStatusCode.NOT_FOUND:
            return None
        raise transport.translate(exc) from exc
    return description.start_time


async def runs_since(transport: Transport, since: datetime) -> dict[str, dict[str, bool]]:
    """By thread the runs that are open or were closed since then, and whether each is open; from
    the visibility store."""
    prefix = f"{transport.options.id_prefix}/run/"
    query = (
        f"WorkflowType = '{names.RUN_WORKFLOW}' AND WorkflowId STARTS_WITH '{prefix}' "
        f"AND (ExecutionStatus = 'Running' OR CloseTime > '{since.isoformat()}')"
    )
    found: dict[str, dict[str, bool]] = {}
    async for execution in transport.client.list_workflows(query):
        thread_id = str((await _memo(execution)).get("thread_id", ""))
        is_open = execution.status is WorkflowExecutionStatus.RUNNING
        found.setdefault(thread_id, {})[execution.id] = is_open
    return found


async def namespaces(saver: Saver, replica: Replica) -> list[str]:
    """Read a thread whole, and name its namespaces, the root first; none: no such thread."""
    if not await saver.reader.refresh_all(replica, ""):
        return []
    nested = sorted(replica.known_namespaces - {""})
    return ["", *[ns for ns in nested if await saver.reader.refresh_all(replica, ns)]]


# -- pruning ----------------------------------------------------------------------------------


async def prune(saver: Saver, threads: Iterable[str], strategy: str) -> None:
    """``"keep_latest"``: the latest checkpoint per namespace and what it is rebuilt from."""
    if strategy not in ("keep_latest", "delete"):
        raise UsageError(f"Unknown prune strategy {strategy!r}; use 'keep_latest' or 'delete'.")
    for thread_id in threads:
        if strategy == "delete":
            await saver.adelete_thread(thread_id)
            continue
        replica = _recorded(saver, thread_id)
        for ns in await namespaces(saver, replica):
            await drop(saver, replica, ns, lambda ids: ids[:-1])


async def retain(saver: Saver, thread_id: str, retention: Retention) -> None:
    """Drop what a retention does not keep, with the nested namespaces of what is dropped."""
    replica = _recorded(saver, thread_id)
    found = await namespaces(saver, replica)
    if not found:
        return
    tasks = replica.task_checkpoints()
    cutoff = datetime.now(UTC) - retention.max_age if retention.max_age else None

    def doomed(ids: list[str]) -> list[str]:
        # The latest is the thread's state, with its pending interrupts.
        older = ids[:-1]
        if retention.last is not None:
            older = ids[: -retention.last]
        return older if cutoff is None else [i for i in older if _made(i) < cutoff]

    gone = set(await drop(saver, replica, "", doomed, compact=False))
    over = []
    for ns in found[1:]:
        # Named after the task it ran in, which belongs to a checkpoint that is no more.
        task_id = task_of(ns)
        if tasks.get(task_id) in gone:
            over.append(ns)
        else:
            await drop(saver, replica, ns, doomed, compact=False)
    if over:
        await saver.transport.append(thread_id, "", AppendRequest(close=tuple(over)))


def _recorded(saver: Saver, thread_id: str) -> Replica:
    """The thread as the log has it: an attempt of this process folds into the shared replica what
    is not recorded yet, and what is dropped must not be chosen by that."""
    return Replica(thread_id, saver.reader.blobs)


def _made(checkpoint_id: str) -> datetime:
    """When a checkpoint was made: LangGraph's ids are UUIDs of version 6."""
    try:
        stamp = UUID(checkpoint_id)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    if stamp.version != 6:
        return datetime.max.replace(tzinfo=UTC)
    ticks = (stamp.int >> 80) << 12 | ((stamp.int >> 64) & 0xFFF)
    return UUID6_EPOCH + timedelta(microseconds=ticks // 10)


async def drop(
    saver: Saver,
    replica: Replica,
    ns: str,
    choose: Callable[[list[str]], Iterable[str]],
    *,
    compact: bool = True,
) -> list[str]:
    """Drop the chosen ones of a namespace's checkpoints (oldest first)."""
    known = replica.checkpoint_ids(ns)
    doomed = sorted(choose(known))
    if doomed:
        op = Op(kind=OpKind.DROP, dropped=tuple(doomed))
        latest = max(set(known).difference(doomed), default="")
        request = AppendRequest(ops=(pack(op),), compact=compact, latest=latest)
        await saver.transport.append(replica.thread_id, ns, request)
    return doomed


async def delete_for_runs(saver: Saver, run_ids: set[str]) -> None:
    """Drop the checkpoints of runs, by the ``run_id`` in their metadata."""
    threads = dict.fromkeys(saver.known_threads())
    threads.update(dict.fromkeys(await thread_ids(saver.transport)))
    unread: list[str] = []
    problem: Exception | None = None
    for thread_id in threads:
        doomed: dict[str, set[str]] = {}
        try:
            async for item in saver.alist({"configurable": {"thread_id": thread_id}}):
                if item.metadata.get("run_id") in run_ids:
                    ns = item.config["configurable"].get("checkpoint_ns", "")
                    doomed.setdefault(ns, set()).add(item.checkpoint["id"])
        except WHOLE_DEPLOYMENT:
            raise
        except Exception as exc:
            unread.append(thread_id)
            problem = exc
            continue
        replica = _recorded(saver, thread_id)
        for ns, chosen in doomed.items():
            await saver.reader.refresh_all(replica, ns)
            await drop(saver, replica, ns, chosen.intersection)
    if problem is not None:
        raise StorageError(
            f"{len(unread)} of {len(threads)} threads cannot be read ({unread[:3]}; {problem}), so "
            "checkpoints of the runs may be left there. The other threads are done."
        ) from problem


async def undo_runs(saver: Saver, thread_id: str, run_ids: frozenset[str]) -> None:
    """Drop what runs have made, by the run each op was written in; may be repeated."""
    replica = _recorded(saver, thread_id)
    for ns in await namespaces(saver, replica):
        ops = await _whole_log(saver.reader, thread_id, ns)
        made = {op.checkpoint_id for op in ops if op.kind == OpKind.PUT and op.run_id in run_ids}
        await drop(saver, replica, ns, made.intersection)
    request = AppendRequest(undone=tuple(sorted(run_ids)))
    await saver.transport.append(thread_id, "", request)


# -- copying ----------------------------------------------------------------------------------


async def copy_thread(saver: Saver, source: str, target: str) -> None:
    """Append the whole log of each namespace of one thread to another, large values included.

    Then tell the target where the source stands, which ops alone do not say: its graph, and whether
    it is at a breakpoint. It takes that over if it came to the same checkpoint.
    """
    reader = saver.reader
    first = await reader.read(source, "", ReadRequest())
    if first is None:
        return
    copied: set[str] = set()
    todo = [""]
    while todo:
        ns = todo.pop()
        copied.add(ns)
        ops = await _whole_log(reader, source, ns)
        await _copy_blobs(reader.blobs, source, target, [r for op in ops for r in blobs_of(op)])
        opened = {name for op in ops for name in op.opened}
        todo += sorted(opened - copied - set(todo))
        for batch in _batches([op for op in ops if op.kind != OpKind.OPEN]):
            await saver.transport.append(target, ns, AppendRequest(ops=batch))
    reply = await reader.read(source, "", ReadRequest(cursor=UNBOUNDED_CURSOR, standing=True))
    if reply is not None and reply.summary is not None:
        stands = AppendRequest(
            graph=reply.summary.graph, standing=reply.standing, status=reply.summary.status
        )
        await saver.transport.append(target, "", stands)
    if first.spent:
        await saver.transport.append(target, "", AppendRequest(ops=(), spent=first.spent))


async def _whole_log(reader: Reader, thread_id: str, ns: str) -> list[Op]:
    for _ in range(REWRITES):
        # Archives that are rewritten under the reader are read again.
        with contextlib.suppress(BlobGoneError):
            return await _read_log(reader, thread_id, ns)
    raise StorageError(
        f"Part of thread {thread_id!r} cannot be read: its archives were removed or rewritten "
        f"{REWRITES} times meanwhile. Nothing was changed; call again."
    )


async def _read_log(reader: Reader, thread_id: str, ns: str) -> list[Op]:
    ops: list[Op] = []
    incarnation, cursor = "", 0
    while True:
        request = ReadRequest(incarnation=incarnation, cursor=cursor)
        reply = await reader.read(thread_id, ns, request)
        if reply is None:
            return ops
        page = reply.page
        if page.start > cursor or page.incarnation != incarnation:
            # From the beginning, also when the archives were rewritten meanwhile.
            ops = [op for part in await reader.segments(thread_id, page.segments) for op in part]
        ops += await reader.whole(thread_id, page.ops)
        incarnation, cursor = page.incarnation, page.start + len(page.ops)
        if not page.more:
            return ops


async def _copy_blobs(blobs: BlobStore, source: str, target: str, refs: list[BlobRef]) -> None:
    for ref in dict.fromkeys(refs):
        data = await blobs.fetch(source, ref)
        await blobs.upload(target, [Upload(ref=ref, data=data, what="a copied value")])


def _batches(ops: Iterable[Op]) -> Iterable[tuple[bytes, ...]]:
    batch: list[bytes] = []
    size = 0
    for op in ops:
        # The runs are the source's: purging the copy must not touch them.
        data = pack(replace(as_sent(op), run_id="", attempt=0))
        if batch and size + len(data) > BATCH_BYTES:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    if batch:
        yield tuple(batch)


# -- deleting ---------------------------------------------------------------------------------


async def purge(saver: Saver, thread_id: str) -> None:
    """Delete a thread and, from Temporal too, the closed executions that show what it held."""
    transport = saver.transport
    ops: list[Op] = []
    opened: set[str] = {""}
    for ns in await namespaces(saver, saver.replica(thread_id)):
        ops += await _whole_log(saver.reader, thread_id, ns)
        opened.add(ns)
    runs = {op.run_id for op in ops if op.run_id}
    reply = await saver.reader.read(thread_id, "", ReadRequest(erasing=True))
    runs.update(reply.runs if reply is not None else ())
    await saver.adelete_thread(thread_id)
    workflow_ids = [transport.thread_workflow_id(thread_id, ns) for ns in opened]
    workflow_ids += [transport.run_workflow_id(run) for run in runs]
    for workflow_id in workflow_ids:
        await _delete_executions(transport, workflow_id)


async def _delete_executions(transport: Transport, workflow_id: str) -> None:
    """All closed executions of a workflow id: the latest, and those that visibility knows."""
    handle = transport.client.get_workflow_handle(workflow_id)
    try:
        latest = await handle.describe()
    except RPCError as exc:
        if exc.status is not RPCStatusCode.NOT_FOUND:
            raise
    else:
        # A running one is another life of the thread, begun since.
        if latest.status is not WorkflowExecutionStatus.RUNNING:
            await delete_execution(transport.client, workflow_id, latest.run_id)
    query = f"WorkflowId = '{workflow_id}' AND ExecutionStatus != 'Running'"
    async for execution in transport.client.list_workflows(query):
        await delete_execution(transport.client, workflow_id, execution.run_id)
