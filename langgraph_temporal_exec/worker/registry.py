"""Worker side: which graphs this worker serves, and on which loop their code runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from .._loops import LoopThread
from ..errors import DuplicateGraphError, UsageError
from ..seam.private import DEFAULT_NAME

logger = logging.getLogger(__name__)


class GraphRegistry:
    """Graphs by name.

    Args:
        default_name: Overrides the graphs' own name; only for a single graph.
        loop: The user's event loop; ``None`` when there is none.
    """

    def __init__(self, default_name: str | None, loop: asyncio.AbstractEventLoop | None) -> None:
        self._default_name = default_name
        self._loop = loop
        self._own_loop: LoopThread | None = None
        self._graphs: dict[str, Any] = {}

    def add(self, graph: Any) -> None:
        """Serve a graph, or each graph of a mapping by name.

        Raises:
            DuplicateGraphError: The name is taken by another graph.
            UsageError: Not a compiled graph.
        """
        if isinstance(graph, Mapping):
            for name, item in graph.items():
                self._put(str(name), item)
        else:
            self._put(self._default_name or graph_name(graph), graph)

    def seen(self, name: str, graph: Any) -> None:
        """A graph was called in this process: serve it to others as well.

        Two different graphs under one name are served to nobody: a run that moves here would
        continue with the wrong one.
        """
        known = self._graphs.setdefault(name, graph)
        if known is not None and known.nodes.keys() != graph.nodes.keys():
            logger.warning(
                "two different graphs named %r were called in this process; runs of them cannot "
                "move here from elsewhere. Name them: compile(name=...).",
                name,
            )
            self._graphs[name] = None

    def _put(self, name: str, graph: Any) -> None:
        if not hasattr(graph, "astream") or not hasattr(graph, "nodes"):
            raise UsageError(
                f"{graph!r} is not a compiled LangGraph graph; pass what `.compile()` or "
                "`create_deep_agent(...)` returned."
            )
        if self._graphs.get(name, graph) is not graph:
            raise DuplicateGraphError(
                f"Two graphs of this worker are named {name!r}. Name them: "
                "saver.worker({'first': graph, 'second': other}), or compile(name=...)."
            )
        self._graphs[name] = graph

    def get(self, name: str) -> Any:
        """The graph of a name, or ``None``."""
        return self._graphs.get(name)

    def served(self) -> dict[str, Any]:
        """All graphs served, by name."""
        return {name: graph for name, graph in self._graphs.items() if graph is not None}

    def names(self) -> list[str]:
        """Names of all graphs served."""
        return sorted(name for name, graph in self._graphs.items() if graph is not None)

    def user_loop(self) -> asyncio.AbstractEventLoop:
        """The loop for user code of runs whose caller is elsewhere."""
        if self._loop is not None and self._loop.is_running():
            return self._loop
        if self._own_loop is None:
            self._own_loop = LoopThread("langgraph-temporal-graphs")
        return self._own_loop.loop

    def loop_is_gone(self) -> None:
        """The user's loop is being torn down: runs that still come here get one of our own."""
        self._loop = None

    def stop(self) -> None:
        """Stop the loop that was started for user code, if any."""
        if self._own_loop is not None:
            self._own_loop.stop()
            self._own_loop = None


def graph_name(graph: Any) -> str:
    """The name under which workers serve a graph."""
    return str(getattr(graph, "name", None) or DEFAULT_NAME)
