"""Shared: the replicas of one process, the least recently used of which give way."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

from .blobs import BlobStore
from .replica import Replica

REPLICA_BYTES = 64_000_000
"""Bytes of threads a process keeps in memory beside those it is driving."""

MAX_REPLICAS = 1_000


class Replicas:
    """Replicas by thread id; safe to use from several threads."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._replicas: OrderedDict[str, Replica] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._replicas))

    def get(self, thread_id: str) -> Replica:
        """The replica of a thread, empty if it is new here."""
        with self._lock:
            replica = self._replicas.get(thread_id)
            if replica is None:
                replica = self._replicas[thread_id] = Replica(thread_id, self._blobs)
                self._sizes[thread_id] = 0
            self._replicas.move_to_end(thread_id)
            self._trim()
            return replica

    def fresh(self, thread_id: str) -> Replica:
        """An empty replica in place of one that another attempt still folds into."""
        with self._lock:
            replica = self._replicas[thread_id] = Replica(thread_id, self._blobs)
            self._sizes[thread_id] = 0
            return replica

    def settle(self, replica: Replica) -> None:
        """Take note of what a replica holds by now; the longest unused ones give way."""
        size = replica.size
        with self._lock:
            if self._replicas.get(replica.thread_id) is replica:
                self._sizes[replica.thread_id] = size
                self._trim()

    @property
    def size(self) -> int:
        """Bytes of all replicas, nearly."""
        with self._lock:
            return sum(self._sizes.values())

    def _trim(self) -> None:
        total = sum(self._sizes.values())
        while self._replicas and (total > REPLICA_BYTES or len(self._replicas) > MAX_REPLICAS):
            thread_id, _ = self._replicas.popitem(last=False)
            total -= self._sizes.pop(thread_id)
