"""LangGraph seam: the only module that touches LangGraph's private symbols.

Five places are hooked, all of them module or class attributes, so LangGraph's own loop runs
unmodified around them:

- ``pregel._runner.arun_with_retry`` / ``run_with_retry``: every task of every superstep, ``@task``
  call and nested graph goes through these two.
- ``Pregel.astream`` / ``Pregel.stream``: every root call (``ainvoke`` and the rest come through).
- ``Pregel.with_config``: plain LangGraph silently ignores ``checkpointer=`` there.
- ``PregelLoop._first``: a retried run must not walk past its breakpoints.

A graph is ours when its checkpointer has the attribute ``DURABLE``; everything else passes
through untouched. Detection is by attribute because a server may wrap the saver in an adapter.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig

from ._paused import missing_nodes
from ._seam import Durable, SeamTask, Session
from .errors import ImpossibleResumeError, NotDurableError, UnsupportedLangGraphError

try:
    from langgraph._internal._config import ensure_config
    from langgraph._internal._constants import (
        CONF,
        CONFIG_KEY_CALL,
        CONFIG_KEY_CHECKPOINTER,
        CONFIG_KEY_RESUMING,
        CONFIG_KEY_STREAM_MESSAGES_V2,
        CONFIG_KEY_TASK_ID,
        ERROR,
        INTERRUPT,
        NULL_TASK_ID,
        RESUME,
        TASKS,
    )
    from langgraph.pregel import Pregel, _algo, _loop, _runner
    from langgraph.pregel._utils import validate_timeout_supported
    from langgraph.types import Command, TimeoutPolicy
except ImportError as moved:
    raise UnsupportedLangGraphError(
        f"This langgraph is not supported: {moved}. Supported versions: langgraph>=1.2.13,<1.3."
    ) from moved

SUPPORTED = ">=1.2.13,<1.3"
T = TypeVar("T")
DURABLE = "__langgraph_temporal__"
START_TASK = "__start__"

__all__ = [
    "DURABLE",
    "INTERRUPT",
    "NULL_TASK_ID",
    "RESUME",
    "Durable",
    "SeamTask",
    "Session",
    "asking",
    "bind",
    "full_config",
    "install",
    "interrupted",
    "original_astream",
    "original_stream",
    "uninstall",
]


@dataclass(frozen=True)
class _Hook:
    """One patched attribute: where, and which parameters it must have."""

    owner: Any
    name: str
    parameters: tuple[str, ...]
    make: Callable[[Callable[..., Any]], Callable[..., Any]]


_originals: dict[tuple[int, str], Callable[..., Any]] = {}


def install() -> None:
    """Put the hooks in place; idempotent.

    Raises:
        UnsupportedLangGraphError: A symbol is missing or has other parameters.
    """
    if _originals:
        return
    verify()
    for hook in _HOOKS:
        original = getattr(hook.owner, hook.name)
        _originals[(id(hook.owner), hook.name)] = original
        setattr(hook.owner, hook.name, functools.wraps(original)(hook.make(original)))


def uninstall() -> None:
    """Take the hooks out again; idempotent."""
    for hook in _HOOKS:
        original = _originals.pop((id(hook.owner), hook.name), None)
        if original is not None:
            setattr(hook.owner, hook.name, original)


def check_installed() -> None:
    """Raise if the hooks are not in place: what runs now is not durable.

    Raises:
        NotDurableError: Naming what is not hooked.
    """
    gone = [
        f"{getattr(hook.owner, '__name__', hook.owner)}.{hook.name}"
        for hook in _HOOKS
        # Others may wrap what is hooked, but not put back what was there before.
        if not _originals
        or getattr(hook.owner, hook.name) is _originals[(id(hook.owner), hook.name)]
    ]
    if gone:
        raise NotDurableError(
            "A graph with a TemporalSaver was run or written to without the hooks of "
            f"langgraph_temporal_exec: {', '.join(gone)} of LangGraph was put back to what it "
            "was. Nothing of this call is recorded. Something in this process undoes patches or "
            "reloads modules of LangGraph; import langgraph_temporal_exec after that."
        )


def verify() -> None:
    """Check every private symbol this module relies on.

    Raises:
        UnsupportedLangGraphError: Naming what moved.
    """
    problems = []
    for hook in _HOOKS:
        target = getattr(hook.owner, hook.name, None)
        label = f"{getattr(hook.owner, '__name__', hook.owner)}.{hook.name}"
        if not callable(target):
            problems.append(f"{label} is missing")
            continue
        parameters = inspect.signature(inspect.unwrap(target)).parameters
        missing = [p for p in hook.parameters if p not in parameters]
        if missing:
            problems.append(f"{label} has no parameter {', '.join(missing)}")
    for owner, name in _USED:
        if not hasattr(owner, name):
            problems.append(f"{getattr(owner, '__name__', owner)}.{name} is missing")
    if problems:
        version = importlib.metadata.version("langgraph")
        raise UnsupportedLangGraphError(
            f"langgraph {version} is not supported: {'; '.join(problems)}. Supported versions: "
            f"langgraph{SUPPORTED}. Install one of them, or a release of "
            "langgraph-temporal-exec made for yours."
        )


def _original(owner: Any, name: str) -> Callable[..., Any]:
    return _originals.get((id(owner), name)) or getattr(owner, name)


def original_astream(
    graph: Any, input: Any, config: RunnableConfig, kwargs: Mapping[str, Any]
) -> AsyncGenerator[Any, None]:
    """LangGraph's own ``astream`` of a graph."""
    stream: AsyncGenerator[Any, None] = _original(Pregel, "astream")(graph, input, config, **kwargs)
    return stream


def original_stream(
    graph: Any, input: Any, config: RunnableConfig, kwargs: Mapping[str, Any]
) -> Generator[Any, None, None]:
    """LangGraph's own ``stream`` of a graph."""
    stream: Generator[Any, None, None] = _original(Pregel, "stream")(graph, input, config, **kwargs)
    return stream


def full_config(graph: Any, config: RunnableConfig | None) -> RunnableConfig:
    """The config of a call merged with the graph's own and the surrounding one."""
    return ensure_config(graph.config, config)


def wants_message_events(config: RunnableConfig) -> bool:
    """Whether a call asked for messages as typed events (``astream_events(version="v3")``)."""
    return bool(config[CONF].get(CONFIG_KEY_STREAM_MESSAGES_V2))


def with_message_events(config: RunnableConfig) -> RunnableConfig:
    """The config of a call that asks for them."""
    configurable = {**config[CONF], CONFIG_KEY_STREAM_MESSAGES_V2: True}
    return {**config, CONF: configurable}


def bind(graph: Any, checkpointer: Any) -> Any:
    """A copy of the graph with another checkpointer; nodes and channels are shared."""
    bound = graph.copy()
    for name in _SET_LATER:
        if name in vars(graph):
            setattr(bound, name, vars(graph)[name])
    bound.checkpointer = checkpointer
    return bound


_SET_LATER = ("_output_mapper", "_state_mapper", "_serde_allowlist")
"""What LangGraph sets on a compiled graph after it was made, and its ``copy`` loses."""


def reviving(graph: Any, saver: T) -> T:
    """The saver with the classes of the graph's schemas allowed, if there is an allow-list at all.

    LangGraph does the same when it calls a saver (``LANGGRAPH_STRICT_MSGPACK``).
    """
    allowing: T = graph._apply_checkpointer_allowlist(saver)
    return allowing


def check_call(graph: Any, config: RunnableConfig, kwargs: Mapping[str, Any]) -> None:
    """Raise what LangGraph would raise for bad arguments, before anything is recorded."""
    graph._defaults(
        config,
        stream_mode=kwargs.get("stream_mode") or graph.stream_mode,
        print_mode=(),
        output_keys=kwargs.get("output_keys"),
        interrupt_before=kwargs.get("interrupt_before"),
        interrupt_after=kwargs.get("interrupt_after"),
        durability=kwargs.get("durability"),
    )


def interrupted(loop: Any) -> bool:
    """Whether a loop stopped at an interrupt or a breakpoint."""
    if loop is None:
        return False
    if str(loop.status).startswith("interrupt"):
        return True
    return any(channel == INTERRUPT for _, channel, _ in loop.checkpoint_pending_writes)


def asking(loop: Any) -> tuple[str, ...]:
    """Names of the nodes whose interrupts a loop stopped at."""
    asked = {
        task_id for task_id, channel, _ in loop.checkpoint_pending_writes if channel == INTERRUPT
    }
    return tuple(sorted(task.name for task in loop.tasks.values() if task.id in asked))


def session_of(config: Mapping[str, Any]) -> Session | None:
    """The session in which a node runs; ``None`` if its graph has no ``TemporalSaver``."""
    durable = _durable_of((config.get(CONF) or {}).get(CONFIG_KEY_CHECKPOINTER))
    return durable.session if durable is not None else None


def _timed(task: Any, session: Session) -> Any:
    """The task with the timeout of the saver's options, if they have one for its node."""
    timeout = session.timeout(task.name)
    if timeout is None:
        return task
    # As LangGraph itself does when a node is added with a timeout.
    validate_timeout_supported(task.proc, name=task.name)
    return replace(task, timeout=TimeoutPolicy(run_timeout=timeout))


# -- hooks ------------------------------------------------------------------------------------


def _durable_of(checkpointer: Any) -> Durable | None:
    durable: Durable | None = getattr(checkpointer, DURABLE, None)
    return durable


def _seam_task(task: Any, configurable: Mapping[str, Any]) -> tuple[Session, SeamTask] | None:
    """The session and the neutral view of a task, if it is to run as an Activity."""
    conf = (task.config or {}).get(CONF, {})
    durable = _durable_of(conf.get(CONFIG_KEY_CHECKPOINTER))
    session = durable.session if durable is not None else None
    if session is None or task.name == START_TASK:
        return None
    loop = configurable[CONFIG_KEY_CALL].keywords["schedule_task"].__self__
    # A graph compiled with checkpointer=False carries its parent's saver in the config but
    # keeps no state; with durability="exit" nothing is recorded before the end.
    if loop.checkpointer is None or loop.durability == "exit" or not session.ships(task.name):
        return None
    return session, SeamTask(
        id=task.id,
        name=task.name,
        checkpoint_ns=loop.config[CONF].get("checkpoint_ns", ""),
        checkpoint_id=loop.checkpoint["id"],
        checkpoint_stored=loop.checkpoint["id"] == loop.checkpoint_id_saved,
        step=loop.step,
        input=task.input,
    )


def _hook_arun(original: Callable[..., Any]) -> Callable[..., Any]:
    async def arun_with_retry(task: Any, *args: Any, **kwargs: Any) -> Any:
        seam = _seam_task(task, kwargs.get("configurable") or {})
        if seam is None:
            return await original(task, *args, **kwargs)
        session, view = seam
        timed = _timed(task, session)
        return await session.arun_task(view, lambda: original(timed, *args, **kwargs))

    return arun_with_retry


def _hook_run(original: Callable[..., Any]) -> Callable[..., Any]:
    def run_with_retry(task: Any, *args: Any, **kwargs: Any) -> Any:
        seam = _seam_task(task, kwargs.get("configurable") or {})
        if seam is None:
            return original(task, *args, **kwargs)
        session, view = seam
        timed = _timed(task, session)
        return session.run_task(view, lambda: original(timed, *args, **kwargs))

    return run_with_retry


def _root_call(graph: Any, config: RunnableConfig | None) -> tuple[Durable, Any] | None:
    """The saver and the graph of a root call that is to run durably."""
    full = ensure_config(graph.config, config)
    if CONFIG_KEY_TASK_ID in full[CONF]:
        return None
    # `config={"checkpointer": saver}` lands here; plain LangGraph ignores it without a word.
    given = full[CONF].get("checkpointer")
    if _durable_of(given) is not None:
        graph = bind(graph, given)
    durable = _durable_of(graph._resolve_checkpointer(full))
    if durable is None or durable.session is not None:
        return None
    return durable, graph


def _hook_astream(original: Callable[..., Any]) -> Callable[..., Any]:
    async def astream(
        self: Any, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        root = _root_call(self, config)
        if root is None:
            chunks = original(self, input, config, **kwargs)
        else:
            durable, graph = root
            chunks = durable.astream(graph, input, config or {}, kwargs)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    return astream


def _hook_stream(original: Callable[..., Any]) -> Callable[..., Any]:
    def stream(
        self: Any, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        root = _root_call(self, config)
        if root is None:
            yield from original(self, input, config, **kwargs)
        else:
            durable, graph = root
            yield from durable.stream(graph, input, config or {}, kwargs)

    return stream


def _hook_with_config(original: Callable[..., Any]) -> Callable[..., Any]:
    def with_config(self: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        checkpointer = kwargs.pop("checkpointer", None)
        if config and "checkpointer" in config:
            rest = dict(config)
            checkpointer = rest.pop("checkpointer")
            graph = original(self, rest, **kwargs)
        else:
            graph = original(self, config, **kwargs)
        if checkpointer is not None:
            graph.checkpointer = checkpointer
        return graph

    return with_config


def _check_resumable(loop: Any) -> None:
    """Refuse an answer to a node that the graph lacks: LangGraph would do nothing with it."""
    conf = loop.config[CONF]
    pending = loop.checkpoint_pending_writes
    if loop.is_nested:
        goes_on = bool(conf.get(CONFIG_KEY_RESUMING))
    else:
        goes_on = loop.input is None or (isinstance(loop.input, Command) and not loop.input.goto)
    # Whoever sent the graph elsewhere before changed what is due.
    moved = any(task == NULL_TASK_ID and channel != RESUME for task, channel, _ in pending)
    asked = {task for task, channel, _ in pending if channel == INTERRUPT}
    if not asked or not goes_on or moved:
        return
    due = _algo.prepare_next_tasks(
        loop.checkpoint,
        pending,
        loop.nodes,
        loop.channels,
        loop.managed,
        loop.config,
        loop.step,
        loop.stop,
        for_execution=False,
    )
    # Of one that failed it may be the error handler that asked; one that never began has another
    # id than before, because its node is triggered in another way.
    failed = {task for task, channel, _ in pending if channel == ERROR}
    done = {task for task, _, _ in pending} - asked - failed
    if not due.keys() <= done:
        return
    sends = loop.checkpoint["channel_values"].get(TASKS) or ()
    missing = missing_nodes(loop.checkpoint, sends, set(loop.nodes))
    where = ", ".join(map(repr, missing)) or "a node"
    raise ImpossibleResumeError(
        f"Thread {conf.get('thread_id')!r} is paused in {where}, which the graph that is served "
        "now does not have: renamed or removed since. Nothing was resumed, and no answer was "
        "taken. Serve a graph that has the node and resume again, or go on elsewhere: "
        "Command(goto=...), or update_state(..., as_node=...)."
    )


def _hook_first(original: Callable[..., Any]) -> Callable[..., Any]:
    def _first(self: Any, **kwargs: Any) -> Any:
        durable = _durable_of(self.checkpointer)
        session = durable.session if durable is not None else None
        if session is None:
            return original(self, **kwargs)
        # Before anything is recorded: with the node back, the thread can still be resumed.
        _check_resumable(self)
        if self.is_nested:
            return original(self, **kwargs)
        session.enter_loop(self)
        if not session.keeps_breakpoints:
            return original(self, **kwargs)
        # An empty input means "go on past the breakpoint"; a retry means "go on", so a gate
        # nobody approved yet must still hold.
        seen = dict(self.checkpoint["versions_seen"].get(INTERRUPT, {}))
        result = original(self, **kwargs)
        self.checkpoint["versions_seen"][INTERRUPT] = seen
        return result

    return _first


_HOOKS = (
    _Hook(_runner, "arun_with_retry", ("task", "retry_policy", "configurable"), _hook_arun),
    _Hook(_runner, "run_with_retry", ("task", "retry_policy", "configurable"), _hook_run),
    _Hook(Pregel, "astream", ("input", "config", "stream_mode", "durability"), _hook_astream),
    _Hook(Pregel, "stream", ("input", "config", "stream_mode", "durability"), _hook_stream),
    _Hook(Pregel, "with_config", ("config",), _hook_with_config),
    _Hook(_loop.PregelLoop, "_first", ("input_keys", "updated_channels"), _hook_first),
)

_USED = (
    (Pregel, "_resolve_checkpointer"),
    (Pregel, "_apply_checkpointer_allowlist"),
    (Pregel, "_defaults"),
    (Pregel, "copy"),
    (Pregel, "_output_mapper"),
    (Pregel, "_state_mapper"),
    (_algo, "prepare_next_tasks"),
    (_loop.PregelLoop, "accept_push"),
    (_loop.AsyncPregelLoop, "aaccept_push"),
)
