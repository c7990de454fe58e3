"""The demo kills a worker and a caller, and says truthfully what came of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("deepagents")

from examples.demo_ledger import Entry, Event, steps_of
from examples.demo_stage import problems_of

ROOT = Path(__file__).parent.parent
DEADLINE_S = 300


def environment() -> dict[str, str]:
    """Without model keys: the scripted model; without a Temporal configuration of the machine."""
    dropped = ("ANTHROPIC_", "OPENAI_", "TEMPORAL_", "DEMO_")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)}


def verdict_on(*events: tuple[str, int, Event]) -> list[str]:
    """What the verdict says about these events of tool calls, two of which must have finished."""
    entries = [
        Entry(at=i, pid=pid, agent="main", kind="tool", key=label, label=label, event=event)
        for i, (label, pid, event) in enumerate(events)
    ]
    return problems_of(steps_of(entries), expected=2, resumed={"slow"})


WELL: list[tuple[str, int, Event]] = [
    ("quick", 1, "started"),
    ("quick", 1, "finished"),
    ("slow", 1, "started"),
    ("slow", 2, "started"),
    ("slow", 2, "finished"),
]


def test_the_verdict_accepts_what_should_happen() -> None:
    assert verdict_on(*WELL) == []


def test_the_verdict_is_not_a_formality() -> None:
    assert (
        verdict_on(*WELL, ("quick", 2, "started"))[0]
        == "main: quick ran again although it had finished"
    )
    assert verdict_on(*WELL[:-1]) == ["main: slow finished 0 times instead of once"]
    assert verdict_on(*WELL[:2]) == ["1 steps ran instead of 2"]
    without_a_kill = [e for e in WELL if e != ("slow", 1, "started")]
    assert verdict_on(*without_a_kill) == ["main: slow started 1 times instead of 2"]


@pytest.fixture(scope="module")
def account() -> str:
    """What the demo prints, with white space made uniform."""
    demo = subprocess.Popen(
        [sys.executable, "examples/demo.py"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = demo.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        # Politely, so that it ends the processes it started.
        demo.terminate()
        said, _ = demo.communicate(timeout=60)
    finally:
        demo.kill()
    assert demo.returncode == 0, said
    assert all(len(line.rstrip()) <= 100 for line in said.splitlines())
    return re.sub(r"\s+", " ", said)


@pytest.mark.timeout(DEADLINE_S + 90)
def test_a_worker_is_killed_and_another_one_resumes(account: str) -> None:
    killed = re.search(r"killed worker A: kill -9 (\d+), inside trace_requests", account)
    resumed = re.search(r"resumed on worker B, pid (\d+), with task\(investigator\)", account)
    assert killed is not None
    assert resumed is not None
    assert killed[1] != resumed[1]
    assert f"A is worker A, pid {killed[1]}; B is worker B, pid {resumed[1]}" in account
    assert "not repeated: the 6 steps A had finished" in account
    assert "ainvoke returned: checkout waits for the connection pool" in account
    assert "files the agent wrote: /report.md" in account


@pytest.mark.timeout(DEADLINE_S + 90)
def test_a_run_outlives_its_caller(account: str) -> None:
    assert re.search(r"killed the caller: kill -9 \d+, inside load_test", account)
    assert "finished with nobody watching" in account
    assert "its answer, from the thread: Verified" in account


@pytest.mark.timeout(DEADLINE_S + 90)
def test_the_table_counts_each_step(account: str) -> None:
    assert "fetch_metrics(checkout) investigator 1 1 A ✓ not repeated" in account
    assert "trace_requests(checkout) investigator 2 1 A ✗ B ✓ killed inside, resumed" in account
    assert "load_test(checkout) main 1 1 B ✓" in account
    assert "OK 21 steps finished exactly once" in account


@pytest.mark.timeout(DEADLINE_S + 90)
def test_it_says_where_to_look(account: str) -> None:
    assert re.search(r"[1-9]\d* in the thread, [1-9]\d* of its sub-agent", account)
    assert "langgraph/thread/checkout-incident stays open" in account
    assert re.search(r"langgraph/thread/checkout-incident/tools:\w+ stays open", account)
    assert len(re.findall(r"langgraph/run/\w+ completed", account)) == 2
