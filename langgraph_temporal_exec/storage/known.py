"""Shared: the last large chunk of each thread, kept by the caller that got it and by who sent it.

It is the thread's state, and the next one is mostly the same: a caller says which one it has, and a
worker that has it too sends what differs. Everything works without: whoever has forgotten it, or
never had it, sends or gets the whole.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

KEPT_BYTES = 64_000_000
"""Of one process's savers each, callers and workers alike; beyond, the longest unused go."""

KEPT_FROM_BYTES = 20_000
"""Smaller ones are sent in a moment."""


class KnownChunks:
    """Serialized chunks by thread, the most recent ones."""

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._chunks: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, thread_id: str) -> bytes:
        """The last one of a thread; b"": it is not known."""
        with self._lock:
            if thread_id in self._chunks:
                self._chunks.move_to_end(thread_id)
            return self._chunks.get(thread_id, b"")

    def keep(self, thread_id: str, data: bytes) -> None:
        """Remember a chunk in place of the thread's last one, unless it is small."""
        if len(data) < KEPT_FROM_BYTES:
            return
        with self._lock:
            self._bytes -= len(self._chunks.pop(thread_id, b""))
            if len(data) <= self._max_bytes:
                self._chunks[thread_id] = data
                self._bytes += len(data)
            while self._bytes > self._max_bytes:
                _, oldest = self._chunks.popitem(last=False)
                self._bytes -= len(oldest)
