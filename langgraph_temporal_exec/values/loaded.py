"""Shared: classes by name, among those this process has loaded already.

Bytes from another process name classes. Nothing is imported because of such a name, no attribute
hook of a module or a class runs (``__getattr__`` may import), and what is found is a class that
itself says to have this name. What may be done with it is up to whoever asked.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import sys
import types
import typing
import uuid
from collections.abc import Sequence
from enum import Enum
from typing import Any

from pydantic import BaseModel

MAX_ARGUMENTS = 16
MAX_NESTING = 8
"""Bounds of the arguments of a generic class."""

_PLAIN_TYPES: tuple[type, ...] = (
    *(bool, int, float, str, bytes, bytearray, list, dict, set, frozenset, tuple),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
    *(uuid.UUID, decimal.Decimal),
)
"""Besides classes of data the only arguments with which a generic model is made anew."""

_CONTAINERS = (list, dict, set, frozenset, tuple)


def is_named_tuple(cls: type) -> bool:
    """Whether it was made by ``NamedTuple`` or ``namedtuple``, or inherits from one that was."""
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def reference(cls: type) -> list[Any]:
    """A class as plain data: module, qualified name, and what a generic model was given."""
    generic = _generic(cls)
    if generic is None:
        return [cls.__module__, cls.__qualname__]
    origin, arguments = generic
    return [origin.__module__, origin.__qualname__, [_argument(a, MAX_NESTING) for a in arguments]]


def find(named: Sequence[Any]) -> type | None:
    """The loaded class with a reference; ``None`` if there is none."""
    if len(named) not in (2, 3) or not isinstance(named[0], str) or not isinstance(named[1], str):
        return None
    cls = _walk(named[0], named[1])
    if cls is None or len(named) == 2:
        return cls
    return _parametrized(cls, named[2]) if issubclass(cls, BaseModel) else None


def _walk(module: str, qualified_name: str) -> type | None:
    found: Any = sys.modules.get(module)
    for name in qualified_name.split("."):
        found = getattr(found, "__dict__", {}).get(name)
        if not isinstance(found, type):
            return None
    # An alias, or a name that something else has taken since, is another class.
    said = (found.__module__, found.__qualname__)
    return found if said == (module, qualified_name) else None


def _generic(cls: type) -> tuple[type, tuple[Any, ...]] | None:
    """Origin and arguments of a generic model with arguments, such as ``Page[Item]``."""
    if not issubclass(cls, BaseModel):
        return None
    metadata = cls.__pydantic_generic_metadata__
    return (metadata["origin"], metadata["args"]) if metadata["origin"] else None


def _parametrized(origin: type[BaseModel], arguments: Any) -> type | None:
    """The model with these arguments: one that is there, else made from loaded classes."""
    for cls in type.__subclasses__(origin):
        if _generic(cls) is not None and reference(cls)[2] == arguments:
            return cls
    if not origin.__pydantic_generic_metadata__["parameters"]:
        return None
    try:
        given = tuple(_resolved(a, MAX_NESTING) for a in _few(arguments))
        # Pydantic's own, whatever the class has overridden.
        made = BaseModel.__class_getitem__.__func__(origin, given)  # type: ignore[attr-defined]
    except Exception:
        # Arguments that are not here or that pydantic refuses: there is no such class here.
        return None
    return made if isinstance(made, type) else None


def _argument(value: Any, depth: int) -> list[Any]:
    """An argument of a generic model as plain data; what has no form of its own as its text."""
    origin, inner = typing.get_origin(value), typing.get_args(value)
    if depth and value is Any:
        return ["any"]
    if depth and (value is None or value is type(None)):
        return ["none"]
    if depth and origin in (typing.Union, types.UnionType):
        return ["union", [_argument(a, depth - 1) for a in inner]]
    if depth and origin is typing.Literal:
        if all(type(a) in (str, int, bool) for a in inner):
            return ["literal", list(inner)]
    elif depth and origin in _CONTAINERS:
        arguments = [["..."] if a is ... else _argument(a, depth - 1) for a in inner]
        return ["container", origin.__name__, arguments]
    elif depth and origin is None and isinstance(value, type):
        return ["class", *reference(value)]
    return ["text", repr(value)]


def _resolved(argument: Any, depth: int) -> Any:
    """The inverse of ``_argument``.

    Raises:
        ValueError: It is not here, or nothing a model is made with.
    """
    kind, *rest = _few(argument)
    if depth and kind == "any":
        return Any
    if depth and kind == "none":
        return None
    if depth and kind == "union":
        return typing.Union[tuple(_resolved(a, depth - 1) for a in _few(rest[0]))]  # noqa: UP007 -- not known before
    if depth and kind == "literal":
        return typing.Literal[tuple(_few(rest[0]))]
    if depth and kind == "container":
        container: Any = {c.__name__: c for c in _CONTAINERS}[rest[0]]
        return container[
            tuple(... if a == ["..."] else _resolved(a, depth - 1) for a in _few(rest[1]))
        ]
    if depth and kind == "class":
        cls = find(rest)
        if cls is not None and (cls in _PLAIN_TYPES or _holds_data(cls)):
            return cls
    raise ValueError(f"no argument of a model: {argument!r}")


def _few(arguments: Any) -> list[Any]:
    if not isinstance(arguments, list) or len(arguments) > MAX_ARGUMENTS:
        raise ValueError(f"no arguments of a model: {arguments!r}")
    return arguments


def _holds_data(cls: type) -> bool:
    if issubclass(cls, (BaseModel, Enum)):
        return True
    return dataclasses.is_dataclass(cls) or is_named_tuple(cls)
