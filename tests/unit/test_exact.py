"""Values between processes: exact, or what a reload gives; and bytes that nobody wrote."""

from __future__ import annotations

import builtins
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_temporal_exec import UnserializableError
from langgraph_temporal_exec.protocol.wire import WireError
from langgraph_temporal_exec.values.exact import dump_exact, load_exact
from langgraph_temporal_exec.values.loaded import find, reference
from langgraph_temporal_exec.values.ops import dump
from tests.support import values
from tests.support.values import (
    Box,
    Colour,
    Counted,
    Excluding,
    Item,
    Locked,
    Order,
    Page,
    Pair,
    form,
)

pytestmark = pytest.mark.compat

SERDE = JsonPlusSerializer()
ENCRYPTED = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
KIND = "__langgraph_temporal_kind__"


def crossed(value: Any, serde: Any = SERDE) -> Any:
    return load_exact(serde, dump_exact(serde, value, what="it"))


def reloaded(value: Any, serde: Any = SERDE) -> Any:
    return serde.loads_typed(serde.dumps_typed(value))


@settings(derandomize=True, max_examples=150)
@given(values.values)
def test_a_value_is_what_it_was(value: Any) -> None:
    assert form(crossed(value)) == form(value)


@pytest.mark.parametrize("serde", [SERDE, ENCRYPTED], ids=["plain", "encrypted"])
def test_objects_are_put_together_without_code_of_theirs(serde: Any) -> None:
    counted = Counted((1,))
    assert form(crossed(counted, serde)) == form(counted)
    assert reloaded(counted, serde).times == 2


@pytest.mark.parametrize(
    "value",
    [
        {"__langgraph_temporal_tuple__": [1]},
        {"__langgraph_temporal_object__": "Command", "fields": {"resume": 1}},
        {KIND: "raw", "value": 1},
        [{"a": {KIND: "model", "class": ["os", "system"], "fields": {}}}],
    ],
)
def test_data_that_looks_like_a_mark_is_data(value: Any) -> None:
    assert crossed(value) == value
    deep = value
    for _ in range(60):
        deep = [deep]
    assert crossed(deep) == deep


def test_values_deeper_than_marks_go_are_those_of_the_serializer() -> None:
    deep: Any = 1
    for _ in range(240):
        deep = [deep]
    assert crossed(deep) == deep
    nested: Any = 1
    for _ in range(110):
        nested = Pair(nested, 1)
    form(crossed(nested))
    holds_itself: dict[str, Any] = {}
    holds_itself |= {"a": holds_itself, "b": holds_itself}
    with pytest.raises(UnserializableError, match="it holds"):
        dump_exact(SERDE, holds_itself, what="it")


# -- what has no exact form ---------------------------------------------------------------------


def test_a_part_that_is_at_home_in_one_process_is_made_anew() -> None:
    for value in (Locked(content=(1,)), Pair(Locked(content=(1,)), 2)):
        found = crossed(value)
        locked = found.left if isinstance(found, Pair) else found
        assert locked.content == (1,)
        assert isinstance(locked._lock, type(threading.Lock()))


def test_what_a_model_keeps_out_of_its_dumps_does_not_travel() -> None:
    value = Excluding(content=(1,), token="secret")
    data = dump_exact(SERDE, value, what="it")
    assert b"secret" not in data
    assert load_exact(SERDE, data) == Excluding(content=(1,))


def test_a_default_factory_that_is_code_stays_behind() -> None:
    found = crossed(defaultdict(lambda: 1, {"a": (2,)}))
    assert form(found) == form({"a": (2,)})


def test_what_arrives_as_its_plain_kind() -> None:
    class Mapping(dict[str, int]):
        pass

    class Sequence(list[int]):
        pass

    plain: tuple[tuple[Any, Any], ...] = (
        (Mapping(a=1), {"a": 1}),
        (Sequence([1]), [1]),
        (memoryview(b"ab"), b"ab"),
        ("a\udc00b", "a?b"),
    )
    for value, expected in plain:
        found = crossed(value)
        assert (type(found), found) == (type(expected), expected)


def test_a_live_object_is_refused_by_name() -> None:
    for value in (threading.Lock(), [threading.Lock()], {"a": Box(threading.Lock())}):
        with pytest.raises(UnserializableError, match="it holds a value of type"):
            dump_exact(SERDE, value, what="it")


# -- classes ------------------------------------------------------------------------------------

MODULE = """
import dataclasses, enum
from pydantic import BaseModel

class Colour(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Outer:
    @dataclasses.dataclass
    class Inner:
        n: int
    inner: object
    colour: Colour = Colour.RED

class Model(BaseModel):
    class Part(BaseModel):
        n: int
    parts: list[Part]
    colour: Colour = Colour.RED
    more: object = None
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Bytes of objects whose module was loaded where they were written, not here, but can be."""
    (tmp_path / "elsewhere_only.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import elsewhere_only as module  # type: ignore[import-not-found]

    part = module.Model.Part(n=1)
    objects = {
        "model": module.Model(parts=[part], more=(1,)),
        "dataclass": module.Outer(module.Outer.Inner(1)),
        "nested": part,
        "enum": module.Colour.RED,
    }
    written = {name: dump_exact(SERDE, value, what="it") for name, value in objects.items()}
    del sys.modules["elsewhere_only"]
    yield written
    sys.modules.pop("elsewhere_only", None)


def test_a_module_is_loaded_by_the_serializer_alone(elsewhere: dict[str, bytes]) -> None:
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    assert load_exact(strict, elsewhere["enum"]) == "red"
    assert load_exact(strict, elsewhere["nested"]) == {"n": 1}
    assert "elsewhere_only" not in sys.modules
    model = load_exact(SERDE, elsewhere["model"])
    module = sys.modules["elsewhere_only"]
    assert type(model) is module.Model
    assert (model.parts, model.colour, model.more) == (
        [module.Model.Part(n=1)],
        module.Colour.RED,
        (1,),
    )
    found = load_exact(SERDE, elsewhere["dataclass"])
    assert found == module.Outer(module.Outer.Inner(1))


def test_a_class_that_is_not_there_is_what_a_reload_gives(
    elsewhere: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere_only.py").unlink()
    model = load_exact(SERDE, elsewhere["model"])
    assert (model["parts"], model["more"]) == ([{"n": 1}], [1])
    # Some releases of LangGraph's serializer lose the value of an enum they cannot revive.
    assert load_exact(SERDE, elsewhere["enum"]) in ("red", None)


def test_a_class_that_has_changed_is_made_as_on_a_reload(
    elsewhere: dict[str, bytes], tmp_path: Path
) -> None:
    changed = MODULE.replace("more: object = None", "more: object = None\n    new: int = 7")
    (tmp_path / "elsewhere_only.py").write_text(changed)
    model = load_exact(SERDE, elsewhere["model"])
    assert (model.new, model.more, type(model.parts[0]).__qualname__) == (7, (1,), "Model.Part")


def test_an_allow_list_is_honoured() -> None:
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    order = Order(lines=[Order.Line(sku="a", note=(1,))])
    assert form(crossed(order, strict)) == form(reloaded(order, strict))
    assert crossed(Colour.RED, strict) == "red"
    some = strict.with_msgpack_allowlist([Order])
    assert crossed(order, some).lines[0].sku == "a"
    assert isinstance(crossed(order, some).lines[0], Order.Line)
    every = strict.with_msgpack_allowlist([Order, Order.Line, Order.Line.Kind])
    assert form(crossed(order, every)) == form(order)
    # Messages are always allowed; what is in them is not.
    message = ToolMessage("x", tool_call_id="1", artifact=order)
    assert form(crossed(message, strict)) == form(reloaded(message, strict))
    assert form(crossed(message, every)) == form(message)


class Reversing(JsonPlusSerializer):
    """A serializer of a user's own, which knows a class nobody else does."""

    def __init__(self) -> None:
        pass

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        kind, data = SERDE.dumps_typed(obj)
        return f"reversed {kind}", data[::-1]

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return SERDE.loads_typed((data[0].removeprefix("reversed "), data[1][::-1]))


class Wrapping:
    """The same, and no relative of LangGraph's."""

    dumps_typed = Reversing.dumps_typed
    loads_typed = Reversing.loads_typed


def test_a_serializer_of_the_users_own_revives_objects() -> None:
    serde: Any = Wrapping()
    order = Order(lines=[Order.Line(sku="a")])
    assert crossed({"a": (order, {(1, 2)})}, serde) == {"a": (order, {(1, 2)})}
    assert crossed(Page(rows=[(1,)]), serde) == Page(rows=[(1,)])


def test_references_name_loaded_classes_only() -> None:
    for cls in (Order, Order.Line.Kind, Page[Item], Page[list[Order.Line] | None], Page[Any]):
        assert find(reference(cls)) is cls
    new = reference(Page[dict[str, Item]])
    new[2][0][2][0] = ["class", "builtins", "int"]
    assert find(new) is Page[dict[int, Item]]
    for nothing in (
        ["os", "system"],
        ["os", "path"],
        ["tests.support.values", "Missing"],
        ["tests.support.values", "BaseModel"],  # of another module
        ["not.loaded.module", "Thing"],
        ["tests.support.values", "Page", [["class", "subprocess", "Popen"]]],
        ["tests.support.values", "Page", [["text", "typing.Any"]]],
        ["tests.support.values", "Page", [["class", "builtins", "int"]] * 100],
        ["tests.support.values", "Box", [["any"]]],
        ["tests.support.values"],
        [1, 2],
    ):
        assert find(nothing) is None, nothing


# -- bytes that nobody wrote ----------------------------------------------------------------------


def forged(mark: Any) -> bytes:
    kind, data = SERDE.dumps_typed(mark)
    return kind.encode() + b"\0" + data


PARTS = {"name": "a", "value": "a", "fields": {"command": "true"}, "items": [], "names": []}
PARTS |= {"base": "str", "rest": {}}


@pytest.mark.parametrize("kind", ["model", "dataclass", "named tuple", "enum", "subclass"])
@pytest.mark.parametrize(
    "named",
    [
        ["os", "system"],
        ["subprocess", "Popen"],
        ["builtins", "eval"],
        ["builtins", "dict"],
        ["threading", "Thread"],
        ["tests.support.values", "form"],
        ["antigravity", "fly"],
    ],
    ids=".".join,
)
def test_a_name_leads_to_classes_of_its_kind_alone(
    kind: str, named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("was called")

    monkeypatch.setattr(os, "system", refuse)
    monkeypatch.setattr(builtins, "eval", refuse)
    with pytest.raises(UnserializableError, match=f"{named[0]}.{named[1]}"):
        load_exact(SERDE, forged({KIND: kind, "class": named, **PARTS}))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "mark",
    [
        {KIND: "of a later release"},
        {KIND: ["unhashable"]},
        {KIND: "model"},
        {KIND: "model", "class": None, "fields": {}},
        {KIND: "dict", "pairs": 1},
        {KIND: "dict", "pairs": [], "of": "defaultdict", "factory": "eval"},
        {KIND: "datetime", "naive": "x", "zone": None, "fold": 0},
        {KIND: "datetime", "naive": "2026-01-01", "zone": 1, "fold": 0},
        {KIND: "deque", "items": [], "maxlen": "x"},
        {"__langgraph_temporal_tuple__": 1},
        {"__langgraph_temporal_object__": "Send", "fields": {"other": 1}},
    ],
)
def test_a_mark_that_is_none_is_refused(mark: Any) -> None:
    with pytest.raises(WireError, match="cannot be read"):
        load_exact(SERDE, forged([mark]))


def test_fields_that_are_none_are_not_set() -> None:
    mark = {KIND: "dataclass", "class": ["tests.support.values", "Counted"], "fields": {}}
    mark["fields"] = {"content": 1, "times": 2}
    mark["rest"] = {"__class__": 1, "beside": 3}
    found = load_exact(SERDE, forged(mark))
    assert type(found) is Counted
    assert vars(found) == {"content": 1, "times": 2, "beside": 3}
    mark["fields"] = {**mark["fields"], "more": 1}
    with pytest.raises(UnserializableError):
        load_exact(SERDE, forged(mark))


# -- numpy --------------------------------------------------------------------------------------


def test_no_array_of_objects_is_stored_as_nothing() -> None:
    numpy = pytest.importorskip("numpy")
    pointers = numpy.array([1, "a"], dtype=object)
    records = numpy.array([(1, "a")], dtype=[("n", int), ("any", object)])
    assert reloaded(pointers) is None  # what LangGraph does
    for serde in (SERDE, ENCRYPTED):
        for value, where in (
            ({"a": pointers}, r"\['a'\]"),
            ([Box(pointers)], r"\[0\]\.content"),
            (Pair(records, 1), r"\[0\]"),
            (AIMessage("x", additional_kwargs={"a": pointers}), "additional_kwargs"),
        ):
            with pytest.raises(UnserializableError, match=rf"it holds a numpy array .*{where}"):
                dump(serde, value, what="it")
    plain = {"a": numpy.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), "b": b"\x94\xa2|O"}
    dump(SERDE, plain, what="it")
    with pytest.raises(UnserializableError):
        dump_exact(SERDE, records, what="it")


def test_arrays_can_be_written_to() -> None:
    numpy = pytest.importorskip("numpy")
    found = crossed(numpy.arange(3))
    found += 1
    assert found.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        reloaded(numpy.arange(3)).sort()


def test_kinds_of_arrays_arrive_as_plain_ones() -> None:
    numpy = pytest.importorskip("numpy")
    kinds = (
        (numpy.ma.MaskedArray([1, 2], mask=[False, True]), "int64"),
        (numpy.rec.array([(1, 2.0)], dtype=[("a", "i8"), ("b", "f8")]), "|V16"),
        (numpy.matrix([[1, 2]]), "int64"),
    )
    for value, dtype in kinds:
        found = crossed(value)
        assert (type(found), found.dtype) == (numpy.ndarray, numpy.dtype(dtype))
        assert not found.flags.writeable


def test_no_array_of_addresses_is_made() -> None:
    numpy = pytest.importorskip("numpy")
    flat = numpy.zeros(8, numpy.uint8)
    mark = {KIND: "array", "flat": flat, "dtype": "|O", "shape": [1], "order": "C"}
    with pytest.raises(WireError):
        load_exact(SERDE, forged(mark))
    with pytest.raises(WireError):
        load_exact(SERDE, forged({**mark, "dtype": "<i8", "shape": [100]}))
    with pytest.raises(UnserializableError, match="numpy"):
        load_exact(SERDE, forged({**mark, "flat": None}))
