"""Benchmark values: what one measurement yields, and what many of them say together."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunTimes:
    """One run of a graph, seen from its caller. Milliseconds."""

    start_ms: float  # call -> first node
    superstep_ms: float  # one node to the next, mean over the run
    end_ms: float  # last node -> return


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One contender in one round. Milliseconds; ``None`` where a contender has no such phase."""

    superstep_ms: float
    start_new_ms: float | None = None  # start_ms of the first run of a thread
    start_ms: float | None = None  # start_ms of a later run of the same thread
    end_ms: float | None = None

    @property
    def start_plus_end_ms(self) -> float | None:
        """What a run costs beside its supersteps."""
        if self.start_ms is None or self.end_ms is None:
            return None
        return self.start_ms + self.end_ms


Measure = Callable[[], Awaitable[Sample]]
"""Takes one sample; every call is one round."""


def median(values: Sequence[float]) -> float:
    """Median, rounded to what the clock and the noise are worth."""
    return round(statistics.median(values), 2)


def p95(values: Sequence[float]) -> float:
    """95th percentile, interpolated; with few rounds it is close to the worst one."""
    if len(values) < 2:
        return round(values[0], 2)
    return round(statistics.quantiles(values, n=20, method="inclusive")[-1], 2)


def paired_ratio(over: Sequence[float | None], under: Sequence[float | None]) -> float | None:
    """Median over rounds of ``over / under``.

    Pairing within a round cancels the drift of a busy machine, which a quotient of two medians
    would keep.
    """
    pairs = [(a, b) for a, b in zip(over, under, strict=False) if a is not None and b]
    return median([a / b for a, b in pairs]) if pairs else None
