"""Temporal's retry policy as LangGraph's."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from langgraph_temporal_exec.seam.retries import policies


class NoMoney(Exception):
    """One of the user's."""


def test_intervals_and_attempts() -> None:
    (policy,) = policies(
        RetryPolicy(
            initial_interval=timedelta(seconds=2),
            backoff_coefficient=3.0,
            maximum_interval=timedelta(minutes=1),
            maximum_attempts=4,
        )
    )
    assert (policy.initial_interval, policy.backoff_factor, policy.max_interval) == (2.0, 3.0, 60.0)
    assert (policy.max_attempts, policy.jitter) == (4, False)


def test_temporals_defaults() -> None:
    (policy,) = policies(RetryPolicy())
    assert (policy.initial_interval, policy.backoff_factor, policy.max_interval) == (1.0, 2.0, 100)
    assert policy.max_attempts == sys.maxsize


@pytest.mark.parametrize(
    ("exc", "retried"),
    [
        (ValueError("x"), True),
        (NoMoney("x"), False),
        (ConnectionError("x"), False),
        (ApplicationError("x"), True),
        (ApplicationError("x", type="Overdrawn"), False),
        (ApplicationError("x", non_retryable=True), False),
    ],
)
def test_what_is_not_retried(exc: Exception, retried: bool) -> None:
    types = ["NoMoney", "builtins.ConnectionError", "Overdrawn"]
    (policy,) = policies(RetryPolicy(non_retryable_error_types=types))
    assert callable(policy.retry_on)
    assert policy.retry_on(exc) is retried  # type: ignore[call-arg, comparison-overlap] # a function
