"""One attempt of a run against a ``World``: what a session and its outboxes do, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol.messages import (
    AttachRequest,
    AttachStatus,
    Outcome,
    StepRequest,
    TaskOutput,
    TaskSpec,
    TaskStatus,
)
from langgraph_temporal_exec.protocol.wire import pack
from langgraph_temporal_exec.storage.reader import Reader
from langgraph_temporal_exec.values.ops import Encoded, Writer, put_op, writes_op
from langgraph_temporal_exec.worker.bound import BoundSaver
from langgraph_temporal_exec.worker.retry_input import PlannedInput
from langgraph_temporal_exec.worker.session import Session
from tests.support.model import Call, Put
from tests.support.world import THREAD, World

Recorded = Callable[[list[Call]], None]


@dataclass
class Sent:
    """An op that is folded here and not in the log yet. ``task``: the result of that task."""

    ns: str
    call: Call
    encoded: Encoded
    task: str = ""


@dataclass
class Attempt:
    """A granted attempt. ``recorded`` is told what is in the log, in its order."""

    world: World
    saver: TemporalSaver
    run_id: str
    number: int
    epoch: int
    incarnation: str
    recorded: Recorded
    life: object
    alone: bool = True
    # As in a ``Session``, whose ``load`` is borrowed.
    _existing: set[str] = field(default_factory=set)
    _loaded: set[str] = field(default_factory=lambda: {""})
    _lives: dict[str, str] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    unsent: list[Sent] = field(default_factory=list)
    last: tuple[str, StepRequest] | None = None
    ops: int = 0

    @classmethod
    def attach(
        cls, world: World, saver: TemporalSaver, run_id: str, number: int, recorded: Recorded
    ) -> Attempt:
        replica = saver._store.replica(THREAD)
        incarnation, cursor = replica.position("")
        request = AttachRequest(
            run_id=run_id,
            attempt=number,
            run_workflow_id=f"wf-{run_id}",
            incarnation=incarnation,
            cursor=cursor,
        )
        reply, effects = world.state(THREAD, "").attach(request)
        assert reply.status == AttachStatus.GRANTED
        assert reply.page is not None
        world.run(world.perform(THREAD, effects))
        page = reply.page
        if (
            not world.run(saver._store.reader.absorb(replica, "", page, reply.namespaces))
            or page.more
        ):
            world.run(saver._store.reader.refresh(replica, ""))
        attempt = cls(
            world=world,
            saver=saver,
            run_id=run_id,
            number=number,
            epoch=reply.epoch,
            incarnation=page.incarnation,
            recorded=recorded,
            life=replica.life(""),
            _existing={*reply.namespaces, *replica.opened} - {""},
        )
        replica.flush = attempt.flush
        return attempt

    @property
    def _reader(self) -> Reader:
        return self.saver._store.reader

    @property
    def replica(self) -> Any:
        return self.saver._store.replica(THREAD)

    def bound(self) -> BoundSaver:
        """The checkpointer of this attempt's graph."""
        session: Any = SimpleNamespace(
            thread_id=THREAD,
            replica=self.replica,
            load=self.load,
            note_answers=lambda *_: None,
        )
        return BoundSaver(self.saver._store, session, PlannedInput(input=None, config={}))

    async def load(self, ns: str) -> None:
        """What a session does before the first look at a namespace."""
        await Session.load(cast(Session, self), ns)

    def record(self, call: Call, *, task: str = "") -> None:
        """Fold a call here, and keep it to be sent."""
        self.world.run(self.load(call.ns))
        self.ops += 1
        writer = Writer(
            known=self.replica,
            scope=f"{self.run_id}.{self.number}.{self.ops}",
            piece_bytes=self.world.piece_bytes,
            run_id=self.run_id,
            attempt=self.number,
        )
        serde = self.saver.serde
        if isinstance(call, Put):
            made: tuple[Any, ...] = (call.checkpoint, call.metadata, call.versions)
            encoded = put_op(serde, call.config, *made, writer)
            self.heads[call.ns] = call.checkpoint["id"]
        else:
            encoded = writes_op(
                serde, call.config, call.writes, call.task_id, call.task_path, writer
            )
        self.saver._store.reader.blobs.hold(encoded.uploads)
        self.replica.fold_local(call.ns, encoded.op)
        self.unsent.append(Sent(ns=call.ns, call=call, encoded=encoded, task=task))

    def start_task(self, ns: str, key: str) -> None:
        """Schedule a task's Activity."""
        self.world.run(self._step(ns, tasks=(TaskSpec(key=key, node="node", queue="q"),)))

    async def deliver(self, sent: Sent, *, lost: bool) -> None:
        """The result of a task arrives; ``lost``: as an op, because its Activity was lost."""
        self.unsent.remove(sent)
        await self._upload([sent])
        state = self.world.state(THREAD, sent.ns)
        if lost:
            state.task_lost(sent.task, self.epoch)
            await self._step(sent.ns, ops=(sent.encoded.data,), extra=True)
        else:
            output = TaskOutput(status=TaskStatus.FINISHED, op=sent.encoded.data)
            effects = state.task_ended(sent.task, self.epoch, output)
            await self.world.perform(THREAD, effects)
        self.recorded([sent.call])

    async def flush(self, ns: str) -> None:
        """Send what is waiting for one namespace; results of tasks go first."""
        for sent in [s for s in self.unsent if s.ns == ns and s.task]:
            await self.deliver(sent, lost=False)
        batch = [s for s in self.unsent if s.ns == ns]
        self.unsent = [s for s in self.unsent if s.ns != ns]
        await self._upload(batch)
        if batch:
            await self._step(ns, ops=tuple(s.encoded.data for s in batch))
        self.recorded([s.call for s in batch])

    def repeat(self) -> None:
        """The last step is sent again: its reply was lost."""
        if self.last is not None:
            ns, request = self.last
            state = self.world.state(THREAD, ns)
            assert state.ready(request)
            assert state.step(request) == []

    async def end(self) -> None:
        """Record the outcome."""
        for ns in dict.fromkeys([*(s.ns for s in self.unsent), ""]):
            await self.flush(ns)
        await self._step("", outcome=pack(Outcome(status="done", attempt=self.number)))
        self.replica.flush = None
        self.replica.caught_up(
            "", self.incarnation, self.world.state(THREAD, "").outcome_end, self.life
        )

    def superseded(self) -> None:
        """A newer attempt has the run: nothing of this one is recorded any more."""
        assert self.world.state(THREAD, "").refuses(self.epoch)
        for sent in self.unsent:
            self.saver._store.reader.blobs.release(sent.encoded.uploads)
            if sent.task:
                output = TaskOutput(status=TaskStatus.FINISHED, op=sent.encoded.data)
                late = self.world.state(THREAD, sent.ns).task_ended(sent.task, self.epoch, output)
                assert late == []
        self.replica.flush = None
        self.replica.forget()

    async def _upload(self, batch: list[Sent]) -> None:
        blobs = self.saver._store.reader.blobs
        for sent in batch:
            await blobs.upload(THREAD, sent.encoded.uploads)
            blobs.release(sent.encoded.uploads)

    async def _step(self, ns: str, **parts: Any) -> None:
        if ns and ns not in self.seqs:
            self.seqs[ns] = 0
            await self._step("", open=(ns,))
        seq = self.seqs.get(ns, 0)
        request = StepRequest(
            epoch=self.epoch,
            seq=seq,
            run_id=self.run_id,
            life=self._lives.get(ns, ""),
            **parts,
        )
        state = self.world.state(THREAD, ns)
        await self.world.perform(THREAD, state.enter_epoch(self.epoch))
        assert not state.refuses(self.epoch)
        assert not state.is_another(request)
        assert state.ready(request)
        assert not state.missing(request)
        await self.world.perform(THREAD, state.step(request))
        if not request.extra:
            self.seqs[ns] = seq + 1
            self.last = (ns, request)
