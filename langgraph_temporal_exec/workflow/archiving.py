"""Workflow side: the Activities that keep a thread small, as its workflow asks for them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from ..protocol import names
    from ..protocol.messages import (
        ArchiveReply,
        ArchiveRequest,
        CloseReply,
        CloseRequest,
        DiscardRequest,
        EraseRequest,
        ReopenReply,
        ReopenRequest,
        RetireReply,
        RetireRequest,
    )
    from ..protocol.stored import BlobRef
    from ..protocol.wire import pack, unpack

ARCHIVE_TIMEOUT = timedelta(minutes=5)

BEAT_TIMEOUT = timedelta(seconds=10)
"""Until a worker that died while it closed namespaces, or opened them again, is noticed: somebody
may wait for them."""

MAX_PAUSE_S = 3_600.0
"""Of namespaces that cannot be closed, for ever maybe: each try is three events."""

PAUSE_S = 30.0
"""Pause before an archive that cannot be made as asked for is asked for again."""

DISCARD_TIMEOUT = timedelta(minutes=3)
"""Nothing is archived meanwhile; what is left after it goes with the thread."""

ERASE_TIMEOUT = timedelta(minutes=10)
ERASE_GIVE_UP = timedelta(days=30)
"""Workers may be away for long after a deletion; nobody else removes what is left."""

BACK_OFF = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)
)


async def archive(request: ArchiveRequest, queue: str) -> ArchiveReply | None:
    """Move a log into archives; ``None`` when it was not done."""
    summary = "rewrite the archives" if request.compact else "move the log into archives"
    result = await _done(names.ARCHIVE_ACTIVITY, pack(request), queue, summary, beats=None)
    return None if result is None else unpack(ArchiveReply, result)


async def close(request: CloseRequest, queue: str) -> CloseReply | None:
    """Put namespaces that have ended on shelves; ``None`` when it was not done."""
    summary = f"keep {len(request.namespaces)} namespaces that have ended"
    result = await _done(names.CLOSE_ACTIVITY, pack(request), queue, summary)
    return None if result is None else unpack(CloseReply, result)


async def retire(request: RetireRequest, queue: str) -> RetireReply | None:
    """Let the workflows of namespaces end that are on shelves; ``None`` when it was not done."""
    summary = f"close {len(request.closed)} namespaces"
    result = await _done(names.RETIRE_ACTIVITY, pack(request), queue, summary)
    return None if result is None else unpack(RetireReply, result)


async def reopen(request: ReopenRequest, queue: str) -> ReopenReply | None:
    """Take a closed namespace from its shelf; ``None`` when it was not done."""
    summary = f"open {request.namespace} again"[:200]
    result = await _done(names.REOPEN_ACTIVITY, pack(request), queue, summary)
    return None if result is None else unpack(ReopenReply, result)


async def _done(
    kind: str, request: bytes, queue: str, summary: str, *, beats: timedelta | None = BEAT_TIMEOUT
) -> bytes | None:
    try:
        result: bytes = await workflow.execute_activity(
            kind,
            request,
            task_queue=queue,
            result_type=bytes,
            summary=summary,
            start_to_close_timeout=ARCHIVE_TIMEOUT,
            heartbeat_timeout=beats,
            retry_policy=BACK_OFF,
        )
    except (ActivityError, asyncio.CancelledError):
        return None
    return result


async def discard(thread_id: str, garbage: BlobRef, queue: str) -> None:
    """Remove blobs nothing refers to; those that cannot be removed go with the thread."""
    try:
        await workflow.execute_activity(
            names.DISCARD_ACTIVITY,
            pack(DiscardRequest(thread_id=thread_id, garbage=garbage)),
            task_queue=queue,
            summary="remove what was replaced",
            start_to_close_timeout=DISCARD_TIMEOUT,
            schedule_to_close_timeout=DISCARD_TIMEOUT,
            retry_policy=BACK_OFF,
        )
    except (ActivityError, asyncio.CancelledError):
        workflow.logger.warning("blobs nothing refers to were not removed")


async def erase(request: EraseRequest, queue: str) -> None:
    """Remove what a deleted thread keeps outside its history."""
    try:
        await workflow.execute_activity(
            names.ERASE_ACTIVITY,
            pack(request),
            task_queue=queue,
            summary="remove archives and large values",
            start_to_close_timeout=ERASE_TIMEOUT,
            schedule_to_close_timeout=ERASE_GIVE_UP,
            retry_policy=BACK_OFF,
        )
    except (ActivityError, asyncio.CancelledError) as exc:
        workflow.logger.warning("not all of the thread was removed: %s", exc)
