"""What an outbox sends, and in which order, against a log that applies steps in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self

import pytest

from langgraph_temporal_exec.errors import StorageError
from langgraph_temporal_exec.protocol.blob import Upload
from langgraph_temporal_exec.protocol.messages import StepReply, StepRequest, TaskSpec
from langgraph_temporal_exec.protocol.stored import BlobRef
from langgraph_temporal_exec.protocol.wire import unpack
from langgraph_temporal_exec.worker import outbox as outbox_module
from langgraph_temporal_exec.worker.outbox import Entry, Outbox


class Log:
    """Applies steps by their numbers, as the workflow of a thread does."""

    def __init__(self) -> None:
        self.ops: list[bytes] = []
        self.outcome = b""
        self.tasks: list[str] = []
        self.opened: list[str] = []
        self.batches: list[list[str]] = []
        self.cancelled: list[str] = []
        self.required: list[str] = []
        self.over: tuple[str, ...] = ()
        self.rejected: list[StorageError] = []
        self.broken: set[str] = set()
        self.released = asyncio.Event()
        self.stayed: list[int] = []
        self.repeated: list[int] = []
        self.answer: asyncio.Future[StepReply] = asyncio.get_running_loop().create_future()
        self._applied = 0
        self._moved = asyncio.Event()

    async def stay(self, request: StepRequest) -> StepReply:
        assert request.stays
        self.stayed.append(request.seq)
        await self.send(request)
        return await self.answer

    async def send(self, request: StepRequest) -> StepReply:
        while request.seq > self._applied:
            self._moved.clear()
            await self._moved.wait()
        if request.seq < self._applied:
            self.repeated.append(request.seq)
            return StepReply(over=bool(request.outcome))
        self.ops += request.ops
        self.tasks += [spec.key for spec in request.tasks]
        self.batches += [[spec.key for spec in request.tasks]] if request.tasks else []
        self.cancelled += request.cancel
        self.required += request.requires
        self.opened += request.open
        self.outcome = request.outcome or self.outcome
        self._applied += 1
        self._moved.set()
        return StepReply(ended=self.over if request.watch else ())

    async def store(self, uploads: Sequence[Upload]) -> None:
        await self.released.wait()
        if any(upload.what in self.broken for upload in uploads):
            raise StorageError("the disk is full")

    def outbox(self, *, carries: bool = False, stays: bool = False) -> Outbox:
        template = StepRequest(epoch=1, seq=0, run_id="r")
        return Outbox(
            template,
            self.send,
            self.store,
            self.rejected.append,
            carries=carries,
            stay=self.stay if stays else None,
        )


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


async def test_a_task_that_nobody_waits_for_is_cancelled_and_not_required() -> None:
    log = Log()
    outbox = log.outbox()
    outbox.put(Entry(op=b"first"), "c1", None)
    for key in ("a", "b"):
        outbox.dispatch(TaskSpec(key=key, node="n", queue="q"), "c1", stored=False)
    await outbox.flush()
    outbox.cancel("a")
    await outbox.flush()
    outbox.put(Entry(op=b"second"), "c2", "c1")
    await outbox.flush()
    assert (log.cancelled, log.required) == (["a"], ["b"])


async def test_one_that_was_not_sent_is_not_sent_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MAX_RUNNING", 1)
    log = Log()
    outbox = log.outbox()
    outbox.put(Entry(op=b"first"), "c1", None)
    for key in ("a", "b"):
        outbox.dispatch(TaskSpec(key=key, node="n", queue="q"), "c1", stored=False)
    outbox.cancel("b")
    await outbox.flush()
    outbox.ended("a")
    await outbox.flush()
    assert (log.tasks, log.cancelled) == (["a"], [])


async def test_who_waits_learns_that_a_watched_task_is_over() -> None:
    log = Log()
    log.over = ("a",)
    told: list[str] = []
    template = StepRequest(epoch=1, seq=0, run_id="r")
    outbox = Outbox(template, log.send, log.store, log.rejected.append, None, told.append)
    outbox.put(Entry(op=b"first"), "c1", None)
    outbox.watch("a")
    outbox.dispatch(TaskSpec(key="a", node="n", queue="q"), "c1", stored=False)
    # It is on its way: not lost, and not over.
    outbox.watch("a")
    await outbox.flush()
    assert told == []
    outbox.watch("a")
    await outbox.flush()
    assert told == ["a"]
    outbox.again("a")
    await outbox.flush()
    assert log.tasks == ["a", "a"]


class Superstep:
    """An outbox whose log has task ``t1``, which is about to end."""

    def __init__(self) -> None:
        self.log = Log()
        self.log.released.set()
        self.outbox = self.log.outbox(carries=True)
        self.results: list[StepRequest | None] = []
        self.taken = True

    @classmethod
    async def begun(cls, *more: str) -> Self:
        made = cls()
        made.outbox.put(Entry(op=b"first"), "c1", None)
        for key in ("t1", *more):
            made.outbox.dispatch(TaskSpec(key=key, node="n", queue="q"), "c1", stored=False)
        await made.sent()
        return made

    async def sent(self) -> None:
        """The step of its task is in the log."""
        await self.outbox.flush()

    def report(self, step: bytes) -> bool:
        self.results.append(unpack(StepRequest, step) if step else None)
        return self.taken

    def finish(self, key: str = "t1") -> None:
        self.outbox.finished(key, b"result", self.report)
        self.outbox.ended(key)

    def follow(self, *, op: Entry | None = None, parcel: bytes = b"") -> None:
        self.outbox.put(op or Entry(op=b"second"), "c2", "c1")
        spec = TaskSpec(key="t2", node="n", queue="q", parcel=parcel)
        self.outbox.dispatch(spec, "c2", stored=False)


async def _until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 # what it looks at tells nobody
            await asyncio.sleep(0.001)


async def test_a_result_carries_the_step_that_follows_it() -> None:
    s = await Superstep.begun()
    s.outbox.finished("t1", b"result", s.report)
    assert s.results == []
    s.follow()
    await _until(lambda: s.results)
    (step,) = s.results
    assert step is not None
    assert (step.seq, step.ops, step.requires) == (1, (b"second",), ("t1",))
    assert [spec.key for spec in step.tasks] == ["t2"]
    # Its task begins: nothing of it is sent again, and nothing of it is waited for.
    s.outbox.ended("t1")
    s.outbox.started("t2")
    await s.outbox.flush()
    assert (s.log.ops, s.log.tasks) == ([b"first"], ["t1"])


async def test_a_step_whose_tasks_do_not_begin_is_sent_under_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_module, "CARRIED_QUIET_S", 0.01)
    s = await Superstep.begun()
    s.outbox.finished("t1", b"result", s.report)
    s.follow()
    await _until(lambda: s.log.tasks == ["t1", "t2"])
    assert [step and step.seq for step in s.results] == [1]
    assert s.log.ops == [b"first", b"second"]


async def test_whoever_flushes_does_not_wait_for_a_task_to_begin() -> None:
    s = await Superstep.begun()
    s.outbox.finished("t1", b"result", s.report)
    s.follow()
    await _until(lambda: s.results)
    await s.outbox.flush()
    assert s.log.tasks == ["t1", "t2"]


async def test_a_result_that_nothing_follows_goes_alone() -> None:
    s = await Superstep.begun()
    s.outbox.finished("t1", b"result", s.report)
    await _until(lambda: s.results)
    s.follow()
    await s.outbox.flush()
    assert s.results == [None]
    assert (s.log.ops, s.log.tasks) == ([b"first", b"second"], ["t1", "t2"])


async def test_only_the_last_task_of_a_superstep_waits() -> None:
    s = await Superstep.begun("other")
    s.finish("other")
    assert s.results == [None]
    s.outbox.finished("t1", b"result", s.report)
    assert s.results == [None]


async def test_a_step_that_needs_an_answer_is_not_carried() -> None:
    uploads = upload("blob")
    for op, parcel in ((None, b"parcel"), (Entry(op=b"second", uploads=uploads), b"")):
        s = await Superstep.begun()
        s.outbox.finished("t1", b"result", s.report)
        s.follow(op=op, parcel=parcel)
        await s.outbox.flush()
        assert s.results == [None]
        assert s.log.tasks == ["t1", "t2"]


async def test_the_end_of_a_run_does_not_wait_for_what_may_follow() -> None:
    s = await Superstep.begun()
    s.outbox.finished("t1", b"result", s.report)
    s.outbox.put(Entry(op=b"second"), "c2", "c1")
    await s.outbox.end(b"done")
    assert s.results == [None]
    assert (s.log.ops, s.log.required) == ([b"first", b"second"], ["t1"])


class Run(Superstep):
    """The same, of an attempt whose first step stays."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = self.log.outbox(carries=True, stays=True)

    async def sent(self) -> None:
        await _until(lambda: self.log.tasks)
        self.outbox.started("t1")

    def end(self) -> asyncio.Future[None]:
        """The last task has ended, and with it the run."""
        self.outbox.finished("t1", b"result", self.report)
        self.outbox.ended("t1")
        self.outbox.put(Entry(op=b"second"), "c2", "c1")
        return asyncio.ensure_future(self.outbox.end(b"done"))


async def test_the_last_result_carries_the_outcome() -> None:
    s = await Run.begun()
    end = s.end()
    await _until(lambda: s.results)
    (step,) = s.results
    assert step is not None
    assert (step.ops, step.outcome, step.requires) == ((b"second",), b"done", ("t1",))
    await asyncio.sleep(0.05)
    assert not end.done(), "nobody has said that it is recorded"
    s.log.answer.set_result(StepReply(log_end=7, over=True))
    await end
    assert (s.outbox.log_end, s.log.stayed, s.log.outcome) == (7, [0], b"")


@pytest.mark.parametrize("answer", [StepReply(), RuntimeError("no connection"), None])
async def test_the_outcome_goes_by_itself_if_nobody_says_that_it_is_recorded(
    answer: StepReply | Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workflow continues as new, or its answer is lost."""
    monkeypatch.setattr(outbox_module, "CARRIED_QUIET_S", 60.0 if answer else 0.01)
    s = await Run.begun()
    end = s.end()
    await _until(lambda: s.results)
    if isinstance(answer, StepReply):
        s.log.answer.set_result(answer)
    elif answer is not None:
        s.log.answer.set_exception(answer)
    await end
    assert [step and step.seq for step in s.results] == [1]
    assert (s.log.ops, s.log.outcome) == ([b"first", b"second"], b"done")


async def test_an_outcome_that_would_not_be_answered_is_not_carried() -> None:
    s = await Run.begun()
    s.log.answer.set_result(StepReply())
    await asyncio.sleep(0)
    await s.end()
    assert (s.results, s.log.outcome) == ([None], b"done")


async def test_a_first_step_whose_tasks_do_not_begin_is_sent_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_module, "CARRIED_QUIET_S", 0.01)
    s = Run()
    s.outbox.put(Entry(op=b"first"), "c1", None)
    s.outbox.dispatch(TaskSpec(key="t1", node="n", queue="q"), "c1", stored=False)
    await _until(lambda: s.log.repeated)
    await s.outbox.flush()
    assert (s.log.stayed, s.log.repeated, s.log.tasks) == ([0], [0], ["t1"])


async def test_a_first_step_that_is_answered_at_once_is_not_sent_again() -> None:
    """By a release that does not know of such steps."""
    s = Run()
    s.log.answer.set_result(StepReply())
    s.outbox.put(Entry(op=b"first"), "c1", None)
    s.outbox.dispatch(TaskSpec(key="t1", node="n", queue="q"), "c1", stored=False)
    await s.outbox.flush()
    assert (s.log.stayed, s.log.repeated, s.log.tasks) == ([], [], ["t1"])
    s = Run()
    s.log.answer.set_result(StepReply())
    s.outbox.put(Entry(op=b"first"), "c1", None)
    s.outbox.dispatch(TaskSpec(key="t1", node="n", queue="q"), "c1", stored=False)
    await _until(lambda: s.log.stayed)
    await s.outbox.flush()
    assert (s.log.stayed, s.log.repeated, s.log.tasks) == ([0], [], ["t1"])


async def test_what_is_held_waits_although_the_step_before_it_is_answered_late() -> None:
    """A quick task ends before it is noticed that it has begun."""
    s = await Run.begun()
    s.outbox.finished("t1", b"result", s.report)
    s.follow()
    await _until(lambda: s.results)
    s.outbox.ended("t1")
    s.outbox.started("t2")
    s.outbox.finished("t2", b"result", s.report)
    s.outbox.put(Entry(op=b"third"), "c3", "c2")
    # Long enough for the step of t2 to be over, not for the hold.
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(s.results) == 1
    end = asyncio.ensure_future(s.outbox.end(b"done"))
    await _until(lambda: len(s.results) == 2)
    s.log.answer.set_result(StepReply(over=True))
    await end
    assert [(step.ops, step.outcome) for step in s.results if step is not None] == [
        ((b"second",), b""),
        ((b"third",), b"done"),
    ]


async def test_the_first_step_with_tasks_stays() -> None:
    """Its checkpoint may have gone before, on a busy machine."""
    s = Run()
    s.outbox.put(Entry(op=b"first"), "c1", None)
    s.outbox._kick()
    await _until(lambda: s.log.ops)
    s.outbox.dispatch(TaskSpec(key="t1", node="n", queue="q"), "c1", stored=False)
    await s.sent()
    end = s.end()
    await _until(lambda: s.results)
    s.log.answer.set_result(StepReply(over=True))
    await end
    assert (s.log.stayed, s.log.outcome) == ([1], b"")


async def test_the_result_of_a_task_that_was_given_up_goes_before_its_checkpoint() -> None:
    s = await Superstep.begun()
    s.taken = False
    s.outbox.finished("t1", b"result", s.report)
    s.outbox.put(Entry(op=b"second"), "c2", "c1")
    await s.outbox.flush()
    assert s.log.ops == [b"first", b"result", b"second"]


async def test_so_it_does_if_a_step_that_cannot_be_carried_follows_at_once() -> None:
    s = await Superstep.begun()
    s.taken = False
    s.outbox.finished("t1", b"result", s.report)
    s.follow(parcel=b"parcel")
    await _until(lambda: s.log.tasks == ["t1", "t2"])
    assert s.log.ops == [b"first", b"result", b"second"]


async def test_what_is_held_is_reported_when_the_attempt_is_over() -> None:
    s = await Superstep.begun()
    s.outbox.finished("t1", b"result", s.report)
    s.outbox.fail(ValueError("superseded"))
    assert s.results == [None]


async def test_large_parcels_travel_in_several_steps() -> None:
    log = Log()
    outbox = log.outbox()
    outbox.put(Entry(op=b"first"), "c1", None)
    large = b"x" * (outbox_module.BATCH_BYTES // 2)
    for key in ("a", "b", "c"):
        spec = TaskSpec(key=key, node="n", queue="q", parcel=large)
        outbox.dispatch(spec, "c1", stored=False)
    await outbox.flush()
    assert log.batches == [["a", "b"], ["c"]]
