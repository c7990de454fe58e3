"""Workflow side: the timers of a thread: for the interrupt that answers itself first, and for its
rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from temporalio import workflow


class Alarm:
    """Calls ``ring`` at a time that may change; no timer runs while there is none.

    Args:
        ring: Called when the time has come. It is lost with the workflow's run: what continues as
            new sets it again.
    """

    def __init__(self, ring: Callable[[], Awaitable[None]]) -> None:
        self._ring = ring
        self._at_s: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_set(self) -> bool:
        """Whether it is going to ring."""
        return self._task is not None

    def set(self, at_s: float | None) -> None:
        """Set the time (Unix time), or none."""
        if at_s == self._at_s:
            return
        if self._task is not None:
            self._task.cancel()
        self._at_s = at_s
        self._task = None if at_s is None else asyncio.create_task(self._wait(at_s))

    async def _wait(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - workflow.now().timestamp()))
        # What rings may set it again.
        self._task, self._at_s = None, None
        await self._ring()
