"""What a caller observed, in a form that two runs of a scenario can be compared by.

Only ids and times are normalised: an id becomes a number by first appearance, so that the same id
in two places stays the same and two ids stay two. Types are kept: a tuple is no list.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import BaseModel

REMOTE_NOTE = "Remote traceback:\n"
"""Added to what a node raised in another process; listed among the differences."""

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = re.compile(rf"{_UUID}|(?<![0-9a-f])[0-9a-f]{{32}}(?![0-9a-f])")
_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:\d\d)?|(?<=elapsed: )[.\d]+(?=s\))"
)
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def plain(value: Any) -> Any:
    """Containers and scalars only; objects become their class's name and their content."""
    if value is None or isinstance(value, (bool, int, float, bytes, str)):
        return value if type(value) in _SCALARS else (_name(value), str(value))
    if isinstance(value, BaseCheckpointSaver):
        return "<the saver>"
    if isinstance(value, BaseMessage):
        return _object(value, value.model_dump())
    if isinstance(value, BaseModel):
        return _object(value, dict(value))
    if isinstance(value, BaseException):
        notes = [n for n in getattr(value, "__notes__", ()) if not n.startswith(REMOTE_NOTE)]
        attributes = {k: v for k, v in vars(value).items() if k != "__notes__"}
        if "elapsed" in attributes:  # of a NodeTimeoutError
            attributes["elapsed"] = "<time>"
        text = _ADDRESS.sub("0x", str(value))
        return _object(value, {"args": value.args, "text": text, "notes": notes, **attributes})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _object(value, value._asdict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        return _object(value, {n: getattr(value, n) for n in names if hasattr(value, n)})
    if isinstance(value, Mapping):
        mapping = {plain(k): plain(v) for k, v in value.items()}
        return mapping if type(value) is dict else (_name(value), mapping)
    if isinstance(value, (set, frozenset)):
        return (_name(value), sorted(map(repr, map(plain, value))))
    if isinstance(value, Sequence):
        items = [plain(v) for v in value]
        return type(value)(items) if type(value) in (list, tuple) else (_name(value), items)
    return (_name(value), _ADDRESS.sub("0x", repr(value)))


_SCALARS = (type(None), bool, int, float, bytes, str)


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _object(value: Any, content: Mapping[str, Any]) -> tuple[str, Any]:
    return (_name(value), {k: plain(v) for k, v in content.items()})


class Names:
    """Gives ids their numbers; one for all observations of one run of a scenario.

    Args:
        threads: Thread ids and what they are called in the scenario.
    """

    def __init__(self, threads: Mapping[str, str]) -> None:
        self._threads = threads
        self._ids: dict[str, str] = {}

    def apply(self, value: Any, *, ordered: bool = True) -> Any:
        """The value with names for ids; not ``ordered``: all ids are alike."""
        if isinstance(value, str):
            for thread_id, name in self._threads.items():
                value = value.replace(thread_id, f"<thread {name}>")
            value = _TIME.sub("<time>", value)
            return _ID.sub(self._numbered if ordered else "<id>", value)
        if isinstance(value, dict):
            named = [
                (self.apply(k, ordered=ordered), self.apply(v, ordered=ordered))
                for k, v in value.items()
            ]
            return dict(named)
        if isinstance(value, (list, tuple)):
            return type(value)(self.apply(v, ordered=ordered) for v in value)
        return value

    def _numbered(self, found: re.Match[str]) -> str:
        return self._ids.setdefault(found[0], f"<id {len(self._ids) + 1}>")


def first_difference(here: Any, there: Any, where: str = "") -> tuple[str, Any, Any]:
    """The path at which two normalised values differ first, and what each has there."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in [*here, *there]:
            if key not in here or key not in there:
                return where, sorted(here, key=repr), sorted(there, key=repr)
            if here[key] != there[key]:
                return first_difference(here[key], there[key], f"{where}[{key!r}]")
    if isinstance(here, (list, tuple)) and type(here) is type(there):
        for i, (left, right) in enumerate(zip(here, there, strict=False)):
            if left != right:
                return first_difference(left, right, f"{where}[{i}]")
        if len(here) != len(there):
            return f"{where}, lengths {len(here)} and {len(there)}", here, there
    return where, here, there


_NUMBERED = re.compile(r"<id \d+>")


def only_order_differs(here: Sequence[tuple[str, Any]], there: Sequence[tuple[str, Any]]) -> bool:
    """Whether two lists of observations differ, but only in the order of what was streamed."""
    if list(here) == list(there) or [k for k, _ in here] != [k for k, _ in there]:
        return False
    return all(_unordered(a) == _unordered(b) for (_, a), (_, b) in zip(here, there, strict=True))


def _unordered(value: Any) -> Any:
    """Without what depends on the order: numbers of ids, and the order of the chunks, but for
    those that bring questions, whose order is that of the tasks."""
    if isinstance(value, list):
        items = [_NUMBERED.sub("<id>", repr(item)) for item in value]
        asks = [item for item in items if "__interrupt__" in item]
        return sorted(item for item in items if "__interrupt__" not in item), asks
    return _NUMBERED.sub("<id>", repr(value))
