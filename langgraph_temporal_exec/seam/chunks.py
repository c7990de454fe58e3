"""LangGraph seam: what a caller is shown when a run goes on in another attempt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langgraph.types import Interrupt

INTERRUPT_KEY = "__interrupt__"


class ShownInterrupts:
    """Drops interrupts which an earlier attempt has shown already.

    A task that had asked before its attempt was lost asks again in the next one. ``ainvoke``
    collects interrupts from the stream, so its caller would be asked twice.
    """

    def __init__(self) -> None:
        self._attempt = 0
        self._earlier: set[str] = set()
        self._current: set[str] = set()

    def filter(self, attempt: int, chunk: Any) -> tuple[Any, ...]:
        """The chunk, without repeated interrupts, as a tuple of none or one."""
        if attempt != self._attempt:
            self._attempt = attempt
            self._earlier |= self._current
            self._current = set()
        if isinstance(chunk, dict) and chunk.keys() >= {"type", "ns", "data"}:
            return self._typed(chunk)
        head, payload = (chunk[:-1], chunk[-1]) if isinstance(chunk, tuple) else ((), chunk)
        if not _only_interrupts(payload):
            return (chunk,)
        interrupts = self._fresh(payload[INTERRUPT_KEY])
        # A breakpoint shows as no interrupts at all.
        if payload[INTERRUPT_KEY] and not interrupts:
            return ()
        shown = {INTERRUPT_KEY: interrupts}
        return ((*head, shown) if isinstance(chunk, tuple) else shown,)

    def _typed(self, chunk: dict[str, Any]) -> tuple[Any, ...]:
        """The same for a chunk of ``version="v2"``."""
        if _only_interrupts(chunk["data"]):
            given = chunk["data"][INTERRUPT_KEY]
            fresh = self._fresh(given)
            return ({**chunk, "data": {INTERRUPT_KEY: fresh}},) if fresh or not given else ()
        if chunk.get("interrupts"):
            # Beside values, which are worth showing again.
            return ({**chunk, "interrupts": self._fresh(chunk["interrupts"])},)
        return (chunk,)

    def _fresh(self, interrupts: Iterable[Interrupt]) -> tuple[Interrupt, ...]:
        fresh = tuple(i for i in interrupts if i.id not in self._earlier)
        self._current.update(i.id for i in fresh)
        return fresh


def _only_interrupts(payload: Any) -> bool:
    if not isinstance(payload, dict) or payload.keys() != {INTERRUPT_KEY}:
        return False
    # A custom chunk may look alike.
    given = payload[INTERRUPT_KEY]
    return isinstance(given, tuple) and all(isinstance(i, Interrupt) for i in given)
