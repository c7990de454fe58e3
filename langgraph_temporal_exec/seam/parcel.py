"""LangGraph seam: a placed task: what it takes along to another worker, and what comes back.

The task is not sent. It is *rebuilt* from its checkpoint by LangGraph's ``prepare_single_task``,
which gives it the same id, and run by LangGraph's ``run_with_retry`` (``hooks.run_placed``). What
travels is what the checkpoint does not hold: the config of the call, the answers to interrupts, the
context, and to which streams and callback handlers it reports. All of that is data; the rest is
made anew where it arrives:

====================================  ==========================================================
where the run is driven (``Away``)    where the task is run (``Rebuilt``)
====================================  ==========================================================
channels, input, config of the task   from the checkpoint, by LangGraph
``runtime.store``                     that of the graph which is served there
the stream writer                     sends each chunk back, with its namespace
streams of nested graphs              likewise, if the caller wants them (``subgraphs=True``)
handlers of ``messages`` and          the same ones, whose chunks are sent back
``tools``
other callback handlers               stand-ins (``worker.proxies``), whose events are sent back
the checkpointer                      one bound to the same epoch
====================================  ==========================================================

A result comes back as the writes of the task, and, if it did not simply return, as what it raised.
LangGraph then commits it where the run is driven, as if it had run there. What is recorded has been
made by LangGraph's commit where it was run (``Rebuilt.commit``).
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand

from ..errors import PlacementError
from . import private
from .private import (
    CONF,
    CONFIG_KEY_CACHE,
    CONFIG_KEY_CALL,
    CONFIG_KEY_CHECKPOINT_NS,
    CONFIG_KEY_CHECKPOINTER,
    CONFIG_KEY_REPLAY_STATE,
    CONFIG_KEY_RESUME_MAP,
    CONFIG_KEY_RESUMING,
    CONFIG_KEY_RUNTIME,
    CONFIG_KEY_STREAM,
    NULL_TASK_ID,
    RESUME,
)

CUSTOM, NESTED, HANDLED = "custom", "nested", "handled"
"""What is sent back while a task runs: a chunk it wrote, one of a graph nested in it, and one made
by a handler of LangGraph's."""

INTERRUPTED, TO_PARENT, STOPPED, BUBBLED = "interrupted", "to parent", "stopped", "bubbled"
"""How a task has left that did not return, and was no error: what it asks comes with it, or the
command for the parent graph; nothing of one whose nested graph stopped at a breakpoint; what it
said if it raised ``GraphBubbleUp`` itself."""

Emit = Callable[[str, tuple[Any, ...]], None]
"""Takes the kind of what is sent back, and its parts; from any thread."""


def obstacle(task: Any, loop: Any) -> str:
    """What of a task cannot travel, for people; "": nothing is known to be in the way."""
    if not is_recorded(loop):
        return (
            "no checkpoint that it starts from is recorded (durability='exit', or its graph was "
            "compiled with checkpointer=False)"
        )
    if not private.is_rebuildable(task):
        return (
            "it does not follow from a checkpoint (a @task that another task has called, or the "
            "handler of another node's error)"
        )
    lost = private.untracked(loop)
    if not lost:
        return ""
    if task.path[0] == private.PUSH:
        sent = task.input if isinstance(task.input, dict) else {}
        named = sorted(lost.keys() & sent.keys())
    else:
        named = sorted(lost.keys() & set(private.channels_read(loop, task.name)))
    if not named:
        return ""
    return f"it reads {_quoted(named)}, of which an UntrackedValue is in no checkpoint"


def is_recorded(loop: Any) -> bool:
    """Whether what a loop does is recorded as it goes.

    A graph compiled with ``checkpointer=False`` carries its parent's saver in the config but keeps
    no state; with ``durability="exit"`` nothing is recorded before the end.
    """
    return loop.checkpointer is not None and loop.durability != "exit"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


class Away:
    """A task as the process knows it that drives its run.

    Args:
        task: LangGraph's task.
        loop: The loop that waits for it.
        stream: Whether LangGraph runs it by streaming its output (``astream_events``).
        sync: Whether the loop is a sync one.
        asked: What the task waited for when the loop began.

    Attributes:
        handlers: Callback handlers of the task that are not LangGraph's own: who sends events back
            names them by their place here.
    """

    def __init__(
        self, task: Any, loop: Any, *, stream: bool, sync: bool, asked: Sequence[Any] | None
    ) -> None:
        self._task = task
        self._loop = loop
        self._stream = stream
        self._sync = sync
        self._asked = asked
        manager = task.config.get("callbacks")
        given = manager.handlers if isinstance(manager, BaseCallbackManager) else manager or []
        self.manager = (
            manager
            if isinstance(manager, BaseCallbackManager)
            else BaseCallbackManager(handlers=list(given), inheritable_handlers=list(given))
        )
        self._own = [h for h in given if isinstance(h, tuple(private.HANDLERS.values()))]
        self.handlers: list[BaseCallbackHandler] = [h for h in given if h not in self._own]
        self._free_answer: Any = None
        self._given: list[Any] = []

    @property
    def sync(self) -> bool:
        """Whether the loop is a sync one."""
        return self._sync

    def reviving(self, serde: SerializerProtocol) -> SerializerProtocol:
        """The serializer with the classes of the task's graph allowed, if it has an allow-list."""
        graph = private.graph_of(self._loop)
        return serde if graph is None else private.with_allowlist(graph, serde)

    def parts(self) -> dict[str, Any]:
        """What travels: plain data, and values of the user's."""
        task, loop = self._task, self._loop
        config = loop.config
        self._given, self._free_answer = private.answers_of(task)
        stream = loop.stream
        return {
            "ns": config[CONF].get(CONFIG_KEY_CHECKPOINT_NS, ""),
            "checkpoint_id": loop.checkpoint["id"],
            "task_id": task.id,
            "path": tuple(task.path),
            "node": task.name,
            "graph": graph_name(loop),
            "step": loop.step,
            "stop": loop.stop,
            "configurable": private.plain_configurable(loop),
            "metadata": dict(config.get("metadata") or {}),
            "tags": list(config.get("tags") or ()),
            "recursion_limit": private.chosen_limit(config),
            "max_concurrency": config.get("max_concurrency"),
            "run_id": str(config["run_id"]) if config.get("run_id") else None,
            "resume_map": config[CONF].get(CONFIG_KEY_RESUME_MAP),
            "replay": private.replayed_from(loop),
            "null_writes": [
                (channel, value)
                for task_id, channel, value in loop.checkpoint_pending_writes
                if task_id == NULL_TASK_ID and channel != RESUME
            ],
            "answers": (self._given, self._free_answer),
            "asked": self._asked,
            "context": getattr(private.runtime_of(task), "context", None),
            "custom": stream is not None and "custom" in stream.modes,
            "modes": private.stream_modes_of(loop),
            "own": [_own_handler(h) for h in self._own],
            "stream": self._stream,
            "sync": self._sync,
        }

    def emit(self, kind: str, parts: Sequence[Any]) -> None:
        """Something came back while the task runs; where LangGraph waits for it."""
        if kind == CUSTOM:
            namespace, chunk = parts
            private.write_custom(self._task, namespace, chunk)
        elif kind == NESTED:
            private.emit_nested(self._loop, parts[0])
        elif kind == HANDLED:
            number, chunk = parts
            handler: Any = self._own[number]
            if (seen := getattr(handler, "seen", None)) is not None:
                message_id = getattr(chunk[2][0], "id", None)
                if message_id is not None:
                    seen.add(message_id)
            handler.stream(chunk)

    def settle(self, writes: Sequence[tuple[str, Any]]) -> None:
        """The task has ended, with these writes."""
        self._task.writes.clear()
        self._task.writes.extend(writes)
        taken = next((v for c, v in writes if c == RESUME), None)
        more = isinstance(taken, list) and len(taken) > len(self._given)
        if self._free_answer is not None and more:
            private.take_free_answer(self._task)

    def drain(self, reason: str) -> None:
        """The task has asked for the run to stop after this superstep."""
        control = getattr(private.runtime_of(self._task), "control", None)
        if control is not None:
            control.request_drain(reason)

    def answer(self, call_id: str, text: str) -> None:
        """The tool call of the task has failed, whatever became of the task."""
        answer_call(self._task, call_id, text)

    def leave(self, how: str, value: Any) -> GraphBubbleUp:
        """What a task has raised that has not failed."""
        if how == INTERRUPTED:
            return GraphInterrupt(value)
        if how == BUBBLED:
            return GraphBubbleUp(*value)
        return ParentCommand(value) if how == TO_PARENT else GraphInterrupt()


def answer_call(task: Any, call_id: str, text: str) -> None:
    """Let a task that was to call a tool have written that the call has failed."""
    task.writes.clear()
    message = ToolMessage(content=text, tool_call_id=call_id, status="error")
    output = {private.tool_messages_key(task.proc) or "messages": [message]}
    for writer in task.writers:
        writer.invoke(output, task.config)


def how_it_left(exc: GraphBubbleUp) -> tuple[str, Any]:
    """The inverse of ``Away.leave``."""
    if isinstance(exc, ParentCommand):
        return TO_PARENT, exc.args[0]
    if isinstance(exc, GraphInterrupt) and exc.args and exc.args[0]:
        return INTERRUPTED, tuple(exc.args[0])
    if isinstance(exc, GraphInterrupt):
        return STOPPED, None
    return BUBBLED, tuple(map(str, exc.args))


def _own_handler(handler: Any) -> tuple[str, bool, tuple[str, ...] | None]:
    kinds = private.HANDLERS
    kind = next(name for name in reversed(kinds) if type(handler) is kinds[name])
    return kind, handler.subgraphs, handler.parent_ns


def graph_name(loop: Any) -> str:
    """Name of the graph that a loop runs; "" if it has none."""
    graph = private.graph_of(loop)
    name = "" if graph is None else str(graph.get_name())
    return "" if name == private.DEFAULT_NAME else name


# -- where it is run ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """A task as the worker knows it that runs it.

    Args:
        lone: Its loop.
        task: LangGraph's task.
        configurable: What LangGraph's runner would add to its config.
        stream: As in ``Away``.
        sync: As in ``Away``.
        asked: As in ``Away``.
    """

    lone: private.LoneLoop
    task: Any
    configurable: dict[str, Any]
    stream: bool
    sync: bool
    asked: Sequence[Any] | None

    def commit(self, exc: BaseException | None) -> list[tuple[str, Any]]:
        """The task has ended; what it wrote itself.

        Raises:
            PlacementError: It wrote to an UntrackedValue, which nobody would record.
        """
        untracked = sorted(
            {c for c, _ in self.task.writes if private.is_untracked(self.lone.graph, c)}
        )
        if untracked and exc is None:
            raise PlacementError(
                f"Node {self.task.name!r} ran on another worker and wrote to "
                f"{_quoted(untracked)}: an UntrackedValue is in no checkpoint and cannot travel. "
                "Run the node in place, or keep such values out of what it returns."
            )
        return self.lone.commit(exc)

    @property
    def drained(self) -> str | None:
        """Why the run is to stop after this superstep, if the task has asked for that."""
        control = getattr(private.runtime_of(self.task), "control", None)
        return None if control is None else control.drain_reason

    @property
    def committed(self) -> Any:
        """What is to be recorded: config, writes, task id and path; ``None``: nothing."""
        return self.lone.committed[-1] if self.lone.committed else None


def find_graph(root: Any, served: Mapping[str, Any], namespace: str, name: str) -> Any:
    """The graph that a task is of.

    Args:
        root: The graph of the run.
        served: All graphs that are served here, by their names.
        namespace: The namespace in which the graph runs; "": it is the run's own.
        name: Its name.

    Raises:
        PlacementError: It is a nested graph that cannot be found from here.
    """
    if not namespace:
        return root
    bare = private.without_tasks(namespace)
    with contextlib.suppress(Exception):
        for place, graph in root.get_subgraphs(namespace=bare, recurse=True):
            if place == bare and isinstance(graph, private.Pregel):
                return graph
    found = served.get(name) if name else None
    if found is not None:
        return found
    raise PlacementError(
        f"The graph {name or '(without a name)'!r}, which is nested in {root.get_name()!r} "
        f"(namespace {namespace!r}), cannot be found on this worker: it is called by code, and is "
        "no node. Give it a name and serve it too: saver.worker(agent, {'" + (name or "name") + "'"
        ": nested}). Or let the task that calls it run here, rather than one inside it."
    )


async def rebuild(
    graph: Any,
    parts: Mapping[str, Any],
    checkpoint: Any,
    *,
    root: Any,
    checkpointer: Any,
    callbacks: Any,
    emit: Emit,
    known: Collection[str],
) -> Rebuilt:
    """Make a task from what came with it and from its checkpoint.

    Args:
        graph: The graph it is of.
        parts: See ``Away.parts``.
        checkpoint: Of its loop.
        root: The graph of the run.
        checkpointer: For it and what it calls.
        callbacks: A callback manager with stand-ins, or ``None``.
        emit: Sends back what it streams.
        known: Nested namespaces of the thread.

    Raises:
        PlacementError: The graph served here makes no such task.
    """

    def write(chunk: Any) -> None:
        emit(CUSTOM, (get_config()[CONF][CONFIG_KEY_CHECKPOINT_NS], chunk))

    store = root.store if root.store is not None else graph.store
    configurable: dict[str, Any] = {
        **parts["configurable"],
        CONFIG_KEY_CHECKPOINTER: checkpointer,
        CONFIG_KEY_RUNTIME: private.runtime(
            context=parts["context"],
            store=store,
            stream_writer=write if parts["custom"] else _ignore,
        ),
    }
    if parts["modes"] is not None:
        configurable[CONFIG_KEY_STREAM] = private.stream_to(
            lambda chunk: emit(NESTED, (chunk,)), parts["modes"]
        )
    if parts["replay"] is not None:
        configurable[CONFIG_KEY_REPLAY_STATE] = private.replay_state(parts["replay"])
    if root.cache is not None:
        configurable[CONFIG_KEY_CACHE] = root.cache
    config: RunnableConfig = {
        CONF: configurable,
        "metadata": dict(parts["metadata"]),
        "tags": list(parts["tags"]),
        "callbacks": _with_own_handlers(callbacks, parts["own"], emit),
    }
    if parts["recursion_limit"] is not None:
        config["recursion_limit"] = parts["recursion_limit"]
    if parts["max_concurrency"] is not None:
        config["max_concurrency"] = parts["max_concurrency"]
    if parts["run_id"] is not None:
        config["run_id"] = uuid.UUID(parts["run_id"])
    lone = private.LoneLoop(
        graph,
        private.ensure_config(config),
        checkpoint,
        step=parts["step"],
        stop=parts["stop"],
        store=store,
        checkpointer=checkpointer,
    )
    task = await lone.prepare(
        tuple(parts["path"]),
        parts["task_id"],
        null_writes=[tuple(write) for write in parts["null_writes"]],
        answers=(list(parts["answers"][0]), parts["answers"][1]),
    )
    if task is None:
        raise PlacementError(
            f"The graph {root.get_name()!r} that this worker serves does not make the task of node "
            f"{parts['node']!r} (id {parts['task_id']}) from its checkpoint: its code differs from "
            "that of the worker which drives the run. Deploy the same code to both."
        )
    # Of the run, not of what callbacks see of the task.
    task.config.pop("run_id", None)
    namespace = task.config[CONF][CONFIG_KEY_CHECKPOINT_NS]
    if any(ns == namespace or ns.startswith(f"{namespace}{private.NS_SEP}") for ns in known):
        # It was run before, by a worker that was lost: what it called goes on, as after a retry.
        task.config[CONF][CONFIG_KEY_RESUMING] = True
    if parts["resume_map"] is not None:
        # Not before: LangGraph would take the task's own answers from it once more.
        task.config[CONF][CONFIG_KEY_RESUME_MAP] = parts["resume_map"]
    schedule = lone.loop.accept_push if parts["sync"] else lone.loop.aaccept_push
    refuse = functools.partial(_refuse_call, task.name)
    return Rebuilt(
        lone=lone,
        task=task,
        configurable={CONFIG_KEY_CALL: functools.partial(refuse, schedule_task=schedule)},
        stream=parts["stream"],
        sync=parts["sync"],
        asked=parts["asked"],
    )


def _ignore(chunk: Any) -> None:
    """Nobody wants what code of the task writes."""


def _refuse_call(node: str, *_: Any, **__: Any) -> Any:
    raise PlacementError(
        f"Node {node!r} runs on another worker and has called a @task, which belongs to the loop "
        "that drives the run and cannot be called from there. Call a plain function, or run the "
        "node in place."
    )


def _with_own_handlers(callbacks: Any, own: Sequence[Any], emit: Emit) -> Any:
    """The callback manager with LangGraph's handlers for streams, which send their chunks back."""
    if not own and callbacks is None:
        return None
    manager = callbacks or BaseCallbackManager(handlers=[])
    for number, (kind, subgraphs, parent_ns) in enumerate(own):
        put = functools.partial(_send_handled, emit, number)
        where = None if parent_ns is None else tuple(parent_ns)
        handler = private.HANDLERS[kind](put, subgraphs, parent_ns=where)
        manager.add_handler(handler, inherit=True)
    return manager


def _send_handled(emit: Emit, number: int, chunk: Any) -> None:
    emit(HANDLED, (number, chunk))
