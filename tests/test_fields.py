"""What everything rests on is written down: each field of the wire and of a thread's state."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layering import PACKAGE

ROOT = Path(__file__).parents[1] / PACKAGE
FILES = [*sorted(ROOT.glob("protocol/*.py")), *sorted(ROOT.glob("workflow/core/*.py"))]


def dataclasses_of(path: Path) -> Iterator[ast.ClassDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            decorators = map(ast.unparse, node.decorator_list)
            if any(d.startswith("dataclass") for d in decorators):
                yield node


CLASSES = [(path.stem, cls) for path in FILES for cls in dataclasses_of(path)]


def fields_of(cls: ast.ClassDef) -> list[str]:
    nodes = (node.target for node in cls.body if isinstance(node, ast.AnnAssign))
    return [target.id for target in nodes if isinstance(target, ast.Name)]


@pytest.mark.parametrize(("file", "cls"), CLASSES, ids=lambda v: getattr(v, "name", v))
def test_every_field_is_named_in_the_docstring(file: str, cls: ast.ClassDef) -> None:
    text = ast.get_docstring(cls) or ""
    named = re.findall(r"``(\w+)``|^ +(\w+):", text, re.MULTILINE)
    missing = set(fields_of(cls)) - {name for pair in named for name in pair}
    assert not missing, f"{file}.{cls.name}: {sorted(missing)}"


# What keeps, sends and reads a thread: classes whose attributes are their state.
KEEPERS = [
    *("caller/admission", "caller/admitted", "storage/blobs", "storage/history", "storage/reader"),
    *("storage/replica", "storage/store", "worker/attempt", "worker/drive", "worker/embedded"),
    *("worker/outbox", "worker/relay", "worker/service", "worker/session", "workflow/run"),
    *("workflow/thread",),
]


def keepers() -> Iterator[tuple[str, ast.ClassDef]]:
    for name in KEEPERS:
        for node in ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and "Args:" in (ast.get_docstring(node) or ""):
                yield name, node


def attributes_of(cls: ast.ClassDef) -> set[str]:
    """What the methods of a class assign to ``self``."""
    return {
        node.attr
        for node in ast.walk(cls)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }


@pytest.mark.parametrize(("file", "cls"), list(keepers()), ids=lambda v: getattr(v, "name", v))
def test_every_attribute_is_named_in_the_docstring(file: str, cls: ast.ClassDef) -> None:
    """And none that does not exist. What is kept of an argument may have an underscore more."""
    text = (ast.get_docstring(cls) or "").partition("Raises:")[0]
    listed = re.findall(r"^    (\w+(?:, \w+)*): ", text, re.MULTILINE)
    named = {name for names in listed for name in names.split(", ")}
    inline = set(re.findall(r"``(\w+)``", text))
    made = next(
        (n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None
    )
    given = {a.arg for a in (*made.args.args, *made.args.kwonlyargs)} if made else set()
    kept = attributes_of(cls) | set(fields_of(cls))
    missing = {n for n in kept if not {n, n.removeprefix("_")} & (named | inline)}
    stale = {n for n in named if not {n, f"_{n}"} & kept and n not in given}
    assert not missing, f"{file}.{cls.name}: {sorted(missing)} are not named"
    assert not stale, f"{file}.{cls.name}: {sorted(stale)} do not exist"


def test_there_is_something_to_check() -> None:
    assert len(CLASSES) > 50
    assert len(list(keepers())) > 20
    assert sum(len(fields_of(cls)) for _, cls in CLASSES) > 300
