"""Shared wire: frozen dataclasses to msgpack bytes and back.

A message is a positional array ``[version, field, field, ...]``. New fields are appended with a
default: an old reader ignores them, a new reader fills them in for old bytes. Nothing but plain
msgpack types is decoded, so bytes can neither import a module nor construct a foreign class.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TypeVar

import msgpack

WIRE_VERSION = 1

T = TypeVar("T")

OBJECT_KEY = "__langgraph_temporal_object__"
"""Marks an object of a class that both sides know, among plain data."""


class WireError(ValueError):
    """Bytes are not a message of a version this release reads."""


def _flat(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [_flat(getattr(value, f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, (tuple, list)):
        return [_flat(v) for v in value]
    if isinstance(value, dict):
        return {k: _flat(v) for k, v in value.items()}
    return value


def pack(message: Any) -> bytes:
    """Encode one message dataclass."""
    packed: bytes = msgpack.packb([WIRE_VERSION, *_flat(message)], use_bin_type=True)
    return packed


def pack_plain(value: Any) -> bytes:
    """Encode plain data that is no message of its own (part of ``ErrorInfo``, ``Deadline``)."""
    packed: bytes = msgpack.packb(value)
    return packed


def unpack_plain(data: bytes) -> Any:
    """The inverse of ``pack_plain``; tuples have become lists."""
    return msgpack.unpackb(data, raw=False, strict_map_key=False)


def pack_record(
    *, thread_id: str, object_name: str, fields: dict[str, Any], stream_mode: list[str]
) -> bytes:
    """The record of a call (see ``record.py``) with plain data only, for those without LangGraph.

    Args:
        thread_id: The thread.
        object_name: Class of the input, as ``_exact.py`` names it.
        fields: Its fields.
        stream_mode: What the run streams.
    """
    parts = {
        "input": {OBJECT_KEY: object_name, "fields": fields},
        "configurable": {"thread_id": thread_id},
        "metadata": {},
        "tags": [],
        "recursion_limit": None,
        "run_name": None,
        "run_id": None,
        "options": {"stream_mode": stream_mode},
        "sync": False,
        "mailbox": "",
    }
    return b"msgpack\0" + pack_plain(parts)


def unpack(cls: type[T], data: bytes) -> T:
    """Decode bytes written by ``pack`` for ``cls``.

    Raises:
        WireError: The bytes are of another wire version or not a message.
    """
    try:
        raw = msgpack.unpackb(data, raw=False, strict_map_key=False)
    except Exception as exc:
        raise WireError(f"Not a {cls.__name__} message: {exc}") from exc
    if not isinstance(raw, list) or not raw or raw[0] != WIRE_VERSION:
        found = raw[0] if isinstance(raw, list) and raw else type(raw).__name__
        raise WireError(
            f"{cls.__name__} message has wire version {found!r}, this release reads "
            f"{WIRE_VERSION}. Caller and workers must run compatible releases of "
            "langgraph-temporal-exec."
        )
    message: T = _builder(typing.cast(Hashable, cls))(raw[1:])
    return message


@cache
def _builder(key: Hashable) -> Callable[[list[Any]], Any]:
    cls: Any = key
    # Not those of ``sys.modules``, where the workflow sandbox may have no such module.
    hints = typing.get_type_hints(cls, globalns=cls.__init__.__globals__)
    fields = [(f.name, _reader(hints[f.name])) for f in dataclasses.fields(cls)]

    def build(raw: list[Any]) -> Any:
        kwargs = {
            name: (read(value) if read is not None else value)
            for (name, read), value in zip(fields, raw, strict=False)
        }
        return cls(**kwargs)

    return build


def _reader(hint: Any) -> Callable[[Any], Any] | None:
    """How to turn a raw msgpack value into ``hint``; ``None`` when it needs nothing."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        readers = [_reader(a) for a in typing.get_args(hint) if a is not type(None)]
        inner = next((r for r in readers if r is not None), None)
        return None if inner is None else (lambda v: None if v is None else inner(v))
    if origin is tuple:
        (item, *rest) = typing.get_args(hint)
        if rest == [Ellipsis]:
            read = _reader(item)
            return tuple if read is None else (lambda v: tuple(read(x) for x in v))
        return tuple
    if origin is dict:
        read_value = _reader(typing.get_args(hint)[1])
        if read_value is not None:
            return lambda v: {k: read_value(x) for k, x in v.items()}
        return None
    if dataclasses.is_dataclass(hint):
        return _builder(typing.cast(Hashable, hint))
    return None
