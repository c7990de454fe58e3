"""Workflow side: what a thread takes from how its runs go and end."""

from __future__ import annotations

from dataclasses import replace

from ..protocol.messages import Deadline, ErrorInfo, Outcome
from ..protocol.names import NULL_TASK_ID, RESUME_CHANNEL
from ..protocol.stored import Op, OpKind
from ..protocol.wire import pack, pack_plain


def in_short(full: Outcome, limit: int) -> bytes:
    """An outcome to be remembered in about ``limit`` bytes."""
    error = full.error
    if error is not None:
        text = _shortened(error.message, limit // 3)
        # The message goes as the only argument, which is what most exceptions show.
        error = ErrorInfo(
            type_name=_shortened(error.type_name, limit // 5),
            message=text[: len(text) // 2],
            args=pack_plain([text]),
            attributes=pack_plain({}),
        )
    short = replace(full, tail=(), error=error, unsent="")
    return pack(replace(short, deadlines=(), asks=(), nodes=(), asked=()))


def deadlines(full: Outcome, known: tuple[Deadline, ...], now_s: float) -> tuple[Deadline, ...]:
    """When the interrupts a run ended with answer themselves.

    One that was asked before, and is asked again because another one was answered, keeps its time.
    """
    at = {deadline.interrupt_id: deadline.at_s for deadline in known}
    return tuple(
        replace(d, at_s=at.get(d.interrupt_id, now_s + d.within_s)) for d in full.deadlines
    )


def failure(full: Outcome, limit: int) -> tuple[str, str]:
    """Class and text of what a run failed with; empty when it did not."""
    if full.error is None:
        return "", ""
    return _shortened(full.error.type_name, limit), _shortened(full.error.message, limit)


def _shortened(text: str, limit: int) -> str:
    """The beginning of a text, in so many bytes of UTF-8."""
    return text.encode()[:limit].decode(errors="ignore")


def takes_answer(op: Op) -> bool:
    """Whether a task recorded a new answer, which means it has taken the run's resume value.

    The next ``interrupt()`` of a retried run must not be given that value again.
    """
    return (
        op.kind == OpKind.WRITES
        and op.task_id != NULL_TASK_ID
        and not op.retakes
        and _has_answer(op)
    )


def gives_answer(op: Op) -> bool:
    """Whether a run recorded its resume value, for whichever interrupt comes first."""
    return op.kind == OpKind.WRITES and op.task_id == NULL_TASK_ID and _has_answer(op)


def _has_answer(op: Op) -> bool:
    return op.answers or any(v.channel == RESUME_CHANNEL for v in op.values)
