"""Shared: what is done to whole threads: prune, retain, undo, copy, purge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from ..errors import StorageError, UsageError
from ..options import Retention
from ..protocol.blob import Upload
from ..protocol.log import as_sent, blobs_of
from ..protocol.messages import AppendRequest, ReadRequest
from ..protocol.stored import BlobRef, Op, OpKind
from ..protocol.wire import pack
from ..seam.private import task_of
from .blobs import BlobGoneError, BlobStore, delete_execution
from .reader import Reader
from .replica import Replica
from .rpc import WHOLE_DEPLOYMENT, is_gone
from .store import Store
from .thread_client import UNBOUNDED_CURSOR, Transport
from .visibility import thread_ids

BATCH_BYTES = 400_000
"""Ops in one Update of a copy."""

REWRITES = 5
"""How often a log is read anew because its archives were rewritten meanwhile."""

UUID6_EPOCH = datetime(1582, 10, 15, tzinfo=UTC)


async def namespaces(store: Store, replica: Replica) -> list[str]:
    """Read a thread whole, and name its namespaces, the root first; none: no such thread."""
    if not await store.reader.refresh_all(replica, ""):
        return []
    nested = sorted(replica.known_namespaces - {""})
    return ["", *[ns for ns in nested if await store.reader.refresh_all(replica, ns)]]


# -- pruning ----------------------------------------------------------------------------------


async def prune(store: Store, threads: Iterable[str], strategy: str) -> None:
    """``"keep_latest"``: the latest checkpoint per namespace and what it is rebuilt from."""
    if strategy not in ("keep_latest", "delete"):
        raise UsageError(f"Unknown prune strategy {strategy!r}; use 'keep_latest' or 'delete'.")
    for thread_id in threads:
        if strategy == "delete":
            await store.delete(thread_id)
            continue
        replica = store.recorded(thread_id)
        dropped = [
            ns
            for ns in await namespaces(store, replica)
            if await drop(store, replica, ns, lambda ids: ids[:-1])
        ]
        await _leave(store, thread_id, dropped)


async def retain(store: Store, thread_id: str, retention: Retention) -> None:
    """Drop what a retention does not keep, with the nested namespaces of what is dropped.

    Runs follow each other faster than this is done, so several may be at one thread at once, and
    what one of them has read is old when it writes. Therefore a checkpoint goes with its namespaces
    by one Update; whether a namespace goes is told by what the log has dropped, whoever did it. One
    that is gone since it was read is opened anew by the drop of its checkpoints, and then closed as
    one that holds nothing (``worker/shelving.py``).
    """
    replica = store.recorded(thread_id)
    found = await namespaces(store, replica)
    if not found:
        return
    cutoff = datetime.now(UTC) - retention.max_age if retention.max_age else None

    def doomed(ids: list[str]) -> list[str]:
        # The latest is the thread's state, with its pending interrupts.
        older = ids[:-1]
        if retention.last is not None:
            older = ids[: -retention.last]
        return older if cutoff is None else [i for i in older if _made(i) < cutoff]

    nested = found[1:]
    # A namespace is named after the task it ran in, which belongs to a checkpoint.
    owners = {ns: replica.checkpoints_of(task_of(ns)) for ns in nested}
    used = {task_of(ns) for ns in await _in_use(store, thread_id)}
    in_use = {c for ns in nested if task_of(ns) in used for c in owners[ns]}
    gone = set(doomed(replica.checkpoint_ids(""))) - in_use
    no_more = gone | replica.dropped("")
    over = [ns for ns in nested if task_of(ns) not in used and owners[ns] and owners[ns] <= no_more]
    await drop(store, replica, "", gone.intersection, compact=False, close=over)
    left = [
        ns
        for ns in nested
        if ns not in over and await drop(store, replica, ns, doomed, compact=False)
    ]
    await _leave(store, thread_id, left)


async def _in_use(store: Store, thread_id: str) -> tuple[str, ...]:
    """Namespaces that a run may be using: open ones, while some run has the thread.

    It may have gone back to a checkpoint that is about to be dropped, to answer an old question.
    The end of that run is soon enough for those. A run that begins later cannot go back to what is
    dropped by then.
    """
    reply = await store.reader.read(thread_id, "", ReadRequest(cursor=UNBOUNDED_CURSOR))
    active = reply is not None and reply.summary is not None and reply.summary.active_run
    return reply.namespaces if reply is not None and active else ()


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
    store: Store,
    replica: Replica,
    ns: str,
    choose: Callable[[list[str]], Iterable[str]],
    *,
    compact: bool = True,
    close: Sequence[str] = (),
) -> list[str]:
    """Drop the chosen ones of a namespace's checkpoints (oldest first), and whole namespaces with
    them, which only the thread itself (``ns`` "") can."""
    known = replica.checkpoint_ids(ns)
    doomed = sorted(choose(known))
    request = AppendRequest(close=tuple(close))
    if doomed:
        op = Op(kind=OpKind.DROP, dropped=tuple(doomed))
        latest = max(set(known).difference(doomed), default="")
        request = replace(request, ops=(pack(op),), compact=compact, latest=latest)
    if doomed or close:
        await store.transport.append(replica.thread_id, ns, request)
    return doomed


async def _leave(store: Store, thread_id: str, namespaces: Iterable[str]) -> None:
    """Whoever has written to nested namespaces is done with them: they may be closed again."""
    over = tuple(ns for ns in namespaces if ns)
    if over:
        await store.transport.append(thread_id, "", AppendRequest(over=over))


async def delete_for_runs(store: Store, run_ids: set[str]) -> None:
    """Drop the checkpoints of runs, by the ``run_id`` in their metadata."""
    threads = dict.fromkeys(store.replicas)
    threads.update(dict.fromkeys(await thread_ids(store.transport)))
    unread: list[str] = []
    problem: Exception | None = None
    for thread_id in threads:
        doomed: dict[str, set[str]] = {}
        try:
            async for item in store.checkpoints({"configurable": {"thread_id": thread_id}}):
                if item.metadata.get("run_id") in run_ids:
                    ns = item.config["configurable"].get("checkpoint_ns", "")
                    doomed.setdefault(ns, set()).add(item.checkpoint["id"])
        except WHOLE_DEPLOYMENT:
            raise
        except Exception as exc:
            unread.append(thread_id)
            problem = exc
            continue
        replica = store.recorded(thread_id)
        for ns, chosen in doomed.items():
            await store.reader.refresh_all(replica, ns)
            await drop(store, replica, ns, chosen.intersection)
        await _leave(store, thread_id, doomed)
    if problem is not None:
        raise StorageError(
            f"{len(unread)} of {len(threads)} threads cannot be read ({unread[:3]}; {problem}), so "
            "checkpoints of the runs may be left there. The other threads are done."
        ) from problem


async def undo_runs(store: Store, thread_id: str, run_ids: frozenset[str]) -> None:
    """Drop what runs have made, by the run each op was written in; may be repeated."""
    replica = store.recorded(thread_id)
    dropped = []
    for ns in await namespaces(store, replica):
        ops = await _whole_log(store.reader, thread_id, ns)
        made = {op.checkpoint_id for op in ops if op.kind == OpKind.PUT and op.run_id in run_ids}
        if await drop(store, replica, ns, made.intersection):
            dropped.append(ns)
    await _leave(store, thread_id, dropped)
    request = AppendRequest(undone=tuple(sorted(run_ids)))
    await store.transport.append(thread_id, "", request)


# -- copying ----------------------------------------------------------------------------------


async def copy_thread(store: Store, source: str, target: str) -> None:
    """Append the whole log of each namespace of one thread to another, large values included.

    Then tell the target where the source stands, which ops alone do not say: its graph, and whether
    it is at a breakpoint. It takes that over if it came to the same checkpoint.
    """
    reader = store.reader
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
            await store.transport.append(target, ns, AppendRequest(ops=batch))
    reply = await reader.read(source, "", ReadRequest(cursor=UNBOUNDED_CURSOR, standing=True))
    if reply is not None and reply.summary is not None:
        stands = AppendRequest(
            graph=reply.summary.graph, standing=reply.standing, status=reply.summary.status
        )
        await store.transport.append(target, "", stands)
    if first.spent:
        await store.transport.append(target, "", AppendRequest(ops=(), spent=first.spent))
    await _leave(store, target, sorted(copied))


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


async def purge(store: Store, thread_id: str) -> None:
    """Delete a thread and, from Temporal too, the closed executions that show what it held."""
    transport = store.transport
    ops: list[Op] = []
    opened: set[str] = {""}
    for ns in await namespaces(store, store.replica(thread_id)):
        ops += await _whole_log(store.reader, thread_id, ns)
        opened.add(ns)
    runs = {op.run_id for op in ops if op.run_id}
    reply = await store.reader.read(thread_id, "", ReadRequest(erasing=True))
    runs.update(reply.runs if reply is not None else ())
    await store.delete(thread_id)
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
        if not is_gone(exc):
            raise
    else:
        # A running one is another life of the thread, begun since.
        if latest.status is not WorkflowExecutionStatus.RUNNING:
            await delete_execution(transport.client, workflow_id, latest.run_id)
    query = f"WorkflowId = '{workflow_id}' AND ExecutionStatus != 'Running'"
    async for execution in transport.client.list_workflows(query):
        await delete_execution(transport.client, workflow_id, execution.run_id)
