"""Shared wire: a stream on its way to a caller in another process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True, kw_only=True, slots=True)
class MailItem:
    """Part of ``Mail``: a chunk, or with ``more`` a piece of one, numbered within its attempt.

    ``event``: it is no chunk but an event for the caller's callback handlers. ``slot``, from 1: the
    chunk is to be kept, in place of the one kept under this number, because the next one of its
    kind may be sent as the difference to it; then ``delta`` is set. ``piece`` numbers the pieces
    of a chunk from 1, so that they may arrive in any order; 0: they come in theirs.
    """

    attempt: int
    seq: int
    data: bytes
    more: bool = False
    event: bool = False
    slot: int = 0
    delta: bool = False
    piece: int = 0


class MailStatus(IntEnum):
    """Answer to ``Mail``."""

    GONE = 0
    TAKEN = 1
    FULL = 2
    """Nothing was taken: what came before is unread. Send it again later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """Query ``deliver`` of a mailbox workflow: mail of a stream (``run_id``: its ``stream_id``).

    Arguments of Queries are not recorded in history. The reply is a ``MailStatus``.
    """

    run_id: str
    items: tuple[MailItem, ...]
