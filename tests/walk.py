"""Which modules one embedded ``ainvoke`` goes through: `python -m tests.walk`.

One call of a graph with one node, on a server and a worker that have done it before. Counted are
modules of ours of which a function ran: in this process, and what Temporal's sandbox loads anew.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from types import FrameType
from typing import Any

from langgraph_temporal_exec import TemporalSaver
from tests.support.graphs import config, countdown

PACKAGE = "langgraph_temporal_exec"


async def _walk() -> list[str]:
    passed: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        # A module's own body runs when it is imported.
        if event == "call" and frame.f_code.co_name != "<module>":
            _, found, inside = path.rpartition(f"/{PACKAGE}/")
            if found:
                passed.add(inside)

    # Of threads that begin from now on; what they do before the call that counts is dropped.
    threading.setprofile(note)
    sys.setprofile(note)
    async with TemporalSaver.local() as saver:
        graph = countdown().with_config(checkpointer=saver)
        await graph.ainvoke({"n": 1}, config("first"))
        passed.clear()
        await graph.ainvoke({"n": 1}, config("second"))
        found = sorted(passed)
    sys.setprofile(None)
    threading.setprofile(None)
    return found


if __name__ == "__main__":
    modules = asyncio.run(_walk())
    print(*modules, sep="\n")
    print(len(modules))
