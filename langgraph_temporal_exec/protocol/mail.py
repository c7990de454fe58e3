"""Shared wire: a stream on its way to a caller in another process."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntEnum

from .inflate import inflate
from .wire import WireError

KNOWN_SLOT = 1
"""See ``MailItem.slot``."""

PACKED_FROM_BYTES = 20_000
"""Less is not worth packing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MailItem:
    """Part of ``Mail``: a chunk, or with ``more`` a piece of one, numbered within its attempt.

    ``event``: it is no chunk but an event for the caller's callback handlers. ``slot``, from 1: the
    chunk is to be kept, in place of the one kept under this number, because the next one of its
    kind may be sent as the difference to it; then ``delta`` is set. Under ``KNOWN_SLOT`` a caller
    keeps the chunk it had before (``Call.known``), from the beginning. ``piece`` numbers the
    pieces of a chunk from 1, so that they may arrive in any order; 0: they come in theirs.
    ``unpacked``: the chunk, or the difference, is packed, and has this many bytes; 0: it is not.

    Args:
        attempt: Attempt of the run that sends it; a newer one starts the stream over.
        seq: Number of the chunk or event within the attempt, from 0.
        data: The bytes, or a piece of them.
    """

    attempt: int
    seq: int
    data: bytes
    more: bool = False
    event: bool = False
    slot: int = 0
    delta: bool = False
    piece: int = 0
    unpacked: int = 0


def packed(data: bytes) -> bytes | None:
    """A chunk as it travels; ``None``: as it is."""
    if len(data) < PACKED_FROM_BYTES:
        return None
    # The fastest: what does not travel saves more time than this takes, but not much more.
    small = zlib.compress(data, 1)
    return small if len(small) < 0.9 * len(data) else None


def unpacked(data: bytes, size: int) -> bytes:
    """The inverse of ``packed``.

    Args:
        data: What ``packed`` gave.
        size: Bytes of what it was given; no more are unpacked.

    Raises:
        WireError: It is nothing of this size.
    """
    whole = inflate(data, at_most=size)
    if len(whole) != size:
        raise WireError(f"A packed chunk that has not the {size:,} bytes it is said to have.")
    return whole


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

    Args:
        items: Chunks and events, in order.
    """

    run_id: str
    items: tuple[MailItem, ...]
