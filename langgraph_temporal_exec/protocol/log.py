"""Shared wire: what a log of ops says, from its headers alone: no state is decoded.

Used wherever a log is cut, compacted or summed up: the archive Activity and the readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from .names import RESUME_CHANNEL
from .stored import (
    BlobRef,
    Inherited,
    Op,
    OpKind,
    Value,
    Version,
)
from .wire import pack, unpack

EMPTY_TYPE = "empty"
"""Type of a channel that has a version but no value."""

OFF_CHANNEL = ""
"""Channel of values that only serve as bases of others."""

Resolve = Callable[[Value], bytes]
"""The whole bytes of a value."""

Place = Callable[[Value, bytes], Value]
"""A value that stands for itself: inline, or in a blob if it is large."""


def body_of(op: Op) -> Value:
    """The checkpoint of a PUT as a value."""
    return Value(
        channel=OFF_CHANNEL,
        key="checkpoint",
        type=op.checkpoint_type,
        data=op.checkpoint,
        digest=op.checkpoint_digest,
        bases=op.checkpoint_bases,
    )


def metadata_of(op: Op) -> Value:
    """The metadata of a PUT as a value."""
    return Value(
        channel=OFF_CHANNEL,
        key="metadata",
        type=op.metadata_type,
        data=op.metadata,
        digest=op.metadata_digest,
        bases=op.metadata_bases,
    )


def with_parts(op: Op, values: Iterable[Value], body: Value, metadata: Value) -> Op:
    """The op with other values, checkpoint and metadata."""
    return replace(
        op,
        values=tuple(values),
        checkpoint_type=body.type,
        checkpoint=body.data,
        checkpoint_digest=body.digest,
        checkpoint_bases=body.bases,
        metadata_type=metadata.type,
        metadata=metadata.data,
        metadata_digest=metadata.digest,
        metadata_bases=metadata.bases,
    )


def parts_of(op: Op) -> Iterator[Value]:
    """All serialized values of an op."""
    yield from op.values
    if op.kind == OpKind.PUT:
        yield body_of(op)
        yield metadata_of(op)


def as_sent(op: Op) -> Op:
    """The op as it is logged: without what its ``body`` holds."""
    if op.body is None:
        return op
    return replace(
        op,
        values=(),
        checkpoint_type="",
        checkpoint=b"",
        metadata_type="",
        metadata=b"",
        answers=any(v.channel == RESUME_CHANNEL for v in op.values),
    )


def blobs_of(op: Op) -> Iterator[BlobRef]:
    """All blobs an op refers to by itself."""
    if op.body is not None:
        yield op.body
    for value in op.values:
        if value.blob is not None:
            yield value.blob


@dataclass
class Log:
    """A log by its headers. Ops whose values are outside (``body``) must have them back.

    Args:
        puts: Checkpoints by their ids.
        writes: Writes by the checkpoint they are pending on, in the order of the log.
        loose: Values of dropped checkpoints that others refer to.
        dropped: Ids of checkpoints that are gone.
        opened: Nested namespaces, in the order in which they were opened.
        stored: Values by channel and version.
        latest: Of each channel the last value: what whoever has read all of it builds on next.
        latest_parts: The last checkpoint and its metadata, for the same.
    """

    puts: dict[str, Op] = field(default_factory=dict)
    writes: dict[str, list[Op]] = field(default_factory=dict)
    loose: list[Op] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    opened: dict[str, None] = field(default_factory=dict)
    stored: dict[tuple[str, Version], Value] = field(default_factory=dict)
    latest: dict[str, Value] = field(default_factory=dict)
    latest_parts: tuple[Value, ...] = ()

    @classmethod
    def of(cls, ops: Iterable[Op]) -> Log:
        """Read ops in their order."""
        log = cls()
        for op in ops:
            log.add(op)
        return log

    def add(self, op: Op) -> None:
        """Read one more op."""
        if op.kind == OpKind.PUT:
            self.puts[op.checkpoint_id] = op
            self.dropped.discard(op.checkpoint_id)
        elif op.kind == OpKind.WRITES:
            self.writes.setdefault(op.checkpoint_id, []).append(op)
        elif op.kind == OpKind.DROP:
            self.dropped.update(op.dropped)
        elif op.kind == OpKind.OPEN:
            self.opened.update(dict.fromkeys(op.opened))
        else:
            self.loose.append(op)
        if op.kind == OpKind.PUT:
            self.latest.update({v.channel: v for v in op.values if v.type != EMPTY_TYPE})
            self.latest_parts = (body_of(op), metadata_of(op))
        if op.kind in (OpKind.PUT, OpKind.VALUES):
            self.stored.update({(v.channel, v.key): v for v in op.values})

    @property
    def live(self) -> list[str]:
        """Checkpoints that are there, oldest first."""
        return sorted(self.puts.keys() - self.dropped)

    def ancestors(self, checkpoint_id: str) -> Iterator[Op]:
        """A checkpoint and what it descends from, as far as the log knows."""
        seen = set()
        current: str | None = checkpoint_id
        while current is not None and current in self.puts and current not in seen:
            seen.add(current)
            op = self.puts[current]
            yield op
            current = op.parent_id

    def support(self, checkpoint_ids: Iterable[str]) -> set[str]:
        """Ancestors from whose writes the DeltaChannels of checkpoints are rebuilt."""
        needed: set[str] = set()
        for checkpoint_id in checkpoint_ids:
            missing = set(self.puts[checkpoint_id].deltas)
            for op in self.ancestors(checkpoint_id):
                if not missing:
                    break
                if op.checkpoint_id != checkpoint_id:
                    needed.add(op.checkpoint_id)
                missing -= {v.channel for v in op.values if v.type != EMPTY_TYPE}
        return needed

    def sources(self, checkpoint_id: str) -> dict[str, Version] | None:
        """Which version of each channel belongs to a checkpoint; ``None``: not all is known."""
        found: dict[str, Version] = {}
        for op in self.ancestors(checkpoint_id):
            for value in op.values:
                found.setdefault(value.channel, value.key)
            for other in op.inherits:
                found.setdefault(other.channel, other.key)
            if op.complete or op.parent_id is None:
                return found
        return None

    def lacks(self, checkpoint_id: str) -> bool:
        """Whether something a checkpoint needs lies in a part of the log that is not known here."""
        sources = self.sources(checkpoint_id)
        if sources is None or any(place not in self.stored for place in sources.items()):
            return True
        missing = set(self.puts[checkpoint_id].deltas)
        last = self.puts[checkpoint_id]
        for last in self.ancestors(checkpoint_id):
            missing -= {v.channel for v in last.values if v.type != EMPTY_TYPE}
            if not missing:
                return False
        return last.parent_id is not None and bool(missing)

    def head(self) -> list[Op]:
        """Ops that are enough to go on from the latest checkpoint; bases are not followed."""
        live = self.live
        if not live:
            return self._selected(set(), set(), self.dropped)
        last = live[-1]
        hidden = self._relevant(last, self.support([last]))
        return self._shortcut(self._selected({last}, hidden, self.dropped, last), last, hidden)

    def _relevant(self, last: str, support: set[str]) -> set[str]:
        """The ancestors that add something to DeltaChannels of a checkpoint, and its parent."""
        deltas = set(self.puts[last].deltas)
        found = set()
        for checkpoint_id in support:
            op = self.puts[checkpoint_id]
            seeds = any(v.channel in deltas and v.type != EMPTY_TYPE for v in op.values)
            written = {v.channel for w in self.writes.get(checkpoint_id, ()) for v in w.values}
            if seeds or written & deltas or checkpoint_id == self.puts[last].parent_id:
                found.add(checkpoint_id)
        return found

    def _shortcut(self, ops: list[Op], last: str, hidden: set[str]) -> list[Op]:
        """Let each ancestor in the head descend from the next one that is in it."""
        line = [op.checkpoint_id for op in self.ancestors(last) if op.checkpoint_id in hidden]
        after: dict[str, str | None] = dict(pairwise(line))
        if line:
            after[line[-1]] = None
        return [
            replace(op, parent_id=after[op.checkpoint_id])
            if op.kind == OpKind.PUT and op.checkpoint_id in after
            else op
            for op in ops
        ]

    def compacted(self) -> list[Op]:
        """The log without what was dropped and what only that referred to."""
        live = set(self.live)
        ops = self._selected(live, self.support(live) - live, self.dropped)
        # A writer who has read it before may still build on these, dropped or not.
        bases = [v for v in (*self.latest.values(), *self.latest_parts) if v.digest]
        kept = {part.digest for op in ops for part in parts_of(op)}
        missing = tuple(v for v in bases if v.digest not in kept)
        return [Op(kind=OpKind.VALUES, values=missing), *ops] if missing else ops

    def _selected(
        self, live: set[str], hidden: set[str], dropped: set[str], after: str = ""
    ) -> list[Op]:
        kept = live | hidden
        held = {(v.channel, v.key) for c in kept for v in self.puts[c].values}
        extra: dict[tuple[str, Version], Value] = {}
        ops: list[Op] = []
        for checkpoint_id, op in self.puts.items():
            if checkpoint_id not in kept:
                continue
            if op.parent_id is not None and op.parent_id not in kept and not op.complete:
                op = self._completed(op)
            for other in op.inherits:
                place = (other.channel, other.key)
                if place not in held and place in self.stored:
                    extra[place] = self.stored[place]
            ops.append(op)
            ops.extend(self.writes.get(checkpoint_id, ()))
        # The checkpoint of these is yet to come: LangGraph may store writes first.
        for checkpoint_id, writes in self.writes.items():
            # Ids grow with time, so those below ``after`` belong to what is not selected.
            known = checkpoint_id in self.puts or checkpoint_id in dropped
            if not known and checkpoint_id > after:
                ops.extend(writes)
        if extra:
            ops.insert(0, Op(kind=OpKind.VALUES, values=tuple(extra.values())))
        return [*ops, *self._rest(hidden)]

    def _completed(self, op: Op) -> Op:
        own = {v.channel for v in op.values}
        sources = self.sources(op.checkpoint_id)
        if sources is None:
            # The parent was never stored here (a copied or foreign checkpoint).
            return op
        inherits = tuple(
            Inherited(channel=channel, key=key)
            for channel, key in sources.items()
            if channel not in own
        )
        return replace(op, inherits=inherits, complete=True)

    def _rest(self, hidden: set[str]) -> list[Op]:
        ops = []
        if hidden:
            ops.append(Op(kind=OpKind.DROP, dropped=tuple(sorted(hidden))))
        if self.opened:
            ops.append(Op(kind=OpKind.OPEN, opened=tuple(self.opened)))
        return ops


def self_contained(ops: Iterable[Op], resolve: Resolve, place: Place) -> list[bytes]:
    """Ops in which every base is among the earlier ones; other values stand for themselves."""
    available: set[bytes] = set()
    result = []

    def on_its_own(value: Value) -> Value:
        if not available.issuperset(value.bases):
            value = place(value, resolve(value))
        if value.digest:
            available.add(value.digest)
        return value

    for op in ops:
        whole = replace(op, values=tuple(on_its_own(v) for v in op.values))
        if op.kind == OpKind.PUT:
            parts = on_its_own(body_of(op)), on_its_own(metadata_of(op))
            whole = with_parts(whole, whole.values, *parts)
        # One whose body is outside may keep it if nothing in it had to change.
        result.append(pack(as_sent(op) if whole == op else replace(whole, body=None)))
    return result


def read_ops(data: Iterable[bytes]) -> list[Op]:
    """Decode ops; blank entries, which earlier releases left for dropped ones, are skipped."""
    return [unpack(Op, item) for item in data if item]
