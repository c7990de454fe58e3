"""`RunLogFilter` on records that are about another run than the one they are logged in."""

from __future__ import annotations

import logging

import pytest
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_temporal_exec import RunLogFilter


def test_a_record_about_another_run_gets_nothing_of_this_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("tests.unit.test_logs")

    def node(state: MessagesState) -> None:
        logger.warning("of this node")
        logger.warning("of another run", extra={"run_id": "other", "thread_id": "t"})

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    caplog.handler.addFilter(place := RunLogFilter())
    try:
        graph.invoke({"messages": []})
    finally:
        caplog.handler.removeFilter(place)
    told = [(r.getMessage(), r.run_id, r.thread_id, r.node, r.step) for r in caplog.records]  # type: ignore[attr-defined]
    assert told == [
        ("of this node", None, None, "node", 1),
        ("of another run", "other", "t", None, None),
    ]
