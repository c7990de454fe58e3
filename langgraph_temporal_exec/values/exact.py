"""Shared: values that cross to another process and must come back exactly as they were.

Stream chunks, inputs, results and callback events: LangGraph's serializers make tuples lists,
exceptions text, and know no results of models. State never comes through here.

What is written is a value of the serializer, in which *marks* (dicts with a key of ours) stand for
what it would not give back. An object of a class of the user's (a model, a dataclass, an enum, a
named tuple, a subclass of ``str`` and the like) is written by its parts, and beside it, once for
the outermost, as the serializer has it. The reader puts it together from the parts, without running
anything of its class, if the process has loaded all classes in it and the serializer may revive
them (its allow-list, with ``LANGGRAPH_STRICT_MSGPACK``). Otherwise the serializer revives it under
its own rules, as on a reload of state, and the parts that can be had replace those of its own. So
it is exact, or at least what a reload gives.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import functools
import ipaddress
import pathlib
import re
import sys
import types
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Mapping
from enum import Enum, Flag
from typing import Any, cast

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
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, RootModel
from pydantic.functional_serializers import PlainSerializer, WrapSerializer
from pydantic_core import PydanticUndefined

from ..errors import UnserializableError
from ..protocol.messages import ErrorInfo
from ..protocol.wire import OBJECT_KEY as _OBJECT
from ..protocol.wire import WireError, pack, unpack
from ..seam.langchain import is_own_message
from .exceptions import describe, rebuild
from .loaded import find, is_named_tuple, reference
from .ops import dump

_PREFIX = "__langgraph_temporal_"
"""Begins the keys of all marks. A dict of the user's with such a key is written as pairs."""

_TUPLE = "__langgraph_temporal_tuple__"
_ERROR = "__langgraph_temporal_error__"
_BYTEARRAY = "__langgraph_temporal_bytearray__"
_FIELDS_OF = "__langgraph_temporal_fields_of__"
"""An object and those of its fields that the serializer loses; the first release wrote it."""

_KIND = "__langgraph_temporal_kind__"
"""Every other mark: the value says what it is of, see ``_READERS``."""

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

_SCALARS: frozenset[type] = frozenset(
    {
        *(type(None), bool, int, float, str, bytes),
        *(datetime.date, datetime.time, datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo),
        *(uuid.UUID, decimal.Decimal, re.Pattern, type(pathlib.Path())),
        *(ipaddress.IPv4Address, ipaddress.IPv4Interface, ipaddress.IPv4Network),
        *(ipaddress.IPv6Address, ipaddress.IPv6Interface, ipaddress.IPv6Network),
    }
)
"""What the serializer gives back as it was, also with an allow-list."""

_KEYS = frozenset({type(None), bool, int, float, str, bytes})
"""Keys of a dict that the serializer gives back as they were."""

_BASES: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: bytes.__bytes__,
}
"""Types whose subclasses are plain values with a class of their own, and how to get those."""

_FACTORIES: dict[str, type] = {
    cls.__name__: cls for cls in (bool, bytes, dict, float, frozenset, int, list, set, str, tuple)
}
"""Default factories that cross. Any other is code, and the dict arrives without it."""


def dump_exact(serde: SerializerProtocol, value: Any, *, what: str) -> bytes:
    """Serialize a value so that ``load_exact`` gives it back.

    Args:
        serde: The saver's serializer, for everything but the marks.
        what: Names the value in errors.

    Raises:
        UnserializableError: Naming ``what`` and the Python type.
    """
    try:
        type_, data = dump(serde, _Marker(serde, what).mark(value), what=what)
    except UnserializableError:
        # Marks are deeper than what they stand for, and the serializer has a limit. What it does
        # not take either raises with the name of what it is.
        type_, data = dump(serde, {_KIND: "raw", "value": value}, what=what)
    return type_.encode() + b"\0" + data


def dump_readable(serde: SerializerProtocol, value: Any) -> bytes:
    """``dump_exact`` for what nobody relies on: what cannot be serialized is its ``repr``."""
    try:
        return dump_exact(serde, value, what="a value")
    except UnserializableError:
        return dump_exact(serde, _readable(serde, value), what="a value")


def load_exact(serde: SerializerProtocol, data: bytes) -> Any:
    """The inverse of ``dump_exact``.

    Raises:
        UnserializableError: It holds an object that this process lacks the class of, and that the
            serializer does not know either.
        WireError: The bytes are of no release up to this one.
    """
    type_, _, body = data.partition(b"\0")
    plain = serde.loads_typed((type_.decode(), body))
    try:
        return _Reader(serde).read(plain)
    except UnserializableError:
        raise
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as exc:
        raise WireError(
            f"A value from another process cannot be read: {exc!r}. Caller and workers must run "
            "compatible releases of langgraph-temporal-exec."
        ) from exc


# -- writing ----------------------------------------------------------------------------------


class _Marker:
    """Puts marks into one value.

    Args:
        serde: Writes the objects, beside their parts, and what has no parts.
        what: Names the value in errors.
    """

    def __init__(self, serde: SerializerProtocol, what: str) -> None:
        self._serde = serde
        self._what = what
        self._inside = False
        self._open: set[int] = set()

    def mark(self, value: Any, depth: int = MAX_DEPTH) -> Any:
        """The value with marks.

        Raises:
            UnserializableError: Inside an object is something without a form.
        """
        if type(value) in _SCALARS:
            return value
        # A value that holds itself has no form, as the serializer says.
        if id(value) in self._open:
            return value
        if not depth:
            return {_KIND: "raw", "value": value}
        self._open.add(id(value))
        try:
            return self._marked(value, depth)
        finally:
            self._open.discard(id(value))

    def _marked(self, value: Any, depth: int) -> Any:
        cls = type(value)
        if cls is tuple:
            return {_TUPLE: self._all(value, depth)}
        # Any subclass of theirs that has no mark is a plain one for the serializer.
        if isinstance(value, list):
            return self._all(value, depth)
        if isinstance(value, dict):
            return self._dict(value, depth)
        if isinstance(value, BaseException):
            return {_ERROR: pack(describe(value))}
        if cls is bytearray:
            return {_BYTEARRAY: bytes(value)}
        if cls in _FIELDS:
            # Not all of them are there in all supported versions.
            names = [name for name in _FIELDS[cls] if hasattr(value, name)]
            fields = {name: self.mark(getattr(value, name), depth - 1) for name in names}
            return {_OBJECT: cls.__name__, "fields": fields}
        if cls in (set, frozenset, deque):
            return self._collection(value, depth)
        if cls is datetime.datetime:
            return self._datetime(value, depth)
        if isinstance(value, BaseMessage) and _is_plain_message(value):
            return value
        if (numpy := sys.modules.get("numpy")) is not None:
            if cls is numpy.ndarray:
                return self._array(value, depth)
            if isinstance(value, numpy.generic):
                return {**self._array(numpy.asarray(value), depth), "scalar": True}
        if (write := _writer_of(cls)) is not None:
            return self._object(value, write, depth)
        return self._as_serialized(value)

    def _all(self, values: Any, depth: int) -> list[Any]:
        return [self.mark(v, depth - 1) for v in values]

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        kind = type(value)
        if kind not in (Counter, OrderedDict, defaultdict) and all(map(_is_plain_key, value)):
            return {k: self.mark(v, depth - 1) for k, v in value.items()}
        pairs = [self._all(pair, depth) for pair in value.items()]
        marked: dict[str, Any] = {_KIND: "dict", "pairs": pairs}
        if kind in (Counter, OrderedDict):
            marked["of"] = kind.__name__
        elif isinstance(value, defaultdict) and kind is defaultdict:
            factory = value.default_factory
            if factory is None or factory in _FACTORIES.values():
                marked["of"] = kind.__name__
                marked["factory"] = factory and cast(type, factory).__name__
        return marked

    def _collection(self, value: Any, depth: int) -> Any:
        bounded = isinstance(value, deque) and value.maxlen is not None
        if not bounded and all(type(v) in _SCALARS for v in value):
            return value
        marked = {_KIND: type(value).__name__, "items": self._all(value, depth)}
        return {**marked, "maxlen": value.maxlen} if bounded else marked

    def _datetime(self, value: datetime.datetime, depth: int) -> Any:
        zone = value.tzinfo
        if type(zone) not in (type(None), datetime.timezone, zoneinfo.ZoneInfo):
            return self._as_serialized(value)
        if _is_plain_datetime(value):
            return value
        naive = value.replace(tzinfo=None, fold=0).isoformat()
        zoned = self.mark(zone, depth - 1)
        return {_KIND: "datetime", "naive": naive, "zone": zoned, "fold": value.fold}

    def _array(self, value: Any, depth: int) -> Any:
        numpy: Any = sys.modules["numpy"]
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        marked = {_KIND: "array", "shape": list(value.shape), "order": order}
        if value.dtype == object:
            # Without content: it makes the serializer load numpy where it is read.
            empty = numpy.zeros(0, numpy.uint8)
            return {**marked, "flat": empty, "items": self._all(value.ravel(order), depth)}
        if value.dtype.hasobject:
            return self._as_serialized(value)
        flat = numpy.frombuffer(value.tobytes(order), numpy.uint8)
        dtype = numpy.lib.format.dtype_to_descr(value.dtype)
        return {**marked, "flat": flat, "dtype": self.mark(dtype, depth - 1)}

    def _as_serialized(self, value: Any) -> Any:
        """What only the serializer knows. Inside an object the reader must see if it came back."""
        if not self._inside:
            return value
        dump(self._serde, value, what=self._what)
        return {_KIND: "as serialized", "value": value, "class": reference(type(value))}

    def _object(self, value: Any, write: _Write, depth: int) -> Any:
        if self._inside:
            parts = write(self, value, depth - 1)
            if "partial" in parts:
                parts["else"] = list(dump(self._serde, value, what=self._what))
            return parts
        if _is_plain_object(value):
            return value
        self._inside = True
        try:
            parts = write(self, value, depth - 1)
        except UnserializableError:
            # Its class may say how it is serialized all the same.
            return value
        finally:
            self._inside = False
        try:
            return {**parts, "else": list(dump(self._serde, value, what=self._what))}
        except UnserializableError:
            if "partial" in parts:
                raise
            return parts

    def some(self, values: Mapping[str, Any], depth: int) -> tuple[dict[str, Any], bool]:
        """Those that have an exact form, and whether these are all."""
        marked = {}
        for name, value in values.items():
            try:
                marked[name] = self.mark(value, depth)
            except UnserializableError:
                continue
        return marked, len(marked) == len(values)


def _is_plain_key(key: Any) -> bool:
    return type(key) in _KEYS and not (type(key) is str and key.startswith(_PREFIX))


_Write = Callable[[_Marker, Any, int], dict[str, Any]]


def _writer_of(cls: type) -> _Write | None:
    """How objects of a class are written by their parts, if they have any."""
    if issubclass(cls, Enum):
        return _write_enum
    if issubclass(cls, tuple(_BASES)):
        return _write_subclass
    if is_named_tuple(cls):
        return _write_named_tuple
    if issubclass(cls, BaseModel):
        return None if cls.__pydantic_decorators__.model_serializers else _write_model
    return _write_dataclass if dataclasses.is_dataclass(cls) else None


def _write_enum(marker: _Marker, value: Enum, depth: int) -> dict[str, Any]:
    return {
        _KIND: "enum",
        "class": reference(type(value)),
        "name": value._name_,
        "value": marker.mark(value._value_, depth),
    }


def _write_subclass(marker: _Marker, value: Any, depth: int) -> dict[str, Any]:
    base, plain = next((base, plain) for base, plain in _BASES.items() if isinstance(value, base))
    rest = {k: marker.mark(v, depth) for k, v in _attributes_beside(value, []).items()}
    named = {"class": reference(type(value)), "base": base.__name__}
    return {_KIND: "subclass", **named, "value": plain(value), "rest": rest}


def _write_named_tuple(marker: _Marker, value: Any, depth: int) -> dict[str, Any]:
    items = [marker.mark(v, depth) for v in value]
    named = {"class": reference(type(value)), "names": list(value._fields)}
    return {_KIND: "named tuple", **named, "items": items}


def _write_dataclass(marker: _Marker, value: Any, depth: int) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value)]
    fields = {name: getattr(value, name) for name in names if _is_set(value, name)}
    marked, all_fields = marker.some(fields, depth)
    rest, all_rest = marker.some(_attributes_beside(value, names), depth)
    parts: dict[str, Any] = {_KIND: "dataclass", "class": reference(type(value)), "fields": marked}
    if rest:
        parts["rest"] = rest
    if len(fields) != len(names):
        parts["unset"] = [name for name in names if name not in fields]
    return parts if all_fields and all_rest else {**parts, "partial": True}


def _is_set(value: Any, name: str) -> bool:
    """Whether an object itself has an attribute; a default may be its class's alone."""
    if name in getattr(value, "__dict__", ()):
        return True
    return hasattr(getattr(type(value), name, None), "__set__") and hasattr(value, name)


def _write_model(marker: _Marker, value: BaseModel, depth: int) -> dict[str, Any]:
    cls = type(value)
    # What is excluded from a dump, or dumped in a way of its own, stays with the serializer.
    hidden = _own_way(cls)
    state = {k: v for k, v in vars(value).items() if k in cls.model_fields and k not in hidden}
    marked, all_fields = marker.some(state, depth)
    private, all_private = marker.some(value.__pydantic_private__ or {}, depth)
    extra, all_extra = marker.some(value.__pydantic_extra__ or {}, depth)
    parts: dict[str, Any] = {_KIND: "model", "class": reference(cls), "fields": marked}
    if value.model_fields_set != set(cls.model_fields):
        parts["given"] = sorted(value.model_fields_set)
    parts |= {name: some for name, some in (("private", private), ("extra", extra)) if some}
    exact = not hidden and all_fields and all_private and all_extra
    return parts if exact else {**parts, "partial": True}


def _own_way(cls: type[BaseModel]) -> set[str]:
    """Fields of a model that are not dumped, or by a serializer of their own."""
    decorators = cls.__pydantic_decorators__.field_serializers.values()
    names = {name for decorator in decorators for name in decorator.info.fields}
    if "*" in names:
        return set(cls.model_fields)
    for name, field in cls.model_fields.items():
        own = any(isinstance(m, (PlainSerializer, WrapSerializer)) for m in field.metadata)
        if own or field.exclude:
            names.add(name)
    return names & set(cls.model_fields)


def _attributes_beside(value: Any, names: list[str]) -> dict[str, Any]:
    """What an object of a dataclass holds besides its fields, cached properties left out."""
    attributes = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        for name, member in vars(base).items():
            if isinstance(member, functools.cached_property):
                attributes.pop(name, None)
            elif isinstance(member, types.MemberDescriptorType) and hasattr(value, name):
                attributes[name] = getattr(value, name)
    return {k: v for k, v in attributes.items() if k not in names and not _is_dunder(k)}


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_plain_message(value: BaseMessage) -> bool:
    """A message of LangChain's own that the serializer gives back as it was."""
    return is_own_message(type(value)) and _is_plain(
        [*vars(value).values(), value.__pydantic_extra__]
    )


def _is_plain_object(value: Any) -> bool:
    """Whether the serializer alone gives an object back as it was.

    The parts of such an object would only be the same bytes once more.
    """
    cls = type(value)
    if isinstance(value, BaseModel):
        given = value.model_fields_set == set(cls.model_fields)
        return (
            given
            and _is_plain_class(cast(Hashable, cls))
            and all(map(_is_plain, vars(value).values()))
        )
    if not dataclasses.is_dataclass(value) or not _is_plain_class(cast(Hashable, cls)):
        return False
    names = [field.name for field in dataclasses.fields(value)]
    whole = all(hasattr(value, name) and _is_plain(getattr(value, name)) for name in names)
    return whole and not _attributes_beside(value, names)


@functools.lru_cache(maxsize=1_000)
def _is_plain_class(key: Hashable) -> bool:
    """Whether objects of a class are nothing but what they were made of."""
    cls = cast(type, key)
    if "." in cls.__qualname__ or find(reference(cls)) is not cls or len(reference(cls)) != 2:
        return False
    if not issubclass(cls, BaseModel):
        whole = all(field.init for field in dataclasses.fields(cast(Any, cls)))
        generated = cls.__dataclass_params__.init  # type: ignore[attr-defined]
        return whole and generated and not hasattr(cls, "__post_init__")
    decorators = cls.__pydantic_decorators__
    return not (
        cls.__private_attributes__
        or cls.model_config.get("extra") == "allow"
        or cls.__init__ is not BaseModel.__init__
        or cls.model_post_init is not BaseModel.model_post_init
        or any(getattr(decorators, name) for name in _VALIDATING)
        or any(f.metadata or f.alias or f.exclude for f in cls.model_fields.values())
        or issubclass(cls, RootModel)
    )


_VALIDATING = (
    *("validators", "field_validators", "root_validators", "model_validators"),
    *("field_serializers", "model_serializers"),
)


def _is_plain(value: Any, depth: int = MAX_DEPTH) -> bool:
    if type(value) is list and depth:
        return all(_is_plain(v, depth - 1) for v in value)
    if type(value) is dict and depth:
        return all(_is_plain_key(k) and _is_plain(v, depth - 1) for k, v in value.items())
    return type(value) in _SCALARS or (
        type(value) is datetime.datetime and _is_plain_datetime(value)
    )


def _is_plain_datetime(value: datetime.datetime) -> bool:
    return not value.fold and value.tzinfo in (None, datetime.UTC)


# -- reading ----------------------------------------------------------------------------------


class _UnresolvedError(Exception):
    """An object cannot be put together from its parts here."""


class _Reader:
    """Replaces the marks in one value by what they stand for.

    Args:
        serde: Revives objects that cannot be put together, and says which classes may be revived.
    """

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde
        inner = serde.serde if isinstance(serde, EncryptedSerializer) else serde
        self._rules = inner if isinstance(inner, JsonPlusSerializer) else None
        self._inside = False

    def read(self, value: Any) -> Any:
        """The value without marks."""
        if type(value) is list:
            return [self.read(v) for v in value]
        if type(value) is not dict:
            return value
        if _KIND in value:
            return _READERS[value[_KIND]](self, value)
        if len(value) == 1 and _TUPLE in value:
            return tuple(self.read(value[_TUPLE]))
        if len(value) == 1 and _ERROR in value:
            return rebuild(unpack(ErrorInfo, value[_ERROR]))
        if len(value) == 1 and _BYTEARRAY in value:
            return bytearray(value[_BYTEARRAY])
        if len(value) == 3 and _FIELDS_OF in value:
            fields = {name: self.read(v) for name, v in value["fields"].items()}
            return _with_fields(value[_FIELDS_OF], fields, value["given"])
        if len(value) == 2 and value.get(_OBJECT) in _CLASSES:
            make: Callable[..., Any] = _CLASSES[value[_OBJECT]]
            return make(**self.read(value["fields"]))
        return {k: self.read(v) for k, v in value.items()}

    def object(self, mark: dict[str, Any]) -> Any:
        """An object of a class of the user's."""
        if self._inside and "partial" in mark:
            # The outermost is revived if this one does not come back.
            return self._completed(self._revived(mark), mark, or_raise=True)
        if self._inside:
            return _OBJECTS[mark[_KIND]](self, mark)
        self._inside = True
        try:
            exact = self._put_together(mark)
            if exact is not None:
                return exact
            revived = self._revived(mark)
            # That may have loaded the module of its class.
            exact = self._put_together(mark)
            return self._completed(revived, mark) if exact is None else exact
        finally:
            self._inside = False

    def _put_together(self, mark: dict[str, Any]) -> Any:
        """The object; ``None`` if it cannot be had from its parts."""
        try:
            return None if "partial" in mark else _OBJECTS[mark[_KIND]](self, mark)
        except _UnresolvedError:
            return None

    def _revived(self, mark: dict[str, Any]) -> Any:
        """What the serializer makes of the object, by its own rules."""
        if "else" not in mark:
            raise UnserializableError(
                f"A value from another process holds an object of {_named(mark)}, which this "
                "process has not loaded or may not revive, and LangGraph's serializer has no form "
                "for it. Import its module here."
            )
        type_, data = mark["else"]
        return self._serde.loads_typed((type_, data))

    def _completed(self, revived: Any, mark: dict[str, Any], *, or_raise: bool = False) -> Any:
        """What the serializer has revived, with those parts that can be had."""
        if not _has_fields(revived) or reference(type(revived)) != mark["class"]:
            if or_raise:
                raise _UnresolvedError
            return revived
        fields = self._those_here(mark["fields"], _field_names(type(revived)))
        for name, value in fields.items():
            object.__setattr__(revived, name, value)
        if isinstance(revived, BaseModel):
            given = set(mark.get("given", type(revived).model_fields))
            object.__setattr__(revived, "__pydantic_fields_set__", given)
            for part in ("private", "extra"):
                there = getattr(revived, f"__pydantic_{part}__")
                if there is not None:
                    there.update(self._those_here(mark.get(part, {}), set(mark.get(part, {}))))
        return revived

    def _those_here(self, marked: dict[str, Any], names: set[str]) -> dict[str, Any]:
        found = {}
        for name in marked.keys() & names:
            try:
                found[name] = self.read(marked[name])
            except _UnresolvedError:
                continue
        return found

    def all(self, marked: dict[str, Any]) -> dict[str, Any]:
        """Values by name; the names are no marks."""
        return {name: self.read(value) for name, value in marked.items()}

    def find(self, mark: dict[str, Any], is_kind: Callable[[type], bool]) -> type:
        """The loaded class of an object, if it is of the kind and the serializer may revive it.

        Raises:
            _UnresolvedError: There is none.
        """
        cls = find(mark["class"])
        if cls is None or not is_kind(cls) or self._rules is None:
            raise _UnresolvedError
        # A serializer with an allow-list that lacks the class returns one that has it.
        if self._rules.with_msgpack_allowlist([cls]) is not self._rules:
            raise _UnresolvedError
        return cls


def _named(mark: dict[str, Any]) -> str:
    return ".".join(map(str, mark["class"][:2]))


def _has_fields(value: Any) -> bool:
    """Whether it is an object of a dataclass or a model."""
    if isinstance(value, type):
        return False
    return isinstance(value, BaseModel) or dataclasses.is_dataclass(value)


def _field_names(cls: type) -> set[str]:
    if issubclass(cls, BaseModel):
        return set(cls.model_fields)
    return {field.name for field in dataclasses.fields(cast(Any, cls))}


def _with_fields(value: Any, fields: dict[str, Any], given: list[str]) -> Any:
    # A class that is not known here came back as something else.
    if _has_fields(value):
        for name, field in fields.items():
            object.__setattr__(value, name, field)
        if isinstance(value, BaseModel):
            object.__setattr__(value, "__pydantic_fields_set__", set(given))
    return value


def _read_raw(reader: _Reader, mark: dict[str, Any]) -> Any:
    return mark["value"]


def _read_as_serialized(reader: _Reader, mark: dict[str, Any]) -> Any:
    value = mark["value"]
    if reference(type(value)) != mark["class"]:
        raise _UnresolvedError
    return value


def _read_dict(reader: _Reader, mark: dict[str, Any]) -> Any:
    pairs = [(reader.read(key), reader.read(value)) for key, value in mark["pairs"]]
    try:
        content = dict(pairs)
    except TypeError:
        # What a key was is not known here, and what the serializer has of it is no key.
        content = {_hashable(key): value for key, value in pairs}
    kind = mark.get("of")
    if kind == "defaultdict":
        factory = mark["factory"]
        return defaultdict(None if factory is None else _FACTORIES[factory], content)
    if kind == "Counter":
        return Counter(content)
    return OrderedDict(content) if kind == "OrderedDict" else content


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


def _read_collection(reader: _Reader, mark: dict[str, Any]) -> Any:
    items = reader.read(mark["items"])
    if mark[_KIND] == "deque":
        return deque(items, mark.get("maxlen"))
    try:
        return set(items) if mark[_KIND] == "set" else frozenset(items)
    except TypeError:
        # As on a reload of state: members of a class that is not known here may be no members.
        return items


def _read_datetime(reader: _Reader, mark: dict[str, Any]) -> datetime.datetime:
    naive = datetime.datetime.fromisoformat(mark["naive"])
    return naive.replace(tzinfo=reader.read(mark["zone"]), fold=mark["fold"])


def _read_array(reader: _Reader, mark: dict[str, Any]) -> Any:
    flat, shape, order = mark["flat"], tuple(mark["shape"]), mark["order"]
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not isinstance(flat, numpy.ndarray):
        raise UnserializableError(
            "A value from another process holds a numpy array, and this process has no numpy. "
            "Install it here."
        )
    if "items" in mark:
        array = numpy.empty(len(mark["items"]), object)
        for i, item in enumerate(mark["items"]):
            array[i] = reader.read(item)
        array = array.reshape(shape, order=order)
    else:
        dtype = numpy.lib.format.descr_to_dtype(reader.read(mark["dtype"]))
        if dtype.hasobject:
            raise ValueError("an array of pointers")
        # A copy: what the serializer gives back cannot be written to.
        array = numpy.ndarray(shape, dtype, bytearray(flat), order=order)
    return array[()] if mark.get("scalar") else array


def _enum(reader: _Reader, mark: dict[str, Any]) -> Any:
    cls = cast(type[Enum], reader.find(mark, lambda c: issubclass(c, Enum)))
    member = cls.__members__.get(mark["name"]) if mark["name"] else None
    if member is not None:
        return member
    if not issubclass(cls, Flag):
        raise _UnresolvedError
    try:
        # Several flags at once: Python's own `__new__` finds or makes their member.
        return Enum.__new__(cls, reader.read(mark["value"]))
    except (TypeError, ValueError):
        raise _UnresolvedError from None


def _named_tuple(reader: _Reader, mark: dict[str, Any]) -> Any:
    cls: Any = reader.find(mark, is_named_tuple)
    if list(cls._fields) != mark["names"] or len(mark["items"]) != len(mark["names"]):
        raise _UnresolvedError
    return tuple.__new__(cls, reader.read(mark["items"]))


def _dataclass(reader: _Reader, mark: dict[str, Any]) -> Any:
    cls = reader.find(mark, lambda c: dataclasses.is_dataclass(c) and not issubclass(c, BaseModel))
    # Written for another version of the class: let it be made with what that one has now.
    if {*mark["fields"], *mark.get("unset", ())} != _field_names(cls):
        raise _UnresolvedError
    fields = reader.all(mark["fields"])
    try:
        made: Any = object.__new__(cls)
        for name, value in fields.items():
            object.__setattr__(made, name, value)
    except (AttributeError, TypeError):
        raise _UnresolvedError from None
    return _with_attributes(made, reader.all(mark.get("rest", {})))


def _subclass(reader: _Reader, mark: dict[str, Any]) -> Any:
    base: Any = {base.__name__: base for base in _BASES}[mark["base"]]
    cls = reader.find(mark, lambda c: issubclass(c, base) and not issubclass(c, (Enum, bool)))
    if type(mark["value"]) is not base:
        raise ValueError("another type than it says")
    return _with_attributes(base.__new__(cls, mark["value"]), reader.all(mark["rest"]))


def _with_attributes(made: Any, attributes: dict[str, Any]) -> Any:
    """An object with what it held besides its fields, where no code of its class runs."""
    for name, value in attributes.items():
        if isinstance(getattr(type(made), name, None), types.MemberDescriptorType):
            object.__setattr__(made, name, value)
        elif hasattr(made, "__dict__") and not _is_dunder(name):
            vars(made)[name] = value
    return made


def _model(reader: _Reader, mark: dict[str, Any]) -> Any:
    cls = cast(type[BaseModel], reader.find(mark, lambda c: issubclass(c, BaseModel)))
    names = set(cls.model_fields)
    private, extra = mark.get("private", {}), mark.get("extra", {})
    # Written for another version of the class, see above.
    if set(mark["fields"]) != names or not _are_all_private(cls, set(private)):
        raise _UnresolvedError
    if extra and cls.model_config.get("extra") != "allow":
        raise _UnresolvedError
    fields = reader.all(mark["fields"])
    allows_extra = cls.model_config.get("extra") == "allow"
    made: Any = object.__new__(cls)
    # Pydantic's own, whatever the class has overridden.
    restore: Any = RootModel.__setstate__ if issubclass(cls, RootModel) else BaseModel.__setstate__
    restore(
        made,
        {
            # In their order in the class, which is the one in which the model shows them.
            "__dict__": {name: fields[name] for name in cls.model_fields},
            "__pydantic_fields_set__": set(mark.get("given", names)),
            "__pydantic_extra__": reader.all(extra) if allows_extra else None,
            "__pydantic_private__": reader.all(private) if cls.__private_attributes__ else None,
        },
    )
    return made


def _are_all_private(cls: type[BaseModel], names: set[str]) -> bool:
    """Whether an object of a model has these private attributes; some may never have been set."""
    for name, attribute in cls.__private_attributes__.items():
        has_default = attribute.default is not PydanticUndefined or attribute.default_factory
        if name not in names and has_default:
            return False
    return names <= cls.__private_attributes__.keys()


_OBJECTS: dict[str, Callable[[_Reader, dict[str, Any]], Any]] = {
    "enum": _enum,
    "named tuple": _named_tuple,
    "dataclass": _dataclass,
    "model": _model,
    "subclass": _subclass,
}

_READERS: dict[str, Callable[[_Reader, dict[str, Any]], Any]] = {
    **dict.fromkeys(_OBJECTS, _Reader.object),
    **dict.fromkeys(("set", "frozenset", "deque"), _read_collection),
    "raw": _read_raw,
    "as serialized": _read_as_serialized,
    "dict": _read_dict,
    "datetime": _read_datetime,
    "array": _read_array,
}


# -- text instead -----------------------------------------------------------------------------


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
