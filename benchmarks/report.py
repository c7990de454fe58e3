"""Benchmark report: results in, one JSON object and tables out."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.field import Entry
from benchmarks.timing import median, p95

SCHEMA = 2
"""Version of the JSON object; fields are only added within one."""

PACKAGES = ("langgraph-temporal-exec", "langgraph", "langgraph-checkpoint", "temporalio")

Json = dict[str, "Json"] | list[str] | str | int | float | None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(server: str, store: str, server_flags: Sequence[str]) -> dict[str, Json]:
    """What the numbers depend on besides the code."""
    return {
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[2], 1),  # of 15 minutes, at the end
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "temporal_server": server,
        "temporal_server_store": store,
        "temporal_server_flags": list(server_flags),
    }


def metrics(entries: Mapping[str, Entry]) -> list[str]:
    """The names of all numbers of a shape, in the order in which they came."""
    return list(dict.fromkeys(key for e in entries.values() for r in e.rounds for key in r))


def contenders(entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Median, p95 and every value of every number of every contender."""
    out: dict[str, Any] = {}
    for name, entry in entries.items():
        numbers: dict[str, Any] = {"rounds": len(entry.rounds)}
        for metric in metrics({name: entry}):
            values = entry.values(metric)
            known = [value for value in values if value is not None]
            numbers[metric] = {"median": median(known), "p95": p95(known), "values": values}
        if entry.error is not None:
            numbers["error"] = entry.error
        if entry.unsupported is not None:
            numbers["unsupported"] = entry.unsupported
        out[name] = numbers
    return out


def entries(contenders: Mapping[str, Any]) -> dict[str, Entry]:
    """What ``contenders`` was made of."""
    found = {}
    for name, numbers in contenders.items():
        values = {k: v["values"] for k, v in numbers.items() if isinstance(v, dict)}
        rounds: list[dict[str, float]] = [{} for _ in range(numbers["rounds"])]
        for metric, of in values.items():
            for number, value in enumerate(of):
                if value is not None:
                    rounds[number][metric] = value
        found[name] = Entry(
            rounds=rounds, error=numbers.get("error"), unsupported=numbers.get("unsupported")
        )
    return found


def show(console: Console, title: str, entries: Mapping[str, Entry]) -> None:
    """Medians of a shape as a table."""
    table = Table(
        title=title,
        caption="medians of rounds",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("contender", no_wrap=True)
    # Actions by kind are in the JSON object.
    names = [metric for metric in metrics(entries) if not metric.startswith("actions ")]
    for metric in names:
        table.add_column(metric.replace("_", "\n"), justify="right", no_wrap=True)
    for name, entry in entries.items():
        cells = []
        for metric in names:
            values = [value for value in entry.values(metric) if value is not None]
            cells.append(f"{median(values):.1f}" if values else "")
        if entry.unsupported is None:
            table.add_row(name, *cells)
    console.print(table)
    for name, entry in entries.items():
        if entry.error is not None:
            text = f"NOT MEASURED TO THE END: {name}: {entry.error}"
            console.print(text, style="bold red", markup=False, highlight=False)
