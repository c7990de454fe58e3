"""LangGraph seam: the retry policy of a node's options, as LangGraph's own.

``NodeOptions(retry=...)`` takes LangGraph's policy, or several, as ``add_node(retry_policy=...)``
does; and Temporal's, for those who come from Activities. Temporal itself would retry the Activity,
which only says go to a node that waits in LangGraph's loop. So LangGraph retries, by Temporal's
rules: which intervals, how often, and what not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

from langgraph.types import RetryPolicy

from ..options import LangGraphRetry, Retry, TemporalRetry

MAXIMUM_INTERVALS = 100
"""Temporal's default of the longest interval, in initial ones."""


def policies(retry: Retry) -> tuple[RetryPolicy, ...]:
    """LangGraph's policies: the first that takes an exception counts."""
    if isinstance(retry, LangGraphRetry):
        return (cast(RetryPolicy, retry),)
    if isinstance(retry, TemporalRetry):
        return (_translated(retry),)
    return tuple(cast(RetryPolicy, policy) for policy in retry)


def _translated(retry: TemporalRetry) -> RetryPolicy:
    initial_s = retry.initial_interval.total_seconds()
    longest = retry.maximum_interval
    return RetryPolicy(
        initial_interval=initial_s,
        backoff_factor=retry.backoff_coefficient,
        max_interval=longest.total_seconds() if longest else MAXIMUM_INTERVALS * initial_s,
        max_attempts=retry.maximum_attempts or sys.maxsize,
        jitter=False,
        retry_on=_unless(frozenset(retry.non_retryable_error_types or ())),
    )


def _unless(types: frozenset[str]) -> Callable[[Exception], bool]:
    """Whether an exception is retried that is none of these types, by its class's name."""

    def retried(exc: Exception) -> bool:
        kind = type(exc)
        # Temporal's ApplicationError says so itself.
        final = getattr(exc, "non_retryable", False) is True
        named = {kind.__name__, f"{kind.__module__}.{kind.__qualname__}", getattr(exc, "type", "")}
        return not final and types.isdisjoint(n for n in named if isinstance(n, str))

    return retried
