"""The answer to one question never answers another, however often a worker dies after it."""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.types import Command, StateSnapshot

from tests.faults.gates import build_gates
from tests.faults.lab import GATES, Lab
from tests.faults.ledger import Ran

BETWEEN = {"same_node": [], "next_node": ["yes"], "nested": [], "called": []}
"""Graphs that ask "first?", then "second?"; with what is in the state after the first answer."""


async def test_second_question_is_still_asked(lab: Lab) -> None:
    async with lab.calling(build_gates(lab.folder)) as graphs:
        worker = await lab.worker(GATES)
        calls = [graphs[name].ainvoke({"answers": []}, lab.config_of(name)) for name in BETWEEN]
        async with lab.bounded("all graphs ask"):
            asked = await asyncio.gather(*calls)
        assert [questions(result) for result in asked] == [["first?"]] * len(BETWEEN)

        for name in BETWEEN:
            lab.ledger.arm(name)
        resumed = [
            asyncio.create_task(graphs[n].ainvoke(Command(resume="yes"), lab.config_of(n)))
            for n in BETWEEN
        ]
        for name in BETWEEN:
            await lab.held(name, worker)
        worker.kill()
        await lab.worker(GATES)
        async with lab.bounded("all graphs ask again"):
            results = await asyncio.gather(*resumed)
        outcome = dict(zip(BETWEEN, results, strict=True))
        assert {n: r["answers"] for n, r in outcome.items()} == BETWEEN
        assert {n: questions(r) for n, r in outcome.items()} == {n: ["second?"] for n in BETWEEN}
        assert lab.ledger.ran() == dict.fromkeys(BETWEEN, Ran(2, 1))


async def test_siblings_answered_by_id(lab: Lab) -> None:
    """One node has its answer and has asked again when the worker dies in the node beside it."""
    async with lab.calling(build_gates(lab.folder)) as graphs:
        graph = graphs["siblings"]
        worker = await lab.worker(GATES)
        async with lab.bounded("both nodes ask"):
            asked = await graph.ainvoke({"answers": []}, lab.config)
        assert questions(asked) == ["first?", "sibling?"]

        answers = {"first?": "yes", "sibling?": "me"}
        resume: Command[Any] = Command(
            resume={i.id: answers[i.value] for i in asked["__interrupt__"]}
        )
        lab.ledger.arm("siblings")
        call = asyncio.create_task(graph.ainvoke(resume, lab.config))
        await lab.held("siblings", worker)
        await lab.state(graph, lambda state: "second?" in pending(state), "the log has second?")
        worker.kill()
        await lab.worker(GATES)
        async with lab.bounded("the second question is asked"):
            resumed = await call
        assert questions(resumed) == ["second?"]
        assert resumed["answers"] == ["me"]

        async with lab.bounded("the run ends"):
            done = await graph.ainvoke(Command(resume="certainly"), lab.config)
        assert done == {"answers": ["yes", "certainly", "me"]}
        assert lab.ledger.ran() == {"siblings": Ran(2, 1)}


def questions(result: Any) -> list[str]:
    """What a call ended with as unanswered."""
    return sorted(interrupt.value for interrupt in result.get("__interrupt__", ()))


def pending(state: StateSnapshot) -> list[str]:
    """What is recorded as unanswered."""
    return [interrupt.value for task in state.tasks for interrupt in task.interrupts]
