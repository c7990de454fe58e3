"""Public API: what the saver does to whole threads: prune, retain, copy, purge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from .blobs import BlobGoneError, BlobStore, delete_execution
from .errors import StorageError, UsageError
from .options import Retention
from .protocol import names
from .protocol.blob import Upload
from .protocol.log import as_sent, blobs_of
from .protocol.messages import (
    AppendRequest,
    ReadRequest,
)
from .protocol.stored import (
    BlobRef,
    Op,
    OpKind,
)
from .protocol.wire import pack
from .reader import Reader
from .replica import Replica
from .transport import Transport

BATCH_BYTES = 400_000
"""Ops in one Update of a copy."""

REWRITES = 5
"""How often a log is read anew because its archives were rewritten meanwhile."""

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
        thread_id = (await execution.memo()).get("thread_id")
        if thread_id is not None:
            found.append(str(thread_id))
    return found


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
        thread_id = str((await execution.memo()).get("thread_id", ""))
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
        task_id = ns.partition("|")[0].rpartition(":")[2]
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
    doomed = sorted(choose(replica.checkpoint_ids(ns)))
    if doomed:
        op = Op(kind=OpKind.DROP, dropped=tuple(doomed))
        request = AppendRequest(ops=(pack(op),), compact=compact)
        await saver.transport.append(replica.thread_id, ns, request)
    return doomed


async def delete_for_runs(saver: Saver, run_ids: set[str]) -> None:
    """Drop the checkpoints of runs, by the ``run_id`` in their metadata."""
    threads = dict.fromkeys(saver.known_threads())
    threads.update(dict.fromkeys(await thread_ids(saver.transport)))
    for thread_id in threads:
        doomed: dict[str, set[str]] = {}
        async for item in saver.alist({"configurable": {"thread_id": thread_id}}):
            if item.metadata.get("run_id") in run_ids:
                ns = item.config["configurable"].get("checkpoint_ns", "")
                doomed.setdefault(ns, set()).add(item.checkpoint["id"])
        replica = _recorded(saver, thread_id)
        for ns, chosen in doomed.items():
            await saver.reader.refresh_all(replica, ns)
            await drop(saver, replica, ns, chosen.intersection)


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
    """Append the whole log of each namespace of one thread to another, large values included."""
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
