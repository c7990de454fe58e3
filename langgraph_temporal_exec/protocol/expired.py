"""Shared wire: how a run ends whose time (``run_timeout``) is over."""

from __future__ import annotations

from dataclasses import replace

from .messages import ErrorInfo, Outcome
from .names import RUN_TIMEOUT_CLASS
from .wire import pack_plain


def expired_text(run_id: str, thread_id: str, after_s: float) -> str:
    """What ``RunTimeoutError`` says."""
    return (
        f"Run {run_id} of thread {thread_id!r} had not ended after {after_s:g} s, its run_timeout, "
        "and was cancelled. What it recorded is kept: continue it with ainvoke(None, config), or "
        "give it more time."
    )


def expired(outcome: Outcome, run_id: str, thread_id: str, after_s: float) -> Outcome:
    """The outcome of a run that was cancelled because its time was over: a failure."""
    text = expired_text(run_id, thread_id, after_s)
    error = ErrorInfo(
        type_name=RUN_TIMEOUT_CLASS,
        message=text,
        args=pack_plain([text]),
        attributes=pack_plain({}),
    )
    return replace(outcome, status="error", error=error)
