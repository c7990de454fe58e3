"""Public API: an interrupt that does not wait for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from langgraph.config import get_config
from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

from .errors import UsageError
from .protocol.wire import pack_plain
from .seam import hooks

MAX_DEFAULT_BYTES = 100_000
MAX_WITHIN = timedelta(days=3650)


def interrupt_with_default(value: Any, *, within: timedelta, default: Any) -> Any:
    """LangGraph's ``interrupt``, which answers itself if nobody does.

    The thread waits as for any other interrupt: no process is needed for it, and whoever answers
    in time is heard. Otherwise the thread itself starts a run with ``Command(resume=default)`` for
    this interrupt. The time counts from the end of the run that asked, and goes on while others
    of the thread's interrupts are answered, or an answer is cancelled. Changing the thread's state
    by hand (``update_state``) ends it, also where the question stays open. With another
    checkpointer than ``TemporalSaver`` this is ``interrupt(value)``.

    Args:
        value: What to ask, as for ``interrupt``.
        within: How long to wait; up to ten years.
        default: The answer: plain data (what JSON knows, and bytes) of up to 100 kB. It is stored
            as it is, whatever the saver's serializer.

    Returns:
        The answer.

    Raises:
        GraphInterrupt: Nobody has answered yet, as ``interrupt`` does.
        UsageError: ``within`` or ``default`` is none of that.
    """
    if not timedelta(0) < within <= MAX_WITHIN:
        raise UsageError(f"interrupt_with_default(within={within}) must be up to ten years.")
    try:
        data = pack_plain(default)
    except (OverflowError, TypeError, ValueError) as exc:
        raise UsageError(
            "The default of interrupt_with_default() must be plain data: None, booleans, numbers, "
            f"text, bytes, lists and dicts of them ({type(exc).__name__})."
        ) from exc
    if len(data) > MAX_DEFAULT_BYTES:
        raise UsageError(
            f"The default of interrupt_with_default() is {len(data):,} bytes; the limit is "
            f"{MAX_DEFAULT_BYTES:,}."
        )
    try:
        return interrupt(value)
    except GraphInterrupt as asked:
        session = hooks.session_of(get_config())
        if session is not None:
            for question in asked.args[0]:
                session.note_deadline(question.id, within, data)
        raise
