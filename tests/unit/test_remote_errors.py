"""Exceptions as data: own classes where known, stand-ins where not, no import, no __init__."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from langgraph_temporal_exec import RemoteError
from langgraph_temporal_exec.protocol.wire import pack
from langgraph_temporal_exec.values.exceptions import describe, rebuild

pytestmark = pytest.mark.compat


class KeywordOnly(Exception):
    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


def raised(exc: Exception) -> Exception:
    try:
        raise exc
    except Exception as caught:
        return caught


def crossed(exc: Exception) -> BaseException:
    return rebuild(describe(raised(exc)))


def test_own_class_with_arguments_attributes_notes_and_traceback() -> None:
    original = KeywordOnly("boom", code=7)
    original.add_note("from node a")
    copy = crossed(original)
    assert type(copy) is KeywordOnly
    assert (copy.args, copy.code) == (("boom",), 7)
    assert copy.__notes__[0] == "from node a"
    assert "in raised" in copy.__notes__[1]


def test_a_class_defined_in_a_function() -> None:
    class Local(ValueError):
        pass

    assert type(crossed(Local("x"))) is Local


@pytest.mark.parametrize("exc", [KeyError("k"), OSError(2, "no file"), ZeroDivisionError()])
def test_builtin_classes(exc: Exception) -> None:
    copy = crossed(exc)
    assert type(copy) is type(exc)
    assert str(copy) == str(exc)


def test_an_unknown_class_becomes_a_stand_in_and_nothing_is_imported() -> None:
    info = replace(describe(raised(ValueError("x"))), type_name="turtle.Terminator")
    assert "turtle" not in sys.modules
    copy = rebuild(info)
    assert isinstance(copy, RemoteError)
    assert (copy.type_name, str(copy)) == ("turtle.Terminator", "turtle.Terminator: x")
    assert "turtle" not in sys.modules


def test_what_cannot_be_serialized_arrives_as_text() -> None:
    original = KeywordOnly("boom", code=1)
    original.handle = lambda: None  # type: ignore[attr-defined] # as users do
    copy = crossed(original)
    assert type(copy) is KeywordOnly
    assert copy.code == 1
    assert "lambda" in copy.handle  # type: ignore[attr-defined] # set above


def test_exceptions_that_end_a_process_are_never_rebuilt() -> None:
    info = replace(describe(raised(ValueError("x"))), type_name="builtins.SystemExit")
    assert isinstance(rebuild(info), RemoteError)


def test_a_huge_error_fits_into_a_step() -> None:
    original = KeywordOnly("m" * 3_000_000, code=1)
    original.payload = ["x" * 1_000_000]  # type: ignore[attr-defined] # as users do
    info = describe(raised(original))
    assert len(info.message) + len(info.args) + len(info.attributes) < 300_000
    copy = rebuild(info)
    assert type(copy) is KeywordOnly
    assert str(copy).startswith("mmm")


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize("exc", [ValueError("bad \ud800"), NoText(), ValueError(NoText())])
def test_whatever_an_exception_does_it_can_be_described(exc: Exception) -> None:
    assert type(crossed(exc)) is type(exc)


@pytest.mark.parametrize("name", ["filename", "filename2"])
def test_names_of_files(name: str) -> None:
    original = OSError(2, "no such file", "/a", None, "/b")
    assert getattr(crossed(original), name) == getattr(original, name)
    assert str(crossed(original)) == str(original)


def test_the_name_of_a_module_that_is_missing() -> None:
    copy = crossed(ModuleNotFoundError("no module", name="x", path="/p"))
    assert (copy.name, copy.path) == ("x", "/p")  # type: ignore[attr-defined] # of ImportError


def test_groups_and_causes() -> None:
    inner = KeywordOnly("inner", code=1)
    inner.__cause__ = KeyError("deeper")
    copy = crossed(ExceptionGroup("several", [inner, ExceptionGroup("more", [ValueError(1)])]))
    assert isinstance(copy, ExceptionGroup)
    assert copy.message == "several"
    first, more = copy.exceptions
    assert (type(first), first.args, first.code) == (KeywordOnly, ("inner",), 1)  # type: ignore[union-attr] # of KeywordOnly
    assert repr(first.__cause__) == repr(KeyError("deeper"))
    assert isinstance(more, ExceptionGroup)
    assert repr(more.exceptions[0]) == "ValueError(1)"


def test_tuples_among_the_arguments() -> None:
    assert crossed(ValueError(("a", [1, (2,)]), {"k": ()})).args == (("a", [1, (2,)]), {"k": ()})


def test_a_large_group_stays_small() -> None:
    members: list[Exception] = []
    for _ in range(20):
        member = KeywordOnly("x" * 15_000, code=1)
        member.detail = "y" * 10_000  # type: ignore[attr-defined] # an attribute of its own
        member.__cause__ = ValueError("z" * 15_000)
        members.append(member)
    group = ExceptionGroup("several", members)
    assert len(pack(describe(group))) < 320_000
    large = KeywordOnly("x" * 190_000, code=1)
    large.detail = "y" * 190_000  # type: ignore[attr-defined] # an attribute of its own
    assert len(pack(describe(large))) < 320_000
    assert crossed(large).args == large.args


def test_a_deep_chain_of_causes_stays_small() -> None:
    exc: Exception = ValueError("x" * 100_000)
    for _ in range(50):
        outer = ValueError("x" * 100_000)
        outer.__cause__ = exc
        exc = outer
    assert len(pack(describe(exc))) < 200_000


class Order(BaseModel):
    size: int
    pair: tuple[int, int] = (1, 2)
    name: str = ""

    @field_validator("name")
    @classmethod
    def short(cls, name: str) -> str:
        if len(name) > 3:
            raise ValueError("too {long}")
        return name


class Secret(BaseModel):
    model_config = {"hide_input_in_errors": True}
    pin: int


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Order, {"size": "x"}),
        (Order, {"size": 1, "pair": (1,)}),
        (Order, {"size": 1, "name": "abcdef"}),
        (Order, {}),
        (Secret, {"pin": "1234a"}),
    ],
)
def test_errors_of_pydantic(model: type[BaseModel], values: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as raised:
        model.model_validate(values)
    raised.value.note = "kept"  # type: ignore[attr-defined] # an attribute of its own
    copy = crossed(raised.value)
    assert isinstance(copy, ValidationError)
    assert (str(copy), copy.title, copy.args) == (str(raised.value), raised.value.title, ())
    assert [e["loc"] for e in copy.errors()] == [e["loc"] for e in raised.value.errors()]
    assert ["ctx" in e for e in copy.errors()] == ["ctx" in e for e in raised.value.errors()]
    assert copy.note == "kept"  # type: ignore[attr-defined] # an attribute of its own
    assert "1234a" not in repr(describe(copy))
