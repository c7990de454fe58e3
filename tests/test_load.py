"""The benchmark of load, with little of it; and its judgement is not a formality."""

from __future__ import annotations

import pytest

pytest.importorskip("deepagents")

from rich.console import Console

from benchmarks import load
from benchmarks.load import Plan, Repeat, repeats, unfinished
from benchmarks.shapes.load import Entry
from tests.support.warm import WARM  # noqa: F401 # processes start as forks

KILLED_AT = 10.0
KILLED = {1: KILLED_AT}
"""Process 1 was killed, process 2 was not."""


def ledger(*begun: tuple[str, int], at: float = KILLED_AT + 1) -> list[Entry]:
    """Steps of one turn that were begun, each in a process; the last one at that time."""
    return [
        Entry(step=f"t/1/{name}", event="started", worker="w", pid=pid, at=0 if i else at)
        for i, (name, pid) in reversed(list(enumerate(reversed(begun))))
    ]


def found(*begun: tuple[str, int], at: float = KILLED_AT + 1) -> list[Repeat]:
    """What is said about them."""
    return repeats(ledger(*begun, at=at), KILLED)


def test_what_a_kill_explains() -> None:
    assert found(("gather", 1), ("publish", 2)) == []
    explained = [Repeat(step="t/1/gather", fault="")]
    assert found(("gather", 1), ("gather", 2)) == explained
    # Its sibling builds on nothing of it.
    assert found(("gather", 1), ("weigh", 1), ("gather", 2)) == explained
    assert found(("model-0", 1), ("gather", 1), ("gather", 2)) == explained


def test_what_no_kill_explains() -> None:
    for repeat in (
        found(("gather", 2), ("gather", 1)),
        found(("gather", 1), ("gather", 2), ("gather", 1)),
        # It was killed, but later.
        found(("gather", 1), ("gather", 2), at=KILLED_AT - 1),
    ):
        assert "had not been killed" in repeat[0].fault
    # Its result was recorded.
    assert "had begun" in found(("gather", 1), ("model-1", 1), ("gather", 2))[0].fault


def test_what_was_not_done_is_missed() -> None:
    entries = ledger(("gather", 1))
    assert unfinished(entries, ["t/1/gather"]) == ["t/1/gather"]
    ended = Entry(step="t/1/gather", event="finished", worker="w", pid=2, at=0)
    assert unfinished([*entries, ended], ["t/1/gather"]) == []


@pytest.mark.long
async def test_a_little_load() -> None:
    plan = Plan(threads=6, turns=2, workers=2, kills=1, concurrency=6, heartbeat_s=3)
    result = await load.measure(plan, Console(stderr=True), server_file=False)
    assert result["faults"] == []
    assert result["kills"] == 1
    assert result["runs"] == 12
    assert result["wrong_turns"] == result["threads_with_missing_files"] == 0
