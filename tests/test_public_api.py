"""The public API is a contract: names, signatures, laziness, and how it type-checks."""

from __future__ import annotations

import inspect
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver

import langgraph_temporal_exec
from langgraph_temporal_exec import Retention, TemporalSaver, UsageError, errors
from tests.support.world import client

ROOT = Path(__file__).resolve().parents[1]

NAMES = [
    "ActionKind",
    "Cost",
    "CostPart",
    "DuplicateGraphError",
    "DuplicateWorkerError",
    "GraphNotFoundError",
    "ImpossibleResumeError",
    "MissingThreadIdError",
    "NoWorkersError",
    "NodeExitError",
    "NodeOptions",
    "NotDurableError",
    "NotWaitingError",
    "PlacementError",
    "RemoteError",
    "Retention",
    "Run",
    "RunCancelledError",
    "RunFailedError",
    "RunFailure",
    "RunLogFilter",
    "RunNotFoundError",
    "RunStatus",
    "RunTimeoutError",
    "ServerUnavailableError",
    "StorageError",
    "StreamLostError",
    "SubagentOptions",
    "SubagentTimeoutError",
    "TaskQueueError",
    "TemporalExecError",
    "TemporalSaver",
    "ThreadBusyError",
    "ThreadFullError",
    "ThreadInfo",
    "ThreadStatus",
    "UnreadableError",
    "UnserializableError",
    "UnsupportedLangGraphError",
    "UsageError",
    "ValueTooLargeError",
    "WorkerInfo",
    "WorkerStoppedError",
    "idempotency_key",
    "interrupt_with_default",
]


def test_exported_names() -> None:
    assert sorted(langgraph_temporal_exec.__all__) == NAMES
    assert dir(langgraph_temporal_exec) == NAMES
    for name in NAMES:
        found = getattr(langgraph_temporal_exec, name)
        # What is no class is a Literal.
        assert getattr(found, "__name__", "") == name or len(get_args(found)) > 5
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = langgraph_temporal_exec.Nothing


def test_completions() -> None:
    """What an editor offers after ``saver.`` is LangGraph's and ours, and none of our parts."""
    ours = {name for name in dir(TemporalSaver) if not name.startswith("_")}
    assert ours - set(dir(BaseCheckpointSaver)) == {
        *("client", "options", "local", "worker", "serve", "close", "aclose"),
        *("astart", "aresume", "aget_run", "alist_runs", "start", "resume", "get_run", "list_runs"),
        *("aget_thread", "alist_threads", "aexport_thread", "apurge_thread"),
        *("get_thread", "list_threads", "export_thread", "purge_thread"),
        *("alist_workers", "list_workers", "aget_cost", "get_cost"),
    }
    saver = TemporalSaver(client())
    assert {name for name in dir(saver) if not name.startswith("_")} == ours


def test_constructor() -> None:
    parameters = inspect.signature(TemporalSaver).parameters
    assert list(parameters) == [
        "client",
        "task_queue",
        "graph",
        "inline",
        "nodes",
        "tools",
        "subagents",
        "spread",
        "heartbeat_timeout",
        "no_worker_timeout",
        "id_prefix",
        "retention",
        "multitask_strategy",
        "max_lost_attempts",
        "give_up_after",
        "affinity",
        "home_timeout",
        "run_timeout",
        "park_after",
        "serde",
    ]
    assert all(p.kind is p.KEYWORD_ONLY for name, p in parameters.items() if name != "client")
    assert parameters["task_queue"].default == "langgraph"
    assert parameters["graph"].default is None
    assert parameters["retention"].default is None


def test_every_method_on_threads_has_a_sync_twin() -> None:
    """LangGraph's own come in pairs too: ``aname`` and ``name``, called the same way."""
    for name in (
        *("get_thread", "list_threads", "export_thread", "purge_thread"),
        "list_workers",
        *("delete_thread", "copy_thread", "prune", "delete_for_runs"),
    ):
        sync = inspect.signature(getattr(TemporalSaver, name)).parameters
        twin = inspect.signature(getattr(TemporalSaver, f"a{name}")).parameters
        assert [(p.name, p.kind, p.default) for p in sync.values()] == [
            (p.name, p.kind, p.default) for p in twin.values()
        ], name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs `last`, `max_age` or both"),
        ({"last": 0}, "must keep at least 1"),
        ({"max_age": timedelta(0)}, "must be positive"),
    ],
)
def test_a_retention_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Retention(**options)


def test_the_error_tree_is_as_drawn() -> None:
    drawn = errors.__doc__ or ""
    classes = {
        name: cls
        for name, cls in vars(errors).items()
        if inspect.isclass(cls) and issubclass(cls, errors.TemporalExecError)
    }
    for name, cls in classes.items():
        assert name in drawn
        assert cls.__doc__
    below = {
        name
        for name, cls in classes.items()
        if errors.TemporalExecError not in (cls, *cls.__bases__)
    }
    indented = {
        line.split()[2] for line in drawn.splitlines() if line.startswith(("|   |", "|   `"))
    }
    assert below == indented


def test_a_users_program_type_checks() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/typing_usage.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout
