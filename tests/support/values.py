"""Values of all types that cross processes: their classes, how they are made and compared."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import ipaddress
import pathlib
import re
import threading
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    field_serializer,
    field_validator,
)

try:
    import numpy
except ImportError:  # an optional part of LangGraph's serializer
    numpy = None  # type: ignore[assignment]

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    POINT = (1, 2)


class Size(enum.StrEnum):
    SMALL = "s"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    left: Any
    right: Any


class Order(BaseModel):
    class Line(BaseModel):
        sku: str
        note: Any = None

        class Kind(enum.IntEnum):
            GIFT = 1

    lines: list[Line] = []
    kind: Line.Kind | None = None


class Item(BaseModel):
    n: int


class Page(BaseModel, Generic[T]):
    rows: list[T]
    more: Any = None


class Result(BaseModel):
    page: Page[Item]


class Numbers(RootModel[list[Any]]):
    pass


class Open(BaseModel):
    """With values that are not fields."""

    model_config = ConfigDict(extra="allow")
    a: Any = None
    _hidden: Any = PrivateAttr(default=None)


class Hashed(BaseModel):
    """Whose validator must not run twice."""

    password: str
    by: Any = None

    @field_validator("password")
    @classmethod
    def _hash(cls, value: str) -> str:
        return f"#{value}"


@dataclasses.dataclass
class Box:
    content: Any
    size: Any = dataclasses.field(init=False, default=0)

    @dataclasses.dataclass(frozen=True, slots=True)
    class Label:
        text: Any


@dataclasses.dataclass
class Counted:
    """Whose ``__post_init__`` must not run twice."""

    content: Any
    times: int = 0

    def __post_init__(self) -> None:
        self.times += 1
        self.beside = (self.times,)


class Locked(BaseModel):
    """A part of it is at home in one process."""

    content: Any = None
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class Excluding(BaseModel):
    """A part of it is kept out of dumps, and one is dumped in its own way."""

    content: Any = None
    token: str = Field(default="", exclude=True)
    when: datetime.datetime | None = None

    @field_serializer("when")
    def _as_text(self, value: Any) -> Any:
        return value and value.isoformat()


class Named(str):
    """A text of a class of its own."""

    def __new__(cls, first: str, second: str = "") -> Named:
        made = super().__new__(cls, first + second)
        made.parts = (first, second)
        return made

    parts: tuple[str, str]


class Metres(float):
    __slots__ = ()


# -- comparison -------------------------------------------------------------------------------


def form(value: Any) -> Any:
    """The value as lists and texts, in which each type shows: equal forms, equal values."""
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, enum.Enum):
        return [name, value.name, form(value.value)]
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        dtype = numpy.lib.format.dtype_to_descr(value.dtype)
        items = [form(v) for v in value.ravel().tolist()]
        return [name, repr(dtype), list(value.shape), value.flags.f_contiguous, items]
    if isinstance(value, BaseModel):
        parts = [vars(value), value.__pydantic_private__, value.__pydantic_extra__]
        # Which fields of a message were given is a listed difference.
        given = () if isinstance(value, BaseMessage) else value.model_fields_set
        return [name, *map(form, parts), sorted(given)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return [name, form(fields), form(getattr(value, "__dict__", {}))]
    if isinstance(value, Mapping):
        content = [[form(k), form(v)] for k, v in value.items()]
        return [name, content, repr(getattr(value, "default_factory", None))]
    if isinstance(value, (set, frozenset)):
        return [name, sorted(map(repr, map(form, value)))]
    if isinstance(value, (list, tuple, deque)):
        return [name, [form(v) for v in value], getattr(value, "maxlen", None)]
    if isinstance(value, datetime.datetime):
        return [name, value.isoformat(), repr(value.tzinfo), value.fold]
    return [name, repr(value), *(form(v) for v in getattr(value, "__dict__", {}).values())]


# -- making them ------------------------------------------------------------------------------

_zones = st.sampled_from(
    [None, datetime.UTC, datetime.timezone(datetime.timedelta(hours=2)), "Europe/Berlin"]
).map(lambda z: zoneinfo.ZoneInfo(z) if isinstance(z, str) else z)
_moments = st.datetimes(
    min_value=datetime.datetime(1990, 1, 1), max_value=datetime.datetime(2040, 1, 1)
)
_enums = st.sampled_from([*Colour, *Size, *Right, Right.READ | Right.WRITE, *Order.Line.Kind])
_integers = st.integers(-(2**63), 2**64 - 1)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    _integers,
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.builds(lambda at, zone: at.replace(tzinfo=zone), _moments, _zones),
    st.ip_addresses(),
    st.sampled_from(
        [pathlib.Path("a/b"), re.compile("a+", re.I), ipaddress.ip_network("10.0.0.0/8")]
    ),
    _enums,
    st.builds(Named, st.text(max_size=2), st.text(max_size=2)),
    st.builds(Metres, st.integers(0, 9)),
)

hashables = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.frozensets(inner, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(Box.Label, inner),
    ),
    max_leaves=4,
)


def _model_with_hidden(cls: type[Any], name: str, hidden: Any, **given: Any) -> Any:
    made = cls(**given)
    setattr(made, name, hidden)
    return made


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lines = st.builds(Order.Line, sku=st.text(max_size=3), note=inner)
    items = st.builds(Item, n=st.integers(0, 9))
    return st.one_of(
        lines,
        st.builds(Order, lines=st.lists(lines, max_size=2), kind=st.just(Order.Line.Kind.GIFT)),
        st.builds(Order),
        items,
        st.builds(Page[Item], rows=st.lists(items, max_size=2), more=inner),
        st.builds(Page[Order.Line | None], rows=st.lists(lines, max_size=2)),
        st.builds(Page[Any], rows=st.lists(inner, max_size=2)),
        st.builds(lambda row: Result(page=Page[Item](rows=[row])), items),
        st.builds(Numbers, st.lists(inner, max_size=2)),
        st.builds(lambda a, b, c: _model_with_hidden(Open, "_hidden", c, a=a, b=b), *[inner] * 3),
        st.builds(Hashed, password=st.text(max_size=3), by=inner),
        st.builds(lambda a, b: _model_with_hidden(Box, "size", b, content=a), inner, inner),
        st.builds(Box, inner),
        st.builds(Box.Label, inner),
        st.builds(Counted, inner),
        st.builds(Pair, inner, inner),
        st.builds(lambda a: ToolMessage("x", tool_call_id="1", id="i", artifact=a), inner),
    )


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.lists(inner, max_size=3).map(deque),
        st.lists(inner, max_size=3).map(lambda items: deque(items, maxlen=3)),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(OrderedDict),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(lambda d: defaultdict(list, d)),
        st.sampled_from([HumanMessage("x", id="1"), AIMessage("y", id="2")]),
        st.lists(hashables, max_size=3).map(set),
        st.lists(st.text(max_size=2), max_size=3).map(Counter),
    )


def _arrays(*, storable: bool) -> st.SearchStrategy[Any]:
    if numpy is None:
        return st.nothing()
    arrays: list[Any] = [
        numpy.arange(6, dtype="<i4").reshape(2, 3),
        numpy.arange(6, dtype="<f8").reshape(2, 3).T,
        numpy.zeros((2, 0)),
        numpy.array(5),
        numpy.array(["ab", ""]),
        numpy.array([True, False]),
        numpy.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8", (2,))]),
    ]
    if not storable:
        arrays += [
            numpy.array([1, "a", None, (1, Colour.POINT)], dtype=object),
            numpy.array([[Item(n=1), {1, 2}]], dtype=object),
            numpy.array(["2020-01-01"], dtype="<M8[D]"),
            numpy.float64(1.5),
            numpy.int16(-3),
        ]
    return st.sampled_from(arrays)


_plain_keys = st.one_of(st.text(max_size=3), _integers, st.booleans(), st.none())
_stored_keys = st.one_of(
    _plain_keys, _enums, st.dates(), st.uuids(), st.tuples(_plain_keys, _enums)
)


def _values(*, storable: bool) -> st.SearchStrategy[Any]:
    keys = _stored_keys if storable else hashables
    return st.recursive(
        st.one_of(scalars, _arrays(storable=storable)),
        lambda inner: st.one_of(
            _objects(inner), _containers(inner), st.dictionaries(keys, inner, max_size=3)
        ),
        max_leaves=6,
    )


def _is_stored(value: Any) -> bool:
    """A set of models, for example, is a set of dicts for pydantic, and so for LangGraph."""
    try:
        JsonPlusSerializer().dumps_typed(value)
    except TypeError:
        return False
    return True


storable_values = _values(storable=True).filter(_is_stored)
"""What the state of a graph may hold."""

values = _values(storable=False)
"""What may cross: also what no serializer of LangGraph's can store."""
