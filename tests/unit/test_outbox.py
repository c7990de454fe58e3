"""What an outbox sends, and in which order, against a log that applies steps in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from langgraph_temporal_exec.errors import StorageError
from langgraph_temporal_exec.protocol.blob import Upload
from langgraph_temporal_exec.protocol.messages import StepReply, StepRequest, TaskSpec
from langgraph_temporal_exec.protocol.stored import BlobRef
from langgraph_temporal_exec.worker import outbox as outbox_module
from langgraph_temporal_exec.worker.outbox import Entry, Outbox


class Log:
    """Applies steps by their numbers, as the workflow of a thread does."""

    def __init__(self) -> None:
        self.ops: list[bytes] = []
        self.tasks: list[str] = []
        self.opened: list[str] = []
        self.rejected: list[StorageError] = []
        self.broken: set[str] = set()
        self.released = asyncio.Event()
        self._applied = 0
        self._moved = asyncio.Event()

    async def send(self, request: StepRequest) -> StepReply:
        while request.seq != self._applied:
            self._moved.clear()
            await self._moved.wait()
        self.ops += request.ops
        self.tasks += [spec.key for spec in request.tasks]
        self.opened += request.open
        self._applied += 1
        self._moved.set()
        return StepReply()

    async def store(self, uploads: Sequence[Upload]) -> None:
        await self.released.wait()
        if any(upload.what in self.broken for upload in uploads):
            raise StorageError("the disk is full")

    def outbox(self) -> Outbox:
        template = StepRequest(epoch=1, seq=0, run_id="r")
        return Outbox(template, self.send, self.store, self.rejected.append)


def upload(what: str) -> tuple[Upload, ...]:
    return (Upload(ref=BlobRef(scope="s", size=1, piece=1, pieces=(b"p",)), data=b"x", what=what),)


async def test_nothing_follows_a_step_whose_blobs_were_not_stored() -> None:
    """What comes after it may be a difference to what is missing."""
    log = Log()
    log.broken = {"first"}
    outbox = log.outbox()
    outbox.put(Entry(op=b"first", uploads=upload("first")), "c1", None)
    outbox._kick()
    await asyncio.sleep(0.05)
    outbox.put(Entry(op=b"second"), "c2", "c1")
    outbox.dispatch(TaskSpec(key="t", node="n", queue="q"), "c2", stored=False)
    await asyncio.sleep(0.05)
    log.released.set()
    await outbox.end(b"failed")
    assert (log.ops, log.tasks) == ([], [])
    assert len(log.rejected) == 1


async def test_a_step_waits_for_the_blobs_of_results_it_requires() -> None:
    log = Log()
    outbox = log.outbox()
    outbox.put(Entry(op=b"first"), "c1", None)
    outbox.dispatch(TaskSpec(key="t", node="n", queue="q"), "c1", stored=False)
    await outbox.flush()
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    outbox.storing("t", stored)
    outbox.put(Entry(op=b"second"), "c2", "c1")
    await asyncio.sleep(0.05)
    assert log.ops == [b"first"]
    # Its blobs could not be stored.
    outbox.broken = True
    stored.set_result(None)
    await outbox.end(b"failed")
    assert log.ops == [b"first"]


async def test_a_namespace_is_open_while_tasks_wait_for_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that have the room may be those that wait for the namespace."""
    monkeypatch.setattr(outbox_module, "MAX_RUNNING", 2)
    log = Log()
    outbox = log.outbox()
    outbox.put(Entry(op=b"first"), "c1", None)
    for n in range(3):
        outbox.dispatch(TaskSpec(key=f"t{n}", node="n", queue="q"), "c1", stored=False)
    await asyncio.wait_for(outbox.open("n:1"), 30)
    assert log.opened == ["n:1"]
    assert log.tasks == ["t0", "t1"]


async def test_who_waits_for_a_namespace_hears_that_the_attempt_is_over() -> None:
    log = Log()
    outbox = log.outbox()
    outbox.put(Entry(op=b"first", uploads=upload("first")), "c1", None)
    opening = asyncio.ensure_future(outbox.open("n:1"))
    await asyncio.sleep(0.05)
    outbox.fail(ValueError("superseded"))
    with pytest.raises(ValueError, match="superseded"):
        await opening
    with pytest.raises(ValueError, match="superseded"):
        await outbox.open("n:2")
