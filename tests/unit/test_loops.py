"""An event loop on an OS thread of its own, and who may wait for it."""

from __future__ import annotations

import pytest

from langgraph_temporal_exec import UsageError
from langgraph_temporal_exec._loops import LoopThread


async def answer() -> int:
    return 42


async def test_nobody_waits_for_the_loop_they_are_on() -> None:
    """They would wait for ever; what was to run is closed, not left behind."""
    loop_thread = LoopThread("test")
    never_run = answer()

    async def on_it() -> int:
        return loop_thread.wait(never_run)

    try:
        assert loop_thread.wait(answer()) == 42
        with pytest.raises(UsageError, match="cannot be called on the loop"):
            await loop_thread.call(on_it())
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await never_run
    finally:
        loop_thread.stop()
