"""Shared: LangGraph values to ops and back, with errors that name the value.

State is serialized by LangGraph's own serializers (the saver's ``serde``), so what may be
stored, and which classes may be rebuilt, is LangGraph's rule, not ours.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from ..errors import UnserializableError, ValueTooLargeError
from ..protocol.blob import BLOB_AT, Upload, plan
from ..protocol.delta import MIN_BYTES, diff, digest
from ..protocol.log import EMPTY_TYPE, as_sent, with_parts
from ..protocol.stored import Inherited, Op, OpBody, OpKind, Value, Version
from ..protocol.wire import pack, unpack
from ..seam.private import DELTA_COUNTERS, POINTERS

MAX_VALUE_BYTES = 64_000_000
"""Largest value of one channel, and largest input of a run."""

MAX_TOTAL_BYTES = 256_000_000
"""Largest sum of what is new in one checkpoint or one task."""

MAX_OP_BYTES = 300_000
"""Largest op in a log. An op of many values that are small one by one goes into a blob."""


class Known(Protocol):
    """What a writer knows of the thread: what its values may build on (see ``Replica``)."""

    def bases(
        self, checkpoint_ns: str, channel: str, parent_id: str | None
    ) -> list[tuple[bytes, bytes]]:
        """Digest and content of earlier values of a channel."""
        ...

    def part_bases(self, checkpoint_ns: str, part: str) -> list[tuple[bytes, bytes]]:
        """Digest and content of the "checkpoint" or the "metadata" of earlier PUTs."""
        ...

    def sources(self, checkpoint_ns: str, checkpoint_id: str | None) -> dict[str, Version] | None:
        """Channel versions of a checkpoint; ``None`` when not all are known."""
        ...

    def deltas(self, checkpoint_ns: str, checkpoint_id: str | None) -> tuple[str, ...]:
        """DeltaChannels of a checkpoint that are rebuilt from writes of its ancestors."""
        ...


class Nothing:
    """``Known`` of a writer who must not rely on anything: every value stands for itself."""

    def bases(
        self, checkpoint_ns: str, channel: str, parent_id: str | None
    ) -> list[tuple[bytes, bytes]]:
        """None."""
        return []

    def part_bases(self, checkpoint_ns: str, part: str) -> list[tuple[bytes, bytes]]:
        """None."""
        return []

    def sources(self, checkpoint_ns: str, checkpoint_id: str | None) -> dict[str, Version] | None:
        """Not known."""
        return None

    def deltas(self, checkpoint_ns: str, checkpoint_id: str | None) -> tuple[str, ...]:
        """None."""
        return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Writer:
    """Who writes: what the ops are marked with, and how their large values are kept.

    Args:
        known: What the values may build on.
        scope: First part of the names of blobs: the run, or something unique.
        piece_bytes: Size of a piece of a blob; 0: no limit.
    """

    known: Known
    scope: str
    piece_bytes: int
    run_id: str = ""
    attempt: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """An op, whole and as it is sent, and the blobs that must be stored first."""

    op: Op
    data: bytes
    uploads: tuple[Upload, ...]


def dump(serde: SerializerProtocol, value: Any, *, what: str) -> tuple[str, bytes]:
    """Serialize one value.

    Raises:
        UnserializableError: Naming ``what`` and the Python type.
    """
    try:
        type_, data = serde.dumps_typed(value)
        pointers = _object_array(value) if _may_hold_pointers(serde, value, data) else None
    except Exception as exc:
        raise UnserializableError(
            f"{what} holds a value of type {_culprit(value)} that cannot be serialized: {exc}. "
            "Keep such objects out of it: nodes reach them through closures or module globals, an "
            "UntrackedValue channel keeps them in memory only, or give the saver a `serde` that "
            "supports them."
        ) from exc
    if pointers is not None:
        # The serializer writes addresses of this process's memory, and reads them as None.
        where, dtype = pointers
        raise UnserializableError(
            f"{what} holds a numpy array of Python objects (dtype {dtype}"
            f"{where and ', at ' + where}), of which LangGraph's serializer stores nothing. Make "
            "it a list (`array.tolist()`) or an array of numbers or texts."
        )
    return type_, data


def _may_hold_pointers(serde: SerializerProtocol, value: Any, data: bytes) -> bool:
    """Whether serialized bytes look as if an array of objects were among them.

    Seldom wrong, and costs next to nothing, unlike a look into every value.
    """
    if "numpy" not in sys.modules:
        return False
    if isinstance(serde, EncryptedSerializer):
        _, data = serde.serde.dumps_typed(value)
    return POINTERS.search(data) is not None


def _object_array(value: Any, where: str = "", seen: set[int] | None = None) -> Any:
    """Where in a value the first array of objects is, and its dtype."""
    seen = set() if seen is None else seen
    if _plain(value) or id(value) in seen:
        return None
    seen.add(id(value))
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "hasobject", False):
        return where, dtype
    if isinstance(value, Mapping):
        parts = [(f"{where}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        parts = [(f"{where}[{i}]", item) for i, item in enumerate(value)]
    else:
        slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
        names = [*getattr(value, "__dict__", ()), *slots]
        parts = [(f"{where}.{name}", getattr(value, name, None)) for name in names]
    for place, part in parts:
        if (found := _object_array(part, place, seen)) is not None:
            return found
    return None


def _culprit(value: Any, depth: int = 4) -> str:
    """Type name of the innermost element that has no plain form, as far as plain containers go."""
    if depth and isinstance(value, Mapping):
        for item in value.values():
            if not _plain(item):
                return _culprit(item, depth - 1)
    elif depth and isinstance(value, (list, tuple, set)):
        for item in value:
            if not _plain(item):
                return _culprit(item, depth - 1)
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool, bytes))


class _Builder:
    """Turns the values of one op into stored ones."""

    def __init__(self, writer: Writer, checkpoint_ns: str, where: str) -> None:
        self.writer = writer
        self.ns = checkpoint_ns
        self.where = where
        self.uploads: list[Upload] = []
        self._total = 0

    def value(
        self,
        channel: str,
        key: Version,
        type_: str,
        data: bytes,
        bases: Callable[[], Sequence[tuple[bytes, bytes]]],
        *,
        inline: bool = False,
    ) -> Value:
        what = f"channel {channel!r} {self.where}" if channel else f"the {key} {self.where}"
        self._total += len(data)
        if len(data) > MAX_VALUE_BYTES or self._total > MAX_TOTAL_BYTES:
            raise ValueTooLargeError(
                f"{what} is {len(data):,} bytes serialized; the limit is {MAX_VALUE_BYTES:,} "
                f"bytes for one value and {MAX_TOTAL_BYTES:,} bytes for all that is new in one "
                "checkpoint or task. Nothing of it was recorded. Keep larger values in files or "
                "a store and put a reference into the state."
            )
        if len(data) < MIN_BYTES:
            return Value(channel=channel, key=key, type=type_, data=data)
        found = list(bases())
        delta = diff([content for _, content in found], data) if found else None
        value = Value(
            channel=channel,
            key=key,
            type=type_,
            data=data if delta is None else delta,
            digest=digest(data),
            bases=() if delta is None else tuple(name for name, _ in found),
        )
        if inline or len(value.data) < BLOB_AT:
            return value
        upload = self.plan(value.data, what)
        return replace(value, data=b"", blob=upload.ref)

    def plan(self, data: bytes, what: str) -> Upload:
        writer = self.writer
        upload = plan(data, scope=writer.scope, what=what, piece_bytes=writer.piece_bytes)
        self.uploads.append(upload)
        return upload

    def encoded(self, op: Op) -> Encoded:
        data = pack(op)
        if len(data) > MAX_OP_BYTES:
            body = OpBody(
                values=op.values,
                checkpoint_type=op.checkpoint_type,
                checkpoint=op.checkpoint,
                metadata_type=op.metadata_type,
                metadata=op.metadata,
            )
            upload = self.plan(pack(body), f"all that is new {self.where}")
            op = replace(op, body=upload.ref)
            data = pack(as_sent(op))
        return Encoded(op=op, data=data, uploads=tuple(self.uploads))


def next_version(current: str | None) -> str:
    """The version of a channel after ``current``, as LangGraph's own savers make them: a number
    that sorts as text, and chance, so that forks differ. LangGraph's API server reads the number.
    """
    number = 0 if current is None else int(str(current).split(".")[0])
    return f"{number + 1:032}.{random.random():016}"


def put_op(
    serde: SerializerProtocol,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
    writer: Writer,
) -> Encoded:
    """Encode a checkpoint: only channels in ``new_versions`` carry their value.

    Raises:
        UnserializableError, ValueTooLargeError: Naming thread and channel.
    """
    configurable = config["configurable"]
    ns = configurable.get("checkpoint_ns", "")
    parent_id = configurable.get("checkpoint_id")
    where = f"of thread {configurable['thread_id']!r}"
    known = writer.known
    builder = _Builder(writer, ns, where)
    values = checkpoint["channel_values"]
    stored = []
    for channel, version in new_versions.items():
        if channel not in values:
            stored.append(Value(channel=channel, key=version, type=EMPTY_TYPE, data=b""))
            continue
        type_, data = dump(serde, values[channel], what=f"channel {channel!r} {where}")
        stored.append(
            builder.value(
                channel,
                version,
                type_,
                data,
                partial(known.bases, ns, channel, parent_id),
            )
        )
    parts = {}
    body = {k: v for k, v in checkpoint.items() if k != "channel_values"}
    full_metadata = get_checkpoint_metadata(config, metadata)
    for part, content in (("checkpoint", body), ("metadata", full_metadata)):
        type_, data = dump(serde, content, what=f"the {part} {where}")
        parts[part] = builder.value(
            "", part, type_, data, partial(known.part_bases, ns, part), inline=True
        )
    sources = known.sources(ns, parent_id)
    inherits = tuple(
        Inherited(channel=channel, key=version)
        for channel, version in checkpoint["channel_versions"].items()
        if channel not in new_versions and (sources is None or sources.get(channel) != version)
    )
    counters = cast(dict[str, Any], metadata).get(DELTA_COUNTERS) or {}
    # A channel that was never written has no version. One that was a DeltaChannel under its
    # parent and has not been stored since is rebuilt in the same way, whatever it is now.
    rebuilt = {*counters, *known.deltas(ns, parent_id)} & checkpoint["channel_versions"].keys()
    op = Op(
        kind=OpKind.PUT,
        checkpoint_id=checkpoint["id"],
        parent_id=parent_id,
        run_id=writer.run_id,
        attempt=writer.attempt,
        inherits=inherits,
        complete=sources is None,
        deltas=tuple(sorted(channel for channel in rebuilt if channel not in values)),
    )
    return builder.encoded(with_parts(op, stored, parts["checkpoint"], parts["metadata"]))


def writes_op(
    serde: SerializerProtocol,
    config: RunnableConfig,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
    writer: Writer,
    *,
    node: str = "",
    retakes: bool = False,
) -> Encoded:
    """Encode the writes of one task.

    Raises:
        UnserializableError, ValueTooLargeError: Naming thread, channel and node.
    """
    configurable = config["configurable"]
    ns = configurable.get("checkpoint_ns", "")
    where = f"thread {configurable['thread_id']!r}"
    source = f"written by node {node!r} of {where}" if node else f"written to {where}"
    builder = _Builder(writer, ns, source)
    stored = []
    for i, (channel, value) in enumerate(writes):
        type_, data = dump(serde, value, what=f"channel {channel!r} {source}")
        stored.append(
            builder.value(
                channel,
                WRITES_IDX_MAP.get(channel, i),
                type_,
                data,
                partial(writer.known.bases, ns, channel, None),
            )
        )
    return builder.encoded(
        Op(
            kind=OpKind.WRITES,
            checkpoint_id=configurable["checkpoint_id"],
            run_id=writer.run_id,
            attempt=writer.attempt,
            task_id=task_id,
            task_path=task_path,
            values=tuple(stored),
            retakes=retakes,
        )
    )


def with_body(op: Op, data: bytes) -> Op:
    """An op whose values are outside, with what its blob holds."""
    body = unpack(OpBody, data)
    return replace(
        op,
        values=body.values,
        checkpoint_type=body.checkpoint_type,
        checkpoint=body.checkpoint,
        metadata_type=body.metadata_type,
        metadata=body.metadata,
    )
