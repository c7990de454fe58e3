"""Caller side: who listens for the mail that this process's mailbox workflows receive.

The mailbox workflow runs in the process of the caller, on purpose: its Query handler hands the
arguments to the stream that waits in the same process. This module is passed through Temporal's
sandbox, so both see the same table. A stream removes its entry when it ends.
"""

from __future__ import annotations

from collections.abc import Callable

from ..protocol.messages import MailItem, MailStatus

Sink = Callable[[tuple[MailItem, ...]], MailStatus]

_sinks: dict[str, Sink] = {}


def listen(stream_id: str, sink: Sink) -> None:
    """Deliver the mail of ``stream_id`` to ``sink``, which must be callable from any thread."""
    _sinks[stream_id] = sink


def stop(stream_id: str) -> None:
    """Forget the sink of ``stream_id``."""
    _sinks.pop(stream_id, None)


def deliver(stream_id: str, items: tuple[MailItem, ...]) -> MailStatus:
    """Hand mail over to whoever listens, if somebody does and has room for it."""
    sink = _sinks.get(stream_id)
    return MailStatus.GONE if sink is None else sink(items)
