"""Benchmark plan: which shapes are measured, with what, how often; and the measuring itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from rich.console import Console

from benchmarks.field import Contender, Entry, Series
from benchmarks.server import Kind, open_server

SERIES = {
    series.name: series
    for series in (
        Series(
            name="sequential",
            shape="sequential",
            rounds=3,
            # A run of 30 gets by with what a default server allows at once, or just does not.
            parameters={"supersteps": 100},
            what="one node in a loop of 100 supersteps; CPU is of all of them",
        ),
        Series(
            name="one_step",
            shape="one_step",
            rounds=4,
            what="a graph of one node, from the call to its return; CPU is of nine runs",
        ),
        Series(
            name="fanout_50",
            shape="fanout",
            rounds=4,
            parameters={"width": 50},
            what="50 tasks in one superstep, from the call to its return",
        ),
        Series(
            name="fanout_500",
            shape="fanout",
            rounds=2,
            parameters={"width": 500},
            warm_up=False,
            what="500 tasks in one superstep",
        ),
        Series(
            name="chat",
            shape="chat",
            rounds=2,
            parameters={"turns": 50},
            warm_up=False,
            what="50 turns of 1 kB each way; early are the first ten, late the last ten",
        ),
        Series(
            name="tokens",
            shape="tokens",
            rounds=3,
            what="100 tokens, 10 ms apart: the first after the call, the others after their making",
        ),
        Series(
            name="large_state",
            once=True,
            shape="large_state",
            rounds=1,
            parameters={"sizes_mb": [0, 5, 20]},
            warm_up=False,
            what="a turn of 8 supersteps on a thread that holds so many MB, which none touches",
        ),
        Series(
            name="idle",
            once=True,
            shape="idle",
            rounds=1,
            parameters={"threads": 50, "seconds": 10},
            warm_up=False,
            limit_s=300,
            what="50 threads that had a turn, and wait",
        ),
        Series(
            name="turn",
            once=True,
            shape="turn",
            rounds=1,
            parameters={"turns": 1, "tool_s": 0},
            together=True,
            what="an agent's turn of 3 model and 2 tool calls, on a new thread",
        ),
        Series(
            name="turn_5",
            once=True,
            shape="turn",
            rounds=1,
            parameters={"turns": 5, "tool_s": 0},
            together=True,
            what="five such turns on one thread",
        ),
        Series(
            name="long_tools",
            once=True,
            shape="turn",
            rounds=1,
            parameters={"turns": 1, "tool_s": 20},
            warm_up=False,
            together=True,
            what="such a turn with two tools of 20 s",
        ),
        Series(
            name="deep_agent",
            shape="deep_agent",
            rounds=2,
            parameters={"steps": 20, "model_s": 1.0},
            warm_up=False,
            together=True,
            what="a deep agent of 20 model calls of 1 s, 19 of which call a tool",
        ),
        Series(
            name="recovery",
            once=True,
            shape="recovery",
            rounds=2,
            parameters={"spare": False},
            warm_up=False,
            together=True,
            what="kill -9 of the worker to the next finished task; it is started again at once",
        ),
        Series(
            name="recovery_spare",
            once=True,
            shape="recovery",
            rounds=2,
            parameters={"spare": True},
            warm_up=False,
            together=True,
            what="the same, while a second worker waits",
        ),
    )
}
"""In the order in which they are measured."""

Results = dict[str, dict[str, Entry]]
"""Name of the series -> name of the contender -> what it brought."""


async def measure(
    kind: Kind,
    wanted: Sequence[Series],
    names: Sequence[str],
    console: Console,
    *,
    rounds: int | None = None,
) -> tuple[Results, str]:
    """Measure on servers of a kind; also their version.

    Args:
        kind: Of the servers.
        wanted: What is measured.
        names: Contenders.
        console: Where progress is said.
        rounds: Instead of those of the series, where these are more than one.
    """
    results: Results = {}
    version = ""
    for together in (False, True):
        some = [series for series in wanted if series.together == together]
        if not some:
            continue
        async with _field(kind, names, console, together=together) as (field, found):
            version = found
            for series in some:
                entries = results[series.name] = {name: Entry() for name in names}
                count = rounds if rounds and series.rounds > 1 else series.rounds
                for number in range(0 if series.warm_up else 1, count + 1):
                    await (_at_once if together else _in_turns)(field, series, entries, number)
                    done = f"round {number}/{count}" if number else "warmed up"
                    console.print(f"{kind} server, {series.name}: {done}", highlight=False)
    return results, version


@asynccontextmanager
async def _field(
    kind: Kind, names: Sequence[str], console: Console, *, together: bool
) -> AsyncIterator[tuple[list[Contender], str]]:
    """The contenders on a server of their own."""
    spaces = {name: name if together else "default" for name in names}
    async with AsyncExitStack() as stack:
        opening = open_server(kind, list(spaces.values()) if together else ())
        server = await stack.enter_async_context(opening)
        field = [Contender(name, server, console, spaces[name]) for name in names]
        for contender in field:
            stack.push_async_callback(contender.close)
        yield field, server.version


async def _in_turns(
    field: list[Contender], series: Series, entries: dict[str, Entry], number: int
) -> None:
    # Another one begins each round, so that none always follows the same neighbour.
    turn = number % len(field)
    for contender in field[turn:] + field[:turn]:
        entry = entries[contender.name]
        numbers = await contender.sample(series, entry, cpu=True)
        # The first round warms up.
        if number and numbers is not None:
            entry.rounds.append(numbers)


async def _at_once(
    field: list[Contender], series: Series, entries: dict[str, Entry], number: int
) -> None:
    asked = [contender.sample(series, entries[contender.name], actions=True) for contender in field]
    for contender, numbers in zip(field, await asyncio.gather(*asked), strict=True):
        if number and numbers is not None:
            entries[contender.name].rounds.append(numbers)
