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
from operator import attrgetter
from typing import Any, TypeVar

import msgpack

WIRE_VERSION = 1

T = TypeVar("T")

OBJECT_KEY = "__langgraph_temporal_object__"
"""Marks an object of a class that both sides know, among plain data."""


class WireError(ValueError):
    """Bytes are not a message of a version this release reads."""


@cache
def _fields(key: Hashable) -> Callable[[Any], tuple[Any, ...]]:
    cls: Any = key
    names = [f.name for f in dataclasses.fields(cls)]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)


def _values(message: Any) -> tuple[Any, ...]:
    """What msgpack takes a message for, at any depth."""
    return _fields(typing.cast(Hashable, type(message)))(message)


def pack(message: Any) -> bytes:
    """Encode one message dataclass."""
    packed: bytes = msgpack.packb(
        (WIRE_VERSION, *_values(message)), default=_values, use_bin_type=True
    )
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
    """The record of a call (``values/record.py``) of plain data, for those without LangGraph.

    Args:
        thread_id: The thread.
        object_name: Class of the input, as ``values/exact.py`` names it.
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
    try:
        message: T = _builder(typing.cast(Hashable, cls))(raw[1:])
    except TypeError as exc:
        raise WireError(f"Not a {cls.__name__} message: {exc}") from exc
    return message


Read = Callable[[Any], Any]


@cache
def _builder(key: Hashable) -> Read:
    cls: Any = key
    # Not those of ``sys.modules``, where the workflow sandbox may have no such module.
    hints = typing.get_type_hints(cls, globalns=cls.__init__.__globals__)
    fields = [(f.name, *_reader(hints[f.name])) for f in dataclasses.fields(cls)]

    def build(raw: list[Any]) -> Any:
        kwargs = {}
        for (name, kinds, read), value in zip(fields, raw, strict=False):
            # What msgpack makes is nearly always of just that type, and in Temporal's sandbox
            # `isinstance` is a function in Python.
            if type(value) not in kinds and not isinstance(value, kinds):
                raise TypeError(f"{cls.__name__}.{name} is of {type(value).__name__}")
            kwargs[name] = value if read is None else read(value)
        return cls(**kwargs)

    return build


def _reader(hint: Any) -> tuple[tuple[type, ...], Read | None]:
    """What a raw msgpack value for ``hint`` may be, and how to turn it into one, if it is none yet.

    Bytes may come from anybody who reaches the namespace: what is not of its field's type must be
    refused here, or it would fail workflow code, which Temporal then runs again for ever.
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [_reader(a) for a in typing.get_args(hint)]
        kinds = tuple(kind for kinds, _ in options for kind in kinds)
        inner = next((read for _, read in options if read is not None), None)
        if inner is None:
            return kinds, None
        return kinds, lambda v: None if v is None else inner(v)
    if origin is tuple:
        return (list,), _tuple_reader(typing.get_args(hint))
    if origin is dict:
        read_key, read_value = (_item_reader(a) for a in typing.get_args(hint))
        return (dict,), lambda v: {read_key(k): read_value(x) for k, x in v.items()}
    if dataclasses.is_dataclass(hint):
        return (list,), _builder(typing.cast(Hashable, hint))
    # A whole number is a float's as well, and every message's enum is one of numbers.
    return {float: (float, int), Any: (object,)}.get(hint, (_plain(hint),)), None


def _plain(hint: Any) -> type:
    assert isinstance(hint, type), f"no message can hold {hint}"
    return int if issubclass(hint, int) and hint is not bool else hint


def _tuple_reader(items: tuple[Any, ...]) -> Read:
    if items[1:] == (Ellipsis,):
        return _items_reader(*_reader(items[0]))
    readers = [_item_reader(item) for item in items]

    def read_each(value: list[Any]) -> tuple[Any, ...]:
        if len(value) != len(readers):
            raise TypeError(f"a tuple of {len(value)} instead of {len(readers)}")
        return tuple(read(x) for read, x in zip(readers, value, strict=True))

    return read_each


def _items_reader(kinds: tuple[type, ...], read: Read | None) -> Read:
    def read_all(value: list[Any]) -> tuple[Any, ...]:
        for item in value:
            if type(item) not in kinds and not isinstance(item, kinds):
                raise TypeError(f"an item is of {type(item).__name__}")
        return tuple(value if read is None else map(read, value))

    return read_all


def _item_reader(hint: Any) -> Read:
    kinds, read = _reader(hint)

    def read_item(value: Any) -> Any:
        if type(value) not in kinds and not isinstance(value, kinds):
            raise TypeError(f"an item is of {type(value).__name__}")
        return value if read is None else read(value)

    return read_item
