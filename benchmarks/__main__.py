"""Benchmark command line: ``python -m benchmarks`` prints one JSON object and a table."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import pkgutil
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import growth, load, report, shapes, spread, table
from benchmarks.field import CONTENDERS, Series
from benchmarks.series import SERIES, Results, measure
from benchmarks.server import Kind, LabError, flags

EXIT_PAUSE_S = 0.1

LONG_TURNS = 500
RUNS = 10

RESULTS = Path(__file__).parent / "results"

console = Console(stderr=True, width=None if sys.stderr.isatty() else 100)


async def compare(
    kinds: Sequence[Kind],
    wanted: Sequence[Series],
    names: Sequence[str],
    rounds: int | None,
    *,
    write: bool,
) -> dict[str, Any]:
    """Measure the series on servers of each kind, show them, and sum up."""
    results: dict[Kind, Results] = {}
    servers: dict[str, Any] = {}
    for kind in kinds:
        here = [series for series in wanted if kind == kinds[0] or not series.once]
        results[kind], version = await measure(kind, here, names, console, rounds=rounds)
        for series in here:
            entries = results[kind][series.name]
            report.show(console, f"{kind} server, {series.name}: {series.what}", entries)
        environment = report.environment(version, "file", flags(kind))
        servers[kind] = {
            "environment": environment,
            "series": {name: report.contenders(of) for name, of in results[kind].items()},
        }
        if write:
            # So that a run that is broken off leaves what it has measured.
            table.write(table.section(results, environment))
    rows = table.markdown(results)
    console.print(rows, markup=False, highlight=False)
    return {"schema": report.SCHEMA, "servers": servers, "table": rows.splitlines()}


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        return value

    return parse


def arguments() -> argparse.Namespace:
    """The command line; options with values out of range are refused here."""
    own = sorted(
        module.name
        for module in pkgutil.iter_modules(shapes.__path__)
        if not hasattr(importlib.import_module(f"benchmarks.shapes.{module.name}"), "sample")
    )
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--shape",
        choices=[*SERIES, *own],
        nargs="+",
        default=list(SERIES),
        help=f"several of {', '.join(SERIES)} (default: all of these); or one of {', '.join(own)}",
    )
    parser.add_argument(
        "--server", choices=["tuned", "default", "both"], default="both", help="(default: both)"
    )
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=list(CONTENDERS),
        default=list(CONTENDERS),
        help="(default: all)",
    )
    parser.add_argument(
        "--runs", type=_at_least(1), help="rounds, of shapes that have several (default: by shape)"
    )
    parser.add_argument(
        "--turns",
        type=_at_least(1),
        help=f"of the chat of long_thread, at least {growth.SHORT} (default: {LONG_TURNS}); of "
        f"each thread of load (default: {load.Plan.turns})",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the tables into benchmarks/README.md; not for load, long_thread, spread",
    )
    parser.add_argument(
        "--write-again",
        type=Path,
        metavar="FILE",
        help="measure nothing: write the tables of an earlier result",
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
    if len(options.shape) > 1 and set(options.shape) & set(own):
        parser.error(f"argument --shape: {', '.join(own)} are measured alone")
    if options.shape == ["long_thread"]:
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


def write_again(path: Path) -> None:
    """Write the tables of an earlier result."""
    servers = json.loads(path.read_text())["servers"]
    results: dict[Kind, Results] = {
        kind: {name: report.entries(of) for name, of in found["series"].items()}
        for kind, found in servers.items()
    }
    environment = [found["environment"] for found in servers.values()]
    table.write(table.section(results, environment[0]))


def _measuring(options: argparse.Namespace) -> Coroutine[Any, Any, dict[str, Any]]:
    name = options.shape[0]
    if name in SERIES:
        kinds: list[Kind] = ["tuned", "default"] if options.server == "both" else [options.server]
        wanted = [SERIES[shape] for shape in dict.fromkeys(options.shape)]
        names = [name for name in CONTENDERS if name in options.contenders]
        return compare(kinds, wanted, names, options.runs, write=options.write)
    server_file = not options.memory
    shape = importlib.import_module(f"benchmarks.shapes.{name}")
    if hasattr(shape, "KINDS"):
        # Counted, not timed.
        return growth.measure(name, shape.KINDS, options.turns, console, server_file=server_file)
    if hasattr(shape, "LEVELS"):
        return load.measure(_load_plan(options), console, server_file=server_file)
    return spread.measure(options.runs or RUNS, console, server_file=server_file)


def main() -> None:
    """Measure, write, print.

    A slow or failing contender does not change the exit code. What load finds wrong does.
    """
    options = arguments()
    if options.write_again is not None:
        write_again(options.write_again)
        return
    try:
        result = asyncio.run(_measuring(options))
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
