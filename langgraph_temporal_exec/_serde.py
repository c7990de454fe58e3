"""Shared: LangGraph values to ops and back, with errors that name the value.

State is serialized by LangGraph's own serializers (the saver's ``serde``), so what may be
stored, and which classes may be rebuilt, is LangGraph's rule, not ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from .errors import UnserializableError, ValueTooLargeError
from .protocol.messages import Op, OpKind, Value
from .protocol.wire import pack

EMPTY_TYPE = "empty"
"""Type of a channel that has a version but no value."""

MAX_OP_BYTES = 1_800_000
"""Largest op. Temporal refuses payloads above 2 MB and retries such an Update for ever, so the
size is checked before anything is sent."""


def dump(serde: SerializerProtocol, value: Any, *, what: str) -> tuple[str, bytes]:
    """Serialize one value.

    Raises:
        UnserializableError: Naming ``what`` and the Python type.
    """
    try:
        return serde.dumps_typed(value)
    except Exception as exc:
        raise UnserializableError(
            f"{what} holds a value of type {_culprit(value)} that cannot be serialized: {exc}. "
            "Keep such objects out of it: nodes reach them through closures or module globals, an "
            "UntrackedValue channel keeps them in memory only, or give the saver a `serde` that "
            "supports them."
        ) from exc


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


def put_op(
    serde: SerializerProtocol,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
    *,
    run_id: str = "",
    attempt: int = 0,
) -> bytes:
    """Encode a checkpoint: only channels in ``new_versions`` carry their value.

    Raises:
        UnserializableError, ValueTooLargeError: Naming thread and channel.
    """
    configurable = config["configurable"]
    where = f"thread {configurable['thread_id']!r}"
    values = checkpoint["channel_values"]
    stored = []
    for channel, version in new_versions.items():
        type_, data = (
            dump(serde, values[channel], what=f"channel {channel!r} of {where}")
            if channel in values
            else (EMPTY_TYPE, b"")
        )
        stored.append(Value(channel=channel, key=version, type=type_, data=data))
    body = {k: v for k, v in checkpoint.items() if k != "channel_values"}
    checkpoint_type, checkpoint_data = dump(serde, body, what=f"the checkpoint of {where}")
    metadata_type, metadata_data = dump(
        serde, get_checkpoint_metadata(config, metadata), what=f"the metadata of {where}"
    )
    op = Op(
        kind=OpKind.PUT,
        checkpoint_id=checkpoint["id"],
        parent_id=configurable.get("checkpoint_id"),
        run_id=run_id,
        attempt=attempt,
        values=tuple(stored),
        checkpoint_type=checkpoint_type,
        checkpoint=checkpoint_data,
        metadata_type=metadata_type,
        metadata=metadata_data,
    )
    return _sized(op, f"of {where}")


def writes_op(
    serde: SerializerProtocol,
    config: RunnableConfig,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
    *,
    node: str = "",
    run_id: str = "",
    attempt: int = 0,
) -> bytes:
    """Encode the writes of one task.

    Raises:
        UnserializableError, ValueTooLargeError: Naming thread, channel and node.
    """
    configurable = config["configurable"]
    where = f"thread {configurable['thread_id']!r}"
    source = f"written by node {node!r} of {where}" if node else f"written to {where}"
    stored = []
    for i, (channel, value) in enumerate(writes):
        type_, data = dump(serde, value, what=f"channel {channel!r} {source}")
        key = WRITES_IDX_MAP.get(channel, i)
        stored.append(Value(channel=channel, key=key, type=type_, data=data))
    op = Op(
        kind=OpKind.WRITES,
        checkpoint_id=configurable["checkpoint_id"],
        run_id=run_id,
        attempt=attempt,
        task_id=task_id,
        task_path=task_path,
        values=tuple(stored),
    )
    return _sized(op, source)


def _sized(op: Op, where: str) -> bytes:
    data = pack(op)
    if len(data) > MAX_OP_BYTES:
        largest = max(op.values, key=lambda v: len(v.data), default=None)
        what = (
            f"channel {largest.channel!r} ({len(largest.data):,} bytes)"
            if largest is not None
            else "the checkpoint"
        )
        raise ValueTooLargeError(
            f"{what} {where} makes a record of {len(data):,} bytes; the limit is "
            f"{MAX_OP_BYTES:,} bytes for all that is new in one checkpoint or task. Keep large "
            "values in files or a store and put a reference into the state."
        )
    return data


# -- values that cross to another process and must come back exactly --------------------------

_TUPLE = "__langgraph_temporal_tuple__"


def _mark(value: Any) -> Any:
    if type(value) is tuple:
        return {_TUPLE: [_mark(v) for v in value]}
    if type(value) is list:
        return [_mark(v) for v in value]
    if type(value) is dict:
        return {k: _mark(v) for k, v in value.items()}
    return value


def _unmark(value: Any) -> Any:
    if type(value) is list:
        return [_unmark(v) for v in value]
    if type(value) is dict:
        if len(value) == 1 and _TUPLE in value:
            return tuple(_unmark(v) for v in value[_TUPLE])
        return {k: _unmark(v) for k, v in value.items()}
    return value


def dump_exact(serde: SerializerProtocol, value: Any, *, what: str) -> bytes:
    """Serialize a value so that tuples stay tuples (LangGraph's serializers make them lists).

    Stream chunks and inputs need it: ``("messages", chunk)`` is not ``["messages", chunk]``.
    """
    type_, data = dump(serde, _mark(value), what=what)
    return type_.encode() + b"\0" + data


def load_exact(serde: SerializerProtocol, data: bytes) -> Any:
    """The inverse of ``dump_exact``."""
    type_, _, body = data.partition(b"\0")
    return _unmark(serde.loads_typed((type_.decode(), body)))
