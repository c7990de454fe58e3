"""Shared wire: what a thread is stored as: the ops of its log, and what is kept outside it.

State travels as opaque, already serialized bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

Version = str | int | float


class OpKind(IntEnum):
    """What an entry of the op log records."""

    PUT = 1
    """A checkpoint and the channel values that are new in it."""
    WRITES = 2
    """Writes of one task, pending on a checkpoint."""
    DROP = 3
    """Checkpoints removed from the thread (pruning, deletion of runs)."""
    VALUES = 4
    """Values of dropped checkpoints that remaining ones still refer to."""
    OPEN = 5
    """Nested namespaces that got a workflow of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobRef:
    """Part of a value, an op or a pack: bytes that are kept outside the log.

    ``pieces`` are digests; each piece is the input of a workflow of its own, named after thread,
    ``scope`` (who wrote it) and digest. ``size`` is in bytes, as is ``piece``, that of all pieces
    but the last.
    """

    size: int
    scope: str
    pieces: tuple[bytes, ...]
    piece: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """Part of an op: one channel's value, serialized.

    ``key`` is the channel version for a PUT and the write index for WRITES. A PUT of a channel
    without a value has ``type == "empty"``. ``digest`` is the content address of the whole bytes;
    short values have none. With ``bases`` (digests of earlier values) the stored bytes are a
    delta (``protocol/delta.py``); with ``blob`` they are kept outside and ``data`` is empty.

    Args:
        channel: The channel.
        type: What LangGraph's serializer says of the bytes.
    """

    channel: str
    key: Version
    type: str
    data: bytes
    digest: bytes = b""
    bases: tuple[bytes, ...] = ()
    blob: BlobRef | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Inherited:
    """Part of an op: a channel at a version which another checkpoint than the parent stored.

    Args:
        channel: The channel.
        key: Its version.
    """

    channel: str
    key: Version


@dataclass(frozen=True, kw_only=True, slots=True)
class Op:
    """Part of several messages: one entry of a thread's op log.

    The header (everything but the serialized fields) is what later decisions need without
    decoding state: which run and attempt wrote it, to which checkpoint and task it belongs,
    which channels it holds at which version.

    A PUT inherits from its parent the channels it does not hold, but for ``inherits``: channels
    and versions that are not its parent's. With ``complete`` nothing is inherited but those.
    ``deltas`` are its DeltaChannels that must be rebuilt from writes of its ancestors. ``body``
    keeps ``values``, ``checkpoint`` and ``metadata`` outside when all of them are too much; what
    was taken from the header for that is in ``answers`` (a task recorded an answer). ``retakes``:
    all answers among the writes were recorded before, and the task has taken no other.

    Args:
        kind: An ``OpKind``.
        checkpoint_id: The checkpoint it is, or that its writes are pending on.
        parent_id: The checkpoint before; ``None``: it is the first.
        run_id: The run that wrote it.
        attempt: Its attempt.
        task_id: Of WRITES: the task.
        task_path: LangGraph's path of it, by which writes are ordered.
        checkpoint_type: As ``Value.type``, of the checkpoint without its values.
        metadata_type: As ``Value.type``, of the metadata.
        dropped: Of DROP: ids of checkpoints.
        checkpoint_digest: As ``Value.digest``.
        checkpoint_bases: As ``Value.bases``.
        metadata_digest: As ``Value.digest``.
        metadata_bases: As ``Value.bases``.
        opened: Of OPEN: the namespaces.
    """

    kind: int
    checkpoint_id: str = ""
    parent_id: str | None = None
    run_id: str = ""
    attempt: int = 0
    task_id: str = ""
    task_path: str = ""
    values: tuple[Value, ...] = ()
    checkpoint_type: str = ""
    checkpoint: bytes = b""
    metadata_type: str = ""
    metadata: bytes = b""
    dropped: tuple[str, ...] = ()
    checkpoint_digest: bytes = b""
    checkpoint_bases: tuple[bytes, ...] = ()
    metadata_digest: bytes = b""
    metadata_bases: tuple[bytes, ...] = ()
    inherits: tuple[Inherited, ...] = ()
    complete: bool = False
    deltas: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    answers: bool = False
    body: BlobRef | None = None
    retakes: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class OpBody:
    """Blob content: what an op keeps outside the log.

    Args:
        values: As in ``Op``.
        checkpoint_type: As in ``Op``.
        checkpoint: As in ``Op``.
        metadata_type: As in ``Op``.
        metadata: As in ``Op``.
    """

    values: tuple[Value, ...]
    checkpoint_type: str
    checkpoint: bytes
    metadata_type: str
    metadata: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Pack:
    """Part of several messages: compressed ops, inline or in a blob.

    ``level`` 0: the bytes are an ``OpList``; above: a ``SegmentList`` of the level below.

    Args:
        data: The bytes, if they are inline.
        ref: Where they are, if not.
    """

    data: bytes = b""
    ref: BlobRef | None = None
    level: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Part of several messages: the log from ``first`` up to, not including, ``end``.

    Args:
        pack: The ops.
    """

    first: int
    end: int
    pack: Pack


@dataclass(frozen=True, kw_only=True, slots=True)
class OpList:
    """Content of a pack of level 0.

    Args:
        ops: Ops, packed.
    """

    ops: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentList:
    """Content of a pack of a higher level.

    Args:
        segments: Archives, oldest first.
    """

    segments: tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Part of ``Shelf``: a closed namespace.

    Args:
        namespace: The namespace.
        life: Of its log (``Incarnation.life``).
        snapshot: Its state, as its workflow had it at the end: a ``Snapshot``, packed.
    """

    namespace: str
    life: str
    snapshot: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """Blob content, compressed: closed namespaces of one thread.

    Args:
        kept: The namespaces.
    """

    kept: tuple[Kept, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelved:
    """Part of ``Shelves``: one shelf, and what is on it.

    Args:
        ref: A ``Shelf``.
        keys: Of its namespaces that are not on a later shelf as well: ``shelf_key`` of each.
    """

    ref: BlobRef
    keys: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelves:
    """Content of the pack in which a thread says where its closed namespaces are.

    Args:
        shelves: All of them, oldest first.
    """

    shelves: tuple[Shelved, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobList:
    """Blob content: blobs to be removed.

    Args:
        refs: Blobs.
    """

    refs: tuple[BlobRef, ...]
