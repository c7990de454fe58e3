"""Shared: exceptions across processes as data: no pickle, no import by name.

The sender writes the qualified names of the class and its bases, and the arguments and
attributes serialized like state. The receiver looks the names up among the exception classes
that exist in its process already (docs/decisions/0005).
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from .errors import RemoteError
from .protocol.messages import ErrorInfo

TRACEBACK_CHARS = 16_000


def describe(serde: SerializerProtocol, exc: BaseException) -> ErrorInfo:
    """An exception as data. Arguments or attributes without a serialized form become text."""
    bases = tuple(
        _qualified(cls)
        for cls in type(exc).__mro__
        if issubclass(cls, BaseException) and cls not in (BaseException, Exception)
    ) or (_qualified(type(exc)),)
    args_type, args = _dump_safely(serde, list(exc.args))
    attributes_type, attributes = _dump_safely(
        serde, {k: v for k, v in vars(exc).items() if k != "__notes__"}
    )
    text = "".join(traceback.format_exception(exc))
    return ErrorInfo(
        bases=bases,
        message=str(exc),
        args_type=args_type,
        args=args,
        attributes_type=attributes_type,
        attributes=attributes,
        notes=tuple(str(n) for n in getattr(exc, "__notes__", ())),
        traceback=text[-TRACEBACK_CHARS:],
    )


def rebuild(serde: SerializerProtocol, info: ErrorInfo) -> BaseException:
    """The exception again, of its own class if this process knows it, else ``RemoteError``.

    The class's ``__init__`` does not run: arguments and attributes are restored as they were.
    """
    exc = _instance(serde, info)
    for note in info.notes:
        exc.add_note(note)
    if info.traceback:
        exc.add_note(f"Remote traceback:\n{info.traceback}")
    return exc


def _instance(serde: SerializerProtocol, info: ErrorInfo) -> BaseException:
    cls = _known_class(info.bases[0])
    if cls is not None:
        try:
            args = serde.loads_typed((info.args_type, info.args))
            exc = cls.__new__(cls, *args)
            exc.args = tuple(args)
            vars(exc).update(serde.loads_typed((info.attributes_type, info.attributes)))
        except Exception as problem:
            stand_in = RemoteError(info.message, type_name=info.bases[0])
            stand_in.add_note(f"{info.bases[0]} could not be rebuilt here: {problem!r}")
            return stand_in
        return exc
    return RemoteError(info.message, type_name=info.bases[0], remote_traceback=info.traceback)


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


def _dump_safely(serde: SerializerProtocol, value: Any) -> tuple[str, bytes]:
    try:
        return serde.dumps_typed(value)
    except Exception:
        # The exception must reach the caller even if something it carries cannot.
        if isinstance(value, dict):
            return serde.dumps_typed({k: _or_text(serde, v) for k, v in value.items()})
        return serde.dumps_typed([_or_text(serde, v) for v in value])


def _or_text(serde: SerializerProtocol, value: Any) -> Any:
    try:
        serde.dumps_typed(value)
    except Exception:
        return repr(value)
    return value
