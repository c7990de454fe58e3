"""Shared wire: bytes that are kept outside the log: how they are cut, named and compressed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .delta import digest
from .inflate import MAX_INFLATED_BYTES, inflate
from .stored import (
    BlobRef,
    OpList,
    Segment,
    SegmentList,
    Shelf,
    Shelves,
)
from .wire import pack, unpack

BLOB_AT = 100_000
"""Bytes at which a value moves out of the log into a blob."""

PIECE_BYTES = 400_000
"""A piece of a blob. Temporal refuses payloads above 2 MB, and its SDK warns above 512 kB."""

EXTERNAL_PIECE_BYTES = 16_000_000
"""A piece that goes to external storage. Temporal's own drivers refuse payloads above 50 MiB."""

SHARED_PIECE_BYTES = 64_000
"""A piece of what is written again and again as it grows, so that most pieces stay the same."""

SHARED_PIECES_UP_TO = 4_000_000
"""Above this, small pieces would be too many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A blob that must be stored before what refers to it is sent. ``what`` names it in errors.

    Args:
        ref: Where it will be.
        data: Its bytes.
    """

    ref: BlobRef
    data: bytes
    what: str

    def pieces(self) -> Iterator[tuple[bytes, bytes]]:
        """Digest and content of each piece."""
        for i, name in enumerate(self.ref.pieces):
            yield name, self.data[i * self.ref.piece : (i + 1) * self.ref.piece]


def plan(data: bytes, *, scope: str, what: str, piece_bytes: int) -> Upload:
    """Cut bytes into pieces. ``piece_bytes`` 0: one piece, whatever its size."""
    step = piece_bytes or max(1, len(data))
    pieces = tuple(digest(data[i : i + step]) for i in range(0, max(1, len(data)), step))
    ref = BlobRef(size=len(data), scope=scope, pieces=pieces, piece=step)
    return Upload(ref=ref, data=data, what=what)


def compress(ops: Sequence[bytes]) -> bytes:
    """Ops as the bytes of a pack of level 0."""
    return zlib.compress(pack(OpList(ops=tuple(ops))), 6)


def compress_segments(segments: Sequence[Segment]) -> bytes:
    """Segments as the bytes of a pack of a higher level."""
    return zlib.compress(pack(SegmentList(segments=tuple(segments))), 6)


def decompress(data: bytes) -> tuple[bytes, ...]:
    """The inverse of ``compress``."""
    return unpack(OpList, inflate(data, at_most=MAX_INFLATED_BYTES)).ops


def decompress_segments(data: bytes) -> tuple[Segment, ...]:
    """The inverse of ``compress_segments``."""
    return unpack(SegmentList, inflate(data, at_most=MAX_INFLATED_BYTES)).segments


SHELF_KEY_BYTES = 8
"""Of each closed namespace in the list of shelves. Two of them alike cost a look at a shelf."""


def shelf_key(namespace: str) -> bytes:
    """By what a closed namespace is found in the list of shelves."""
    return hashlib.sha256(namespace.encode()).digest()[:SHELF_KEY_BYTES]


def is_on(keys: bytes, key: bytes) -> bool:
    """Whether a namespace is on a shelf, by its key and those of the shelf."""
    at = keys.find(key)
    while at >= 0 and at % SHELF_KEY_BYTES:
        # The end of one key and the beginning of the next.
        at = keys.find(key, at + 1)
    return at >= 0


def compress_shelf(shelf: Shelf | Shelves) -> bytes:
    """A shelf, or the list of shelves, as bytes of a blob."""
    return zlib.compress(pack(shelf), 6)


def decompress_shelf(data: bytes) -> Shelf:
    """The inverse of ``compress_shelf``, of one shelf."""
    return unpack(Shelf, inflate(data, at_most=MAX_INFLATED_BYTES))


def decompress_shelves(data: bytes) -> Shelves:
    """The inverse of ``compress_shelf``, of the list."""
    return unpack(Shelves, inflate(data, at_most=MAX_INFLATED_BYTES))
