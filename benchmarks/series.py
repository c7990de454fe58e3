"""Benchmark plan: which shapes are measured, with what, how often; and the measuring itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from benchmarks.field import Contender, Entry
from benchmarks.server import Kind, open_server


@dataclass(frozen=True, kw_only=True)
class Series:
    """One shape with one set of parameters."""

    name: str
    shape: str
    rounds: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limit_s: float = 120  # a sample that takes longer hangs
    what: str  # for the reader


SERIES = {
    series.name: series
    for series in (
        Series(
            name="sequential",
            shape="sequential",
            rounds=6,
            parameters={"supersteps": 30},
            what="one node in a loop of 30 supersteps",
        ),
        Series(
            name="one_step",
            shape="one_step",
            rounds=6,
            what="a graph of one node, from the call to its return",
        ),
        Series(
            name="fanout_50",
            shape="fanout",
            rounds=6,
            parameters={"width": 50},
            what="50 tasks in one superstep, from the call to its return",
        ),
        Series(
            name="fanout_500",
            shape="fanout",
            rounds=3,
            parameters={"width": 500},
            what="500 tasks in one superstep",
        ),
        Series(
            name="chat",
            shape="chat",
            rounds=3,
            parameters={"turns": 50},
            what="50 turns of 1 kB each way; early are the first ten, late the last ten",
        ),
    )
}
"""In the order in which they are measured."""

Results = dict[str, dict[str, Entry]]
"""Name of the series -> name of the contender -> what it brought."""


async def measure(
    kind: Kind,
    series: Sequence[Series],
    names: Sequence[str],
    console: Console,
    *,
    rounds: int | None = None,
) -> tuple[Results, str]:
    """Measure on one server, contenders in turns within each round; also the server's version.

    Args:
        kind: Of the server.
        series: What is measured.
        names: Contenders.
        console: Where progress is said.
        rounds: Instead of those of the series.
    """
    results: Results = {}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(open_server(kind))
        field = [Contender(name, server, console, "default") for name in names]
        for contender in field:
            stack.push_async_callback(contender.close)
        for one in series:
            entries = results[one.name] = {name: Entry() for name in names}
            count = rounds or one.rounds
            for number in range(count + 1):
                # Another one begins each round, so that none always follows the same neighbour.
                turn = number % len(field)
                for contender in field[turn:] + field[:turn]:
                    entry = entries[contender.name]
                    numbers = await contender.sample(one.shape, one.parameters, entry, one.limit_s)
                    # The first round warms up.
                    if number and numbers is not None:
                        entry.rounds.append(numbers)
                done = f"round {number}/{count}" if number else "warmed up"
                console.print(f"{kind} server, {one.name}: {done}")
    return results, server.version
