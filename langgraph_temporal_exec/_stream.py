"""Shared: what a caller is shown when a run goes on in another attempt."""

from __future__ import annotations

from typing import Any

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
        head, payload = (chunk[:-1], chunk[-1]) if isinstance(chunk, tuple) else ((), chunk)
        if not isinstance(payload, dict) or payload.keys() != {INTERRUPT_KEY}:
            return (chunk,)
        interrupts = tuple(i for i in payload[INTERRUPT_KEY] if i.id not in self._earlier)
        self._current.update(i.id for i in interrupts)
        if not interrupts:
            return ()
        shown = {INTERRUPT_KEY: interrupts}
        return ((*head, shown) if isinstance(chunk, tuple) else shown,)
