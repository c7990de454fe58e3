"""Shared: values that cross to another process and must come back exactly as they were.

Stream chunks, inputs, results and callback events: LangGraph's serializers make tuples lists,
exceptions text, and know no results of models. State never comes through here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
    LLMResult,
)
from langgraph.callbacks import GraphInterruptEvent, GraphResumeEvent
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel

from ._remote_errors import describe, rebuild
from ._serde import dump
from .errors import UnserializableError
from .protocol.messages import ErrorInfo
from .protocol.wire import OBJECT_KEY as _OBJECT
from .protocol.wire import pack, unpack

_TUPLE = "__langgraph_temporal_tuple__"
_ERROR = "__langgraph_temporal_error__"
_BYTEARRAY = "__langgraph_temporal_bytearray__"
_FIELDS_OF = "__langgraph_temporal_fields_of__"

_FIELDS: dict[type, tuple[str, ...]] = {
    Generation: ("text", "generation_info"),
    GenerationChunk: ("text", "generation_info"),
    ChatGeneration: ("message", "text", "generation_info"),
    ChatGenerationChunk: ("message", "text", "generation_info"),
    LLMResult: ("generations", "llm_output"),
    Command: ("graph", "update", "resume", "goto"),
    Interrupt: ("value", "id", "response_schema"),
    Send: ("node", "arg", "timeout"),
    GraphInterruptEvent: ("run_id", "status", "checkpoint_id", "checkpoint_ns", "interrupts"),
    GraphResumeEvent: ("run_id", "status", "checkpoint_id", "checkpoint_ns"),
}
"""Objects whose fields may hold anything; their classes are named here, never in the bytes."""

_CLASSES = {cls.__name__: cls for cls in _FIELDS}

MAX_DEPTH = 50
"""Containers deeper than this are left to the serializer."""


def dump_exact(serde: SerializerProtocol, value: Any, *, what: str) -> bytes:
    """Serialize a value so that ``load_exact`` gives it back.

    Args:
        serde: The saver's serializer, for everything but the containers.
        what: Names the value in errors.

    Raises:
        UnserializableError: Naming ``what`` and the Python type.
    """
    type_, data = dump(serde, _mark(value), what=what)
    return type_.encode() + b"\0" + data


def dump_readable(serde: SerializerProtocol, value: Any) -> bytes:
    """The same for values nobody relies on: what cannot be serialized becomes its ``repr``."""
    try:
        return dump_exact(serde, value, what="a value")
    except UnserializableError:
        return dump_exact(serde, _readable(serde, value), what="a value")


def load_exact(serde: SerializerProtocol, data: bytes) -> Any:
    """The inverse of ``dump_exact``."""
    type_, _, body = data.partition(b"\0")
    return _unmark(serde.loads_typed((type_.decode(), body)))


def _mark(value: Any, depth: int = MAX_DEPTH) -> Any:
    if not depth:
        return value
    cls = type(value)
    if cls is tuple:
        return {_TUPLE: [_mark(v, depth - 1) for v in value]}
    if cls is list:
        return [_mark(v, depth - 1) for v in value]
    if cls is dict:
        return {k: _mark(v, depth - 1) for k, v in value.items()}
    if isinstance(value, BaseException):
        return {_ERROR: pack(describe(value))}
    if cls is bytearray:
        return {_BYTEARRAY: bytes(value)}
    if cls in _FIELDS:
        # Not all of them are there in all supported versions.
        names = [name for name in _FIELDS[cls] if hasattr(value, name)]
        fields = {name: _mark(getattr(value, name), depth - 1) for name in names}
        return {_OBJECT: cls.__name__, "fields": fields}
    if _has_fields(value):
        return _mark_fields(value, depth)
    return value


def _has_fields(value: Any) -> bool:
    """Whether it is a dataclass or a model of the user's, which the serializer rebuilds."""
    if isinstance(value, (type, BaseMessage)):
        return False
    return isinstance(value, BaseModel) or dataclasses.is_dataclass(value)


def _mark_fields(value: Any, depth: int) -> Any:
    """The object, and beside it what the serializer does not keep of it."""
    if isinstance(value, BaseModel):
        names, given = list(type(value).model_fields), value.model_fields_set
    else:
        names = [field.name for field in dataclasses.fields(value)]
        given = set(names)
    lost = {name: getattr(value, name) for name in names if _is_lossy(getattr(value, name, None))}
    if not lost and given == set(names):
        return value
    fields = {name: _mark(field, depth - 1) for name, field in lost.items()}
    return {_FIELDS_OF: value, "fields": fields, "given": sorted(given)}


def _is_lossy(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_is_lossy, value.values()))
    if type(value) is list:
        return any(map(_is_lossy, value))
    return type(value) in (tuple, bytearray) or _has_fields(value)


def _unmark(value: Any) -> Any:
    if type(value) is list:
        return [_unmark(v) for v in value]
    if type(value) is not dict:
        return value
    if len(value) == 1 and _TUPLE in value:
        return tuple(_unmark(v) for v in value[_TUPLE])
    if len(value) == 1 and _ERROR in value:
        return rebuild(unpack(ErrorInfo, value[_ERROR]))
    if len(value) == 1 and _BYTEARRAY in value:
        return bytearray(value[_BYTEARRAY])
    if len(value) == 3 and _FIELDS_OF in value:
        return _with_fields(value[_FIELDS_OF], _unmark(value["fields"]), value["given"])
    if len(value) == 2 and value.get(_OBJECT) in _CLASSES:
        make: Callable[..., Any] = _CLASSES[value[_OBJECT]]
        return make(**_unmark(value["fields"]))
    return {k: _unmark(v) for k, v in value.items()}


def _with_fields(value: Any, fields: dict[str, Any], given: list[str]) -> Any:
    # A class that is not known here came back as something else.
    if _has_fields(value):
        for name, field in fields.items():
            object.__setattr__(value, name, field)
        if isinstance(value, BaseModel):
            object.__setattr__(value, "__pydantic_fields_set__", set(given))
    return value


def _readable(serde: SerializerProtocol, value: Any, depth: int = MAX_DEPTH) -> Any:
    if depth and isinstance(value, Mapping):
        return {k: _readable(serde, v, depth - 1) for k, v in value.items()}
    if depth and isinstance(value, (list, tuple)):
        return type(value)([_readable(serde, v, depth - 1) for v in value])
    try:
        dump_exact(serde, value, what="a value")
    except UnserializableError:
        return repr(value)
    return value
