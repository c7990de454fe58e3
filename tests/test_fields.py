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


def test_there_is_something_to_check() -> None:
    assert len(CLASSES) > 50
    assert sum(len(fields_of(cls)) for _, cls in CLASSES) > 300
