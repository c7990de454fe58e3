"""Public API: operations on whole threads behind the saver's prune, copy and delete methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from .errors import UsageError
from .protocol import names
from .protocol.messages import AppendRequest, Op, OpKind, ReadRequest, Value
from .protocol.wire import pack
from .transport import Transport

DELTA_COUNTERS = "counters_since_delta_snapshot"
"""Checkpoint metadata in which LangGraph names the DeltaChannels without a snapshot there."""


class _Saver(Protocol):
    _shared: Any

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


async def prune(saver: _Saver, threads: Iterable[str], strategy: str) -> None:
    """``"keep_latest"``: the latest checkpoint per namespace and what it is rebuilt from."""
    if strategy not in ("keep_latest", "delete"):
        raise UsageError(f"Unknown prune strategy {strategy!r}; use 'keep_latest' or 'delete'.")
    for thread_id in threads:
        if strategy == "delete":
            await saver.adelete_thread(thread_id)
            continue
        by_namespace = await _by_namespace(saver, thread_id)
        for ns, checkpoints in by_namespace.items():
            kept = _needed(checkpoints, next(iter(checkpoints)))
            await _drop(saver, thread_id, ns, checkpoints, checkpoints.keys() - kept)


def _needed(checkpoints: dict[str, CheckpointTuple], head: str) -> set[str]:
    """``head``, and the ancestors from which its DeltaChannels are rebuilt."""
    kept = {head}
    missing = set(cast(dict[str, Any], checkpoints[head].metadata).get(DELTA_COUNTERS) or ())
    missing -= set(checkpoints[head].checkpoint["channel_values"])
    current = checkpoints[head]
    while missing and current.parent_config is not None:
        parent = checkpoints.get(current.parent_config["configurable"]["checkpoint_id"])
        if parent is None:
            break
        kept.add(parent.checkpoint["id"])
        missing -= set(parent.checkpoint["channel_values"])
        current = parent
    return kept


async def delete_for_runs(saver: _Saver, run_ids: set[str]) -> None:
    """Drop the checkpoints of runs, by the ``run_id`` in their metadata."""
    for thread_id in await _candidates(saver):
        for ns, checkpoints in (await _by_namespace(saver, thread_id)).items():
            doomed = {c for c, t in checkpoints.items() if t.metadata.get("run_id") in run_ids}
            await _drop(saver, thread_id, ns, checkpoints, doomed)


async def _candidates(saver: _Saver) -> list[str]:
    """Threads this process knows, and those visibility knows (which lags behind)."""
    known = dict.fromkeys(saver._shared.replicas)
    known.update(dict.fromkeys(await thread_ids(saver._shared.transport)))
    return list(known)


async def copy_thread(saver: _Saver, source: str, target: str) -> None:
    """Append the whole log of each namespace of one thread to another."""
    transport: Transport = saver._shared.transport
    first = await transport.read(source, "", ReadRequest())
    if first is None:
        return
    for ns in ("", *first.namespaces):
        cursor, incarnation = 0, ""
        while True:
            reply = await transport.read(
                source, ns, ReadRequest(incarnation=incarnation, cursor=cursor)
            )
            if reply is None:
                break
            page = reply.page
            ops = tuple(op for op in page.ops if op)
            if ops:
                await transport.append(target, ns, AppendRequest(ops=ops))
            incarnation, cursor = page.incarnation, page.start + len(page.ops)
            if not page.more:
                break


async def _by_namespace(saver: _Saver, thread_id: str) -> dict[str, dict[str, CheckpointTuple]]:
    """Checkpoints by namespace and id, newest first."""
    found: dict[str, dict[str, CheckpointTuple]] = {}
    async for item in saver.alist({"configurable": {"thread_id": thread_id}}):
        ns = item.config["configurable"].get("checkpoint_ns", "")
        found.setdefault(ns, {})[item.checkpoint["id"]] = item
    return found


async def _drop(
    saver: _Saver,
    thread_id: str,
    ns: str,
    checkpoints: dict[str, CheckpointTuple],
    doomed: set[str],
) -> None:
    if not doomed:
        return
    stored = {v for c in doomed for v in checkpoints[c].checkpoint["channel_versions"].items()}
    referred = {
        v
        for c, t in checkpoints.items()
        if c not in doomed
        for v in t.checkpoint["channel_versions"].items()
    }
    op = Op(
        kind=OpKind.DROP,
        dropped=tuple(sorted(doomed)),
        values=tuple(
            Value(channel=channel, key=version, type="", data=b"")
            for channel, version in sorted(stored & referred, key=str)
        ),
    )
    await saver._shared.transport.append(thread_id, ns, AppendRequest(ops=(pack(op),)))
