"""Shared: whole bytes of values that are stored as deltas or in blobs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from ..protocol.delta import digest, patch
from ..protocol.stored import BlobRef, Value
from .blobs import BlobStore

MEMO_BYTES = 16_000_000
"""Rebuilt values one resolver keeps; neighbours in a history share most of a long chain."""


class UnknownBaseError(Exception):
    """A value builds on one that is not known here: the log has been read in part only."""


class Resolver:
    """Rebuilds values of one log. Not safe to use from several threads.

    Args:
        blobs: Where large values are; only what is in memory is used (see ``missing``).
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._by_digest: dict[bytes, Value] = {}
        self._memo: OrderedDict[bytes, bytes] = OrderedDict()
        self._memo_bytes = 0
        self._learned_bytes = 0
        self.missing: set[BlobRef] = set()

    def learn(self, values: Iterable[Value], *, older: bool = False) -> None:
        """Values others may build on, in the order of the log; ``older``: in reverse.

        Of equal values the oldest is kept, so that a value that came back after a change is never
        built on what was built on it.
        """
        for value in values:
            known = self._by_digest.get(value.digest)
            if value.digest and (known is None or older or (known.bases and not value.bases)):
                self._by_digest[value.digest] = value
                self._learned_bytes += len(value.data) - (len(known.data) if known else -100)

    @property
    def size(self) -> int:
        """Bytes held in memory, nearly."""
        return self._learned_bytes + self._memo_bytes

    def whole(self, value: Value) -> bytes | None:
        """The bytes of a value; ``None`` when blobs must be fetched first (in ``missing``).

        Raises:
            UnknownBaseError: It builds on a value that was never learned.
        """
        if not value.bases and value.blob is None:
            return value.data
        if self._lacks_blobs(value):
            return None
        # A chain of deltas may be thousands long: an explicit stack, and only what a later link
        # needs is kept.
        stack = [value]
        waiting_for_bases: set[int] = set()
        built: dict[bytes, bytes] = {}
        while stack:
            current = stack[-1]
            memo = built.get(current.digest) or self._remembered(current.digest)
            if memo is not None:
                built[current.digest] = memo
                waiting_for_bases.discard(id(current))
                stack.pop()
                continue
            todo = [b for b in current.bases if b not in built]
            if todo:
                waiting_for_bases.add(id(current))
                bases = [self._base(b) for b in todo]
                # What the first of two equal values was built on lies before what was read.
                if any(id(base) in waiting_for_bases for base in bases):
                    raise UnknownBaseError(current.digest.hex())
                stack.extend(bases)
                continue
            waiting_for_bases.discard(id(current))
            data = current.data if current.blob is None else self._blobs.local(current.blob)
            if data is None:
                # Others needed the memory since the chain was looked through.
                assert current.blob is not None
                self.missing.add(current.blob)
                return None
            if current.bases:
                data = patch([built[b] for b in current.bases], data)
            built[current.digest] = data
            self._remember(current.digest, data)
            stack.pop()
            if len(built) > 8:
                waiting = {b for v in stack for b in v.bases} | {current.digest}
                built = {k: v for k, v in built.items() if k in waiting}
        result = built[value.digest]
        if value.bases and digest(result) != value.digest:
            raise RuntimeError(
                f"channel {value.channel!r} was rebuilt to other bytes than were stored"
            )
        return result

    def _lacks_blobs(self, value: Value) -> bool:
        """Look the whole chain through, so that all its blobs are fetched at once."""
        # Not with the value's own digest in `seen`: it may be equal to its base.
        todo, seen = [value], set[bytes]()
        lacking = set()
        while todo:
            current = todo.pop()
            if current.digest in self._memo:
                continue
            if current.blob is not None and self._blobs.local(current.blob) is None:
                lacking.add(current.blob)
            for name in current.bases:
                if name not in seen:
                    seen.add(name)
                    todo.append(self._base(name))
        self.missing |= lacking
        return bool(lacking)

    def _base(self, name: bytes) -> Value:
        value = self._by_digest.get(name)
        if value is None:
            raise UnknownBaseError(name.hex())
        return value

    def _remembered(self, name: bytes) -> bytes | None:
        data = self._memo.get(name)
        if data is not None:
            self._memo.move_to_end(name)
        return data

    def _remember(self, name: bytes, data: bytes) -> None:
        if name in self._memo:
            return
        self._memo[name] = data
        self._memo_bytes += len(data)
        while self._memo_bytes > MEMO_BYTES and len(self._memo) > 1:
            self._memo_bytes -= len(self._memo.popitem(last=False)[1])
