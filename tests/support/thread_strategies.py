"""What happens to a thread in property tests, and limits that make it happen soon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from langgraph_temporal_exec.storage import reader
from langgraph_temporal_exec.storage import store as store_module
from langgraph_temporal_exec.values import ops
from langgraph_temporal_exec.worker import upkeep
from langgraph_temporal_exec.workflow.core import thread_log
from tests.support.model import DELTAS, DOCS

NESTED = "node:1"

# Limits so small that a few checkpoints meet all of them.
LIMITS: list[tuple[Any, str, int]] = [
    (ops, "BLOB_AT", 900),
    (ops, "MAX_OP_BYTES", 1_800),
    (upkeep, "BLOB_AT", 900),
    (upkeep, "SHARED_PIECE_BYTES", 300),
    (upkeep, "HEAD_INLINE_BYTES", 2_000),
    (upkeep, "SEGMENT_BYTES", 4_000),
    (upkeep, "FAN_OUT", 3),
    (thread_log, "PAGE_BYTES", 6_000),
    (reader, "MAX_GAP", 2),
    (store_module, "PAGE", 3),
]

namespaces = st.sampled_from(["", "", NESTED])
processes = st.integers(0, 1)
back = st.sampled_from([0, 0, 0, 0, 1, 2, 5])
seeds = st.integers(0, 40)
sizes = st.sampled_from([10, 250, 250, 1_500])
changes = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(st.tuples(seeds, sizes), min_size=1, max_size=3),
        "files": st.dictionaries(st.sampled_from("abcdef"), st.tuples(seeds, sizes), max_size=2),
        "doc": st.integers(0, len(DOCS) - 1),
        "flag": st.sampled_from([None, 1, 2]),
    },
)
writes = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(sorted(DELTAS)), st.tuples(seeds, sizes)),
        st.tuples(st.sampled_from(["messages", "__interrupt__", "__resume__"]), seeds),
    ),
    min_size=1,
    max_size=3,
)
tasks = st.sampled_from(["task1", "task2", "task3"])
skews = st.sampled_from([0, 0, 0, 150])
supersteps = st.lists(st.tuples(st.one_of(st.just([]), writes), changes), min_size=1, max_size=4)


@dataclass(frozen=True)
class Event:
    """What may happen: a method of the machine, and what it is called with."""

    name: str
    when: Callable[[Any], Any]
    given: dict[str, st.SearchStrategy[Any]]


EVENTS: list[Event] = []
"""Each as often as it is to happen. Rules of their own would be left out by Hypothesis in turns,
and what takes several of them to go wrong would hardly ever come together."""


def _always(_machine: Any) -> bool:
    return True


def event(weight: int = 1, *, when: Callable[[Any], Any] = _always, **given: Any) -> Any:
    """Mark a method as an event."""

    def mark(method: Callable[..., None]) -> Callable[..., None]:
        EVENTS.extend([Event(name=method.__name__, when=when, given=given)] * weight)
        return method

    return mark
