"""Shared: exceptions across processes as data: no pickle, no import by name.

The sender writes the qualified name of the class, and its arguments and attributes as plain
msgpack. The receiver looks the name up among the exception classes that exist in its process
already (docs/decisions/0005).
"""

from __future__ import annotations

import traceback
import types
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgpack
from pydantic_core import PydanticCustomError, PydanticKnownError, ValidationError

from ..errors import RemoteError
from ..protocol.messages import ErrorInfo
from ..protocol.wire import pack, unpack

TRACEBACK_CHARS = 16_000
MESSAGE_CHARS = 20_000
MAX_NOTES = 20
MAX_DATA_BYTES = 200_000
MAX_BYTES = 300_000
MAX_MEMBERS = 20
MAX_DEPTH = 3
"""Bounds, so that an error always fits into the step that records it. Causes and members of groups
are described as deep as this, the ones inside with a tenth of the room."""

_TUPLE = "__langgraph_temporal_tuple__"

_MEMBERS = ("filename", "filename2", "name", "path")
"""What built-in exceptions keep outside ``args`` and ``__dict__``."""


def describe(exc: BaseException, depth: int = 0) -> ErrorInfo:
    """An exception as data. What is not plain data in its arguments and attributes becomes text."""
    room = 1 if not depth else 10
    attributes = {k: _plain(v) for k, v in vars(exc).items() if k != "__notes__"}
    if type(exc).__init__ is not BaseException.__init__:
        members = {name: getattr(exc, name, None) for name in _MEMBERS}
        attributes |= {k: v for k, v in members.items() if isinstance(v, str)}
    attributes |= {n: _plain(getattr(exc, n)) for n in _slots(type(exc)) if hasattr(exc, n)}
    if isinstance(exc, ValidationError):
        # A model may want what it was given to be shown nowhere.
        hidden = "input_value=" not in str(exc)
        lines = exc.errors(include_url=False, include_input=not hidden)
        errors = [_plain(dict(line)) for line in lines]
        attributes |= {"title": exc.title, "errors": errors, "hidden": hidden}
    message = _text(exc, MESSAGE_CHARS // room)
    members_of_group: tuple[BaseException, ...] = ()
    args = list(exc.args)
    if isinstance(exc, BaseExceptionGroup):
        members_of_group = exc.exceptions[:MAX_MEMBERS] if depth < MAX_DEPTH else ()
        args = args[:1]
    cause = exc.__cause__ if depth < MAX_DEPTH else None
    info = ErrorInfo(
        type_name=_qualified(type(exc)),
        message=message,
        args=_bounded([_plain(a) for a in args], MAX_DATA_BYTES // room, otherwise=[message]),
        attributes=_bounded(attributes, MAX_DATA_BYTES // room, otherwise={}),
        notes=tuple(
            _text(n, MESSAGE_CHARS // room) for n in getattr(exc, "__notes__", ())[:MAX_NOTES]
        ),
        # That of the outermost shows those inside it.
        traceback="" if depth else _traceback(exc),
        exceptions=tuple(pack(describe(member, depth + 1)) for member in members_of_group),
        cause=b"" if cause is None else pack(describe(cause, depth + 1)),
    )
    # All of it together must fit as well; what is least missed goes first.
    for least in (
        {"exceptions": ()},
        {"cause": b""},
        {"attributes": _bounded({}, 1, otherwise={})},
    ):
        if len(pack(info)) <= MAX_BYTES // room:
            break
        info = replace(info, **least)
    return info


def _slots(cls: type) -> set[str]:
    """Attributes a class of the user's keeps in slots."""
    own = [base for base in cls.__mro__ if base.__module__ != "builtins"]
    members = [(name, value) for base in own for name, value in vars(base).items()]
    return {name for name, value in members if isinstance(value, types.MemberDescriptorType)}


def _text(value: object, limit: int = MESSAGE_CHARS) -> str:
    """``str(value)``, whatever it does, in a form that can be encoded."""
    try:
        text = str(value)
    except Exception as problem:
        text = f"<{type(value).__name__} whose text raises {type(problem).__name__}>"
    return text[:limit].encode("utf-8", "backslashreplace").decode()


def _traceback(exc: BaseException) -> str:
    try:
        lines = traceback.format_exception(exc)
    except Exception:
        # The exception's own text raises: show where it came from without it.
        lines = traceback.format_tb(exc.__traceback__)
    return _text("".join(lines)[-TRACEBACK_CHARS:], TRACEBACK_CHARS)


def rebuild(info: ErrorInfo) -> BaseException:
    """The exception again, of its own class if this process knows it, else ``RemoteError``.

    No ``__init__`` of the user's runs: arguments and attributes are restored as they were.
    """
    exc = _instance(info)
    if info.cause:
        exc.__cause__ = rebuild(unpack(ErrorInfo, info.cause))
    for note in info.notes:
        exc.add_note(note)
    if info.traceback:
        exc.add_note(f"Remote traceback:\n{info.traceback}")
    return exc


def _instance(info: ErrorInfo) -> BaseException:
    cls = _known_class(info.type_name)
    if cls is not None:
        try:
            if cls is ValidationError:
                return _validation_error(info)
            args = _unplain(msgpack.unpackb(info.args, strict_map_key=False))
            if issubclass(cls, BaseExceptionGroup):
                args.append([rebuild(unpack(ErrorInfo, member)) for member in info.exceptions])
            exc = cls.__new__(cls, *args)
            if not issubclass(cls, BaseExceptionGroup):
                exc.args = tuple(args)
            if isinstance(cls.__init__, types.WrapperDescriptorType):
                # Python's own, which fills what is neither in `args` nor in `__dict__`.
                cls.__init__(exc, *args)
            attributes = msgpack.unpackb(info.attributes, strict_map_key=False)
            for name, value in _unplain(attributes).items():
                if (name in _MEMBERS and hasattr(cls, name)) or name in _slots(cls):
                    setattr(exc, name, value)
                else:
                    vars(exc)[name] = value
        except Exception as problem:
            stand_in = RemoteError(info.message, type_name=info.type_name)
            stand_in.add_note(f"{info.type_name} could not be rebuilt here: {problem!r}")
            return stand_in
        return exc
    return RemoteError(info.message, type_name=info.type_name, remote_traceback=info.traceback)


def _validation_error(info: ErrorInfo) -> ValidationError:
    """Pydantic's, which cannot be made from arguments."""
    attributes = _unplain(msgpack.unpackb(info.attributes, strict_map_key=False))
    title, hidden = attributes.pop("title"), attributes.pop("hidden")
    lines: list[Any] = []
    for told in attributes.pop("errors"):
        kind: Any = told["type"]
        line = {"loc": told["loc"], "input": told.get("input")}
        context = told.get("ctx") or {}
        if kind in ("value_error", "assertion_error"):
            # The text is "Value error, " and what the exception says.
            error = ValueError if kind == "value_error" else AssertionError
            line["ctx"] = {"error": error(told["msg"].partition(", ")[2])}
        elif not _is_known(kind, context):
            kind = PydanticCustomError(kind, told["msg"].replace("{", "{{"), context or None)
        elif context:
            line["ctx"] = context
        lines.append({**line, "type": kind})
    exc = ValidationError.from_exception_data(title, lines, hide_input=hidden)
    exc.args = ()
    vars(exc).update(attributes)
    return exc


def _is_known(kind: Any, context: dict[str, Any]) -> bool:
    try:
        PydanticKnownError(kind, context or None)
    except (KeyError, TypeError, ValueError):
        return False
    return True


def _known_class(name: str) -> type[BaseException] | None:
    for cls in _loaded_exceptions():
        if _qualified(cls) == name and issubclass(cls, Exception):
            return cls
    return None


def _loaded_exceptions() -> Iterator[type[BaseException]]:
    seen: set[type[BaseException]] = set()
    stack: list[type[BaseException]] = [BaseException]
    while stack:
        cls = stack.pop()
        if cls in seen:
            continue
        seen.add(cls)
        yield cls
        stack.extend(type.__subclasses__(cls))


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _unplain(value: Any) -> Any:
    if isinstance(value, list):
        return [_unplain(v) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and _TUPLE in value:
        return tuple(_unplain(v) for v in value[_TUPLE])
    return {k: _unplain(v) for k, v in value.items()}


def _plain(value: Any, depth: int = 8) -> Any:
    """Scalars, lists, tuples and string-keyed dicts; anything else as its ``repr``."""
    if value is None or isinstance(value, (bool, float, bytes)):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    if depth and isinstance(value, (list, tuple)):
        items = [_plain(v, depth - 1) for v in value]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if depth and isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {_plain(k): _plain(v, depth - 1) for k, v in value.items()}
    return _text(_Repr(value))


class _Repr:
    """``str`` of this is ``repr`` of the value, so that ``_text`` guards it too."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return repr(self._value)


def _bounded(value: Any, limit: int, *, otherwise: Any) -> bytes:
    data: bytes = msgpack.packb(value)
    if len(data) > limit:
        data = msgpack.packb(otherwise)
    return data
