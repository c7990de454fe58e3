"""Benchmark values: what many measurements say together."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


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
