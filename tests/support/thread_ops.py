"""Commands and ops by which unit tests drive a ``ThreadState``."""

from __future__ import annotations

from typing import Any

from langgraph_temporal_exec.protocol.messages import (
    AttachReply,
    AttachRequest,
    ReadRequest,
    StepRequest,
    TaskSpec,
    ThreadSummary,
)
from langgraph_temporal_exec.protocol.stored import BlobRef, Op, OpKind, Value
from langgraph_temporal_exec.protocol.wire import pack, unpack
from langgraph_temporal_exec.workflow.core.effects import Effect
from langgraph_temporal_exec.workflow.core.thread_log import ARCHIVE_BYTES, ThreadLog
from langgraph_temporal_exec.workflow.core.thread_state import ThreadState


def fresh(*, archive_bytes: int = ARCHIVE_BYTES, **fields: Any) -> ThreadState:
    log = ThreadLog(life="life", archive_bytes=archive_bytes)
    return ThreadState(log=log, summary=ThreadSummary(thread_id="t"), **fields)


def attach(
    state: ThreadState, run: str, attempt: int = 1, evict: str = ""
) -> tuple[AttachReply, list[Effect]]:
    return state.attach(
        AttachRequest(
            run_id=run,
            attempt=attempt,
            run_workflow_id=f"wf-{run}",
            evict=evict,
            task_queue="shared",
        )
    )


def step(state: ThreadState, seq: int, *, run: str = "r1", **parts: Any) -> StepRequest:
    return StepRequest(epoch=state.epoch, seq=seq, run_id=run, **parts)


def spec(key: str) -> TaskSpec:
    return TaskSpec(key=key, node="node", queue="pinned")


def put(checkpoint_id: str, *, size: int = 0) -> bytes:
    return pack(Op(kind=OpKind.PUT, checkpoint_id=checkpoint_id, checkpoint=b"x" * size))


def writes(checkpoint_id: str, task_id: str, channel: str) -> bytes:
    value = Value(channel=channel, key=0, type="msgpack", data=b"\x01")
    return pack(
        Op(kind=OpKind.WRITES, checkpoint_id=checkpoint_id, task_id=task_id, values=(value,))
    )


def drop(*checkpoint_ids: str) -> bytes:
    return pack(Op(kind=OpKind.DROP, dropped=checkpoint_ids))


def garbage(name: str) -> BlobRef:
    return BlobRef(size=1, scope="garbage", pieces=(name.encode(),), piece=1)


def logged(state: ThreadState) -> list[Op]:
    return [unpack(Op, data) for data in state.read(ReadRequest()).page.ops]


def logged_ids(state: ThreadState) -> list[str]:
    return [op.checkpoint_id for op in logged(state)]
