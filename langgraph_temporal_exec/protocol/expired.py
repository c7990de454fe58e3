"""Shared wire: how a run ends whose time (``run_timeout``) is over."""

from __future__ import annotations

from dataclasses import replace

from .messages import ErrorInfo, Outcome
from .names import RUN_TIMEOUT_CLASS
from .wire import pack_plain


def expired_text(run_id: str, thread_id: str, after_s: float, *, begun: bool = True) -> str:
    """What ``RunTimeoutError`` says; ``begun``: a worker had the run."""
    kept = (
        "What it recorded is kept: continue it with ainvoke(None, config), or give it more time."
        if begun
        else "No worker had begun it, and nothing of it is recorded, not even its input: call "
        "again with the same, when a worker is there, or give it more time."
    )
    return (
        f"Run {run_id} of thread {thread_id!r} had not ended after {after_s:g} s, its run_timeout, "
        f"and was cancelled. {kept}"
    )


def expired(outcome: Outcome, run_id: str, thread_id: str, after_s: float) -> Outcome:
    """The outcome of a run that was cancelled because its time was over: a failure."""
    text = expired_text(run_id, thread_id, after_s, begun=outcome.attempt > 0)
    error = ErrorInfo(
        type_name=RUN_TIMEOUT_CLASS,
        message=text,
        args=pack_plain([text]),
        attributes=pack_plain({}),
    )
    return replace(outcome, status="error", error=error)
