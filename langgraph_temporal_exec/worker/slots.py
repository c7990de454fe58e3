"""Worker side: how many runs, and how many tasks, a process executes at once.

A ``Slots`` counts one kind of work. Whoever is about to do a piece of it *asks* for a ``Slot``,
waits until it is granted, and gives it back in the end. What waits is taken by the priority of its
run; of the same priority, the keys of fairness take turns, in proportion to their weights.

**Work within work.** A task that has called a nested graph does nothing but wait for the tasks of
that graph, which need slots too. Counted as work of its own, parents could hold every slot while
their children wait for one, for ever. So a slot says within which other one it is asked for
(``within``), and the two, with all others within the same one, are a *family*:

- The first child takes the slot of its parent over; the parent *lends* it.
- A child that ends leaves its slot to the family if nobody else of it has one: to a child that
  waits, else back to the parent, which goes on with it and need not wait.
- A child that ends while another one of the family works gives its slot back to all.

Part of the work may be done by another worker, which may need a slot here in turn, on whatever way.
While it is waited for, the family gives its slot back to all (``Slots.lend``), and asks for one
before it goes on.

So of each family that was ever granted something, somebody has a slot and is not waiting for one:
however small the limit, and however deep the graphs, work goes on. And there are never more slots
than the limit. A parent that works on while its nested graph runs is not counted.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import heapq
import math
import threading
from collections.abc import Callable, Iterator

from ..protocol.messages import RunPriority

NORMAL_PRIORITY = 3
"""Temporal's, of what names none."""


class Slot:
    """A claim on a slot, from ``Slots.ask`` to ``give_back``; from any OS thread.

    Args:
        slots: Where it was asked for.
        within: What it is part of.

    Attributes:
        granted: Done when the work may begin; cancelled if the slot was given back before.
        within: As given, or what that was part of if it has ended.
        children: Claims within this one that have not ended.
        has: It has a slot itself; not if it lends it.
        started: It was granted.
        ended: It was given back.
    """

    def __init__(self, slots: Slots, within: Slot | None) -> None:
        self.granted: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.within = within
        self.children: list[Slot] = []
        self.has = False
        self.started = False
        self.ended = False
        self._slots = slots

    def give_back(self) -> None:
        """The work has ended, or is not to be done any more; idempotent."""
        self._slots.give_back(self)


class Lent:
    """A slot that its work does without for a while, from ``Slots.lend`` to ``end``.

    Args:
        slots: Where it is of.
        away: Stands for what is done elsewhere.
    """

    def __init__(self, slots: Slots, away: Slot) -> None:
        self._slots = slots
        self._away = away
        self._back: Slot | None = None

    def ask_back(self, priority: RunPriority | None) -> Slot:
        """Ask for it, as what is done elsewhere has ended; the work has it again when granted."""
        self._back = self._slots.ask(priority, within=self._away.within)
        return self._back

    def end(self) -> None:
        """The work goes on: with its slot, or without if it did not ask for it; idempotent."""
        self._away.give_back()
        if self._back is not None:
            # Left to the work that waited.
            self._back.give_back()


class Slots:
    """So many pieces of work at once.

    Args:
        limit: How many; ``None``: any number.

    Attributes:
        waiting: Number of claims that wait.
        _free: Slots that nobody has.
        _queue: Claims that may wait, with what they are ordered by.
        _asked: How many there were so far.
        _turns: By key of fairness, of what has waited of late: its next turn.
        _turn: Of the claim that was granted last.
        _lock: Guards all of this, and the claims.
    """

    def __init__(self, limit: int | None) -> None:
        self._free: float = math.inf if limit is None else limit
        self._queue: list[tuple[int, float, int, Slot]] = []
        self._asked = 0
        self._turns: dict[str, float] = {}
        self._turn = 0.0
        self._lock = threading.Lock()

    @property
    def has_room(self) -> bool:
        """Whether a claim would be granted at once."""
        with self._lock:
            return self._free > 0

    @property
    def waiting(self) -> int:
        """How many claims wait."""
        with self._lock:
            return sum(not (slot.started or slot.ended) for *_, slot in self._queue)

    def ask(self, priority: RunPriority | None = None, *, within: Slot | None = None) -> Slot:
        """Ask for a slot; it is granted at once if one is free.

        Args:
            priority: Of the run.
            within: The piece of work that this one is part of, and that waits for it.
        """
        slot = Slot(self, within)
        priority = priority or RunPriority()
        with self._lock:
            while slot.within is not None and slot.within.ended:
                slot.within = slot.within.within
            parent = slot.within
            if parent is not None:
                parent.children.append(slot)
            if parent is not None and parent.has:
                parent.has = False
                now = self._grant(slot)
            elif self._free > 0:
                self._free -= 1
                now = self._grant(slot)
            else:
                self._enqueue(slot, priority)
                return slot
        now()
        return slot

    @contextlib.contextmanager
    def asked(
        self, priority: RunPriority | None = None, *, within: Slot | None = None
    ) -> Iterator[Slot]:
        """``ask``, and give it back in the end."""
        slot = self.ask(priority, within=within)
        try:
            yield slot
        finally:
            slot.give_back()

    def lend(self, slot: Slot) -> Lent:
        """Do without a slot while part of its work is done by another worker.

        Args:
            slot: Of the work that waits.
        """
        away = Slot(self, slot)
        with self._lock:
            while away.within is not None and away.within.ended:
                away.within = away.within.within
            # Nothing of this process, and not waiting for it: as if it worked with what is lent.
            away.started = True
            parent = away.within
            now: Callable[[], object] = _nobody
            if parent is not None:
                parent.children.append(away)
                if parent.has:
                    parent.has = False
                    now = self._pass_on()
        now()
        return Lent(self, away)

    def give_back(self, slot: Slot) -> None:
        """See ``Slot.give_back``."""
        with self._lock:
            if slot.ended:
                return
            slot.ended = True
            now = self._after(slot)
        now()

    def _after(self, slot: Slot) -> Callable[[], object]:
        """Pass on what an ended claim had; who is to be told, without the lock."""
        parent = slot.within
        # Left behind, by a node that did not wait for its graph.
        for child in slot.children:
            child.within = parent
        if parent is not None:
            parent.children.remove(slot)
            parent.children += slot.children
        slot.children.clear()
        if not slot.started:
            return slot.granted.cancel
        if not slot.has:
            # Those within it have what it lent.
            return _nobody
        slot.has = False
        if parent is not None and not any(child.started for child in parent.children):
            if not parent.children:
                parent.has = True
                return _nobody
            return self._grant(parent.children[0])
        return self._pass_on()

    def _pass_on(self) -> Callable[[], object]:
        """Give a slot to whoever is next, or to nobody; who is to be told."""
        while self._queue:
            _, self._turn, _, first = heapq.heappop(self._queue)
            if not first.started and not first.ended:
                return self._grant(first)
        self._turns.clear()
        self._free += 1
        return _nobody

    def _grant(self, slot: Slot) -> Callable[[], object]:
        slot.started = slot.has = True
        return lambda: _tell(slot)

    def _enqueue(self, slot: Slot, priority: RunPriority) -> None:
        turn = max(self._turn, self._turns.get(priority.fairness_key, 0.0))
        self._turns[priority.fairness_key] = turn + 1 / (priority.fairness_weight or 1.0)
        self._asked += 1
        order = (priority.key or NORMAL_PRIORITY, turn, self._asked)
        heapq.heappush(self._queue, (*order, slot))


def _tell(slot: Slot) -> None:
    # Whoever waited may have been cancelled, and gives it back.
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        slot.granted.set_result(None)


def _nobody() -> None:
    """Nobody is to be told."""
