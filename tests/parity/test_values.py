"""Values of all types are the same in this process, in another one, and when they are read again.

What a node on a worker elsewhere gets (input, context, answer) and what its caller gets (chunks,
interrupts, results) is what was given, types included. What is read from the state is what
LangGraph's SQLite saver gives back.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from langgraph.types import Command

from langgraph_temporal_exec import TemporalSaver
from tests.parity.values import build
from tests.support.values import form, storable_values, values

sqlite = pytest.importorskip("langgraph.checkpoint.sqlite.aio")

RUN_S = 60.0
"""Bound of the runs with one list of values. Not a measure of speed."""


def _forms(of: list[Any]) -> list[Any]:
    return [form(v) for v in of]


@dataclass(kw_only=True)
class Seen:
    """Forms of what went through a graph, by the way it took; and of what was read afterwards."""

    passed: dict[str, Any] = field(default_factory=dict)
    read: dict[str, Any] = field(default_factory=dict)


async def _observe(saver: Any, stored: list[Any], passing: list[Any]) -> Seen:
    """Run the graph: what is ``stored`` goes by all ways, what is only ``passing`` by two."""
    graph = build(saver)
    seen = Seen()
    config = _new_thread()
    async for mode, chunk in graph.astream(
        {"given": stored}, config, context=stored, stream_mode=["values", "updates", "custom"]
    ):
        if mode == "custom":
            seen.passed["chunk of a node"] = _forms(chunk)
        elif mode == "updates" and "__interrupt__" in chunk:
            seen.passed["interrupt"] = _forms(chunk["__interrupt__"][0].value)
        elif mode == "values" and "given" in chunk:
            seen.passed["values"] = _forms(chunk["given"])
    asking = await graph.aget_state(config)
    seen.read["given"] = _forms(asking.values["given"])
    seen.read["interrupt"] = _forms(asking.tasks[0].interrupts[0].value)
    result = await graph.ainvoke(Command(resume=stored), config, context=stored)
    seen.passed["result"] = _forms(result["answer"])
    for way in ("given", "context", "answer"):
        seen.passed[f"{way}, by the node"] = result[f"forms_of_{way}"]
    state = await graph.aget_state(config)
    seen.read["answer"] = _forms(state.values["answer"])
    async for chunk in graph.astream(
        {"given": []}, _new_thread(), context=passing, stream_mode="custom"
    ):
        seen.passed["chunk that is not stored"] = _forms(chunk)
    return seen


def _new_thread() -> Any:
    return {"configurable": {"thread_id": f"values-{uuid.uuid4().hex}"}}


async def _compare(
    embedded: TemporalSaver, remote: TemporalSaver, stored: list[Any], passing: list[Any]
) -> None:
    async with sqlite.AsyncSqliteSaver.from_conn_string(":memory:") as saver:
        plain = await _observe(saver, stored, passing)
    for mode in (embedded, remote):
        async with asyncio.timeout(RUN_S):
            seen = await _observe(mode, stored, passing)
        for way, forms in seen.passed.items():
            given = passing if way == "chunk that is not stored" else stored
            _same(f"{way}, {mode.options.task_queue}", forms, given)
        assert seen.passed.keys() == plain.passed.keys()
        for way, forms in seen.read.items():
            for found, reloaded, value in zip(forms, plain.read[way], stored, strict=True):
                assert _sorted(found) == _sorted(reloaded), (
                    f"{way}, read with {mode.options.task_queue}: {value!r}"
                )


def _sorted(of: Any) -> Any:
    """Without an order: a set that cannot be revived is a list, in an order of its process."""
    return sorted(map(_sorted, of), key=repr) if isinstance(of, list) else of


def _same(way: str, forms: list[Any], given: list[Any]) -> None:
    for found, value in zip(forms, given, strict=True):
        assert found == form(value), f"{way}: {value!r} became {found}"


@settings(
    derandomize=True,
    max_examples=3,
    phases=[Phase.generate],  # each is a hundred values; what differs is named
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(storable_values, min_size=60, max_size=80),
    st.lists(values, min_size=60, max_size=80),
)
def test_values_are_what_they_were(
    embedded: TemporalSaver, remote: TemporalSaver, stored: list[Any], passing: list[Any]
) -> None:
    asyncio.run(_compare(embedded, remote, stored, passing))
