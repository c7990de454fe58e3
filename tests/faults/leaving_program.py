"""A program that ends while it holds a stream: ``python -m tests.faults.leaving_program``."""

from __future__ import annotations

import sys

from langgraph_temporal_exec import TemporalSaver
from tests.faults.host import EXIT_CODE
from tests.faults.leavers import graphs

# Of the module, so that they are there until the interpreter takes its modules apart.
local = TemporalSaver.local()
graph = graphs["ticks"].with_config(checkpointer=local.__enter__())
chunks = graph.stream({"kind": "on"}, {"configurable": {"thread_id": "t"}})

if __name__ == "__main__":
    for _ in chunks:
        sys.exit(EXIT_CODE)
