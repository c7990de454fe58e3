"""Shared: mail that came to a mailbox of this process, put together again (see ``MailItem``)."""

from __future__ import annotations

from ..protocol.delta import patch
from ..protocol.messages import KNOWN_SLOT, MailItem, decompressed
from .known import KEPT_FROM_BYTES


class Ordered:
    """Chunks and events in order, each once per attempt; a newer attempt starts over.

    Args:
        known: A chunk that is kept from the beginning, as the sender was told; b"": none.
    """

    def __init__(self, known: bytes = b"") -> None:
        self._known = {KNOWN_SLOT: known} if known else {}
        self.attempt = 0
        self.received = 0
        self.last = b""
        self.large = b""
        self._next = (0, 1)
        self._early: dict[tuple[int, int], MailItem] = {}
        self._pieces: list[bytes] = []
        self._kept = dict(self._known)

    def accept(self, item: MailItem) -> list[tuple[MailItem, bytes]]:
        """What an item completes: chunks and events, with the last item of each."""
        if item.attempt < self.attempt:
            return []
        if item.attempt > self.attempt:
            self.attempt, self.received, self.last = item.attempt, 0, b""
            self._next = (0, 1)
            self._early.clear()
            self._pieces.clear()
            self._kept = dict(self._known)
        if not item.piece:
            # Of a worker of an earlier release, which sends all in order.
            place = (item.seq, self._next[1] if item.seq == self._next[0] else 1)
            if item.seq > self._next[0]:
                self._next = place
        else:
            place = (item.seq, item.piece)
        if place < self._next:
            return []
        self._early[place] = item
        completed = []
        while (found := self._early.pop(self._next, None)) is not None:
            self._pieces.append(found.data)
            if found.more:
                self._next = (found.seq, self._next[1] + 1)
                continue
            self._next = (found.seq + 1, 1)
            completed.append((found, self._whole(found)))
        return completed

    def _whole(self, last: MailItem) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        if last.whole_bytes:
            data = decompressed(data, last.whole_bytes)
        if last.delta:
            data = patch([self._kept.get(last.slot, b"")], data)
        if last.slot:
            self._kept[last.slot] = data
        if not last.event:
            self.received += 1
            self.last = data
            self.large = data if len(data) >= KEPT_FROM_BYTES else self.large
        return data
