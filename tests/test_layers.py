"""The layering rules, on the package's source and in a fresh interpreter.

The table of layers and the checker are in ``layering.py``; the second half of this file feeds the
checker sources that break each rule, so that it cannot pass by seeing nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.layering import (
    COMPOSITION_ROOTS,
    LAYERS,
    PACKAGE,
    check_module,
    check_tree,
    documented,
    table,
)

ROOT = Path(__file__).parents[1]


def test_every_module_keeps_to_its_layer() -> None:
    package = ROOT / PACKAGE
    assert (package / "__init__.py").exists(), "nothing to check"
    violations = check_tree(package)
    assert not violations, "\n" + "\n".join(violations)


def loaded_by(*modules: str) -> set[str]:
    """Names of all modules that a fresh interpreter has after importing some."""
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def _of(loaded: set[str], *roots: str) -> list[str]:
    return sorted(module for module in loaded if module.partition(".")[0] in roots)


@pytest.mark.compat
def test_workflow_side_loads_no_langgraph() -> None:
    """Temporal's sandbox imports the package anew: LangGraph in there fails every workflow."""
    loaded = loaded_by(PACKAGE, f"{PACKAGE}.workflow.thread", f"{PACKAGE}.workflow.run")
    assert f"{PACKAGE}.workflow.thread" in loaded
    assert not _of(loaded, "langgraph", "langchain_core", "langchain", "langsmith")


@pytest.mark.compat
def test_thread_state_loads_no_temporal() -> None:
    loaded = loaded_by(f"{PACKAGE}.workflow.core.thread_state")
    assert not _of(loaded, "temporalio", "langgraph", "langchain_core")


@pytest.mark.compat
def test_reading_a_history_loads_no_langgraph() -> None:
    loaded = loaded_by(*(f"{PACKAGE}.storage.{part}" for part in ("history", "blobs", "resolver")))
    assert not _of(loaded, "langgraph", "langchain_core")


MODULES = frozenset(
    {"", "errors", "protocol", "protocol.names", "workflow", "workflow.thread", "workflow.run"}
    | {"workflow.core", "workflow.core.thread_state", "caller", "caller.client", "worker"}
    | {"worker.drive", "worker.upkeep", "storage", "storage.thread_client", "storage.history"}
    | {"storage.blobs", "storage.known", "values", "values.ops", "seam", "seam.hooks"}
    | {"seam.private", "seam.langchain", "studio", "studio.server", "options", "saver", "local"}
)


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("errors.py", '"""Errors: x."""\nimport msgpack', "must not import msgpack"),
        ("options.py", '"""Options: x."""\nfrom .protocol import names', "import {p}.protocol"),
        ("protocol/names.py", '"""Shared wire: x."""\nimport temporalio', "import temporalio"),
        ("protocol/names.py", '"""Shared wire: x."""\nfrom ..errors import E', "{p}.errors"),
        (
            "workflow/thread.py",
            '"""Workflow side: x."""\nfrom temporalio import workflow\n'
            "with workflow.unsafe.imports_passed_through():\n    import langgraph.types",
            "thread.py:4: layer `workflow` must not import langgraph.types",
        ),
        (
            "workflow/thread.py",
            '"""Workflow side: x."""\nfrom typing import TYPE_CHECKING\n'
            "if TYPE_CHECKING:\n    from langchain_core.messages import BaseMessage",
            "must not import langchain_core.messages.BaseMessage",
        ),
        ("workflow/run.py", '"""Workflow side: x."""\nfrom ..caller import client', "{p}.caller"),
        ("workflow/run.py", '"""Workflow side: x."""\nimport time', "must do without time"),
        (
            "workflow/core/thread_state.py",
            '"""Workflow side: x."""\nfrom temporalio import workflow',
            "layer `workflow.core` must not import temporalio.workflow",
        ),
        *(
            ("workflow/core/thread_state.py", f'"""Workflow side: x."""\nimport {module}', module)
            for module in ("asyncio", "time", "random", "uuid")
        ),
        (
            "workflow/core/thread_state.py",
            '"""Workflow side: x."""\nfrom .. import thread',
            "must not import {p}.workflow.thread",
        ),
        ("storage/history.py", '"""Shared: x."""\nfrom ..workflow.thread import T', ".thread"),
        ("storage/history.py", '"""Shared: x."""\nfrom langgraph.pregel import P', "langgraph"),
        ("storage/blobs.py", '"""Shared: x."""\nfrom ..caller.client import C', "{p}.caller"),
        ("values/ops.py", '"""Shared: x."""\nfrom ..storage import blobs', "{p}.storage.blobs"),
        (
            "worker/upkeep.py",
            '"""Worker side: x."""\nfrom langgraph.checkpoint import base',
            "layer `worker.upkeep` must not import langgraph.checkpoint",
        ),
        ("worker/upkeep.py", '"""Worker side: x."""\nfrom ..seam import hooks', "seam"),
        ("worker/drive.py", '"""Worker side: x."""\nfrom ..saver import S', "{p}.saver"),
        ("storage/reader.py", '"""Shared: x."""\nfrom ..saver import S', "import {p}.saver"),
        ("values/ops.py", '"""Shared: x."""\nfrom langgraph.config import f', "langgraph.config"),
        ("values/ops.py", '"""Shared: x."""\nfrom langgraph import pregel', "langgraph.pregel"),
        ("seam/hooks.py", '"""LangGraph seam: x."""\nfrom ..values import ops', "{p}.values.ops"),
        ("storage/blobs.py", '"""Shared: x."""\nimport langgraph', "must not import langgraph"),
        ("caller/client.py", '"""Caller side: x."""\nfrom ..worker import drive', "{p}.worker"),
        ("caller/client.py", '"""Caller side: x."""\nfrom ..workflow import run', "workflow.run"),
        ("caller/client.py", '"""Caller side: x."""\nfrom ..saver import S', "import {p}.saver"),
        ("caller/client.py", '"""Caller side: x."""\nfrom .. import local', "import {p}.local"),
        ("caller/client.py", '"""Caller side: x."""\nfrom .. import Saver', "import {p}"),
        ("caller/client.py", '"""Caller side: x."""\nfrom ..new import f', "import {p}.new"),
        (
            "worker/drive.py",
            '"""Worker side: x."""\ndef f():\n    from ..caller.client import g',
            "drive.py:3: layer `worker` must not import {p}.caller.client",
        ),
        (
            "worker/drive.py",
            '"""Worker side: x."""\nfrom langgraph.pregel._runner import PregelRunner',
            "langgraph.pregel._runner.PregelRunner is private",
        ),
        (
            "worker/drive.py",
            '"""Worker side: x."""\nfrom langgraph._internal import _constants',
            "langgraph._internal._constants is private",
        ),
        (
            "worker/drive.py",
            '"""Worker side: x."""\nfrom langgraph.types import _secret',
            "langgraph.types._secret is private",
        ),
        (
            "worker/drive.py",
            '"""Worker side: x."""\nimport langgraph.pregel as lp\nx = lp._runner.f',
            "drive.py:3: langgraph.pregel._runner.f is private",
        ),
        (
            "worker/drive.py",
            '"""Worker side: x."""\nfrom langgraph.pregel import Pregel\nx = Pregel._prepare',
            "langgraph.pregel.Pregel._prepare is private",
        ),
        (
            "worker/drive.py",
            '"""Worker side: x."""\nimport sys\nm = sys.modules["langgraph.pregel._runner"]',
            "langgraph.pregel._runner is private",
        ),
        (
            "worker/drive.py",
            '"""Worker side: x."""\ndef f(c):\n    return c["__pregel_call"]',
            "drive.py:3: __pregel_call is private",
        ),
        (
            "seam/hooks.py",
            '"""LangGraph seam: x."""\nfrom langgraph.pregel import _runner',
            "hooks.py:2: langgraph.pregel._runner is private to langgraph; seam.private alone",
        ),
        (
            "seam/private.py",
            '"""LangGraph seam: x."""\nfrom langchain_core.tracers._streaming import H',
            "langchain_core.tracers._streaming.H is private to langchain_core; seam.langchain",
        ),
        (
            "seam/langchain.py",
            '"""LangGraph seam: x."""\nfrom langgraph.pregel import _runner',
            "must not import langgraph.pregel._runner",
        ),
        (
            "values/callbacks.py",
            '"""Shared: x."""\nfrom langchain_core.tracers._streaming import H',
            "langchain_core.tracers._streaming.H is private to langchain_core",
        ),
        (
            "studio/server.py",
            '"""Studio: x."""\nfrom langgraph.types import _secret',
            "langgraph.types._secret is private",
        ),
        ("studio/page.py", '"""Studio: x."""\nimport langgraph_api', "import langgraph_api"),
        (
            "studio/page.py",
            '"""Studio: x."""\nkey = "langgraph_auth_user"',
            "langgraph_auth_user is private to langgraph_api; studio.server alone",
        ),
        *(
            ("worker/drive.py", f'"""Worker side: x."""\nx = {text!r}', f"2: {text} is private")
            for text in ("__interrupt__", "branch:to:", "join:a+b:c", "LangGraph", "ignore_llm")
        ),
        ("workflow/run.py", '"""Workflow side: x."""\nx = "__error__"', "__error__ is private"),
        (
            "worker/drive.py",
            '"""Worker side: x."""\ndef f(graph):\n    return graph._defaults()',
            "drive.py:3: the attribute _defaults is private to somebody else",
        ),
        (
            "workflow/run.py",
            '"""Workflow side: x."""\nfrom ..seam.private import START',
            "layer `workflow` must not import {p}.seam.private",
        ),
        ("protocol/names.py", '"""Shared wire: x."""\nfrom ..seam import private', "seam.private"),
        (
            "worker/drive.py",
            '"""Worker side: x."""\nfrom importlib import import_module\nimport_module("typer")',
            "must not import typer",
        ),
        ("__init__.py", '"""Public API: x."""\nfrom .saver import S', "imports saver eagerly"),
        ("__init__.py", '"""Public API: x."""\nimport temporalio', "must not import temporalio"),
        ("saver.py", '"""Public API: x."""\nimport typer', "must not import typer"),
        ("errors.py", '"""What went wrong."""', "docstring must start with Errors:"),
        ("errors.py", "x = 1", "docstring must start with Errors:"),
        ("worker/drive.py", '"""Caller side: x."""', "docstring must start with Worker side:"),
        (
            "workflow/run.py",
            '"""Workflow side: x."""\nfrom datetime import UTC, datetime\nx = datetime.now(UTC)',
            "datetime.now differs",
        ),
        ("helpers.py", '"""Shared: x."""', "helpers.py:1: in no layer"),
        ("helpers/__init__.py", '"""Shared: x."""', "in no layer"),
    ],
)
def test_violation_is_reported(path: str, source: str, expected: str) -> None:
    violations = list(check_module(path, source, MODULES))
    assert any(expected.format(p=PACKAGE) in violation for violation in violations), violations


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("errors.py", '"""Errors: x."""'),
        ("protocol/names.py", '"""Shared wire: x."""\nimport msgpack\nfrom . import wire'),
        (
            "workflow/thread.py",
            '"""Workflow side: x."""\nimport asyncio\nfrom temporalio import workflow\n'
            "from .core import thread_state\nfrom ..protocol import names",
        ),
        ("workflow/__init__.py", '"""Workflow side: x."""\nfrom .thread import Thread'),
        (
            "seam/private.py",
            '"""LangGraph seam: x."""\nfrom langgraph._internal._constants import CONF\n'
            "from langgraph.pregel import _runner\nx = _runner._y\nfrom ..errors import E\n"
            'key = "__pregel_call"\ndef f(graph):\n    return graph._defaults()',
        ),
        (
            "seam/langchain.py",
            '"""LangGraph seam: x."""\nfrom langchain_core.tracers._streaming import H\n'
            'key = "ignore_llm"',
        ),
        ("protocol/names.py", '"""Shared wire: x."""\nRESUME = "__resume__"'),
        (
            "worker/drive.py",
            '"""Worker side: x."""\nclass C:\n    def __init__(self):\n        self._x = 1\n'
            '        self.y = {"__dict__": 1, "branch": 2}\ndef f(c):\n    return c._x',
        ),
        ("values/ops.py", '"""Shared: x."""\nfrom langgraph import checkpoint\n'),
        (
            "caller/client.py",
            '"""Caller side: x."""\nfrom langgraph.types import Command\nfrom .. import storage\n'
            "from ..workflow.mailbox import M\nfrom ..seam import hooks\n"
            "x = hooks.f\nc = Command.__init__\n",
        ),
        ("worker/drive.py", '"""Worker side: see langgraph.pregel._runner."""\n'),
        ("storage/history.py", '"""Shared: x."""\nfrom ..workflow.core.thread_state import T'),
        (
            "worker/upkeep.py",
            '"""Worker side: x."""\nfrom ..storage.blobs import B\nimport temporalio',
        ),
        ("saver.py", '"""Public API: x."""\nfrom . import caller, worker, local, __version__'),
        (
            "__init__.py",
            '"""Public API: x."""\nfrom typing import TYPE_CHECKING\n'
            "if TYPE_CHECKING:\n    from .saver import S\n"
            "def __getattr__(name):\n    from . import saver",
        ),
    ],
)
def test_allowed_source_passes(path: str, source: str) -> None:
    assert list(check_module(path, source, MODULES)) == []


def test_tree_is_searched_to_the_bottom(tmp_path: Path) -> None:
    files = {
        "__init__.py": '"""Public API: x."""',
        "caller/__init__.py": '"""Caller side: x."""',
        "caller/deep/__init__.py": '"""Caller side: x."""',
        "caller/deep/er.py": '"""Caller side: x."""\nfrom ...worker import drive',
        "worker/__init__.py": '"""Worker side: x."""',
        "worker/drive.py": '"""Worker side: x."""',
        "stray.py": '"""Shared: x."""',
    }
    for path, source in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    assert check_tree(tmp_path) == [
        f"caller/deep/er.py:2: layer `caller` must not import {PACKAGE}.worker.drive",
        "stray.py:1: in no layer; add it to the table in layering.py",
    ]


def test_table_names_only_layers_and_has_no_cycle() -> None:
    graph = {name: layer.ours for name, layer in LAYERS.items()}
    assert all(needed <= LAYERS.keys() for needed in graph.values())
    done: set[str] = set()
    while ready := {name for name, needed in graph.items() if needed <= done} - done:
        done |= ready
    assert done == graph.keys()


def test_composition_roots_are_imported_by_composition_roots_alone() -> None:
    inner = {name: layer.ours for name, layer in LAYERS.items() if name not in COMPOSITION_ROOTS}
    assert not {name for name, needed in inner.items() if needed & COMPOSITION_ROOTS}


def test_the_documented_table_is_this_one() -> None:
    assert documented() == table()


def test_no_two_modules_of_one_name() -> None:
    """Nor of the name of a package: whoever hears of `upkeep` knows which file is meant."""
    paths = [p for p in (Path(__file__).parents[1] / PACKAGE).rglob("*.py")]
    names = [p.stem for p in paths if not p.stem.startswith("__")]
    names += [p.parent.name for p in paths if p.stem == "__init__"]
    assert sorted(names) == sorted(set(names))
