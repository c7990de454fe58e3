"""Exceptions as data: own classes where known, stand-ins where not, no import, no __init__."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from langgraph_temporal_exec import RemoteError
from langgraph_temporal_exec._remote_errors import describe, rebuild

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
    assert (copy.args, copy.code) == (("boom",), 7)  # type: ignore[attr-defined]
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
    original.handle = lambda: None  # type: ignore[attr-defined]
    copy = crossed(original)
    assert type(copy) is KeywordOnly
    assert copy.code == 1  # type: ignore[attr-defined]
    assert "lambda" in copy.handle  # type: ignore[attr-defined]


def test_exceptions_that_end_a_process_are_never_rebuilt() -> None:
    info = replace(describe(raised(ValueError("x"))), type_name="builtins.SystemExit")
    assert isinstance(rebuild(info), RemoteError)


def test_a_huge_error_fits_into_a_step() -> None:
    original = KeywordOnly("m" * 3_000_000, code=1)
    original.payload = ["x" * 1_000_000]  # type: ignore[attr-defined]
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
