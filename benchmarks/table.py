"""Benchmark table: this package against the others, beside what is aimed at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.series import Results
from benchmarks.server import Kind
from benchmarks.timing import paired_ratio


@dataclass(frozen=True, kw_only=True)
class Row:
    """A ratio: the same number of two contenders in the same rounds."""

    what: str
    series: str
    metric: str
    ours: str
    theirs: str
    aim: float | None = None  # at most

    def ratio(self, results: Results) -> float | None:
        """Median of the rounds' ratios; ``None`` when one of both is missing."""
        entries = results.get(self.series, {})
        if self.ours not in entries or self.theirs not in entries:
            return None
        return paired_ratio(
            entries[self.ours].values(self.metric), entries[self.theirs].values(self.metric)
        )


def _of(
    what: str,
    series: str,
    metric: str,
    *,
    floor: float | None = None,
    plugin: float | None = None,
    remote: tuple[float | None, float | None] = (None, None),
) -> list[Row]:
    """Embedded and remote, against the floor and the official plugin; aims in that order."""
    aims = {
        ("embedded", "floor_activity"): floor,
        ("embedded", "plugin"): plugin,
        ("remote", "floor_activity_remote"): remote[0],
        ("remote", "plugin_remote"): remote[1],
    }
    return [
        Row(what=what, series=series, metric=metric, ours=ours, theirs=theirs, aim=aim)
        for (ours, theirs), aim in aims.items()
    ]


ROWS = (
    *_of("superstep", "sequential", "superstep_ms", floor=1.1, plugin=1.0, remote=(1.2, 1.1)),
    *_of("one-step run, new thread", "one_step", "new_ms", plugin=1.2),
    *_of("one-step run, existing thread", "one_step", "existing_ms", plugin=1.2),
    *_of("fan-out of 50", "fanout_50", "run_ms", plugin=1.0),
    *_of("fan-out of 500", "fanout_500", "run_ms", plugin=1.0),
    *_of("chat turn, early", "chat", "early_ms", plugin=1.2),
    *_of("chat turn, late", "chat", "late_ms", plugin=1.0),
)


def markdown(results: Mapping[Kind, Results]) -> str:
    """The table, one column for each server."""
    lines = [
        "| shape | " + " | ".join(results) + " | aim |",
        "|---|" + "---|" * (len(results) + 1),
    ]
    for row in ROWS:
        ratios = [row.ratio(of) for of in results.values()]
        if all(ratio is None for ratio in ratios):
            continue
        cells = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        aim = "" if row.aim is None else f"<= {row.aim:g}"
        lines.append(f"| {row.what}: {row.ours} / {row.theirs} | {' | '.join(cells)} | {aim} |")
    return "\n".join(lines)
