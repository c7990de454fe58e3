"""Shared: a thread as far as this process has read it: ops folded into LangGraph's read model.

The read model is LangGraph's own ``InMemorySaver``, filled with blobs that are already
serialized, so that lookup, listing, ordering of writes and DeltaChannel history are exactly
LangGraph's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol

from .protocol.messages import LogPage, Op, OpKind
from .protocol.wire import unpack


class NamespaceLog:
    """How far the log of one namespace has been read."""

    __slots__ = ("cursor", "incarnation")

    def __init__(self) -> None:
        self.incarnation = ""
        self.cursor = 0


class Replica:
    """One thread with all namespaces read so far. Safe to use from several threads.

    Args:
        thread_id: The thread.
    """

    def __init__(self, thread_id: str) -> None:
        self.thread_id = thread_id
        self.known_namespaces: set[str] = set()
        self._memory = InMemorySaver()
        self._logs: dict[str, NamespaceLog] = {}
        self._lock = threading.RLock()

    def view(self, serde: SerializerProtocol) -> BaseCheckpointSaver[str]:
        """A saver over this replica's data which decodes with ``serde``.

        Only its reading methods may be used.
        """
        view = InMemorySaver(serde=serde)
        view.storage, view.writes, view.blobs = (
            self._memory.storage,
            self._memory.writes,
            self._memory.blobs,
        )
        return view

    @property
    def lock(self) -> threading.RLock:
        """Held while the read model is read or changed."""
        return self._lock

    def position(self, checkpoint_ns: str) -> tuple[str, int]:
        """Incarnation and cursor up to which the log of a namespace is known."""
        with self._lock:
            log = self._logs.get(checkpoint_ns)
            return (log.incarnation, log.cursor) if log else ("", 0)

    def absorb(self, checkpoint_ns: str, page: LogPage, namespaces: Iterable[str]) -> bool:
        """Fold a page that was read; starts over when it is of another incarnation.

        Returns:
            Whether the page fits. If not (the replica was emptied since the page was asked for),
            nothing was folded, and reading must start from ``position`` again.
        """
        with self._lock:
            log = self._logs.setdefault(checkpoint_ns, NamespaceLog())
            if page.incarnation != log.incarnation or page.start > log.cursor:
                self._clear(checkpoint_ns)
                log.incarnation, log.cursor = page.incarnation, 0
                if page.start:
                    return False
            self.known_namespaces.update(namespaces)
            for data in page.ops[max(0, log.cursor - page.start) :]:
                if data:
                    self._fold(checkpoint_ns, unpack(Op, data))
            log.cursor = max(log.cursor, page.start + len(page.ops))
            return True

    def caught_up(self, checkpoint_ns: str, incarnation: str, log_end: int) -> None:
        """All ops up to ``log_end`` were folded as they were written: do not read them back."""
        with self._lock:
            log = self._logs.get(checkpoint_ns)
            if log is not None and log.incarnation == incarnation:
                log.cursor = max(log.cursor, log_end)

    def fold_local(self, checkpoint_ns: str, op: bytes) -> None:
        """Fold an op of this process before (or without) reading it back.

        The cursor stays: reading the op later changes nothing, because folding is idempotent.
        """
        with self._lock:
            self.known_namespaces.add(checkpoint_ns)
            self._fold(checkpoint_ns, unpack(Op, op))

    def forget(self) -> None:
        """Drop everything: the thread is gone."""
        with self._lock:
            for namespace in {*self._logs, *self._memory.storage[self.thread_id]}:
                self._clear(namespace)
            self._logs.clear()
            self.known_namespaces.clear()

    def _fold(self, ns: str, op: Op) -> None:
        if op.kind in (OpKind.PUT, OpKind.VALUES):
            for v in op.values:
                self._memory.blobs[(self.thread_id, ns, v.channel, v.key)] = (v.type, v.data)
        if op.kind == OpKind.PUT:
            self._memory.storage[self.thread_id][ns][op.checkpoint_id] = (
                (op.checkpoint_type, op.checkpoint),
                (op.metadata_type, op.metadata),
                op.parent_id,
            )
        elif op.kind == OpKind.WRITES:
            writes = self._memory.writes[(self.thread_id, ns, op.checkpoint_id)]
            for v in op.values:
                key = (op.task_id, int(v.key))
                # As InMemorySaver.put_writes: output writes are recorded once, control writes
                # (negative index) replace the earlier one.
                if key[1] >= 0 and key in writes:
                    continue
                writes[key] = (op.task_id, v.channel, (v.type, v.data), op.task_path)
        elif op.kind == OpKind.DROP:
            for checkpoint_id in op.dropped:
                self._memory.storage[self.thread_id][ns].pop(checkpoint_id, None)
                self._memory.writes.pop((self.thread_id, ns, checkpoint_id), None)

    def _clear(self, ns: str) -> None:
        self._memory.storage[self.thread_id].pop(ns, None)
        for writes_key in [k for k in self._memory.writes if k[1] == ns]:
            del self._memory.writes[writes_key]
        for blob_key in [k for k in self._memory.blobs if k[1] == ns]:
            del self._memory.blobs[blob_key]
