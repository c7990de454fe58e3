"""Benchmark table: this package against the others, beside what is aimed at.

What becomes of the results in ``benchmarks/README.md``, between its two marks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.field import CONTENDERS
from benchmarks.report import metrics
from benchmarks.series import SERIES, Results
from benchmarks.server import Kind
from benchmarks.timing import median, paired_ratio

README = Path(__file__).parent / "README.md"
BEGIN = "<!-- results: written by `make bench ARGS=--write` -->"
END = "<!-- results: end -->"

Value = Callable[[Results], float | None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of this package, beside what it ought to be."""

    what: str
    value: Value
    aim: float | None = None  # at most
    unit: str = ""
    digits: int = 2
    ratio: bool = False  # to somebody else's number: above 1 it is behind

    def text(self, value: float | None) -> str:
        """As a cell."""
        return "" if value is None else f"{value:.{self.digits}f}{self.unit}"

    def behind(self, value: float | None) -> bool:
        """Whether it is more than is aimed at, or than somebody else has."""
        if value is None:
            return False
        return (self.aim is not None and value > self.aim) or (self.ratio and value > 1)


def _values(results: Results, series: str, name: str, metric: str) -> list[float | None]:
    entry = results.get(series, {}).get(name)
    return [] if entry is None else entry.values(metric)


def _number(series: str, name: str, metric: str, scale: float = 1) -> Value:
    """The median of a number."""

    def value(results: Results) -> float | None:
        known = [v for v in _values(results, series, name, metric) if v is not None]
        return median(known) * scale if known else None

    return value


def _ratio(
    what: str,
    series: str,
    ours: tuple[str, str],
    theirs: tuple[str, str],
    aim: float | None = None,
) -> Row:
    """The median of the rounds' quotients; contenders with their numbers."""

    def value(results: Results) -> float | None:
        return paired_ratio(_values(results, series, *ours), _values(results, series, *theirs))

    return Row(what=f"{what}: {ours[0]} / {theirs[0]}", value=value, aim=aim, ratio=True)


def _compared(
    what: str,
    series: str,
    metric: str,
    floor: float | None = None,
    plugin: float | None = None,
    remote_floor: float | None = None,
    remote_plugin: float | None = None,
) -> list[Row]:
    """Embedded and remote, against the floor and the official plugin, with the aim for each."""
    return [
        _ratio(what, series, (ours, metric), (theirs, metric), aim)
        for ours, theirs, aim in (
            ("embedded", "floor_activity", floor),
            ("embedded", "plugin", plugin),
            ("remote", "floor_activity_remote", remote_floor),
            ("remote", "plugin_remote", remote_plugin),
        )
    ]


def _overhead(name: str, aim: float | None = None) -> Row:
    def value(results: Results) -> float | None:
        beyond = [
            (with_it - without) / without * 100
            for with_it, without in zip(
                _values(results, "deep_agent", name, "run_ms"),
                _values(results, "deep_agent", "inmemory", "run_ms"),
                strict=False,
            )
            if with_it is not None and without
        ]
        return median(beyond) if beyond else None

    what = f"deep agent, 20 steps of 1 s: {name}, beyond inmemory"
    return Row(what=what, value=value, aim=aim, unit=" %", digits=1)


def _later_turn(name: str, aim: float | None = None) -> Row:
    """Actions of a turn on a thread that has had others: four of five."""
    of_five, of_one = (_number(series, name, "actions") for series in ("turn_5", "turn"))

    def value(results: Results) -> float | None:
        five, one = of_five(results), of_one(results)
        return None if five is None or one is None else (five - one) / 4

    what = f"actions, agent's turn, existing thread: {name}"
    return Row(what=what, value=value, aim=aim, digits=1)


def _actions(what: str, series: str, name: str, aim: float | None = None) -> Row:
    value = _number(series, name, "actions")
    return Row(what=f"actions, {what}: {name}", value=value, aim=aim, digits=0)


_SUPERSTEPS = SERIES["sequential"].parameters["supersteps"]

ROWS: Sequence[Row] = (
    *_compared("superstep", "sequential", "superstep_ms", 1.1, 1.0, 1.2, 1.1),
    _ratio(
        "superstep",
        "sequential",
        ("embedded", "superstep_ms"),
        ("floor_not_eager", "superstep_ms"),
    ),
    *_compared("one-step run, new thread", "one_step", "new_ms", None, 1.2, None, 1.2),
    *_compared("one-step run, existing thread", "one_step", "existing_ms", None, 1.2, None, 1.2),
    *_compared("fan-out of 50", "fanout_50", "run_ms", None, 1.0, None, 1.0),
    *_compared("fan-out of 500", "fanout_500", "run_ms", None, 1.0, None, 1.0),
    *_compared("chat turn, early", "chat", "early_ms", None, 1.2, None, 1.2),
    *_compared("chat turn, late", "chat", "late_ms", None, 1.0, None, 1.0),
    *(
        _ratio("chat turn, late", "chat", (ours, "late_ms"), ("postgres_sync", "late_ms"))
        for ours in ("embedded", "remote")
    ),
    *(
        _ratio("superstep", "sequential", (o, "superstep_ms"), ("postgres_sync", "superstep_ms"))
        for o in ("embedded", "remote")
    ),
    _overhead("embedded", 3),
    _overhead("remote", 3),
    _overhead("deepagents_plugin"),
    _overhead("deepagents_plugin_remote"),
    _overhead("postgres_sync"),
    *_compared("server CPU, run of 100 supersteps", "sequential", "server_cpu_ms", 1.1, None, 1.1),
    _ratio(
        "CPU of caller and worker, the same",
        "sequential",
        ("embedded", "caller_cpu_ms"),
        ("floor_activity", "caller_cpu_ms"),
        1.5,
    ),
    _ratio(
        "CPU of caller and worker, the same",
        "sequential",
        ("embedded", "caller_cpu_ms"),
        ("plugin", "caller_cpu_ms"),
    ),
    _ratio(
        "worker CPU, the same",
        "sequential",
        ("remote", "worker_cpu_ms"),
        ("floor_activity_remote", "worker_cpu_ms"),
        1.5,
    ),
    _ratio(
        "worker CPU, the same",
        "sequential",
        ("remote", "worker_cpu_ms"),
        ("plugin_remote", "worker_cpu_ms"),
    ),
    _actions("agent's turn, new thread", "turn", "embedded", 9),
    _actions("agent's turn, new thread", "turn", "remote", 13),
    _actions("agent's turn, new thread", "turn", "plugin"),
    _actions("agent's turn, new thread", "turn", "floor_activity"),
    _later_turn("embedded", 9),
    _later_turn("remote", 13),
    _later_turn("plugin"),
    _actions("turn with two tools of 20 s", "long_tools", "embedded", 20),
    _actions("turn with two tools of 20 s", "long_tools", "remote", 20),
    _actions("turn with two tools of 20 s", "long_tools", "plugin"),
    _ratio("first token", "tokens", ("remote", "first_ms"), ("embedded", "first_ms"), 1.3),
    _ratio("first token", "tokens", ("remote", "first_ms"), ("inmemory", "first_ms")),
    *(
        Row(
            what=f"each later token, p50: {name}",
            value=_number("tokens", name, "later_p50_ms"),
            aim=10,
            unit=" ms",
            digits=1,
        )
        for name in ("embedded", "remote")
    ),
    *(
        Row(
            what=f"kill -9 to the next finished task, {what}: remote",
            value=_number(series, "remote", "recovery_s"),
            aim=12,
            unit=" s",
        )
        for what, series in (
            ("worker started again", "recovery"),
            ("another one waits", "recovery_spare"),
        )
    ),
    *(
        Row(
            what=f"turn on a thread of 20 MB, to one of nothing: {name}",
            value=_ratio("", "large_state", (name, "turn_20_mb_ms"), (name, "turn_0_mb_ms")).value,
            digits=1,
        )
        for name in ("embedded", "remote", "postgres_sync")
    ),
)


def markdown(results: Mapping[Kind, Results]) -> str:
    """The rows that were measured, one column for each server."""
    heads = [f"{kind} server" for kind in results]
    lines = [
        f"| | {' | '.join(heads)} | aim |",
        "|---|" + "---:|" * (len(heads) + 1),
    ]
    for row in ROWS:
        values = [row.value(of) for of in results.values()]
        if all(value is None for value in values):
            continue
        cells = [f"**{row.text(v)}**" if row.behind(v) else row.text(v) for v in values]
        aim = "" if row.aim is None else f"<= {row.aim:g}{row.unit}"
        lines.append(f"| {row.what} | {' | '.join(cells)} | {aim} |")
    return "\n".join(lines)


def medians(results: Mapping[Kind, Results]) -> str:
    """What every contender brought, a table for each series."""
    parts = []
    for name in SERIES:
        of = {kind: found[name] for kind, found in results.items() if name in found}
        if not of:
            continue
        # Actions by kind are in the JSON object.
        names = [
            metric
            for metric in dict.fromkeys(m for entries in of.values() for m in metrics(entries))
            if not metric.startswith("actions ")
        ]
        heads = [metric.replace("_", " ") for metric in names]
        lines = [
            f"| {name} | {' | '.join(heads)} |",
            "|---|" + "---:|" * len(heads),
        ]
        for contender in CONTENDERS:
            cells = [_cells(of, contender, metric) for metric in names]
            if any(cells):
                lines.append(f"| {contender} | {' | '.join(cells)} |")
        parts.append(f"`{name}`: {SERIES[name].what}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _cells(of: Mapping[Kind, Mapping[str, Any]], contender: str, metric: str) -> str:
    found = []
    for entries in of.values():
        values = entries[contender].values(metric) if contender in entries else []
        known = [value for value in values if value is not None]
        found.append(_short(median(known)) if known else "")
    return " / ".join(found) if any(found) else ""


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"


def missing(results: Mapping[Kind, Results]) -> str:
    """Who was not measured in what, and why."""
    lines: dict[str, None] = {}
    for kind, found in results.items():
        for name, entries in found.items():
            for contender, entry in entries.items():
                if entry.error is not None:
                    lines[f"- `{contender}`, `{name}`, {kind} server: {entry.error}"] = None
    reasons: dict[tuple[str, str], list[str]] = {}
    for found in results.values():
        for name, entries in found.items():
            for contender, entry in entries.items():
                if entry.unsupported is not None:
                    at = reasons.setdefault((contender, entry.unsupported), [])
                    if name not in at:
                        at.append(name)
    for (contender, why), names in reasons.items():
        lines[f"- `{contender}` has no {', '.join(f'`{n}`' for n in names)}: {why}."] = None
    return "\n".join(lines)


def section(results: Mapping[Kind, Results], environment: Mapping[str, Any]) -> str:
    """All of it as text for the README."""
    keys = ("cores", "load_average", "python", "langgraph", "temporalio", "temporal_server")
    # Earlier results lack some.
    about = ", ".join(
        f"{key.replace('_', ' ')} {environment[key]}" for key in keys if key in environment
    )
    servers = " / ".join(results)
    parts = (
        f"One run, {about}. Bold is what we lose at: more than is aimed at, or than the other has.",
        markdown(results),
        f"### Medians\n\n{servers} server; milliseconds, where the name says nothing else.",
        medians(results),
        "### Not measured",
        missing(results) or "Everything was measured.",
    )
    return "\n\n".join(parts)


def write(text: str, path: Path = README) -> None:
    """Put a section between the marks of a file.

    Raises:
        ValueError: It has no marks.
    """
    old = path.read_text()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no marks for the results")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
