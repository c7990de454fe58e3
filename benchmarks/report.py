"""Benchmark report: samples in, one JSON object and one table out."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.timing import Sample, median, p95, paired_ratio

SCHEMA = 1
"""Version of the JSON object; fields are only added within one."""

PHASES = ("superstep_ms", "start_new_ms", "start_ms", "end_ms")

FLOOR_OF = {
    "embedded": "floor_update_activity",
    "remote": "floor_update_activity_remote",
}
"""The floor with which a shipped contender shares its arrangement of processes."""

SAVERS = ("sqlite", "sqlite_sync")

NOTICE_ABOVE = 1.6
"""A shipped superstep above this multiple of its floor is pointed out."""

PACKAGES = ("langgraph-temporal-exec", "langgraph", "langgraph-checkpoint", "temporalio")

Json = dict[str, "Json"] | list[str] | str | int | float | None


@dataclass(kw_only=True)
class Entry:
    """What one contender brought: a sample per round, or the reason why it stopped."""

    samples: list[Sample] = field(default_factory=list)
    error: str | None = None

    def values(self, phase: str) -> list[float | None]:
        return [getattr(sample, phase) for sample in self.samples]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(server: str, store: str, server_flags: Sequence[str]) -> dict[str, Json]:
    """What the numbers depend on besides the code."""
    return {
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "temporal_server": server,
        "temporal_server_store": store,
        "temporal_server_flags": list(server_flags),
    }


def contenders(entries: Mapping[str, Entry]) -> dict[str, Json]:
    """Median and p95 of every phase of every contender."""
    out: dict[str, Json] = {}
    for name, entry in entries.items():
        stats: dict[str, Json] = {"rounds": len(entry.samples)}
        for phase in PHASES:
            values = [value for value in entry.values(phase) if value is not None]
            if values:
                stats[phase] = {"median": median(values), "p95": p95(values)}
        if entry.error is not None:
            stats["error"] = entry.error
        out[name] = stats
    return out


def ratios(entries: Mapping[str, Entry]) -> dict[str, Json]:
    """Ours against the floors and the savers; ``None`` where one side is missing."""

    def ratio(ours: str, theirs: str, phase: str, their_phase: str) -> float | None:
        return paired_ratio(entries[ours].values(phase), entries[theirs].values(their_phase))

    superstep: dict[str, Json] = {}
    overhead: dict[str, Json] = {}
    for ours, floor in FLOOR_OF.items():
        for theirs in (floor, *SAVERS):
            superstep[f"{ours}/{theirs}"] = ratio(ours, theirs, "superstep_ms", "superstep_ms")
        overhead[f"{ours}/{floor}"] = ratio(ours, floor, "start_plus_end_ms", "superstep_ms")
    return {"superstep": superstep, "start_plus_end_in_floor_supersteps": overhead}


def notices(entries: Mapping[str, Entry]) -> list[str]:
    """What a reader must not overlook."""
    lines = [
        f"NOT MEASURED TO THE END: {name}: {entry.error}"
        for name, entry in entries.items()
        if entry.error is not None
    ]
    for ours, floor in FLOOR_OF.items():
        value = paired_ratio(
            entries[ours].values("superstep_ms"), entries[floor].values("superstep_ms")
        )
        if value is not None and value > NOTICE_ABOVE:
            lines.append(
                f"SLOW: a superstep of {ours} takes {value:.2f}x {floor}, above {NOTICE_ABOVE}x."
            )
    return lines


def _cell(values: Sequence[float | None], statistic: Callable[[list[float]], float]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistic(known):.1f}" if known else ""


def show(console: Console, title: str, entries: Mapping[str, Entry]) -> None:
    """The table: medians, the p95 of a superstep, ratios. The JSON object has every p95."""
    table = Table(
        title=title,
        caption="ms, medians; ratios are of supersteps",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,  # so that it fits 80 columns
    )
    table.add_column("contender", no_wrap=True)
    headings = ("super\nstep", "p95", "start\n(new)", "start", "end", "x\nfloor")
    for heading in (*headings, *(f"x\n{saver}" for saver in SAVERS)):
        table.add_column(heading.replace("_", "\n"), justify="right", no_wrap=True)
    for name, entry in entries.items():
        supersteps = entry.values("superstep_ms")

        def times(other: str | None, mine: list[float | None] = supersteps) -> str:
            if other is None:
                return ""
            ratio = paired_ratio(mine, entries[other].values("superstep_ms"))
            return "" if ratio is None else f"{ratio:.2f}"

        table.add_row(
            name,
            _cell(supersteps, median),
            _cell(supersteps, p95),
            *(_cell(entry.values(phase), median) for phase in PHASES[1:]),
            *(times(other) for other in (FLOOR_OF.get(name), *SAVERS)),
        )
    console.print(table)
    for line in notices(entries):
        console.print(line, style="bold red", markup=False, highlight=False)
