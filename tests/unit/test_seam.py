"""The hooks into LangGraph: verified, idempotent, removable; drift is named."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import langchain_core.callbacks.manager as manager
import langchain_core.tracers._streaming as streaming
import langgraph.checkpoint.base as checkpoint_base
import langgraph.graph.state as state
import langgraph.pregel._algo as algo
import langgraph.pregel._loop as loop
import langgraph.pregel._runner as runner
import langgraph.pregel._utils as utils
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.base import BaseTracer
from langgraph._internal import _constants as constants
from langgraph.channels.named_barrier_value import NamedBarrierValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.pregel import Pregel
from langgraph.types import PregelExecutableTask

from langgraph_temporal_exec import UnsupportedLangGraphError
from langgraph_temporal_exec.protocol import names as wire
from langgraph_temporal_exec.seam import hooks, langchain, parcel, private
from tests.support.graphs import countdown

pytestmark = pytest.mark.compat


@pytest.fixture
def uninstalled():
    hooks.uninstall()
    yield
    hooks.uninstall()
    # As importing the package does: what runs next in this process relies on it.
    hooks.install()


def test_the_installed_langgraph_is_supported(uninstalled: None) -> None:
    hooks.verify()


def test_install_is_idempotent_and_removable(uninstalled: None) -> None:
    before = (runner.arun_with_retry, Pregel.astream, loop.PregelLoop._first)
    hooks.install()
    hooked = (runner.arun_with_retry, Pregel.astream, loop.PregelLoop._first)
    assert all(a is not b for a, b in zip(before, hooked, strict=True))
    hooks.install()
    assert (runner.arun_with_retry, Pregel.astream, loop.PregelLoop._first) == hooked
    hooks.verify()
    hooks.uninstall()
    assert (runner.arun_with_retry, Pregel.astream, loop.PregelLoop._first) == before


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        *((runner, "run_with_retry"), (runner, "_acall"), (algo, "prepare_next_tasks")),
        *((Pregel, "stream"), (Pregel, "_defaults"), (utils, "is_xxh3_128_hexdigest")),
    ],
)
def test_a_missing_symbol_is_named(
    uninstalled: None, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    monkeypatch.delattr(owner, name)
    with pytest.raises(
        UnsupportedLangGraphError, match=rf"{name} (is missing|has no).*langgraph>=1\.2\.13"
    ):
        hooks.install()
    assert runner.arun_with_retry.__module__ == "langgraph.pregel._retry"


def test_a_changed_signature_is_named(uninstalled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "arun_with_retry", lambda task, retry_policy: None)
    with pytest.raises(UnsupportedLangGraphError, match="no parameter configurable"):
        hooks.install()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("RESUME", "__answer__"), ("INTERRUPT", "__asked__"), ("ERROR_SOURCE_NODE", "x")),
        *(("NULL_TASK_ID", "0"), ("NS_SEP", "/"), ("NS_END", "@")),
        *(("CONFIG_KEY_CHECKPOINT_NS", "ns"), ("CONFIG_KEY_CALL", "call"), ("TASKS", "tasks")),
    ],
)
def test_a_changed_constant_is_named(
    uninstalled: None, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setattr(constants, name, value)
    with pytest.raises(UnsupportedLangGraphError, match=f"the constant {name} is"):
        hooks.install()
    monkeypatch.delattr(constants, name)
    with pytest.raises(UnsupportedLangGraphError, match=f"the constant {name} is missing"):
        hooks.install()


def test_what_histories_hold_is_compared(
    uninstalled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RESUME_CHANNEL", "INTERRUPT_CHANNEL", "ERROR_CHANNEL", "NULL_TASK_ID"):
        assert getattr(wire, name) in private._CONSTANTS.values()
    with monkeypatch.context() as changed:
        changed.setattr(wire, "PULL_PATH", "~pull, ")
        with pytest.raises(UnsupportedLangGraphError, match="the path of a node's task"):
            hooks.install()
    with monkeypatch.context() as changed:
        changed.setitem(checkpoint_base.WRITES_IDX_MAP, "__resume__", -9)
        with pytest.raises(UnsupportedLangGraphError, match="WRITES_IDX_MAP"):
            hooks.install()
    hooks.install()


def _lacking(cls: Any, name: str) -> Any:
    """A constructor which does not set an attribute."""
    original = cls.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        del vars(self)[name]

    return __init__


@pytest.mark.parametrize("name", ["storage", "writes", "blobs"])
def test_what_the_saver_in_memory_lacks_is_named(
    uninstalled: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(InMemorySaver, "__init__", _lacking(InMemorySaver, name))
    with pytest.raises(UnsupportedLangGraphError, match=rf"InMemorySaver\.{name} is missing"):
        hooks.install()


@pytest.mark.parametrize("method", ["get_tuple", "list", "get_delta_channel_history"])
def test_a_saver_in_memory_that_keeps_things_elsewhere_is_refused(
    uninstalled: None, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    original = getattr(InMemorySaver, method)

    def elsewhere(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(InMemorySaver(serde=self.serde), *args, **kwargs)

    monkeypatch.setattr(InMemorySaver, method, elsewhere)
    with pytest.raises(UnsupportedLangGraphError, match=r"InMemorySaver keeps .* another form"):
        hooks.install()


@pytest.mark.parametrize(
    ("label", "table", "name"),
    [
        ("PregelLoop", loop.PregelLoop.__annotations__, "checkpoint_pending_writes"),
        ("PregelLoop", loop.PregelLoop.__annotations__, "_migrate_checkpoint"),
        ("PregelExecutableTask", PregelExecutableTask.__dataclass_fields__, "proc"),
    ],
)
def test_a_missing_attribute_of_loops_and_tasks_is_named(
    uninstalled: None, monkeypatch: pytest.MonkeyPatch, label: str, table: Any, name: str
) -> None:
    monkeypatch.delitem(table, name)
    with pytest.raises(UnsupportedLangGraphError, match=rf"{label}\.{name} is missing"):
        hooks.install()


def test_the_attributes_that_are_read_are_the_verified_ones() -> None:
    read: dict[str, set[str]] = {"loop": set(), "task": set()}
    for module in (hooks, parcel, private):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute):
                of = ast.unparse(node.value).removeprefix("self.")
                read.get(of, set()).add(node.attr)
    # Those that a function reads by their names, or replaces.
    assert read["loop"] | {"tasks"} == private.LOOP_ATTRIBUTES
    assert read["task"] | {"timeout"} == private.TASK_ATTRIBUTES


def test_the_channels_that_are_the_users() -> None:
    assert {name for name in private._probe().channels if not private.is_internal(name)} == {"x"}


def test_other_names_of_channels_are_refused(
    uninstalled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(state, "_CHANNEL_BRANCH_TO", "go:to:{}")
        with pytest.raises(UnsupportedLangGraphError, match=r"channel.*another form"):
            hooks.install()
    with monkeypatch.context() as changed:
        changed.setattr(NamedBarrierValue, "checkpoint", lambda self: {"seen": self.seen})
        with pytest.raises(UnsupportedLangGraphError, match=r"channel join:a\+b:c .*another form"):
            hooks.install()
    hooks.install()


def test_what_is_optional_is_verified_when_it_is_there(
    uninstalled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = importlib.import_module("langgraph.prebuilt.tool_node")
    hooks.verify()
    with monkeypatch.context() as changed:
        changed.delattr(tools.ToolNode, "tools_by_name")
        with pytest.raises(UnsupportedLangGraphError, match=r"ToolNode\.tools_by_name"):
            hooks.install()
    pytest.importorskip("numpy")
    hooks.verify()
    monkeypatch.setattr(JsonPlusSerializer, "dumps_typed", lambda self, value: ("x", b"other"))
    with pytest.raises(UnsupportedLangGraphError, match="JsonPlusSerializer"):
        hooks.install()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        *((manager, "ahandle_event"), (manager, "handle_event")),
        *((streaming, "_StreamingCallbackHandler"), (streaming, "_V2StreamingCallbackHandler")),
        *((BaseCallbackHandler, "ignore_llm"), (BaseTracer, "_persist_run")),
    ],
)
def test_a_missing_name_of_langchain_is_named(
    uninstalled: None, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    for place in getattr(owner, "__mro__", (owner,)):
        if name in vars(place):
            monkeypatch.delattr(place, name)
    with pytest.raises(
        UnsupportedLangGraphError, match=rf"{name} is missing.*langchain-core>=1\.4\.7"
    ):
        hooks.install()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("langchain_core.tracers._streaming", "_StreamingCallbackHandler"),
        ("langgraph.checkpoint.serde.types", "_DeltaSnapshot"),
    ],
)
def test_what_cannot_be_imported_is_no_import_error(module: str, name: str) -> None:
    script = f"""
import langgraph.graph, langgraph.checkpoint.memory, {module}
del {module}.{name}
from langgraph_temporal_exec import UnsupportedLangGraphError
try:
    from langgraph_temporal_exec import TemporalSaver
except UnsupportedLangGraphError as exc:
    print(exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert name in done.stdout, done.stderr
    assert "Supported versions: lang" in done.stdout


def test_which_events_a_handler_declines_is_langchains_rule() -> None:
    events = set()
    for module in ("langchain_core.callbacks.manager", "langgraph.callbacks"):
        source = inspect.getsource(importlib.import_module(module))
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(
                    args=[
                        _,
                        ast.Constant(value=str(event)),
                        ast.Constant(value=ignored),
                        *_,
                    ]
                ) if event.startswith("on_"):
                    events.add((event, ignored))
    assert events == set(langchain.IGNORED_BY.items())


def test_supported_versions_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    for package, versions in {**private.SUPPORTED, **langchain.SUPPORTED}.items():
        assert package + versions in project["project"]["dependencies"]


async def test_graphs_without_our_saver_are_untouched(uninstalled: None) -> None:
    hooks.install()
    assert await countdown().ainvoke({"n": 3}) == {"n": 0}
