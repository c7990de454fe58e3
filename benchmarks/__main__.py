"""Benchmark command line: ``python -m benchmarks`` prints one JSON object and a table."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import pkgutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

from rich.console import Console

from benchmarks import growth, large_state, load, report, shapes, spread, tokens
from benchmarks.lab import SERVER_FLAGS, Lab, LabError, Shape, open_lab, server_version
from benchmarks.report import Entry, Json
from benchmarks.timing import Measure

CONTENDERS = {
    "inmemory": "benchmarks.baselines:inmemory",
    "sqlite": "benchmarks.baselines:sqlite",
    "sqlite_sync": "benchmarks.baselines:sqlite_sync",
    "floor_update": "benchmarks.baselines:floor_update",
    "floor_update_activity": "benchmarks.baselines:floor_update_activity",
    "floor_update_activity_remote": "benchmarks.baselines:floor_update_activity_remote",
    "embedded": "benchmarks.shipped:embedded",
    "remote": "benchmarks.shipped:remote",
}
"""Resolved one by one: what cannot be imported or started is reported, and the rest measured."""

OPEN_S = 90
CLOSE_S = 45
ROUND_S = 60
SUPERSTEP_S = 1
"""One contender in one round may take ROUND_S and this for every superstep; then it hangs."""

EXIT_PAUSE_S = 0.1

LONG_TURNS = 500

RESULTS = Path(__file__).parent / "results"

console = Console(stderr=True, width=None if sys.stderr.isatty() else 100)


class Contender:
    """One contender from set-up to tear-down; its first failure ends it, not the benchmark."""

    def __init__(self, name: str, lab: Lab) -> None:
        self.name = name
        self.entry = Entry()
        self._lab = lab
        self._context: AbstractAsyncContextManager[Measure] | None = None
        self._measure: Measure | None = None

    async def open(self) -> None:
        try:
            factory = pkgutil.resolve_name(CONTENDERS[self.name])
            context: AbstractAsyncContextManager[Measure] = factory(self._lab)
            async with asyncio.timeout(OPEN_S):
                self._measure = await context.__aenter__()
            self._context = context
        except Exception as exc:
            self._fail("set-up", exc)

    async def round(self, *, warm_up: bool) -> None:
        if self._measure is None:
            return
        try:
            async with asyncio.timeout(ROUND_S + SUPERSTEP_S * self._lab.supersteps):
                sample = await self._measure()
        except Exception as exc:
            self._fail("a run", exc)
            self._measure = None
        else:
            if not warm_up:
                self.entry.samples.append(sample)

    async def close(self) -> None:
        if self._context is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._context.__aexit__(None, None, None)
        except Exception as exc:
            self._fail("tear-down", exc)

    def _fail(self, stage: str, exc: Exception) -> None:
        error = f"{stage} failed: {type(exc).__name__}: {exc}"
        if self.entry.error is None:
            self.entry.error = error
        console.print(f"{self.name}: {error}", style="red", markup=False, highlight=False)


async def measure(
    shape: Shape, supersteps: int, rounds: int, *, server_file: bool
) -> dict[str, Json]:
    """Measure all contenders on one server, in turns, and sum up."""
    async with open_lab(shape, supersteps, server_file=server_file) as lab:
        server = await server_version(lab.client)
        field = [Contender(name, lab) for name in CONTENDERS]
        try:
            for contender in field:
                await contender.open()
            for number in range(rounds + 1):
                # Another one begins each round, so that none always follows the same neighbour.
                turn = number % len(field)
                for contender in field[turn:] + field[:turn]:
                    await contender.round(warm_up=number == 0)
                console.print(f"round {number}/{rounds}" if number else "warmed up")
        finally:
            for contender in reversed(field):
                await contender.close()
    entries = {contender.name: contender.entry for contender in field}
    name = shape.__name__.rpartition(".")[2]
    report.show(console, f"{name}: {supersteps} supersteps, {rounds} rounds", entries)
    store = "file" if server_file else "memory"
    return summary(
        name, supersteps, rounds, report.environment(server, store, SERVER_FLAGS), entries
    )


def summary(
    shape: str,
    supersteps: int,
    rounds: int,
    environment: dict[str, Json],
    entries: Mapping[str, Entry],
) -> dict[str, Json]:
    """The JSON object."""
    return {
        "schema": report.SCHEMA,
        "shape": shape,
        "supersteps": supersteps,
        "rounds": rounds,
        "environment": environment,
        "contenders": report.contenders(entries),
        "ratios": report.ratios(entries),
        "notices": report.notices(entries),
    }


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        return value

    return parse


def arguments() -> argparse.Namespace:
    """The command line; options with values out of range are refused here."""
    known = sorted(module.name for module in pkgutil.iter_modules(shapes.__path__))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--shape", choices=known, default="sequential")
    parser.add_argument(
        "--supersteps", type=_at_least(2), default=30, help="per run (default: %(default)s)"
    )
    parser.add_argument(
        "--runs", type=_at_least(1), default=10, help="rounds (default: %(default)s)"
    )
    parser.add_argument(
        "--turns",
        type=_at_least(1),
        help=f"of the chat of long_thread, at least {growth.SHORT} (default: {LONG_TURNS}); of "
        f"each thread of load (default: {load.Plan.turns})",
    )
    of_load = parser.add_argument_group("the shape load")
    for name, least, what in (
        ("threads", 1, "threads that take turns"),
        ("workers", 1, "worker processes"),
        ("kills", 0, "SIGKILLs"),
        ("concurrency", 1, "turns under way at once"),
        ("seed", 0, "of which worker is killed when"),
    ):
        of_load.add_argument(
            f"--{name}",
            type=_at_least(least),
            default=getattr(load.Plan, name),
            help=f"{what} (default: %(default)s)",
        )
    parser.add_argument(
        "--json",
        type=Path,
        default=RESULTS / "latest.json",
        metavar="FILE",
        help="also written here (default: benchmarks/results/latest.json)",
    )
    parser.add_argument(
        "--memory", action="store_true", help="keep the server's data in memory, not in a file"
    )
    options = parser.parse_args()
    if options.shape == "long_thread":
        options.turns = LONG_TURNS if options.turns is None else options.turns
        if options.turns < growth.SHORT:
            parser.error(f"argument --turns: {options.turns} is below {growth.SHORT}")
    return options


def _load_plan(options: argparse.Namespace) -> load.Plan:
    return load.Plan(
        threads=options.threads,
        turns=load.Plan.turns if options.turns is None else options.turns,
        workers=options.workers,
        kills=options.kills,
        concurrency=options.concurrency,
        seed=options.seed,
    )


def main() -> None:
    """Measure, write, print.

    A slow or failing contender does not change the exit code. What load finds wrong does.
    """
    options = arguments()
    shape = importlib.import_module(f"benchmarks.shapes.{options.shape}")
    server_file = not options.memory
    if hasattr(shape, "KINDS"):
        # Counted, not timed.
        measuring = growth.measure(
            options.shape, shape.KINDS, options.turns, console, server_file=server_file
        )
    elif hasattr(shape, "SIZES_MB"):
        measuring = large_state.measure(options.runs, console, server_file=server_file)
    elif hasattr(shape, "PROCESSES"):
        measuring = spread.measure(options.runs, console, server_file=server_file)
    elif hasattr(shape, "LEVELS"):
        measuring = load.measure(_load_plan(options), console, server_file=server_file)
    elif hasattr(shape, "delays"):
        measuring = tokens.measure(options.runs, console, server_file=server_file)
    else:
        measuring = measure(
            cast(Shape, shape), options.supersteps, options.runs, server_file=server_file
        )
    try:
        result = asyncio.run(measuring)
    except LabError as exc:
        raise SystemExit(f"No benchmark: {exc}") from exc
    text = json.dumps(result, indent=2)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(text + "\n")
    print(text, flush=True)
    # The SDK's own threads may still be letting go of Python objects when its last call has
    # returned; an interpreter that exits within those few milliseconds is aborted (exit code 134).
    time.sleep(EXIT_PAUSE_S)
    if result.get("faults"):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
