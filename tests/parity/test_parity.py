"""What a caller observes with ``TemporalSaver`` is what it observes with ``InMemorySaver``."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol import names
from tests.parity.catalogue import SCENARIOS, Scenario
from tests.parity.normal import first_difference, only_order_differs
from tests.parity.stage import observe, observe_sync
from tests.support.reading import check_status, check_without_worker

DIFFERENCES = Path(__file__).parents[2] / "docs" / "reference" / "differences.md"

MODES = ("embedded", "remote", "placed")

TRIES = 3
"""Scenarios give parallel tasks an order by delays, which a busy machine may outlast. Chunks that
are the same but for their order are observed again; any other difference fails at once."""

_in_memory: dict[str, list[tuple[str, Any]]] = {}


def _marks(mode: str, scenario: Scenario) -> list[pytest.MarkDecorator]:
    # The examples, also for the lowest versions: a third, in the mode that has more in between.
    number = sorted(SCENARIOS).index(scenario.name)
    if mode == "placed" and number % 4:
        # What runs elsewhere is the same code: some of each kind are enough for every change.
        return [pytest.mark.exhaustive, pytest.mark.placed]
    if mode != "remote" or number % 3:
        return [pytest.mark.exhaustive]
    return [pytest.mark.compat] if scenario.compat else []


def _cases(*, sync: bool) -> list[Any]:
    return [
        pytest.param(mode, s, id=f"{mode}-{name}", marks=_marks(mode, s))
        for mode in MODES
        for name, s in SCENARIOS.items()
        if s.sync == sync and (s.placeable or mode != "placed")
    ]


@pytest.mark.parametrize(("mode", "scenario"), _cases(sync=False))
async def test_same_as_in_memory(saver: TemporalSaver, mode: str, scenario: Scenario) -> None:
    if scenario.name not in _in_memory:
        _in_memory[scenario.name] = await observe(scenario, InMemorySaver())
    threads: list[str] = []
    for _ in range(TRIES - 1):
        seen = await observe(scenario, saver, threads)
        if not only_order_differs(seen, _in_memory[scenario.name]):
            break
    else:
        seen = await observe(scenario, saver, threads)
    _compare(scenario, mode, seen)
    await _check_reading(scenario, mode, saver, threads)


@pytest.mark.parametrize(("mode", "scenario"), _cases(sync=True))
def test_same_as_in_memory_from_sync_code(
    saver: TemporalSaver, mode: str, scenario: Scenario
) -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    if scenario.name not in _in_memory:
        _in_memory[scenario.name] = observe_sync(scenario, InMemorySaver())
    threads: list[str] = []
    for _ in range(TRIES - 1):
        seen = observe_sync(scenario, saver, threads)
        if not only_order_differs(seen, _in_memory[scenario.name]):
            break
    else:
        seen = observe_sync(scenario, saver, threads)
    _compare(scenario, mode, seen)
    asyncio.run(_check_reading(scenario, mode, saver, threads))


async def _check_reading(
    scenario: Scenario, mode: str, saver: TemporalSaver, threads: list[str]
) -> None:
    """Lists say of each thread what its state says, and all of it can be read without a worker."""
    if mode != "embedded":
        return
    graph = scenario.graph(saver)
    for thread_id in threads:
        await check_without_worker(saver, thread_id)
        await check_status(saver, graph, thread_id)


def _compare(scenario: Scenario, mode: str, seen: list[tuple[str, Any]]) -> None:
    # Tasks that run in another process may differ as those of a run that is driven there.
    as_in = ("placed", "remote", "embedded") if mode == "placed" else (mode,)
    known = next((scenario.differs[m] for m in as_in if m in scenario.differs), None)
    kept = _without(seen, known)
    expected = _without(_in_memory[scenario.name], known)
    assert [label for label, _ in kept] == [label for label, _ in expected]
    for i, ((label, value), (_, wanted)) in enumerate(zip(kept, expected, strict=True)):
        where, left, right = first_difference(value, wanted)
        assert value == wanted, (
            f"observation {i}, {label!r}, differs at {where or 'the top'}:\n"
            f"  here:      {left!r}\n  in memory: {right!r}"
        )
    if mode != "placed" or "placed" in scenario.differs:
        assert known is None or seen != _in_memory[scenario.name], "this is no difference any more"


def _without(seen: list[tuple[str, Any]], known: str | None) -> list[tuple[str, Any]]:
    """What must be the same: a call that is known to differ may have raised."""
    labels = (known or "").split()
    return [item for item in seen if item[0].removesuffix(" raised") not in labels]


async def test_what_is_placed_runs_on_the_other_worker(placed: TemporalSaver) -> None:
    """Else the scenarios that are placed would compare nothing new."""
    where = placed.options.node("any").task_queue
    scenario = next(s for s in SCENARIOS.values() if s.placeable and not s.sync)
    threads: list[str] = []
    await observe(scenario, placed, threads)
    queues = set()
    for thread_id in threads:
        workflow_id = names.thread_workflow_id(placed.options.id_prefix, thread_id)
        async for event in placed.client.get_workflow_handle(workflow_id).fetch_history_events():
            if event.HasField("activity_task_scheduled_event_attributes"):
                queues.add(event.activity_task_scheduled_event_attributes.task_queue.name)
    assert {queue for queue in queues if queue.startswith(where)}
    assert not {queue for queue in queues if "@" in queue}


def test_the_documented_differences_are_those() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", DIFFERENCES.read_text(), re.MULTILINE)
    documented = {name: where.strip() for name, where in rows}
    differing = {n: " and ".join(s.differs) for n, s in SCENARIOS.items() if s.differs}
    assert documented == differing
