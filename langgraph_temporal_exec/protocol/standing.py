"""Shared wire: where a thread stands: its latest checkpoint, and what is open there.

Told by the headers of ops alone, by the rules by which LangGraph's ``get_state`` tells it: the
latest checkpoint is the one with the greatest id; a task that wrote an interrupt and no output
waits for an answer. What headers do not tell comes with the requests: that a run stopped at a
breakpoint, and which nodes are still due after a state was edited.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .names import (
    ERROR_CHANNEL,
    ERROR_SOURCE_CHANNEL,
    INTERRUPT_CHANNEL,
    NULL_TASK_ID,
    PULL_PATH,
    RESUME_CHANNEL,
)
from .stored import Op, OpKind

MAX_PLACES = 50
"""Checkpoints of which what is open there is remembered, for when the later ones are dropped."""

_CONTROL = frozenset((ERROR_CHANNEL, ERROR_SOURCE_CHANNEL, INTERRUPT_CHANNEL, RESUME_CHANNEL))


@dataclass(kw_only=True, slots=True)
class Place:
    """Part of ``Standing``: one checkpoint.

    ``asking``, ``done`` and ``failed`` are tasks: those whose question nobody has answered, those
    that wrote an output, and those that wrote an error. ``nodes`` have asked here, or are due at a
    breakpoint. ``stands``: it waits for them although no task asks: at a breakpoint, or the state
    was edited since they asked and they are due all the same.
    """

    asking: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    stands: bool = False

    @property
    def waits(self) -> bool:
        """Whether an answer would be taken here."""
        return self.stands or bool(self.asking)


@dataclass(kw_only=True, slots=True)
class Standing:
    """Part of ``Snapshot``, ``ReadReply`` and ``AppendRequest``: where a thread stands.

    ``top`` is the id of its latest checkpoint, "" when there is none or none is known.

    Args:
        places: What is open at the latest checkpoints, by their ids.
    """

    top: str = ""
    places: dict[str, Place] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """What is open at the latest checkpoint."""
        return self.places.get(self.top) or Place()

    def add(self, op: Op, *, nodes: tuple[str, ...] = (), latest: str = "") -> bool:
        """One more op of the log.

        Args:
            op: The op.
            nodes: Of a PUT that is an edit: nodes that have asked before it and are still due.
            latest: Of a DROP: the latest checkpoint that is left.

        Returns:
            Whether the latest checkpoint is another one now.
        """
        if op.kind == OpKind.PUT:
            return self._put(op.checkpoint_id, nodes)
        if op.kind == OpKind.WRITES:
            self._writes(op)
        elif op.kind == OpKind.DROP:
            return self._drop(op.dropped, latest)
        return False

    def still_due(self, base: str, due: Iterable[str]) -> tuple[str, ...]:
        """Nodes that have asked, or were due at a breakpoint, at a checkpoint, of those given."""
        place = self.places.get(base)
        return () if place is None else tuple(n for n in place.nodes if n in set(due))

    def stopped(self, at: str, nodes: Iterable[str]) -> None:
        """A run stopped at a question or a breakpoint.

        Args:
            at: The checkpoint at which it stopped; "": the latest.
            nodes: The nodes that ask, or are due.
        """
        place = self._at(at or self.top)
        due = tuple(nodes)
        place.nodes = tuple(dict.fromkeys((*place.nodes, *due)))
        # After the last node there is nothing to go on with. Who does not say where it stopped
        # does not name the nodes at a breakpoint either.
        place.stands = not place.asking and bool(due or not at)

    def went_on(self, at: str) -> None:
        """A run ended at a checkpoint, and waits for nothing there; "": at the latest one."""
        place = self.places.get(at or self.top)
        if place is not None:
            place.stands = False

    def adopt(self, other: Standing) -> None:
        """What another thread knows of the checkpoints that were copied from it."""
        self.places.update(other.places)

    def _at(self, checkpoint_id: str) -> Place:
        return self.places.setdefault(checkpoint_id, Place())

    def _put(self, checkpoint_id: str, nodes: tuple[str, ...]) -> bool:
        if checkpoint_id <= self.top:
            return False
        self.top = checkpoint_id
        if nodes:
            place = self._at(checkpoint_id)
            place.nodes, place.stands = nodes, True
        self._tidy()
        return True

    def _writes(self, op: Op) -> None:
        if op.task_id == NULL_TASK_ID:
            return
        channels = {v.channel for v in op.values}
        place = self._at(op.checkpoint_id)
        task = op.task_id
        node = op.task_path.removeprefix(PULL_PATH) if op.task_path.startswith(PULL_PATH) else ""
        if ERROR_CHANNEL in channels:
            place.failed = _with(place.failed, task)
        if is_result(op):
            place.done = _with(place.done, task)
            place.asking = _without(place.asking, task)
            if ERROR_CHANNEL not in channels:
                place.failed = _without(place.failed, task)
        elif INTERRUPT_CHANNEL in channels and task not in place.done:
            place.asking = _with(place.asking, task)
        if INTERRUPT_CHANNEL in channels and node and node not in place.nodes:
            place.nodes = (*place.nodes, node)
        if node in place.nodes and channels - {RESUME_CHANNEL}:
            # A run has come to it: from now on its writes tell.
            place.stands = False
        if op.checkpoint_id < self.top:
            # Late, of a parallel task: as if it had come in time.
            self._keep_open(op.checkpoint_id)

    def _drop(self, dropped: Iterable[str], latest: str) -> bool:
        gone = set(dropped)
        for checkpoint_id in gone:
            self.places.pop(checkpoint_id, None)
        if self.top not in gone:
            return False
        self.top = latest
        return True

    def _tidy(self) -> None:
        for checkpoint_id in [c for c in self.places if c < self.top]:
            self._keep_open(checkpoint_id)
        for checkpoint_id in sorted(self.places)[:-MAX_PLACES]:
            del self.places[checkpoint_id]

    def _keep_open(self, checkpoint_id: str) -> None:
        """Of a checkpoint that is not the latest only what would be open there is kept."""
        place = self.places[checkpoint_id]
        if not place.asking:
            place.done = ()
        if not (place.waits or place.nodes or place.failed):
            del self.places[checkpoint_id]


def is_result(op: Op) -> bool:
    """Whether writes are a task's output, rather than a question, an answer or an error."""
    channels = {v.channel for v in op.values}
    # With the values elsewhere it is no question: those are few and small.
    return bool(channels - _CONTROL) or (not channels and op.body is not None)


def _with(tasks: tuple[str, ...], task: str) -> tuple[str, ...]:
    return tasks if task in tasks else (*tasks, task)


def _without(tasks: tuple[str, ...], task: str) -> tuple[str, ...]:
    return tuple(t for t in tasks if t != task)
