"""Worker side: the interrupts of parallel tasks, given to the caller in the order of the tasks.

In memory tasks begin in their order, so the questions of nodes that ask at once come in it. Here
each task begins when its Activity arrives. A question that comes before those of earlier tasks
which still run is held until these have asked or ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..seam import hooks
from ..seam.chunks import VALUES, Form


class QuestionsInOrder:
    """Chunks of one attempt on their way to the caller.

    Args:
        loop: Returns the root loop of the attempt; ``None`` before it has begun.
        form: Of the chunks.
    """

    def __init__(self, loop: Callable[[], Any], form: Form) -> None:
        self._loop = loop
        self._form = form
        self._held: list[tuple[int, Any]] = []
        self._shown: set[int] = set()

    def take(self, chunk: Any) -> Iterable[Any]:
        """A chunk; what the caller is to get now."""
        part = self._form.take_apart(chunk)
        asked = part.questions
        if not asked and not self._held:
            return (chunk,)
        loop = self._loop()
        if not asked:
            if part.mode == VALUES:
                # Whole values come when all tasks of the superstep have ended.
                return (*self.rest(), chunk)
            ready = hooks.first_to_ask(loop, self._shown)
            return (chunk, *self._release(lambda held: held <= ready))
        position = hooks.position_of(loop, {question.id for question in asked})
        if position is None:
            return (chunk,)
        if hooks.first_to_ask(loop, self._shown) < position:
            self._held.append((position, chunk))
            return ()
        earlier = self._release(lambda held: held < position)
        self._shown.add(position)
        return (*earlier, chunk)

    def rest(self) -> tuple[Any, ...]:
        """What is still held: no more chunks come."""
        return self._release(lambda _: True)

    def _release(self, ready: Callable[[int], bool]) -> tuple[Any, ...]:
        free = [item for item in self._held if ready(item[0])]
        self._held = [item for item in self._held if not ready(item[0])]
        self._shown.update(position for position, _ in free)
        return tuple(chunk for _, chunk in sorted(free, key=lambda item: item[0]))
