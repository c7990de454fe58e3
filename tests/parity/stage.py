"""What a scenario runs on, and the list of all scenarios.

A scenario is a graph and a sequence of calls. It is run on LangGraph's ``InMemorySaver`` and on
``TemporalSaver``; all it observes goes through the stage, which records it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pprint import saferepr
from typing import Any

from langgraph.config import get_config
from langgraph.types import StateSnapshot

from tests.parity.normal import Names, plain

Build = Callable[[Any], Any]
"""Compiles the graph of a scenario with a checkpointer."""

LEDGER = "PARITY_LEDGER"
"""Environment variable: the folder in which side effects are counted, by all processes."""

CALL_S = 60.0
"""Bound of one call. Not a measure of speed: a call that takes longer hangs."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A graph and what is done with it. ``script`` is a coroutine function unless ``sync``.

    ``differs`` says in which modes which observations are not the same
    (docs/reference/differences.md). ``placeable``: all its tasks can run on another worker,
    and whether they have come to an end does not depend on how soon that hears of a cancellation.
    """

    name: str
    build: Build
    script: Callable[[Any], Any]
    sync: bool
    compat: bool
    placeable: bool
    differs: Mapping[str, str]

    def graph(self, checkpointer: Any) -> Any:
        """The graph, under the scenario's name."""
        graph = self.build(checkpointer)
        graph.name = self.name
        return graph


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    build: Build,
    *,
    compat: bool = True,
    placeable: bool = True,
    differs: Mapping[str, str] | None = None,
) -> Callable[[Callable[[Any], Any]], Scenario]:
    """Enter a scenario: ``async def name(s: Stage)``, or ``def name(s: SyncStage)``.

    Args:
        build: Compiles its graph; called in each process that needs it.
        compat: Whether the oldest supported LangGraph has what it needs.
        placeable: Whether all its tasks can run on another worker.
        differs: Mode -> labels of the observations that are known to differ there, and must,
            separated by spaces.
    """

    def enter(script: Callable[[Any], Any]) -> Scenario:
        name = script.__name__
        assert name not in SCENARIOS, f"two scenarios are called {name}"
        SCENARIOS[name] = Scenario(
            name=name,
            build=build,
            script=script,
            sync=not asyncio.iscoroutinefunction(script),
            compat=compat,
            placeable=placeable,
            differs=differs or {},
        )
        return SCENARIOS[name]

    return enter


def effect(name: str) -> int:
    """A side effect of a node, counted across processes; how often it has happened by now."""
    thread_id = get_config()["configurable"]["thread_id"]
    ledger = Path(os.environ[LEDGER]) / f"{thread_id}.jsonl"
    with ledger.open("a") as file:
        file.write(json.dumps(name) + "\n")
    return _effects(thread_id)[name]


def _effects(thread_id: str) -> Counter[str]:
    ledger = Path(os.environ[LEDGER]) / f"{thread_id}.jsonl"
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return Counter(map(json.loads, lines))


class _Stage:
    """What the two stages share.

    Args:
        graph: The graph under test.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self._key = uuid.uuid4().hex[:10]
        self._seen: list[tuple[str, Any, bool]] = []
        self._threads: dict[str, str] = {}

    def config(self, thread: str = "t", **parts: Any) -> Any:
        """The config of a thread; ``parts`` are further keys of ``configurable``."""
        # Not hexadecimal, so that it is no part of any id.
        thread_id = f"thread_{self._key}_{thread}"
        self._threads[thread_id] = thread
        return {"configurable": {"thread_id": thread_id, **parts}}

    @property
    def thread_ids(self) -> list[str]:
        """The threads it has used so far."""
        return list(self._threads)

    def saw(self, label: str, value: Any, *, ordered: bool = True) -> None:
        """Record an observation of the scenario's own."""
        self._seen.append((label, plain(value), ordered))

    def observations(self) -> list[tuple[str, Any]]:
        """All that was recorded, normalised."""
        names = Names(self._threads)
        found = []
        for label, value, ordered in self._seen:
            value = names.apply(value, ordered=ordered)
            found.append((label, value if ordered else sorted(map(saferepr, value))))
        for thread_id, name in self._threads.items():
            found.append((f"effects of {name}", dict(sorted(_effects(thread_id).items()))))
        return found

    @contextlib.contextmanager
    def _errors(self, label: str) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            self.saw(f"{label} raised", exc)


class Stage(_Stage):
    """Async calls. Each is recorded with what it returned or raised."""

    async def invoke(
        self, input: Any, config: Any = None, *, ordered: bool = True, **options: Any
    ) -> Any:
        """``ainvoke``; ``None`` if it raised. Not ``ordered``: compared as a set of items."""
        with self._errors("invoke"):
            async with asyncio.timeout(CALL_S):
                result = await self.graph.ainvoke(input, config or self.config(), **options)
            self.saw("invoke", result if ordered else [result], ordered=ordered)
            return result

    async def stream(
        self, input: Any, config: Any = None, *, ordered: bool = True, **options: Any
    ) -> list[Any]:
        """``astream``, with chunks as they arrive; not ``ordered``: they are compared as a set."""
        chunks: list[Any] = []
        seen: list[Any] = []
        with self._errors("stream"):
            async with asyncio.timeout(CALL_S):
                stream = self.graph.astream(input, config or self.config(), **options)
                async for chunk in stream:
                    chunks.append(chunk)
                    seen.append(plain(chunk))
        self.saw("stream", seen, ordered=ordered)
        return chunks

    async def events(self, input: Any, config: Any = None, **options: Any) -> list[Any]:
        """``astream_events`` of version 1 or 2; as events are when they arrive."""
        events: list[Any] = []
        with self._errors("events"):
            async with asyncio.timeout(CALL_S):
                stream = self.graph.astream_events(input, config or self.config(), **options)
                async for event in stream:
                    events.append(plain(event))
        self.saw("events", events)
        return events

    async def state(self, config: Any = None, *, subgraphs: bool = True) -> StateSnapshot | None:
        """``aget_state``."""
        with self._errors("state"):
            state: StateSnapshot = await self.graph.aget_state(
                config or self.config(), subgraphs=subgraphs
            )
            self.saw("state", state)
            return state
        return None

    async def history(self, config: Any = None, **options: Any) -> list[StateSnapshot]:
        """``aget_state_history``."""
        states: list[StateSnapshot] = []
        with self._errors("history"):
            async for state in self.graph.aget_state_history(config or self.config(), **options):
                states.append(state)
            self.saw("history", states)
        return states

    async def update(self, values: Any, config: Any = None, as_node: str | None = None) -> Any:
        """``aupdate_state``."""
        with self._errors("update"):
            made = await self.graph.aupdate_state(config or self.config(), values, as_node=as_node)
            self.saw("update", made)
            return made

    async def bulk_update(self, supersteps: Any, config: Any = None) -> Any:
        """``abulk_update_state``."""
        with self._errors("bulk_update"):
            made = await self.graph.abulk_update_state(config or self.config(), supersteps)
            self.saw("bulk_update", made)
            return made

    async def finish(self) -> None:
        """Record what every thread of the scenario holds at the end."""
        for thread_id in list(self._threads):
            config = {"configurable": {"thread_id": thread_id}}
            await self.state(config)
            await self.history(config)


class SyncStage(_Stage):
    """The same with sync calls, from a thread without an event loop."""

    def invoke(
        self, input: Any, config: Any = None, *, ordered: bool = True, **options: Any
    ) -> Any:
        """``invoke``."""
        with self._errors("invoke"):
            result = self.graph.invoke(input, config or self.config(), **options)
            self.saw("invoke", result if ordered else [result], ordered=ordered)
            return result

    def stream(
        self, input: Any, config: Any = None, *, ordered: bool = True, **options: Any
    ) -> list[Any]:
        """``stream``."""
        chunks: list[Any] = []
        seen: list[Any] = []
        with self._errors("stream"):
            for chunk in self.graph.stream(input, config or self.config(), **options):
                chunks.append(chunk)
                seen.append(plain(chunk))
        self.saw("stream", seen, ordered=ordered)
        return chunks

    def state(self, config: Any = None, *, subgraphs: bool = True) -> StateSnapshot | None:
        """``get_state``."""
        with self._errors("state"):
            state: StateSnapshot = self.graph.get_state(
                config or self.config(), subgraphs=subgraphs
            )
            self.saw("state", state)
            return state
        return None

    def history(self, config: Any = None, **options: Any) -> list[StateSnapshot]:
        """``get_state_history``."""
        states: list[StateSnapshot] = []
        with self._errors("history"):
            states = list(self.graph.get_state_history(config or self.config(), **options))
            self.saw("history", states)
        return states

    def update(self, values: Any, config: Any = None, as_node: str | None = None) -> Any:
        """``update_state``."""
        with self._errors("update"):
            made = self.graph.update_state(config or self.config(), values, as_node=as_node)
            self.saw("update", made)
            return made

    def finish(self) -> None:
        """Record what every thread of the scenario holds at the end."""
        for thread_id in list(self._threads):
            config = {"configurable": {"thread_id": thread_id}}
            self.state(config)
            self.history(config)


async def observe(
    scenario: Scenario, checkpointer: Any, threads: list[str] | None = None
) -> list[tuple[str, Any]]:
    """Run an async scenario; what it observed. ``threads`` gets the ids of its threads."""
    stage = Stage(scenario.graph(checkpointer))
    await scenario.script(stage)
    await stage.finish()
    if threads is not None:
        threads += stage.thread_ids
    return stage.observations()


def observe_sync(
    scenario: Scenario, checkpointer: Any, threads: list[str] | None = None
) -> list[tuple[str, Any]]:
    """Run a sync scenario; what it observed. ``threads`` gets the ids of its threads."""
    stage = SyncStage(scenario.graph(checkpointer))
    scenario.script(stage)
    stage.finish()
    if threads is not None:
        threads += stage.thread_ids
    return stage.observations()
