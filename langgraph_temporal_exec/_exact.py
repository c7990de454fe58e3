"""Shared: values that cross to another process and must come back exactly as they were.

Stream chunks, inputs, results and callback events: LangGraph's serializers make tuples lists,
exceptions text, and know no results of models. State never comes through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
    LLMResult,
)
from langgraph.callbacks import GraphInterruptEvent, GraphResumeEvent
from langgraph.checkpoint.serde.base import SerializerProtocol

from ._remote_errors import describe, rebuild
from ._serde import dump
from .errors import UnserializableError
from .protocol.messages import ErrorInfo
from .protocol.wire import pack, unpack

_TUPLE = "__langgraph_temporal_tuple__"
_ERROR = "__langgraph_temporal_error__"
_OBJECT = "__langgraph_temporal_object__"

_FIELDS: dict[type, tuple[str, ...]] = {
    Generation: ("text", "generation_info"),
    GenerationChunk: ("text", "generation_info"),
    ChatGeneration: ("message", "text", "generation_info"),
    ChatGenerationChunk: ("message", "text", "generation_info"),
    LLMResult: ("generations", "llm_output"),
    GraphInterruptEvent: ("run_id", "status", "checkpoint_id", "checkpoint_ns", "interrupts"),
    GraphResumeEvent: ("run_id", "status", "checkpoint_id", "checkpoint_ns"),
}
"""Objects of callback events; their classes are named here, never in the bytes."""

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
    if cls in _FIELDS:
        fields = {name: _mark(getattr(value, name), depth - 1) for name in _FIELDS[cls]}
        return {_OBJECT: cls.__name__, "fields": fields}
    return value


def _unmark(value: Any) -> Any:
    if type(value) is list:
        return [_unmark(v) for v in value]
    if type(value) is not dict:
        return value
    if len(value) == 1 and _TUPLE in value:
        return tuple(_unmark(v) for v in value[_TUPLE])
    if len(value) == 1 and _ERROR in value:
        return rebuild(unpack(ErrorInfo, value[_ERROR]))
    if len(value) == 2 and value.get(_OBJECT) in _CLASSES:
        make: Callable[..., Any] = _CLASSES[value[_OBJECT]]
        return make(**_unmark(value["fields"]))
    return {k: _unmark(v) for k, v in value.items()}


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
