"""LangGraph seam: the hooks: where LangGraph's own code leads into this package.

Six places are hooked, all of them module or class attributes, so LangGraph's own loop runs
unmodified around them:

- ``pregel._runner.arun_with_retry`` / ``run_with_retry``: every task of every superstep, ``@task``
  call and nested graph goes through these two.
- ``Pregel.astream`` / ``Pregel.stream``: every root call (``ainvoke`` and the rest come through).
- ``Pregel.ainvoke`` / ``Pregel.invoke``: they want the result alone, not the stream they consume.
- ``Pregel.with_config``: plain LangGraph silently ignores ``checkpointer=`` there.
- ``Pregel.abulk_update_state`` / ``Pregel.bulk_update_state``: which nodes are due after an edit,
  which checkpoints do not tell without their graph.
- ``PregelLoop._first``: a retried run must not walk past its breakpoints.

A graph is ours when its checkpointer has the attribute ``DURABLE``; everything else passes
through untouched. Detection is by attribute because a server may wrap the saver in an adapter.

What is private to LangGraph is in ``private.py``; the attributes of loops and tasks that are read
here are listed there, and verified.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, NoReturn, cast

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.errors import GraphInterrupt, NodeTimeoutError
from langgraph.types import Command, TimeoutPolicy

from .._exits import Owned, contained, left_anywhere
from ..errors import ImpossibleResumeError, NotDurableError
from . import langchain, parcel, private
from .chunks import VALUES, are_interrupts
from .contract import Durable, Limits, Marked, SeamTask, Session, ToolCall
from .parcel import Away
from .private import (
    CONF,
    CONFIG_KEY_CHECKPOINT_NS,
    CONFIG_KEY_CHECKPOINTER,
    CONFIG_KEY_RESUME_MAP,
    CONFIG_KEY_RESUMING,
    CONFIG_KEY_STREAM_MESSAGES_V2,
    CONFIG_KEY_TASK_ID,
    ERROR,
    ERROR_SOURCE_NODE,
    INTERRUPT,
    NULL_TASK_ID,
    PUSH,
    RESUME,
    START,
    TASKS,
    ensure_config,
    validate_timeout_supported,
)
from .resumable import missing_nodes
from .retries import policies

DURABLE = "__langgraph_temporal__"
SPREAD = "spread"
"""Key of ``configurable``: whether the tasks of a superstep of this call may run on all workers."""
_ASKED = "__langgraph_temporal_asked__"
"""Of a loop: what its tasks waited for when it began."""

__all__ = [
    "DURABLE",
    "ERROR",
    "INTERRUPT",
    "NULL_TASK_ID",
    "RESUME",
    "Away",
    "Durable",
    "Limits",
    "Marked",
    "SeamTask",
    "Session",
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
    """One patched attribute, and what takes its place."""

    at: private.Needed
    make: Callable[[Callable[..., Any]], Callable[..., Any]]

    @property
    def key(self) -> tuple[int, str]:
        return _key(self.at)


def _key(at: private.Needed) -> tuple[int, str]:
    return id(at.owner), at.name


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
        original = getattr(hook.at.owner, hook.at.name)
        _originals[hook.key] = original
        setattr(hook.at.owner, hook.at.name, functools.wraps(original)(hook.make(original)))


def uninstall() -> None:
    """Take the hooks out again; idempotent."""
    for hook in _HOOKS:
        original = _originals.pop(hook.key, None)
        if original is not None:
            setattr(hook.at.owner, hook.at.name, original)


def check_installed() -> None:
    """Raise if the hooks are not in place: what runs now is not durable.

    Raises:
        NotDurableError: Naming what is not hooked.
    """
    gone = [
        hook.at.label
        for hook in _HOOKS
        # Others may wrap what is hooked, but not put back what was there before.
        if not _originals or getattr(hook.at.owner, hook.at.name) is _originals[hook.key]
    ]
    if gone:
        raise NotDurableError(
            "A graph with a TemporalSaver was run or written to without the hooks of "
            f"langgraph_temporal_exec: {', '.join(gone)} of LangGraph was put back to what it "
            "was. Nothing of this call is recorded. Something in this process undoes patches or "
            "reloads modules of LangGraph; import langgraph_temporal_exec after that."
        )


def verify() -> None:
    """Check all that this package knows of LangGraph and of langchain_core.

    Raises:
        UnsupportedLangGraphError: Naming what moved.
    """
    private.verify()
    langchain.verify()


def _original(at: private.Needed) -> Callable[..., Any]:
    return _originals.get(_key(at)) or getattr(at.owner, at.name)


def original_astream(
    graph: Any, input: Any, config: RunnableConfig, kwargs: Mapping[str, Any]
) -> AsyncGenerator[Any, None]:
    """LangGraph's own ``astream`` of a graph."""
    stream: AsyncGenerator[Any, None] = _original(private.ASTREAM)(graph, input, config, **kwargs)
    return stream


def original_stream(
    graph: Any, input: Any, config: RunnableConfig, kwargs: Mapping[str, Any]
) -> Generator[Any, None, None]:
    """LangGraph's own ``stream`` of a graph."""
    stream: Generator[Any, None, None] = _original(private.SYNC_STREAM)(
        graph, input, config, **kwargs
    )
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
    bound = private.copied(graph)
    bound.checkpointer = checkpointer
    return bound


def reviving(graph: Any, serde: SerializerProtocol) -> SerializerProtocol:
    """The serializer as a graph uses it: see ``private.with_allowlist``."""
    return private.with_allowlist(graph, serde)


def check_call(graph: Any, config: RunnableConfig, kwargs: Mapping[str, Any]) -> None:
    """Raise what LangGraph would raise for bad arguments, before anything is recorded."""
    private.check_arguments(graph, config, kwargs)


def interrupted(loop: Any) -> bool:
    """Whether a loop stopped at an interrupt or a breakpoint."""
    if loop is None:
        return False
    if private.at_breakpoint(loop):
        return True
    return any(channel == INTERRUPT for _, channel, _ in loop.checkpoint_pending_writes)


def questions(pending_writes: Iterable[tuple[str, str, Any]]) -> dict[str, tuple[Any, ...]]:
    """By task the interrupts that nobody has answered, as ``get_state`` tells them.

    A task that wrote an output has ended: what it had asked was answered.
    """
    asked: dict[str, tuple[Any, ...]] = {}
    ended = set()
    for task_id, channel, value in pending_writes:
        if channel == INTERRUPT:
            asked[task_id] = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        elif channel not in (ERROR, ERROR_SOURCE_NODE, RESUME):
            ended.add(task_id)
    return {t: found for t, found in asked.items() if t not in ended and t != NULL_TASK_ID}


def in_task_order(
    pending_writes: Iterable[tuple[str, str, Any]], paths: Mapping[str, str]
) -> tuple[Any, ...]:
    """The interrupts nobody has answered, in the order in which LangGraph makes their tasks.

    Args:
        pending_writes: Of a checkpoint.
        paths: Where in the graph the tasks are, as it is recorded with their writes.
    """
    asked = questions(pending_writes)

    def order(task_id: str) -> tuple[bool, str]:
        path = paths.get(task_id, "")
        return not private.is_pushed(path), path

    # A task that another one waits for and that other one have the same question.
    found = {i.id: i for task_id in sorted(asked, key=order) for i in asked[task_id]}
    return tuple(found.values())


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Where a loop ended.

    Args:
        waits: Whether it stopped at a question or a breakpoint.
        checkpoint_id: The checkpoint it came to.
        nodes: Those that ask, one for each task; at a breakpoint none.
        due: Those that ask, or those that are due at a breakpoint; each once.
        interrupts: Ids of the interrupts that nobody has answered.
    """

    waits: bool = False
    checkpoint_id: str = ""
    nodes: tuple[str, ...] = ()
    due: tuple[str, ...] = ()
    interrupts: tuple[str, ...] = ()


def stop_of(loop: Any) -> Stop:
    """Where a loop ended, also one that failed or was cancelled; ``None``: it never began."""
    if loop is None:
        return Stop()
    asked = questions(loop.checkpoint_pending_writes)
    # A loop whose first tasks cannot be prepared has none.
    tasks = getattr(loop, "tasks", {}).values()
    nodes = tuple(sorted(task.name for task in tasks if task.id in asked))
    at_breakpoint = private.at_breakpoint(loop) and not asked
    due = _due(loop) if at_breakpoint else set(nodes)
    return Stop(
        waits=interrupted(loop),
        checkpoint_id=loop.checkpoint["id"],
        nodes=nodes,
        due=tuple(sorted(due)),
        interrupts=tuple(dict.fromkeys(i.id for found in asked.values() for i in found)),
    )


def _due(loop: Any) -> set[str]:
    """Names of the nodes a loop would go on with; none if their input is refused by the graph."""
    try:
        due = private.due_in(loop)
    except Exception:
        # How the run ended must be recorded all the same; its next run says what is wrong.
        return set()
    return {task.name for task in due.values()}


# -- edits ------------------------------------------------------------------------------------


class Edit:
    """An ``update_state`` under way: what the saver, which sees checkpoints alone, must know of it.

    Args:
        graph: The graph whose state is edited.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self.base = ""
        """The checkpoint of the thread itself that is edited next."""

    @property
    def graph_name(self) -> str:
        """Name of the graph."""
        return str(self._graph.name)

    def due(self, checkpoint: Any, metadata: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the nodes that are to run after a checkpoint the edit has made."""
        due = private.due_after(self._graph, checkpoint, metadata.get("step", -1) + 1)
        return tuple(sorted({task.name for task in due.values()}))


_edit: ContextVar[Edit | None] = ContextVar("langgraph_temporal_edit", default=None)


def current_edit() -> Edit | None:
    """The edit that the calling code is part of, also from a coroutine it waits for elsewhere."""
    return _edit.get()


def position_of(loop: Any, interrupt_ids: set[str]) -> int | None:
    """Which of a superstep's tasks, in LangGraph's order, has asked; ``None``: none of them."""
    if loop is None:
        return None
    for task_id, channel, value in list(loop.checkpoint_pending_writes):
        if channel != INTERRUPT or not are_interrupts(value):
            continue
        tasks = _asking_tasks(loop)
        if interrupt_ids & {interrupt.id for interrupt in value} and task_id in tasks:
            return tasks.index(task_id)
    return None


def _asking_tasks(loop: Any) -> list[str]:
    """The tasks of a superstep whose interrupts are shown; of a ``call`` the caller's are."""
    tasks = list(loop.tasks.values())
    return [task.id for task in tasks if not (task.path[0] == PUSH and task.path[-1] is True)]


def first_to_ask(loop: Any, shown: set[int]) -> int:
    """The first of a superstep's tasks that still runs, or whose question was not shown yet.

    Their number if there is none. An answer that a task was given (``RESUME``) is recorded before
    the task ends.
    """
    writes = [(task, channel) for task, channel, _ in list(loop.checkpoint_pending_writes)]
    ended = {task for task, channel in writes if channel != RESUME}
    asking = {task for task, channel in writes if channel == INTERRUPT}
    tasks = _asking_tasks(loop)
    return next(
        (
            i
            for i, task in enumerate(tasks)
            if i not in shown and (task not in ended or task in asking)
        ),
        len(tasks),
    )


def session_of(config: Mapping[str, Any]) -> Session | None:
    """The session in which a node runs; ``None`` if its graph has no ``TemporalSaver``."""
    durable = _durable_of((config.get(CONF) or {}).get(CONFIG_KEY_CHECKPOINTER))
    return durable.session if durable is not None else None


NO_LIMITS = Limits()


def _check_limits(task: Any, limits: Limits) -> None:
    """Raise if a task cannot be timed."""
    if limits.timeout is not None:
        # As LangGraph itself does when a node is added with a timeout.
        validate_timeout_supported(task.proc, name=task.name)


@contextlib.contextmanager
def _limited(task: Any, limits: Limits) -> Iterator[None]:
    """What a task is that has taken too long: a failure, or an answered tool call."""
    try:
        yield
    except NodeTimeoutError as exc:
        # Not one of a node inside.
        if exc.node != task.name or limits.exceeded is None:
            raise
        try:
            text = limits.exceeded("")
        except Exception as told:
            raise told from exc
        parcel.answer_call(task, limits.call_id, text)


def _with_limits(task: Any, limits: Limits) -> Any:
    """The task with the timeout and retries of the saver's options."""
    if limits.retry is not None:
        task = replace(task, retry_policy=policies(limits.retry))
    if limits.timeout is None:
        return task
    return replace(task, timeout=TimeoutPolicy(run_timeout=limits.timeout))


# -- names ------------------------------------------------------------------------------------


def _tool_calls(task: Any) -> Sequence[Any]:
    """The tool calls that a task is to make; none if it is no tool task.

    What was sent to a task is its own: ``Send("tools", [call])`` of LangChain's agents, the
    ``ToolCallWithContext`` of ``create_react_agent`` (and of agents before that), a bare call, or
    one among the arguments of a ``@task``. A task that is reached by an edge gets the state, in
    which a ``ToolNode`` looks for the calls the model has asked for last.
    """
    calls: Sequence[Any] = ()
    if task.path and task.path[0] == PUSH:
        calls = _calls_sent(task.input)
    if not calls and (key := private.tool_messages_key(task.proc)) is not None:
        messages = _messages(task.input, key)
        calls = next((m.tool_calls for m in reversed(messages) if isinstance(m, AIMessage)), ())
    return calls


def _calls_sent(value: Any) -> list[Any]:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict):
        args, kwargs = value
        return [call for arg in (*args, *kwargs.values()) for call in _calls_sent(arg)]
    if isinstance(value, dict) and private.TOOL_CALL in value:
        value = value[private.TOOL_CALL]
    return [v for v in (value if isinstance(value, list) else (value,)) if _is_tool_call(v)]


def _is_tool_call(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("args"), dict)
        and "id" in value
    )


def _tool_name(call: Any) -> str:
    """The tool; for the one by which deepagents delegates, with the sub-agent."""
    agent = _subagent(call)
    return f"{call['name']} ({agent})" if agent else str(call["name"])


def _tool_call(call: Any) -> ToolCall:
    return ToolCall(name=str(call["name"]), id=str(call["id"] or ""), subagent=_subagent(call))


def _subagent(call: Any) -> str:
    """The sub-agent to which deepagents' tool delegates; "" of another tool."""
    agent = call["args"].get("subagent_type")
    return agent if isinstance(agent, str) else ""


def _messages(state: Any, key: str) -> Sequence[Any]:
    if isinstance(state, dict):
        state = state.get(key)
    elif not isinstance(state, list):
        state = getattr(state, key, None)
    return state if isinstance(state, (list, tuple)) else ()


def _called_as(loop: Any) -> str:
    """Name under which a nested graph was called, such as that of a sub-agent; "" if it has none.

    As in LangGraph's own traces, but for the name that every graph has that was given none.
    """
    graph = private.graph_of(loop)
    name = loop.config.get("run_name") or ("" if graph is None else graph.get_name())
    return "" if name == private.DEFAULT_NAME else str(name)


# -- hooks ------------------------------------------------------------------------------------


@dataclass
class _ResultOnly:
    """A call of ``ainvoke`` or ``invoke`` whose first ``astream`` is for its result alone."""

    graph: Any
    taken: bool = False

    def take(self, graph: Any) -> bool:
        """Whether this is that stream."""
        if self.taken or graph is not self.graph:
            return False
        self.taken = True
        return True


_invoked: ContextVar[_ResultOnly | None] = ContextVar("langgraph_temporal_invoked", default=None)


def _takes_result_only(graph: Any) -> bool:
    call = _invoked.get()
    return call is not None and call.take(graph)


def _durable_of(checkpointer: Any) -> Marked | None:
    durable: Marked | None = getattr(checkpointer, DURABLE, None)
    return durable


def _seam_task(
    task: Any, session: Session, configurable: Mapping[str, Any]
) -> tuple[SeamTask, bool] | None:
    """The neutral view of a task, and whether it is to run as an Activity; ``None``: it is none of
    the user's."""
    if task.name == START:
        return None
    loop = private.loop_of(configurable)
    calls = _tool_calls(task)
    view = SeamTask(
        id=task.id,
        name=task.name,
        checkpoint_ns=loop.config[CONF].get("checkpoint_ns", ""),
        checkpoint_id=loop.checkpoint["id"],
        checkpoint_stored=loop.checkpoint["id"] == loop.checkpoint_id_saved,
        step=loop.step,
        tools=tuple(map(_tool_name, calls)),
        within=private.task_around(task, loop),
        calls=tuple(map(_tool_call, calls)),
        graph=parcel.graph_name(loop),
        peers=len(loop.tasks),
        spread=loop.config[CONF].get(SPREAD),
        obstacle=parcel.obstacle(task, loop),
    )
    ships = parcel.is_recorded(loop) and session.ships(view)
    if not ships:
        session.note_within(task.id, view.within)
    return view, ships


def _session_of_task(task: Any) -> tuple[Session | None, str]:
    """The session a task runs in, and what its errors call it."""
    conf = (task.config or {}).get(CONF, {})
    durable = _durable_of(conf.get(CONFIG_KEY_CHECKPOINTER))
    session = durable.session if durable is not None else None
    return session, f"Node {task.name!r} of thread {conf.get('thread_id')!r}"


def _hook_arun(original: Callable[..., Any]) -> Callable[..., Any]:
    async def arun_with_retry(task: Any, *args: Any, **kwargs: Any) -> Any:
        session, where = _session_of_task(task)
        if session is None:
            return await original(task, *args, **kwargs)
        configurable = kwargs.get("configurable") or {}
        below = _Below.of(task, configurable)

        async def run(task: Any, limits: Limits = NO_LIMITS) -> Any:
            result = None
            with contained(where), _limited(task, limits):
                result = await original(_with_limits(task, limits), *args, **kwargs)
            if below is not None:
                await below.acheck()
            return result

        found = _seam_task(task, session, configurable)
        if found is None:
            return await run(task)
        view, ships = found
        if session.places(view):
            stream = bool(kwargs.get("stream"))
            return await session.arun_placed(
                view, _away(task, configurable, below, stream=stream, sync=False)
            )
        limits = session.limits(view)
        _check_limits(task, limits)
        if not ships:
            return await run(task, limits)
        return await session.arun_task(view, lambda: run(task, limits))

    return arun_with_retry


def _hook_run(original: Callable[..., Any]) -> Callable[..., Any]:
    def run_with_retry(task: Any, *args: Any, **kwargs: Any) -> Any:
        session, where = _session_of_task(task)
        if session is None:
            return original(task, *args, **kwargs)
        configurable = kwargs.get("configurable") or {}
        below = _Below.of(task, configurable)

        def run(task: Any, limits: Limits = NO_LIMITS) -> Any:
            result = None
            with contained(where, sync=True), _limited(task, limits):
                result = original(_with_limits(task, limits), *args, **kwargs)
            if below is not None:
                below.check()
            return result

        found = _seam_task(task, session, configurable)
        if found is None:
            return run(task)
        view, ships = found
        if session.places(view):
            return session.run_placed(
                view, _away(task, configurable, below, stream=False, sync=True)
            )
        limits = session.limits(view)
        _check_limits(task, limits)
        if not ships:
            return run(task, limits)
        return session.run_task(view, lambda: run(task, limits))

    return run_with_retry


def _away(
    task: Any, configurable: Mapping[str, Any], below: _Below | None, *, stream: bool, sync: bool
) -> Away:
    loop = private.loop_of(configurable)
    asked = None if below is None else below.asked
    return Away(task, loop, stream=stream, sync=sync, asked=asked)


async def arun_placed(rebuilt: parcel.Rebuilt, limits: Limits) -> None:
    """Run a task that came from another worker, as LangGraph runs it there.

    Raises:
        BaseException: As in place.
    """
    session, where = _session_of_task(rebuilt.task)
    below = _below_of(rebuilt, session)
    _check_limits(rebuilt.task, limits)
    with contained(where), _limited(rebuilt.task, limits):
        await _original(private.ARUN_TASK)(
            _with_limits(rebuilt.task, limits),
            None,
            stream=rebuilt.stream,
            configurable=rebuilt.configurable,
        )
    if below is not None:
        await below.acheck()


def run_placed(rebuilt: parcel.Rebuilt, limits: Limits) -> None:
    """Sync ``arun_placed``, in the calling OS thread."""
    session, where = _session_of_task(rebuilt.task)
    below = _below_of(rebuilt, session)
    if limits.exceeded is not None:
        # LangGraph times no sync task. Who waits for this one answers its tool call.
        limits = replace(limits, timeout=None, exceeded=None)
    _check_limits(rebuilt.task, limits)
    with contained(where, sync=True), _limited(rebuilt.task, limits):
        _original(private.RUN_TASK)(
            _with_limits(rebuilt.task, limits), None, configurable=rebuilt.configurable
        )
    if below is not None:
        below.check()


def _below_of(rebuilt: parcel.Rebuilt, session: Session | None) -> _Below | None:
    if not rebuilt.asked or session is None:
        return None
    saver = rebuilt.task.config[CONF][CONFIG_KEY_CHECKPOINTER]
    return _Below(task=rebuilt.task, saver=saver, session=session, asked=rebuilt.asked)


@dataclass(frozen=True, kw_only=True)
class _Below:
    """A task that is to go on in a graph which it called, and which waits for an answer there.

    LangGraph takes its word when it returns without having called that graph: the code that is
    served now has renamed or removed it, and the answer is lost. See docs/decisions/0016.
    """

    task: Any
    saver: Any
    session: Session
    asked: Sequence[Any]

    @classmethod
    def of(cls, task: Any, configurable: Mapping[str, Any]) -> _Below | None:
        """``None``: the task has asked nothing, or its graph has no ``TemporalSaver``."""
        conf = (task.config or {}).get(CONF, {})
        saver = conf.get(CONFIG_KEY_CHECKPOINTER)
        durable = _durable_of(saver)
        if durable is None or durable.session is None or not private.has_loop(configurable):
            return None
        loop = private.loop_of(configurable)
        asked = getattr(loop, _ASKED, {}).get(task.id)
        if not asked:
            return None
        return cls(task=task, saver=saver, session=durable.session, asked=asked)

    async def acheck(self) -> None:
        """Once the task has returned.

        Raises:
            GraphInterrupt: It goes on to wait.
        """
        for config in self._not_called():
            self._check(config, await self.saver.aget_tuple(config))

    def check(self) -> None:
        """Sync ``acheck``."""
        for config in self._not_called():
            self._check(config, self.saver.get_tuple(config))

    def _not_called(self) -> list[RunnableConfig]:
        """Namespaces of graphs that the task has called before, and not this time."""
        conf = self.task.config[CONF]
        own: str = conf[CONFIG_KEY_CHECKPOINT_NS]
        bare = private.without_tasks(own)
        found = []
        for namespace in set(self.session.namespaces) - self.session.entered:
            for base in (own, bare):
                rest = namespace.removeprefix(base)
                # A second graph that is called gets a number.
                if namespace.startswith(base) and (not rest or rest[1:].isdigit()):
                    found.append(namespace)
        address = {"thread_id": conf["thread_id"]}
        return [{CONF: {**address, "checkpoint_ns": ns}} for ns in sorted(set(found))]

    def _check(self, config: RunnableConfig, found: Any) -> None:
        if found is None:
            return
        asked_there = _asked_by_task(found.pending_writes or ()).values()
        pending = {interrupt.id for asked in asked_there for interrupt in asked}
        waiting = [interrupt for interrupt in self.asked if interrupt.id in pending]
        if not waiting:
            return
        conf = self.task.config[CONF]
        # It has not done what it was resumed for, whatever it returned.
        kept = [write for write in self.task.writes if write[0] == RESUME]
        self.task.writes.clear()
        self.task.writes.extend(kept)
        _go_on_waiting(
            self.session,
            conf,
            self.asked,
            f"Thread {conf['thread_id']!r} is paused in a graph that node {self.task.name!r} had "
            f"called (namespace {config[CONF]['checkpoint_ns']!r}), and which that node did not "
            "call again: a sub-graph or sub-agent that was renamed or removed since. Its answer "
            "was not taken. Serve a graph that has it and resume again",
        )


def _asked_by_task(pending_writes: Iterable[Any]) -> dict[str, Sequence[Any]]:
    """What tasks wait for, from the pending writes of a checkpoint."""
    return {task: value for task, channel, value in pending_writes if channel == INTERRUPT}


def _go_on_waiting(
    session: Session, conf: Mapping[str, Any], asked: Sequence[Any], problem: str
) -> NoReturn:
    """Let a task wait for what it has waited for, and refuse the resume if it was meant.

    Not an error in the task: that would be recorded, and stop those beside it.
    """
    answers = conf.get(CONFIG_KEY_RESUME_MAP)
    if not answers or any(interrupt.id in answers for interrupt in asked):
        session.refuse(ImpossibleResumeError(f"{problem}, {_OTHER_WAYS}"))
    raise GraphInterrupt(tuple(asked))


_OTHER_WAYS = "or go on elsewhere: Command(goto=...), or update_state(..., as_node=...)."


def _root_call(graph: Any, config: RunnableConfig | None) -> tuple[Durable, Any] | None:
    """The saver and the graph of a root call that is to run durably."""
    full = ensure_config(graph.config, config)
    if CONFIG_KEY_TASK_ID in full[CONF]:
        return None
    # `config={"checkpointer": saver}` lands here; plain LangGraph ignores it without a word.
    given = full[CONF].get("checkpointer")
    if _durable_of(given) is not None:
        graph = bind(graph, given)
    durable = _durable_of(private.resolved_checkpointer(graph, full))
    if durable is None or durable.session is not None:
        return None
    return cast(Durable, durable), graph


def _hook_astream(original: Callable[..., Any]) -> Callable[..., Any]:
    async def astream(
        self: Any, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        only = _takes_result_only(self)
        root = _root_call(self, config)
        if root is None:
            chunks = original(self, input, config, **kwargs)
        else:
            durable, graph = root
            chunks = durable.astream(graph, input, config or {}, kwargs, result_only=only)
        chunks = Owned(chunks)
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
        only = _takes_result_only(self)
        root = _root_call(self, config)
        if root is None:
            yield from original(self, input, config, **kwargs)
        else:
            durable, graph = root
            chunks = durable.stream(graph, input, config or {}, kwargs, result_only=only)
            yield from left_anywhere(chunks)

    return stream


def _hook_ainvoke(original: Callable[..., Any]) -> Callable[..., Any]:
    async def ainvoke(
        self: Any, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        if kwargs.get("stream_mode", VALUES) != VALUES:
            return await original(self, input, config, **kwargs)
        token = _invoked.set(_ResultOnly(self))
        try:
            return await original(self, input, config, **kwargs)
        finally:
            _invoked.reset(token)

    return ainvoke


def _hook_invoke(original: Callable[..., Any]) -> Callable[..., Any]:
    def invoke(self: Any, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        if kwargs.get("stream_mode", VALUES) != VALUES:
            return original(self, input, config, **kwargs)
        token = _invoked.set(_ResultOnly(self))
        try:
            return original(self, input, config, **kwargs)
        finally:
            _invoked.reset(token)

    return invoke


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


def _check_resumable(loop: Any, session: Session) -> None:
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
    due = private.due_in(loop)
    # Of one that failed it may be the error handler that asked; one that never began has another
    # id than before, because its node is triggered in another way.
    failed = {task for task, channel, _ in pending if channel == ERROR}
    done = {task for task, _, _ in pending} - asked - failed
    if not due.keys() <= done:
        return
    sends = loop.checkpoint["channel_values"].get(TASKS) or ()
    missing = missing_nodes(loop.checkpoint, sends, set(loop.nodes))
    where = ", ".join(map(repr, missing)) or "a node"
    problem = (
        f"Thread {conf.get('thread_id')!r} is paused in {where}, which the graph that is served "
        "now does not have: renamed or removed since. Nothing was resumed, and no answer was "
        "taken. Serve a graph that has the node and resume again"
    )
    if loop.is_nested:
        interrupts = [i for asked in _asked_by_task(pending).values() for i in asked]
        _go_on_waiting(session, conf, interrupts, problem)
    raise ImpossibleResumeError(f"{problem}, {_OTHER_WAYS}")


def _hook_first(original: Callable[..., Any]) -> Callable[..., Any]:
    def first(loop: Any, **kwargs: Any) -> Any:
        durable = _durable_of(loop.checkpointer)
        session = durable.session if durable is not None else None
        if session is None:
            return original(loop, **kwargs)
        # Before anything is recorded: with the node back, the thread can still be resumed.
        if loop.is_nested:
            session.entered.add(loop.config[CONF].get(CONFIG_KEY_CHECKPOINT_NS, ""))
        _check_resumable(loop, session)
        setattr(loop, _ASKED, _asked_by_task(loop.checkpoint_pending_writes))
        if loop.is_nested:
            if name := _called_as(loop):
                session.enter_namespace(loop.config[CONF].get("checkpoint_ns", ""), name)
            return original(loop, **kwargs)
        session.enter_loop(loop)
        if not session.keeps_breakpoints:
            return original(loop, **kwargs)
        # An empty input means "go on past the breakpoint"; a retry means "go on", so a gate
        # nobody approved yet must still hold.
        seen = dict(loop.checkpoint["versions_seen"].get(INTERRUPT, {}))
        result = original(loop, **kwargs)
        loop.checkpoint["versions_seen"][INTERRUPT] = seen
        return result

    return first


def _hook_aupdate(original: Callable[..., Any]) -> Callable[..., Any]:
    async def abulk_update_state(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _edit.set(Edit(self))
        try:
            return await original(self, *args, **kwargs)
        finally:
            _edit.reset(token)

    return abulk_update_state


def _hook_update(original: Callable[..., Any]) -> Callable[..., Any]:
    def bulk_update_state(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _edit.set(Edit(self))
        try:
            return original(self, *args, **kwargs)
        finally:
            _edit.reset(token)

    return bulk_update_state


_HOOKS = (
    _Hook(private.ARUN_TASK, _hook_arun),
    _Hook(private.RUN_TASK, _hook_run),
    _Hook(private.ASTREAM, _hook_astream),
    _Hook(private.SYNC_STREAM, _hook_stream),
    _Hook(private.AINVOKE, _hook_ainvoke),
    _Hook(private.INVOKE, _hook_invoke),
    _Hook(private.WITH_CONFIG, _hook_with_config),
    _Hook(private.AUPDATE, _hook_aupdate),
    _Hook(private.UPDATE, _hook_update),
    _Hook(private.FIRST, _hook_first),
)
