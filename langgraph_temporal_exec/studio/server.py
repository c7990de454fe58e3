"""Studio: the only module that touches LangGraph's API server and its in-memory runtime.

Both are installed with the extra ``studio``, are under the Elastic License 2.0, and have no public
Python API: what is used here is verified when the server starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

from ..errors import UnsupportedLangGraphError
from ..seam.private import DEFAULT_NAME

logger = logging.getLogger(__name__)

SUPPORTED = "langgraph-api 0.16 with langgraph-runtime-inmem 0.36"

_NEEDED = {
    "langgraph_api.auth.custom": ("ProxyUser",),
    "langgraph_api.errors": ("UserInterrupt",),
    "langgraph_api.graph": ("GRAPHS", "get_graph", "get_assistant_id", "is_js_graph"),
    "langgraph_api.serde": ("json_dumpb", "json_loads"),
    "langgraph_api.state": ("patch_interrupt",),
    "langgraph_api.store": ("get_store",),
    "langgraph_api._checkpointer": ("get_checkpointer",),
    "langgraph_api._checkpointer._adapter": ("_CustomCheckpointerAdapter",),
    "langgraph_runtime_inmem.database": ("GLOBAL_STORE",),
}

STATUSES = frozenset({"idle", "busy", "interrupted", "error"})
"""What the server can say of a thread."""


@dataclass(frozen=True, kw_only=True)
class ThreadRecord:
    """What the server's list says of a thread; ``None`` for what is to stay as it is."""

    status: str
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Any]
    values: Any = None
    interrupts: dict[str, list[Any]] | None = None
    error: Any = None


def verify() -> None:
    """Check that the installed server has what this module uses, and prepare its adapter.

    Raises:
        UnsupportedLangGraphError: It has not.
    """
    missing = []
    for module_name, attributes in _NEEDED.items():
        try:
            module = import_module(module_name)
        except ImportError:
            missing.append(module_name)
            continue
        missing += [f"{module_name}.{a}" for a in attributes if not hasattr(module, a)]
    if missing:
        raise UnsupportedLangGraphError(
            f"langgraph_temporal_exec.studio works with {SUPPORTED}; installed are "
            f"{_versions()}, which lack {', '.join(missing)}. Install the extra: "
            "pip install 'langgraph-temporal-exec[studio]'."
        )
    adapter = import_module("langgraph_api._checkpointer._adapter")._CustomCheckpointerAdapter
    # The adapter inherits the generic walk, which does not see what a pruned thread's
    # DeltaChannels are rebuilt from.
    adapter.aget_delta_channel_history = _delta_history


def _versions() -> str:
    found = []
    for package in ("langgraph-api", "langgraph-runtime-inmem"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return " and ".join(found)


async def _delta_history(self: Any, *, config: RunnableConfig, channels: Any) -> Any:
    return await self._inner.aget_delta_channel_history(config=config, channels=channels)


# -- graphs -------------------------------------------------------------------------------------


_built: dict[str, str] = {}
"""Names of graphs that factories have made, by graph id."""


def graph_names() -> dict[str, str]:
    """Graph ids by the names under which threads know their graphs."""
    graphs = import_module("langgraph_api.graph").GRAPHS
    names = {
        gid: str(getattr(g, "name", None) or _built.get(gid, gid)) for gid, g in graphs.items()
    }
    # The server calls a graph without a name by its graph id.
    unnamed = [gid for gid, name in names.items() if name == DEFAULT_NAME]
    ids = {(gid if gid in unnamed else name): gid for gid, name in names.items()}
    if len(unnamed) == 1:
        # Threads of plain scripts: there is no other graph it could be.
        ids.setdefault(DEFAULT_NAME, unnamed[0])
    if len(graphs) == 1:
        ids.setdefault("", next(iter(graphs)))
    return ids


def assistant_id(graph_id: str) -> str:
    """Id of the assistant that the server makes for each graph."""
    found: str = import_module("langgraph_api.graph").get_assistant_id(graph_id)
    return found


@contextlib.asynccontextmanager
async def graphs() -> AsyncIterator[dict[str, Any]]:
    """The server's Python graphs by the names under which runs know them."""
    module = import_module("langgraph_api.graph")
    store = await import_module("langgraph_api.store").get_store()
    served: dict[str, Any] = {}
    async with contextlib.AsyncExitStack() as stack:
        for graph_id in list(module.GRAPHS):
            if module.is_js_graph(graph_id):
                continue
            opening = module.get_graph(
                graph_id,
                {"configurable": {}},
                checkpointer=None,
                store=store,
                access_context="threads.create_run",
            )
            try:
                graph = await stack.enter_async_context(opening)
            except Exception:
                # A factory that needs a real call's config; the first call makes it known.
                logger.warning("graph %r is served after its first call", graph_id, exc_info=True)
                continue
            served[str(graph.name)] = graph
            _built[graph_id] = str(graph.name)
        for name, graph_id in graph_names().items():
            if name == DEFAULT_NAME and graph_id in served:
                served[name] = served[graph_id]
        yield served


async def state_of(graph_id: str, thread_id: str) -> StateSnapshot | None:
    """Latest state of a thread, read as one of a graph; ``None`` when it is not to be had."""
    module = import_module("langgraph_api.graph")
    if graph_id not in module.GRAPHS:
        return None
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}

    async def read() -> StateSnapshot:
        opening = module.get_graph(
            graph_id,
            {"configurable": {"thread_id": thread_id}},
            checkpointer=await import_module("langgraph_api._checkpointer").get_checkpointer(),
            store=await import_module("langgraph_api.store").get_store(),
            access_context="threads.read",
        )
        async with opening as graph:
            state: StateSnapshot = await graph.aget_state(config)
            return state

    # A task of its own: opening a graph sets context variables.
    return await asyncio.create_task(read())


# -- the config of its calls ----------------------------------------------------------------------

_USER_KEY = "langgraph_auth_user"
"""Of ``configurable``: the server's object for who calls."""

_USER_FIELDS = ("identity", "display_name", "is_authenticated")


def run_of(configurable: Mapping[str, Any]) -> str:
    """The run of the server that a call belongs to; "" if it is none of the server's."""
    return str(configurable.get("run_id") or "")


def portable(config: RunnableConfig) -> RunnableConfig:
    """A config with the server's user as plain data: a run may be driven by another process."""
    configurable = config.get("configurable", {})
    user = configurable.get(_USER_KEY)
    to_dict = getattr(user, "to_dict", None) or getattr(user, "dict", None)
    if user is None or isinstance(user, dict):
        return config
    if to_dict is not None:
        plain = dict(to_dict())
    else:
        plain = {name: getattr(user, name) for name in _USER_FIELDS if hasattr(user, name)}
    return {**config, "configurable": {**configurable, _USER_KEY: plain}}


# -- the server's list of threads and runs --------------------------------------------------------


def _store() -> Any:
    return import_module("langgraph_runtime_inmem.database").GLOBAL_STORE


def runs_of(thread_id: str) -> frozenset[tuple[str, str]]:
    """Ids and statuses of the runs that the server itself has of a thread, or had."""
    wanted = UUID(thread_id)
    return frozenset(
        (str(run["run_id"]), str(run["status"]))
        for run in list(_store()["runs"])
        if run["thread_id"] == wanted
    )


def under_way(runs: frozenset[tuple[str, str]]) -> bool:
    """Whether one of the server's own runs goes on, or is queued."""
    return any(status in ("pending", "running") for _, status in runs)


def has_runs(thread_id: str) -> bool:
    """The same of a thread."""
    return under_way(runs_of(thread_id))


def _run(run_id: str) -> Any:
    return next((run for run in list(_store()["runs"]) if str(run["run_id"]) == run_id), None)


def thread_of(run_id: str) -> str | None:
    """Thread of one of the server's runs; one that is rolled back is in its list until that is
    done."""
    run = _run(run_id)
    return None if run is None else str(run["thread_id"])


def strategy_of(run_id: str) -> str | None:
    """Multitask strategy of one of the server's runs."""
    run = _run(run_id)
    return None if run is None else str(run.get("multitask_strategy") or "") or None


def stopped(reason: str) -> Exception:
    """What a run of the server raises when somebody has stopped it, which is not a failure."""
    error: Exception = import_module("langgraph_api.errors").UserInterrupt(reason)
    return error


def threads() -> list[Mapping[str, Any]]:
    """The metadata of all the server's threads."""
    return [t["metadata"] for t in list(_store()["threads"])]


def thread(thread_id: str) -> Mapping[str, Any] | None:
    """The metadata of one of the server's threads; ``None`` if it knows none of this id."""
    entry = _entry(thread_id)
    metadata: Mapping[str, Any] | None = None if entry is None else entry["metadata"]
    return metadata


def graph_of(metadata: Mapping[str, Any]) -> str | None:
    """The graph that a thread's metadata names."""
    return metadata.get("graph_id")


def metadata_of(graph_id: str) -> dict[str, str]:
    """Metadata that says a thread is one of a graph."""
    return {"graph_id": graph_id, "assistant_id": assistant_id(graph_id)}


def _entry(thread_id: str) -> Any:
    wanted = UUID(thread_id)
    return next((t for t in _store()["threads"] if t["thread_id"] == wanted), None)


def put_thread(thread_id: str, record: ThreadRecord) -> None:
    """Make the server's list say something of a thread, which it need not know yet."""
    entry = _entry(thread_id)
    if entry is None:
        entry = {"thread_id": UUID(thread_id), "metadata": {}, "config": {}, "values": None}
        _store()["threads"].append(entry)
    entry.update(
        created_at=record.created_at,
        updated_at=record.updated_at,
        state_updated_at=record.updated_at,
        metadata={**entry["metadata"], **record.metadata},
        status=record.status,
        error=record.error,
    )
    if record.values is not None:
        entry["values"] = record.values
    if record.interrupts is not None:
        entry["interrupts"] = record.interrupts


def drop_thread(thread_id: str) -> None:
    """Take a thread that does not exist any more, and its runs, out of the server's lists."""
    store, gone = _store(), UUID(thread_id)
    store["threads"] = [t for t in store["threads"] if t["thread_id"] != gone]
    store["runs"] = [r for r in store["runs"] if r["thread_id"] != gone]


def plain(value: Any) -> Any:
    """A value as the server would send it; the server writes its lists to disk with pickle."""
    serde = import_module("langgraph_api.serde")
    return serde.json_loads(serde.json_dumpb(value))


def plain_interrupt(interrupt: Any) -> Any:
    """An interrupt as the server shows it."""
    return plain(import_module("langgraph_api.state").patch_interrupt(interrupt))
