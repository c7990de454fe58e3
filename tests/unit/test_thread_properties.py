"""Whatever happens to a thread, it reads like LangGraph's own saver after the same calls.

Random interleavings of what callers, attempts, archives, compaction and continue-as-new do, driven
through the real savers, replicas and upkeep (see ``tests/support/world.py``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from langgraph_temporal_exec import Retention, TemporalSaver
from langgraph_temporal_exec.protocol.messages import AppendRequest
from langgraph_temporal_exec.storage import maintenance
from tests.support.attempts import Attempt
from tests.support.model import DELTAS, DOCS, Call, Model, Put, Writes, address, text
from tests.support.thread_strategies import (
    EVENTS,
    LIMITS,
    NESTED,
    back,
    event,
    namespaces,
    processes,
    skews,
    supersteps,
    tasks,
    writes,
)
from tests.support.world import THREAD, World

COPY = "copy"


class ThreadMachine(RuleBasedStateMachine):
    """A thread with one nested namespace, two processes, and LangGraph's saver beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for module, name, value in LIMITS:
            self.patch.setattr(module, name, value)
        self.model = Model()
        self.attempt: Attempt | None = None
        self.runs = 0
        self.coming: dict[str, str] = {}
        self.calls: list[Call] = []
        self.fresh_tasks = 0

    @initialize(
        archive_bytes=st.sampled_from([1_500, 5_000]), piece_bytes=st.sampled_from([0, 500])
    )
    def begin(self, archive_bytes: int, piece_bytes: int) -> None:
        self.world = World(archive_bytes=archive_bytes, piece_bytes=piece_bytes)
        self.savers = [self.world.process() for _ in range(2)]

    @rule(data=st.data())
    def happens(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from([e for e in EVENTS if e.when(self)]), label="event")
        given = {name: data.draw(strategy) for name, strategy in chosen.given.items()}
        note(f"state.{chosen.name}({', '.join(f'{k}={v!r}' for k, v in given.items())})")
        getattr(self, chosen.name)(**given)

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.check_everything()
        finally:
            self.patch.undo()
            if hasattr(self, "world"):
                self.world.close()

    # -- calls from outside any run -----------------------------------------------------------

    @event(8, i=processes, ns=namespaces, age=back, steps=supersteps, skew=skews)
    def work(self, i: int, ns: str, age: int, steps: list[Any], skew: int) -> None:
        """Supersteps of a graph whose saver records each call by itself, from a checkpoint on."""
        self.settle(ns)
        parent = self.pick(ns, age)
        for given, new in steps:
            if parent is not None and given:
                self.make(i, self.new_writes(self.model, ns, parent, given, self.new_task()))
            call = self.new_put(self.model, ns, parent, new, skew=skew)
            self.make(i, call)
            parent = call.checkpoint["id"]

    @event(2, i=processes, ns=namespaces, age=back, given=writes, task=tasks)
    def write(self, i: int, ns: str, age: int, given: list[Any], task: str) -> None:
        self.settle(ns)
        target = self.pick(ns, age)
        if target is not None:
            self.make(i, self.new_writes(self.model, ns, target, given, task))

    @event(i=processes, ns=namespaces, given=writes, task=tasks)
    def write_before_its_checkpoint(self, i: int, ns: str, given: list[Any], task: str) -> None:
        target = self.coming.setdefault(ns, self.model.next_id())
        self.make(i, self.new_writes(self.model, ns, target, given, task))

    @event(when=lambda self: self.calls, i=processes)
    def repeat_the_last_call(self, i: int) -> None:
        """An Update whose reply was lost."""
        call = self.calls[-1]
        if self.names(call) not in self.model.dropped[call.ns]:
            self.make(i, call)

    # -- one run at a time --------------------------------------------------------------------

    @event(3, when=lambda self: self.attempt is None, i=processes)
    def start_run(self, i: int) -> None:
        self.runs += 1
        self.attach(i, 1)

    @event(when=lambda self: self.attempt is not None, i=processes)
    def take_over(self, i: int) -> None:
        assert self.attempt is not None
        old = self.attempt
        self.attach(i, old.number + 1, old)

    @event(
        8,
        when=lambda self: self.attempt is not None,
        ns=namespaces,
        age=back,
        steps=supersteps,
        flush=st.booleans(),
    )
    def run(self, ns: str, age: int, steps: list[Any], flush: bool) -> None:
        """Supersteps of the run: tasks as Activities, then the checkpoint they lead to."""
        attempt = self.attempt
        assert attempt is not None
        for given, new in steps:
            if (head := attempt.heads.get(ns)) and given:
                key = self.new_task()
                attempt.start_task(ns, key)
                attempt.record(self.new_writes(self.view(), ns, head, given, key), task=key)
            view = self.view()
            parent = head or self.pick(ns, age, view)
            attempt.record(self.new_put(view, ns, parent, new))
            if flush:
                self.world.run(attempt.flush(ns))

    @event(2, when=lambda self: self.attempt is not None, ns=namespaces, given=writes)
    def run_task(self, ns: str, given: list[Any]) -> None:
        """A task whose superstep does not end yet."""
        attempt = self.attempt
        assert attempt is not None
        if head := attempt.heads.get(ns):
            key = self.new_task()
            attempt.start_task(ns, key)
            attempt.record(self.new_writes(self.view(), ns, head, given, key), task=key)

    @event(2, when=lambda self: self.attempt is not None, n=st.integers(0, 3), lost=st.booleans())
    def deliver_a_result(self, n: int, lost: bool) -> None:
        assert self.attempt is not None
        results = [s for s in self.attempt.unsent if s.task]
        # The checkpoint a task ran from was sent with the task.
        results = [s for s in results if self.names(s.call) in self.stored(s.ns)]
        if results:
            self.world.run(self.attempt.deliver(results[n % len(results)], lost=lost))

    @event(2, when=lambda self: self.attempt is not None, ns=namespaces)
    def flush(self, ns: str) -> None:
        assert self.attempt is not None
        self.world.run(self.attempt.flush(ns))

    @event(when=lambda self: self.attempt is not None)
    def repeat_the_step(self) -> None:
        assert self.attempt is not None
        self.attempt.repeat()

    @event(3, when=lambda self: self.attempt is not None)
    def end_run(self) -> None:
        assert self.attempt is not None
        self.world.run(self.attempt.end())
        self.attempt = None

    # -- dropping -----------------------------------------------------------------------------

    @event(when=lambda self: self.attempt is None and self.calls, i=processes)
    def prune(self, i: int) -> None:
        self.world.run(self.savers[i].aprune([THREAD]))
        for ns in self.model.namespaces():
            self.model.dropped[ns].update(self.model.live(ns)[:-1])

    @event(
        2,
        when=lambda self: self.attempt is None and self.calls,
        i=processes,
        ns=namespaces,
        gone=st.sets(st.integers(0, 8)),
        compact=st.booleans(),
    )
    def drop(self, i: int, ns: str, gone: set[int], compact: bool) -> None:
        live = self.model.live(ns)
        doomed = {live[n] for n in gone if n < len(live)}
        process = self.savers[i]._store
        replica = process.replica(THREAD)
        self.world.run(process.reader.refresh_all(replica, ns))
        self.world.run(maintenance.drop(process, replica, ns, doomed.intersection, compact=compact))
        self.model.dropped[ns].update(doomed)

    @event(
        when=lambda self: self.attempt is None and self.calls, i=processes, last=st.integers(1, 4)
    )
    def retain(self, i: int, last: int) -> None:
        """The retention is applied when a run has ended."""
        self.world.run(maintenance.retain(self.savers[i]._store, THREAD, Retention(last=last)))
        for ns in self.model.namespaces():
            self.model.dropped[ns].update(self.model.live(ns)[:-last])

    @event(when=lambda self: self.attempt is None and self.world.exists(THREAD, NESTED))
    def close(self) -> None:
        """A nested namespace goes with the task it belonged to."""
        self.discard()
        request = AppendRequest(close=(NESTED,))
        self.world.run(self.world.transport.append(THREAD, "", request))
        self.model.close(NESTED)
        self.coming.pop(NESTED, None)
        self.calls = [c for c in self.calls if c.ns != NESTED]

    @event(when=lambda self: self.attempt is None and self.calls, i=processes)
    def copy(self, i: int) -> None:
        self.world.run(self.savers[i].acopy_thread(THREAD, COPY))
        process = self.world.process()
        for ns in self.model.namespaces():
            self.same_list(process, ns, COPY)
        self.world.run(self.world.end(COPY, ""))

    # -- upkeep -------------------------------------------------------------------------------

    def where(self, holds: Callable[[str], bool]) -> list[str]:
        """Namespaces that exist and of which something holds."""
        return [ns for ns in ("", NESTED) if self.world.exists(THREAD, ns) and holds(ns)]

    def wanting(self) -> list[str]:
        return self.where(lambda ns: self.world.state(THREAD, ns).wants_archive())

    def archiving(self) -> list[str]:
        return self.where(lambda ns: self.world.workflow_id(THREAD, ns) in self.world.archiving)

    def discarding(self) -> list[str]:
        return self.where(lambda ns: bool(self.world.state(THREAD, ns).log.discards))

    @event(6, when=lambda self: self.wanting(), at_once=st.booleans(), finish=st.booleans())
    def archive(self, at_once: bool, finish: bool) -> None:
        for ns in self.wanting():
            self.world.begin_archive(THREAD, ns, at_once=at_once)
            if finish:
                self.world.finish_archive(THREAD, ns)

    @event(4, when=lambda self: self.archiving(), fails=st.booleans())
    def archive_ends(self, fails: bool) -> None:
        for ns in self.archiving():
            end = self.world.give_up_archive if fails else self.world.finish_archive
            end(THREAD, ns)

    @event(3, when=lambda self: self.discarding())
    def discard(self) -> None:
        for ns in self.discarding():
            self.world.discard(THREAD, ns)

    @event(ns=namespaces)
    def continue_as_new(self, ns: str) -> None:
        if self.world.exists(THREAD, ns):
            self.world.roll(THREAD, ns)

    @event(when=lambda self: self.attempt is None, i=processes)
    def restart_process(self, i: int) -> None:
        self.savers[i] = self.world.process()

    @event(when=lambda self: self.attempt is None and len(self.calls) > 20, i=processes)
    def delete(self, i: int) -> None:
        self.discard()
        self.world.run(self.savers[i].adelete_thread(THREAD))
        assert not self.world.disk
        assert not self.world.states
        self.world.wasted = False
        self.model = Model(ids=self.model.ids, versions=self.model.versions)
        self.coming.clear()
        self.calls.clear()

    # -- reading ------------------------------------------------------------------------------

    @event(3, i=processes, ns=namespaces, kind=st.sampled_from(["latest", "one", "all"]), age=back)
    def read(self, i: int, ns: str, kind: str, age: int) -> None:
        process = self.reading(i)
        if kind == "latest":
            self.same_latest(process, ns)
        elif kind == "all":
            self.same_list(process, ns)
        elif (found := self.pick(ns, age)) is not None:
            self.same_checkpoint(process, ns, found)

    @event(3, ns=namespaces, age=back)
    def read_with_a_new_process(self, ns: str, age: int) -> None:
        if (found := self.pick(ns, age)) is not None:
            self.same_checkpoint(self.world.process(), ns, found)
        self.same_latest(self.world.process(), ns)

    @event(2, when=lambda self: self.attempt is not None and self.attempt.alone, ns=namespaces)
    def read_within_the_run(self, ns: str) -> None:
        assert self.attempt is not None
        bound, outside = self.attempt.bound(), self.model
        self.model = self.view()
        self.same_latest(bound, ns)
        self.model = outside

    # -- helpers ------------------------------------------------------------------------------

    def pick(self, ns: str, age: int, model: Model | None = None) -> str | None:
        """A checkpoint that is there: the latest, or one so many steps back."""
        live = (model or self.model).live(ns)
        return live[-1 - age % len(live)] if live else None

    def new_task(self) -> str:
        self.fresh_tasks += 1
        return f"of run {self.fresh_tasks}"

    def names(self, call: Call) -> str:
        return call.checkpoint["id"] if isinstance(call, Put) else call.checkpoint_id

    def stored(self, ns: str) -> Iterable[str]:
        return self.model.full.storage[THREAD][ns].keys()

    def view(self) -> Model:
        """The thread as the attempt sees it."""
        assert self.attempt is not None
        view = self.model.with_calls([s.call for s in self.attempt.unsent])
        view.ids, view.versions = self.model.ids, self.model.versions
        return view

    def reading(self, i: int) -> TemporalSaver:
        """A process that may be asked: what an attempt has not sent is seen only by itself."""
        if self.attempt is not None and self.attempt.saver is self.savers[i]:
            return self.world.process()
        return self.savers[i]

    def new_put(
        self, model: Model, ns: str, parent: str | None, new: dict[str, Any], skew: int = 0
    ) -> Put:
        found = model.full.get_tuple(address(ns, parent)) if parent else None
        held = dict(found.checkpoint["channel_values"]) if found else {}
        changed = dict(new)
        if "messages" in new:
            items = [{"id": f"m{n}", "content": text(n, size)} for n, size in new["messages"]]
            changed["messages"] = [*(held.get("messages") or [])[-8:], *items]
        if "files" in new:
            files = {name: text(n, size) for name, (n, size) in new["files"].items()}
            changed["files"] = {**(held.get("files") or {}), **files}
        if "doc" in new:
            changed["doc"] = DOCS[new["doc"]]
        checkpoint_id = self.coming.pop(ns, "") or model.next_id(skew=skew)
        call = model.put(ns, parent, changed, checkpoint_id)
        self.model.ids, self.model.versions = model.ids, model.versions
        return call

    def new_writes(self, model: Model, ns: str, target: str, given: list[Any], task: str) -> Writes:
        items = [
            (c, [{"content": text(*v)}] if isinstance(v, tuple) else f"value {v}") for c, v in given
        ]
        if model.children(ns, target):
            # A checkpoint is never recorded before the writes it was made from.
            items = [(c, v) for c, v in items if c not in DELTAS] or [("note", "late")]
        return Writes(
            ns=ns,
            checkpoint_id=target,
            writes=tuple(items),
            task_id=task,
            task_path="~path" if task == "task2" else "",
        )

    def settle(self, ns: str) -> None:
        """Let a run send what it has: nobody makes a child of a checkpoint before its writes."""
        if self.attempt is not None:
            self.world.run(self.attempt.flush(ns))

    def make(self, i: int, call: Call) -> None:
        """A call from outside any run."""
        process = self.savers[i]
        if isinstance(call, Put):
            made: tuple[Any, ...] = (call.checkpoint, call.metadata, call.versions)
            self.world.run(process.aput(call.config, *made))
        else:
            self.world.run(
                process.aput_writes(call.config, call.writes, call.task_id, call.task_path)
            )
        if self.attempt is not None:
            self.attempt.alone = False
        self.recorded([call])

    def recorded(self, calls: list[Call]) -> None:
        for call in calls:
            self.model.apply(call)
        self.calls += calls

    def attach(self, i: int, number: int, old: Attempt | None = None) -> None:
        workflow_id = self.world.workflow_id(THREAD, "")
        if self.world.state(THREAD, "").log.compacting and workflow_id in self.world.archiving:
            self.world.give_up_archive(THREAD, "")
        if old is not None and old.saver is self.savers[i]:
            old.replica.flush = None
            old.replica.forget()
        self.attempt = Attempt.attach(
            self.world, self.savers[i], f"run{self.runs}", number, self.recorded
        )
        if old is not None and old.saver is not self.savers[i]:
            old.superseded()

    # -- what must be the same ----------------------------------------------------------------

    def same_latest(self, process: TemporalSaver, ns: str) -> None:
        found = self.world.run(process.aget_tuple(address(ns)))
        assert found == self.model.view().get_tuple(address(ns))
        if found is not None:
            self.same_history(process, ns, found.checkpoint["id"])

    def same_checkpoint(self, process: TemporalSaver, ns: str, checkpoint_id: str) -> None:
        config = address(ns, checkpoint_id)
        found = self.world.run(process.aget_tuple(config))
        assert found == self.model.view().get_tuple(config)
        self.same_history(process, ns, checkpoint_id)

    def same_history(self, process: TemporalSaver, ns: str, checkpoint_id: str) -> None:
        channels = self.model.rebuilt(ns, checkpoint_id)
        config = address(ns, checkpoint_id)
        found = self.world.run(process.aget_delta_channel_history(config=config, channels=channels))
        assert found == self.model.full.get_delta_channel_history(config=config, channels=channels)

    def same_list(self, process: TemporalSaver, ns: str, thread_id: str = THREAD) -> None:
        config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}}

        async def listed() -> list[Any]:
            return [item async for item in process.alist(config)]

        found = self.world.run(listed())
        expected = list(self.model.view().list(address(ns)))
        for item in found:
            item.config["configurable"]["thread_id"] = THREAD
            if item.parent_config is not None:
                item.parent_config["configurable"]["thread_id"] = THREAD
        assert found == expected

    def check_everything(self) -> None:
        if not self.world.wasted:
            self.discard()
            known = self.world.referenced(THREAD, ("", NESTED))
            pending = [r for _, r in self.world.archiving.values() if r is not None]
            if not pending:
                left = sorted(self.world.blobs_of(THREAD) - known)
                assert left == [], left
        cold = self.world.process()
        for ns in ("", NESTED):
            self.same_latest(cold, ns)
        for process in (cold, *(self.reading(i) for i in range(2))):
            for ns in ("", NESTED):
                self.same_list(process, ns)
                for checkpoint_id in self.model.live(ns):
                    self.same_checkpoint(process, ns, checkpoint_id)
                for checkpoint_id in self.model.dropped[ns]:
                    config = address(ns, checkpoint_id)
                    assert self.world.run(process.aget_tuple(config)) is None


ThreadMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("THREAD_EXAMPLES", "25")),
    # The same every time, so that a change is judged by itself; a hunt sets the number.
    derandomize="THREAD_EXAMPLES" not in os.environ,
    stateful_step_count=int(os.environ.get("THREAD_STEPS", "50")),
    report_multiple_bugs=False,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestThread = ThreadMachine.TestCase
# A failure is made smaller for up to five minutes before it is shown.
TestThread.pytestmark = pytest.mark.timeout(600)


def test_a_namespace_that_was_deleted_since_is_no_base() -> None:
    """A process knows a namespace its run has made, and never read the log of: another one may have
    deleted the thread since."""
    machine = ThreadMachine()
    machine.world = World(archive_bytes=5_000, piece_bytes=0)
    machine.savers = [machine.world.process() for _ in range(2)]
    values = {"messages": [(2, 1_500), (4, 1_500)]}
    try:
        machine.start_run(i=0)
        machine.run(ns=NESTED, age=0, steps=[([], values)], flush=True)
        machine.end_run()
        machine.delete(i=1)
        machine.work(i=0, ns=NESTED, age=0, steps=[([], values)], skew=0)
    finally:
        machine.teardown()


def test_a_namespace_that_was_dropped_since_is_no_base() -> None:
    """A process knows a namespace its run has made, and enters it again: a retention of another one
    may have dropped it since."""
    machine = ThreadMachine()
    machine.world = World(archive_bytes=5_000, piece_bytes=0)
    machine.savers = [machine.world.process() for _ in range(2)]
    values = {"messages": [(2, 1_500), (4, 1_500)]}
    try:
        for _ in range(2):
            machine.start_run(i=0)
            machine.run(ns=NESTED, age=0, steps=[([], values), ([], values)], flush=True)
            machine.end_run()
            machine.close()
            machine.read_with_a_new_process(ns=NESTED, age=0)
        machine.start_run(i=0)
        machine.run(ns=NESTED, age=0, steps=[([], values)], flush=True)
        machine.end_run()
    finally:
        machine.teardown()


def test_a_checkpoint_that_is_put_again_is_there_whatever_the_archives_say() -> None:
    """As a copy does, onto a thread that was pruned since the copy before. A run keeps the log from
    being compacted, so that the archives say that it was dropped."""
    machine = ThreadMachine()
    machine.world = World(archive_bytes=1_500, piece_bytes=0)
    machine.savers = [machine.world.process() for _ in range(2)]
    steps = [([], {"messages": [(n, 250), (n + 20, 250)]}) for n in range(4)]
    try:
        machine.work(i=0, ns="", age=0, steps=[([], {"flag": n}) for n in (1, 2)], skew=0)
        first = machine.calls[0]
        machine.drop(i=0, ns="", gone={0}, compact=False)
        machine.start_run(i=0)
        machine.run(ns="", age=0, steps=steps, flush=True)
        machine.archive(at_once=True, finish=True)
        log = machine.world.state(THREAD, "").log
        assert log.segments
        assert log.garbage
        machine.end_run()
        machine.make(0, first)
        machine.model.dropped[""].clear()
    finally:
        machine.teardown()
