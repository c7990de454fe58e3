"""LangGraph seam: every private name and copied literal of LangGraph, verified before it is used.

Of LangGraph and its checkpoint library: no other module imports a name of theirs that begins with
an underscore, reads such an attribute, or repeats one of their literals (``tests/layering.py``).
What workflows must know without importing LangGraph is in ``protocol/names.py``, and is compared
here. Of langchain_core: ``langchain.py``. Of the API server: ``studio/server.py``. What belongs to
libraries that need not be there (numpy, langgraph-prebuilt) is verified if they are imported by
then; without it an array of objects is not recognized, and a tool not named in Temporal's UI.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase

from ..errors import UnsupportedLangGraphError
from ..protocol import log as wire_log
from ..protocol import names as wire

SUPPORTED = {"langgraph": ">=1.2.13,<1.3", "langgraph-checkpoint": ">=4.1,<5"}
"""As in ``pyproject.toml``."""

try:
    from langgraph._internal import _config, _constants
    from langgraph._internal._config import ensure_config
    from langgraph._internal._constants import (
        CONF,
        CONFIG_KEY_CACHE,
        CONFIG_KEY_CALL,
        CONFIG_KEY_CHECKPOINT_NS,
        CONFIG_KEY_CHECKPOINTER,
        CONFIG_KEY_REPLAY_STATE,
        CONFIG_KEY_RESUME_MAP,
        CONFIG_KEY_RESUMING,
        CONFIG_KEY_RUNTIME,
        CONFIG_KEY_SCRATCHPAD,
        CONFIG_KEY_STREAM,
        CONFIG_KEY_STREAM_MESSAGES_V2,
        CONFIG_KEY_TASK_ID,
        ERROR,
        ERROR_SOURCE_NODE,
        INPUT,
        INTERRUPT,
        NO_WRITES,
        NS_END,
        NS_SEP,
        NULL_TASK_ID,
        PULL,
        PUSH,
        RESUME,
        TASKS,
    )
    from langgraph._internal._replay import ReplayState
    from langgraph._internal._runnable import RunnableSeq, set_config_context
    from langgraph.channels.untracked_value import UntrackedValue
    from langgraph.checkpoint.base import (
        EXCLUDED_METADATA_KEYS,
        WRITES_IDX_MAP,
        BaseCheckpointSaver,
        Checkpoint,
        CheckpointMetadata,
    )
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.serde.types import _DeltaSnapshot
    from langgraph.constants import END, START
    from langgraph.graph import StateGraph
    from langgraph.pregel import Pregel, _algo, _checkpoint, _loop, _runner, _utils
    from langgraph.pregel._checkpoint import achannels_from_checkpoint, channels_from_checkpoint
    from langgraph.pregel._messages import StreamMessagesHandler, StreamMessagesHandlerV2
    from langgraph.pregel._tools import StreamToolCallHandler
    from langgraph.pregel._utils import is_xxh3_128_hexdigest, validate_timeout_supported
    from langgraph.pregel.protocol import StreamProtocol
    from langgraph.runtime import RunControl, Runtime
    from langgraph.types import PregelExecutableTask
except ImportError as moved:
    raise UnsupportedLangGraphError.of(SUPPORTED, [str(moved)]) from moved

__all__ = [
    "CONF",
    "CONFIG_KEY_CACHE",
    "CONFIG_KEY_CALL",
    "CONFIG_KEY_CHECKPOINTER",
    "CONFIG_KEY_CHECKPOINT_NS",
    "CONFIG_KEY_REPLAY_STATE",
    "CONFIG_KEY_RESUME_MAP",
    "CONFIG_KEY_RESUMING",
    "CONFIG_KEY_RUNTIME",
    "CONFIG_KEY_STREAM",
    "CONFIG_KEY_STREAM_MESSAGES_V2",
    "CONFIG_KEY_TASK_ID",
    "ERROR",
    "ERROR_SOURCE_NODE",
    "INTERRUPT",
    "NO_WRITES",
    "NS_SEP",
    "NULL_TASK_ID",
    "PUSH",
    "RESUME",
    "START",
    "TASKS",
    "Pregel",
    "ensure_config",
    "validate_timeout_supported",
]


# -- where LangGraph is hooked ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Needed:
    """A function of LangGraph's that is hooked or called, and the parameters it must have."""

    owner: Any
    name: str
    parameters: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The function, for people to read."""
        return f"{getattr(self.owner, '__name__', self.owner)}.{self.name}"

    def problems(self) -> Iterator[str]:
        """What is missing of it."""
        target = getattr(self.owner, self.name, None)
        if not callable(target):
            yield f"{self.label} is missing"
            return
        parameters = inspect.signature(inspect.unwrap(target)).parameters
        missing = [p for p in self.parameters if p not in parameters]
        if missing:
            yield f"{self.label} has no parameter {', '.join(missing)}"


_WITH_RETRY = ("task", "retry_policy", "configurable")
_STREAM = ("input", "config", "stream_mode", "durability")

ARUN_TASK = Needed(_runner, "arun_with_retry", _WITH_RETRY)
RUN_TASK = Needed(_runner, "run_with_retry", _WITH_RETRY)
ASTREAM = Needed(Pregel, "astream", _STREAM)
SYNC_STREAM = Needed(Pregel, "stream", _STREAM)
AINVOKE = Needed(Pregel, "ainvoke", ("input", "config", "stream_mode"))
INVOKE = Needed(Pregel, "invoke", ("input", "config", "stream_mode"))
WITH_CONFIG = Needed(Pregel, "with_config", ("config",))
AUPDATE = Needed(Pregel, "abulk_update_state", ("config", "supersteps"))
UPDATE = Needed(Pregel, "bulk_update_state", ("config", "supersteps"))
FIRST = Needed(_loop.PregelLoop, "_first", ("input_keys", "updated_channels"))

PUT_WRITES = Needed(_loop.AsyncPregelLoop, "put_writes", ("task_id", "writes"))

_HOOKED = (
    *(ARUN_TASK, RUN_TASK, ASTREAM, SYNC_STREAM, AINVOKE, INVOKE),
    *(WITH_CONFIG, AUPDATE, UPDATE, FIRST),
)

_DEFAULTS = (
    *("stream_mode", "print_mode", "output_keys"),
    *("interrupt_before", "interrupt_after", "durability"),
)

_CALLED = (
    Needed(Pregel, "_resolve_checkpointer", ("config",)),
    Needed(Pregel, "_apply_checkpointer_allowlist", ("checkpointer",)),
    Needed(Pregel, "_defaults", ("config", *_DEFAULTS)),
    Needed(Pregel, "_migrate_checkpoint"),
    Needed(Pregel, "copy"),
    Needed(Pregel, "get_name"),
    Needed(_algo, "prepare_next_tasks", ("checkpoint", "channels", "for_execution")),
    Needed(_algo, "task_path_str"),
    Needed(_checkpoint, "channels_from_checkpoint", ("specs", "checkpoint")),
    Needed(_config, "ensure_config", ("configs",)),
    Needed(_utils, "is_xxh3_128_hexdigest", ("value",)),
    Needed(_utils, "validate_timeout_supported", ("runnable", "name")),
    # The tasks' `call` is a partial of one of these two with a method of the loop.
    Needed(_runner, "_call", ("schedule_task",)),
    Needed(_runner, "_acall", ("schedule_task",)),
    Needed(_loop.PregelLoop, "accept_push"),
    PUT_WRITES,
    Needed(_runner.PregelRunner, "commit", ("task", "exception")),
    Needed(_algo, "prepare_single_task", ("task_path", "task_id_checksum", "for_execution")),
    Needed(_algo, "apply_writes", ("checkpoint", "channels", "tasks")),
    Needed(_algo, "checkpoint_null_version", ("checkpoint",)),
    Needed(_checkpoint, "achannels_from_checkpoint", ("specs", "checkpoint", "saver", "config")),
    Needed(_loop.AsyncPregelLoop, "aaccept_push"),
)

_SET_LATER = ("_output_mapper", "_state_mapper", "_serde_allowlist")
"""What LangGraph sets on a compiled graph after it was made, and its ``copy`` loses."""

LOOP_ATTRIBUTES = frozenset(
    {
        *("channels", "checkpoint", "checkpoint_id_saved", "checkpoint_pending_writes"),
        *("checkpoint_config", "checkpointer", "checkpointer_get_next_version", "config"),
        *("durability", "input", "is_nested", "managed", "nodes", "status", "step", "stop"),
        *("store", "stream", "submit", "tasks", "_migrate_checkpoint"),
    }
)
"""What the hooks read of a loop, or set of one of their own."""

TASK_ATTRIBUTES = frozenset(
    {"config", "id", "input", "name", "path", "proc", "timeout", "writers", "writes"}
)
"""What they read of a task, or replace."""

_AT_BREAKPOINT = ("interrupt_before", "interrupt_after")

DEFAULT_NAME = "LangGraph"
"""What a graph is called that was given no name."""


def resolved_checkpointer(graph: Any, config: RunnableConfig) -> Any:
    """The checkpointer that a call of a graph uses."""
    return graph._resolve_checkpointer(config)


def with_allowlist(graph: Any, serde: SerializerProtocol) -> SerializerProtocol:
    """The serializer with the classes of the graph's schemas allowed, if it has an allow-list.

    LangGraph gives the saver of a graph such a one when it calls it (``LANGGRAPH_STRICT_MSGPACK``).
    """
    allowing: BaseCheckpointSaver[str] = graph._apply_checkpointer_allowlist(
        BaseCheckpointSaver(serde=serde)
    )
    return allowing.serde


def check_arguments(graph: Any, config: RunnableConfig, options: Mapping[str, Any]) -> None:
    """Raise what LangGraph would raise for bad arguments of a call."""
    graph._defaults(
        config,
        stream_mode=options.get("stream_mode") or graph.stream_mode,
        print_mode=(),
        output_keys=options.get("output_keys"),
        interrupt_before=options.get("interrupt_before"),
        interrupt_after=options.get("interrupt_after"),
        durability=options.get("durability"),
    )


def copied(graph: Any) -> Any:
    """A copy of a graph; nodes and channels are shared."""
    copy = graph.copy()
    for name in _SET_LATER:
        if name in vars(graph):
            setattr(copy, name, vars(graph)[name])
    return copy


def loop_of(configurable: Mapping[str, Any]) -> Any:
    """The loop whose task is to be run with this ``configurable``."""
    return configurable[CONFIG_KEY_CALL].keywords["schedule_task"].__self__


def task_around(task: Any, loop: Any) -> str:
    """Id of the task in whose code another one is called; "": it is one of the root graph.

    A ``@task`` is called by a task of its own loop, of which it has the path. Any other belongs to
    the task that called its graph, whose id is in that graph's config.
    """
    path = task.path
    if len(path) > 1 and path[0] == PUSH and isinstance(path[1], tuple):
        return next((t.id for t in loop.tasks.values() if t.path == path[1]), "")
    return str(loop.config[CONF].get(CONFIG_KEY_TASK_ID) or "")


def has_loop(configurable: Mapping[str, Any]) -> bool:
    """Whether there is one."""
    return CONFIG_KEY_CALL in configurable


def graph_of(loop: Any) -> Any:
    """The graph that a loop runs; ``None`` if it does not tell."""
    graph = getattr(loop._migrate_checkpoint, "__self__", None)
    return graph if isinstance(graph, Pregel) else None


def at_breakpoint(loop: Any) -> bool:
    """Whether a loop stopped before or after a node, as it was told to."""
    return str(loop.status).startswith("interrupt")


def due_in(loop: Any) -> dict[str, Any]:
    """The tasks that a loop would go on with, by their ids."""
    due: dict[str, Any] = _algo.prepare_next_tasks(
        loop.checkpoint,
        loop.checkpoint_pending_writes,
        loop.nodes,
        loop.channels,
        loop.managed,
        loop.config,
        loop.step,
        loop.stop,
        for_execution=False,
    )
    return due


def due_after(graph: Any, checkpoint: Any, step: int) -> dict[str, Any]:
    """The tasks that a graph would go on with from a checkpoint, by their ids."""
    channels, managed = channels_from_checkpoint(graph.channels, checkpoint)
    due: dict[str, Any] = _algo.prepare_next_tasks(
        checkpoint,
        [],
        graph.nodes,
        channels,
        managed,
        {CONF: {}},
        step,
        step + 2,
        for_execution=False,
    )
    return due


def is_pushed(path: str) -> bool:
    """Whether the task with a path was made by a ``Send``; such tasks come before those of
    edges."""
    return path.startswith(_algo.task_path_str((PUSH,)))


# -- a task by itself: rebuilt from its checkpoint, on another worker ------------------------------

_PLAIN_KEYS = tuple(
    key
    for name in (
        *("CONFIG_KEY_DURABILITY", "CONFIG_KEY_RESUMING", "CONFIG_KEY_STREAM_MESSAGES_V2"),
        *("CONFIG_KEY_STRICT_RESUME", "CONFIG_KEY_TASK_ID"),
    )
    if (key := getattr(_constants, name, None)) is not None
)
"""Keys of LangGraph's own in a loop's ``configurable`` whose values are plain data. The others are
live objects, or belong to one task."""

HANDLERS: dict[str, type[Any]] = {
    "messages": StreamMessagesHandler,
    "messages_v2": StreamMessagesHandlerV2,
    "tools": StreamToolCallHandler,
}
"""LangGraph's own callback handlers, which make chunks of a stream out of events."""

GIVEN_CHECKPOINTER = "checkpointer"
"""Where ``config={"checkpointer": saver}`` ends up."""


def plain_configurable(loop: Any) -> dict[str, Any]:
    """Of a loop's ``configurable`` what is data: the user's keys, and LangGraph's plain ones."""
    configurable = loop.config[CONF]
    return {
        key: value
        for key, value in configurable.items()
        if key in _PLAIN_KEYS or (not is_reserved(key) and key != GIVEN_CHECKPOINTER)
    }


def replayed_from(loop: Any) -> tuple[str, tuple[str, ...]] | None:
    """The checkpoint from which a loop's nested graphs are replayed, and those that were."""
    replay = loop.config[CONF].get(CONFIG_KEY_REPLAY_STATE)
    if replay is None:
        return None
    return replay.checkpoint_id, tuple(sorted(replay._visited_ns))


def replay_state(replay: tuple[str, Sequence[str]]) -> Any:
    """The inverse of ``replayed_from``."""
    state = ReplayState(replay[0])
    state._visited_ns.update(replay[1])
    return state


def answers_of(task: Any) -> tuple[list[Any], Any]:
    """What a task's interrupts are answered with, and the answer any of them may take next."""
    scratchpad = task.config[CONF][CONFIG_KEY_SCRATCHPAD]
    return list(scratchpad.resume), scratchpad.get_null_resume(False)


def take_free_answer(task: Any) -> None:
    """The answer that any interrupt may take has been taken by this task."""
    task.config[CONF][CONFIG_KEY_SCRATCHPAD].get_null_resume(True)


def untracked(loop: Any) -> dict[str, Any]:
    """Channels of a loop that are in no checkpoint, and have a value."""
    return {
        name: channel
        for name, channel in loop.channels.items()
        if isinstance(channel, UntrackedValue) and channel.is_available()
    }


def is_untracked(graph: Any, channel: str) -> bool:
    """Whether a channel of a graph is in no checkpoint."""
    return isinstance(graph.channels.get(channel), UntrackedValue)


def channels_read(loop: Any, name: str) -> Sequence[str]:
    """The channels that make the input of a node reached by an edge."""
    read = loop.nodes[name].channels
    return [read] if isinstance(read, str) else list(read)


def is_rebuildable(task: Any) -> bool:
    """Whether a task follows from its checkpoint: one of an edge, or of a ``Send`` in a write.

    A ``@task`` that another task calls does not, nor does the handler of another node's error.
    """
    path = task.path
    if path[0] == PULL:
        return len(path) == 2
    return path[0] == PUSH and len(path) == 3 and isinstance(path[1], int)


class LoneLoop:
    """A loop that has one task: what LangGraph needs to run it, and to make of its end what is
    recorded.

    Args:
        graph: The graph, or nested graph, that the task is of.
        config: That of its loop.
        checkpoint: The checkpoint it starts from; changed.
        step: LangGraph's number of the superstep.
        stop: The last superstep that the recursion limit allows.
        store: LangGraph's store for what nodes remember.
        checkpointer: For the graphs that the task calls.

    Attributes:
        task: The task; ``None`` before ``prepare``.
        committed: What LangGraph would have the checkpointer record, after ``commit``.
    """

    def __init__(
        self,
        graph: Any,
        config: RunnableConfig,
        checkpoint: Any,
        *,
        step: int,
        stop: int,
        store: Any,
        checkpointer: Any,
    ) -> None:
        self.graph = graph
        self.task: Any = None
        self.committed: list[tuple[RunnableConfig, Sequence[tuple[str, Any]], str, str]] = []
        if graph._migrate_checkpoint is not None:
            graph._migrate_checkpoint(checkpoint)
        loop = _loop.AsyncPregelLoop(
            None,
            stream=None,
            config=config,
            store=store,
            cache=None,
            checkpointer=checkpointer,
            nodes=graph.nodes,
            specs=graph.channels,
            input_keys=graph.input_channels,
            output_keys=graph.output_channels,
            stream_keys=graph.stream_channels_asis,
            trigger_to_nodes=graph.trigger_to_nodes,
            durability="async",
            migrate_checkpoint=graph._migrate_checkpoint,
            retry_policy=graph.retry_policy,
            cache_policy=graph.cache_policy,
        )
        loop.checkpoint = checkpoint
        # Not the one at which the call may have begun: DeltaChannels are rebuilt from here.
        at = {**loop.checkpoint_config[CONF], "checkpoint_id": checkpoint["id"]}
        loop.checkpoint_config = {**loop.checkpoint_config, CONF: at}
        loop.checkpoint_id_saved = checkpoint["id"]
        loop.checkpoint_pending_writes = []
        loop.step, loop.stop = step, stop
        # Else set when a loop begins.
        vars(loop).update(_written_task_ids=set(), _reapplied_task_ids=set())
        loop.submit = cast(Any, self._submit)
        self.loop = loop

    def _submit(self, put_writes: Any, config: RunnableConfig, *args: Any) -> None:
        writes, task_id, path = args
        self.committed.append((config, writes, task_id, path))

    async def prepare(
        self,
        path: tuple[Any, ...],
        task_id: str,
        *,
        null_writes: Sequence[tuple[str, Any]],
        answers: tuple[list[Any], Any],
    ) -> Any:
        """Make the task.

        Args:
            path: As of the task that LangGraph made where the run is driven.
            task_id: Its id, which must come out again.
            null_writes: What an input has changed without a checkpoint of its own.
            answers: See ``answers_of``.

        Returns:
            The task; ``None`` if the graph makes no such task from this checkpoint.
        """
        loop, graph = self.loop, self.graph
        loop.channels, loop.managed = await achannels_from_checkpoint(
            graph.channels,
            loop.checkpoint,
            saver=loop.checkpointer,
            config=loop.checkpoint_config,
        )
        if null_writes:
            _algo.apply_writes(
                loop.checkpoint,
                loop.channels,
                [_algo.PregelTaskWrites((), INPUT, list(null_writes), [])],
                loop.checkpointer_get_next_version,
                graph.trigger_to_nodes,
            )
        given, free = answers
        if free is not None:
            loop.checkpoint_pending_writes.append((NULL_TASK_ID, RESUME, free))
        if given:
            loop.checkpoint_pending_writes.append((task_id, RESUME, given))
        try:
            self.task = _algo.prepare_single_task(
                path[:2],
                task_id,
                checkpoint=loop.checkpoint,
                checkpoint_id_bytes=bytes.fromhex(loop.checkpoint["id"].replace("-", "")),
                checkpoint_null_version=_algo.checkpoint_null_version(loop.checkpoint),
                pending_writes=loop.checkpoint_pending_writes,
                processes=graph.nodes,
                channels=loop.channels,
                managed=loop.managed,
                config=loop.config,
                step=loop.step,
                stop=loop.stop,
                for_execution=True,
                store=loop.store,
                checkpointer=loop.checkpointer,
                retry_policy=graph.retry_policy,
                cache_policy=graph.cache_policy,
            )
        except AssertionError:
            # Another id than it should have: other code, or another checkpoint.
            return None
        if self.task is not None:
            loop.tasks = {task_id: self.task}
        return self.task

    def commit(self, exception: BaseException | None) -> list[tuple[str, Any]]:
        """The task has ended; what it wrote itself, without what LangGraph adds to that."""
        own = len(self.task.writes)
        runner = _runner.PregelRunner(
            submit=cast(Any, None),
            put_writes=cast(Any, lambda: getattr(self.loop, PUT_WRITES.name)),
            node_error_handler_map=self.graph.node_error_handler_map,
        )
        runner.commit(self.task, exception)
        return list(self.task.writes)[:own]


def runtime_of(task: Any) -> Any:
    """What a task finds as its ``runtime``."""
    return task.config[CONF].get(CONFIG_KEY_RUNTIME)


def stream_modes_of(loop: Any) -> tuple[str, ...] | None:
    """What graphs nested in a loop stream to where it does; ``None``: nothing."""
    stream = loop.config[CONF].get(CONFIG_KEY_STREAM)
    return None if stream is None else tuple(sorted(stream.modes))


def stream_to(put: Any, modes: Sequence[str]) -> Any:
    """Where nested graphs stream to."""
    return StreamProtocol(put, set(cast(Any, modes)))


def emit_nested(loop: Any, chunk: Any) -> None:
    """A chunk of a graph nested in a loop."""
    loop.config[CONF][CONFIG_KEY_STREAM](chunk)


def write_custom(task: Any, namespace: str, chunk: Any) -> None:
    """A chunk that code of a task, or of a graph nested in it, has written, in its namespace."""
    runtime = runtime_of(task)
    config: RunnableConfig = {CONF: {**task.config[CONF], CONFIG_KEY_CHECKPOINT_NS: namespace}}
    with set_config_context(config) as context:
        context.run(runtime.stream_writer, chunk)


def runtime(*, context: Any, store: Any, stream_writer: Any) -> Any:
    """The runtime of a loop, before its tasks add what is theirs."""
    return Runtime(context=context, store=store, stream_writer=stream_writer, control=RunControl())


# -- tools ----------------------------------------------------------------------------------------

TOOL_CALL = "tool_call"
"""Key of what ``create_react_agent`` sends to its tools (``ToolCallWithContext``)."""


def tool_messages_key(proc: Any) -> str | None:
    """Where the ``ToolNode`` among the steps of a node finds messages; ``None``: there is none."""
    for step in getattr(proc, "steps", None) or (proc,):
        while isinstance(step, RunnableBindingBase):
            step = step.bound
        if hasattr(step, "tools_by_name") and hasattr(step, "_messages_key"):
            return str(step._messages_key)
    return None


# -- configs, metadata, namespaces ----------------------------------------------------------------

RESERVED = "__"
"""What keys of ``configurable`` and channels begin with that are LangGraph's own."""

NODE_KEY, STEP_KEY = "langgraph_node", "langgraph_step"
"""Keys of the metadata in which a task finds where it is."""

DELTA_COUNTERS = "counters_since_delta_snapshot"
"""Checkpoint metadata in which LangGraph names the DeltaChannels without a snapshot there."""


def is_reserved(key: str) -> bool:
    """Whether a key of ``configurable`` is LangGraph's own, for the process alone."""
    return key.startswith(RESERVED)


def is_interrupt_id(key: Any) -> bool:
    """Whether a key of a resume value names an interrupt."""
    return isinstance(key, str) and is_xxh3_128_hexdigest(key)


def chosen_limit(config: RunnableConfig) -> int | None:
    """The recursion limit that somebody has chosen; ``None`` for the default.

    LangGraph marks its default by a type: as a plain number it would overrule the limits of
    subgraphs.
    """
    limit = config["recursion_limit"]
    return limit if type(limit) is int else None


def lowered_limit(limit: int, by: int) -> int:
    """What is left of a recursion limit; of the same type."""
    return type(limit)(max(1, limit - by))


def node_of(checkpoint_ns: str) -> str:
    """The node in which the outermost graph of a namespace was called."""
    return checkpoint_ns.split(NS_END)[0]


def task_of(checkpoint_ns: str) -> str:
    """The task in which the outermost graph of a namespace was called."""
    return checkpoint_ns.partition(NS_SEP)[0].rpartition(NS_END)[2]


def without_tasks(checkpoint_ns: str) -> str:
    """The namespace without task ids: that of graphs that keep their state from call to call."""
    return NS_SEP.join(part.split(NS_END)[0] for part in checkpoint_ns.split(NS_SEP))


# -- channels -------------------------------------------------------------------------------------

_BRANCH, _TO, _JOIN = "branch", "to:", "join"
"""How ``StateGraph`` names the channels that trigger nodes: ``branch:to:NODE``, and
``join:NODE+NODE:NODE`` for one that waits for several."""


_ROOT = "__root__"
"""Channel of a state that is no dict."""


def is_internal(channel: str) -> bool:
    """Whether a channel is one of LangGraph's own, and no value of the user's."""
    return channel.startswith((RESERVED, f"{_BRANCH}:", f"{_JOIN}:"))


def output_of(values: Mapping[str, Any]) -> Any:
    """The output of a graph whose channels have these values, without the graph.

    That of a state that is no dict is in one channel, as is what an ``@entrypoint`` returns.
    """
    for channel in (_ROOT, END):
        if channel in values:
            return values[channel]
    return {k: v for k, v in values.items() if not is_internal(k)}


def triggered_by(channel: str, value: Any) -> str | None:
    """The node that a channel triggers with a value; ``None``: none, or the name does not tell.

    A join waits for all it is named after.
    """
    kind, _, rest = channel.partition(":")
    if kind == _BRANCH and rest.startswith(_TO):
        return rest.removeprefix(_TO)
    if kind == _JOIN:
        awaited, _, node = rest.rpartition(":")
        if set(awaited.split("+")) == _arrived(value):
            return node
    return None


def _arrived(value: Any) -> set[str]:
    """Who arrived at a join; that of a deferred node also holds whether it is finished."""
    return set(value[0] if isinstance(value, tuple) else value)


def stored_value(value: Any) -> Any:
    """The value of a channel in a checkpoint: that of a DeltaChannel is in a wrapper."""
    return value.value if isinstance(value, _DeltaSnapshot) else value


# -- LangGraph's saver in memory ------------------------------------------------------------------


def read_model(
    serde: SerializerProtocol,
    thread_id: str,
    *,
    checkpoints: Mapping[str, Mapping[str, Any]],
    writes: Mapping[tuple[str, str, str], Mapping[tuple[str, int], Any]],
    values: Mapping[tuple[str, str, str, Any], tuple[str, Any]],
) -> BaseCheckpointSaver[str]:
    """An ``InMemorySaver`` over one thread, of which only reading methods may be used.

    Args:
        serde: Decodes the second parts of the pairs below, which may be anything.
        thread_id: The thread.
        checkpoints: By namespace and checkpoint id: the checkpoint and its metadata as pairs, and
            the id of its parent. The inner mapping of an unknown namespace is made when asked for.
        writes: By thread, namespace and checkpoint: by task and number the task, the channel, the
            value as a pair, and the task's path.
        values: By thread, namespace, channel and version: the value as a pair.
    """
    view = InMemorySaver(serde=serde)
    view.storage = cast(Any, defaultdict(lambda: defaultdict(dict)))
    view.storage[thread_id] = cast(Any, checkpoints)
    view.writes = cast(Any, writes)
    view.blobs = cast(Any, values)
    return view


class _AsItIs(SerializerProtocol):
    """For a read model of values that are no bytes."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        raise AssertionError("a read model is only read")

    def loads_typed(self, data: tuple[str, Any]) -> Any:
        return data[1]


# -- LangGraph's serializer -----------------------------------------------------------------------

POINTERS = re.compile(rb"\x94(\xa2\|O|[\xa2-\xbf]\|V)")
"""The dtype at the start of a serialized array: of objects, or of records, of which some may be
objects."""


# -- verification ---------------------------------------------------------------------------------


def verify() -> None:
    """Check all that this module knows of LangGraph.

    Raises:
        UnsupportedLangGraphError: Naming what moved.
    """
    problems = [
        *(problem for needed in (*_HOOKED, *_CALLED) for problem in needed.problems()),
        *_changed_constants(),
        *_missing_attributes(),
        *_changed_channels(),
        *_changed_read_model(),
        *_changed_serializer(),
    ]
    if problems:
        raise UnsupportedLangGraphError.of(SUPPORTED, problems)


_CONSTANTS = {
    "CONF": "configurable",
    "CONFIG_KEY_THREAD_ID": "thread_id",
    "CONFIG_KEY_CHECKPOINT_ID": "checkpoint_id",
    "CONFIG_KEY_CHECKPOINT_NS": "checkpoint_ns",
    "ERROR": wire.ERROR_CHANNEL,
    "ERROR_SOURCE_NODE": wire.ERROR_SOURCE_CHANNEL,
    "INTERRUPT": wire.INTERRUPT_CHANNEL,
    "RESUME": wire.RESUME_CHANNEL,
    "NULL_TASK_ID": wire.NULL_TASK_ID,
    "NS_SEP": wire.NS_SEP,
    "NS_END": wire.NS_END,
}
"""Those whose value is written down elsewhere too: in histories, or by users."""

_OWN_KEYS = (
    *("CONFIG_KEY_CALL", "CONFIG_KEY_CHECKPOINTER", "CONFIG_KEY_RESUME_MAP", "CONFIG_KEY_RESUMING"),
    *("CONFIG_KEY_STREAM_MESSAGES_V2", "CONFIG_KEY_TASK_ID", "PUSH", "TASKS"),
)

_INDEXES = {"__error__": -1, "__scheduled__": -2, "__interrupt__": -3, "__resume__": -4}
"""Numbers of writes that histories hold."""


def _changed_constants() -> Iterator[str]:
    missing = object()
    for name, expected in _CONSTANTS.items():
        found = getattr(_constants, name, missing)
        if found is missing:
            yield f"the constant {name} is missing"
        elif found != expected:
            yield f"the constant {name} is {found!r}, not {expected!r}"
    for name in _OWN_KEYS:
        if not is_reserved(str(getattr(_constants, name, ""))):
            yield f"the constant {name} is missing, or does not begin with {RESERVED!r}"
    if any(WRITES_IDX_MAP.get(channel) != index for channel, index in _INDEXES.items()):
        yield f"WRITES_IDX_MAP is {WRITES_IDX_MAP}, not {_INDEXES}"
    path = _algo.task_path_str((PULL, "node"))
    if path != f"{wire.PULL_PATH}node":
        yield f"the path of a node's task is {path!r}"
    yield from (
        f"the metadata key {key!r} is missing"
        for key in (NODE_KEY, STEP_KEY)
        if key not in EXCLUDED_METADATA_KEYS
    )
    if DELTA_COUNTERS not in CheckpointMetadata.__annotations__:
        yield f"the metadata key {DELTA_COUNTERS!r} is missing"
    if Pregel.name != DEFAULT_NAME:
        yield f"a graph without a name is called {Pregel.name!r}, not {DEFAULT_NAME!r}"


def _missing_attributes() -> Iterator[str]:
    annotated = _annotated(_loop.PregelLoop)
    for name in sorted(LOOP_ATTRIBUTES - annotated.keys()):
        yield f"PregelLoop.{name} is missing"
    statuses = str(annotated.get("status"))
    if not all(status in statuses for status in _AT_BREAKPOINT):
        yield f"PregelLoop.status is one of {statuses}"
    for name in sorted(TASK_ATTRIBUTES - PregelExecutableTask.__dataclass_fields__.keys()):
        yield f"PregelExecutableTask.{name} is missing"
    for name in ("_output_mapper", "_state_mapper"):
        if not hasattr(Pregel, name):
            yield f"Pregel.{name} is missing"
    if "steps" not in _assigned(RunnableSeq):
        yield "RunnableSeq.steps is missing"
    yield from _changed_tools()
    if "value" not in _DeltaSnapshot._fields:
        yield "_DeltaSnapshot.value is missing"


def _changed_tools() -> Iterator[str]:
    # Costs half a second to import, which only those pay who use it: else the names are not found,
    # and the tools of a task not named in Temporal's UI.
    tools = sys.modules.get("langgraph.prebuilt.tool_node")
    node = getattr(tools, "ToolNode", None)
    if node is None:
        return
    if not hasattr(node, "tools_by_name"):
        yield "ToolNode.tools_by_name is missing"
    if "_messages_key" not in _assigned(node):
        yield "ToolNode._messages_key is missing"
    sent = getattr(tools, "ToolCallWithContext", None)
    if TOOL_CALL not in getattr(sent, "__annotations__", {}):
        yield f"ToolCallWithContext has no key {TOOL_CALL!r}"


def _annotated(cls: type) -> dict[str, Any]:
    """Annotations of a class and those it inherits from."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found |= inspect.get_annotations(base)
    return found


def _assigned(cls: Any) -> Sequence[str]:
    """Names that the constructor of a class uses, those of the attributes it sets among them."""
    names: Sequence[str] = inspect.unwrap(cls.__init__).__code__.co_names
    return names


class _ProbeState(TypedDict):
    x: int


def _probe() -> Any:
    """A graph with each kind of channel that triggers nodes."""
    builder: Any = StateGraph(_ProbeState)
    for name in ("a", "b", "c", "d"):
        builder.add_node(name, lambda state: state, defer=name == "d")
    for name in ("a", "b"):
        builder.add_edge(START, name)
    for name in ("c", "d"):
        builder.add_edge(["a", "b"], name)
    return builder.compile()


def _changed_channels() -> Iterator[str]:
    try:
        graph = _probe()
        if graph.name != DEFAULT_NAME:
            yield f"a compiled graph without a name is called {graph.name!r}, not {DEFAULT_NAME!r}"
        if list(StateGraph(cast(Any, list)).channels) != [_ROOT]:
            yield f"the channel of a state that is no dict is not {_ROOT!r}"
        triggering: dict[str, Any] = {f"{_BRANCH}:{_TO}{name}": None for name in "abcd"}
        for node in ("c", "d"):
            name = f"{_JOIN}:a+b:{node}"
            join = graph.channels[name]
            join.update(["a"])
            if triggered_by(name, join.checkpoint()) is not None:
                yield f"the channel {name} has another form: {join.checkpoint()!r}"
            join.update(["b"])
            triggering[name] = join.checkpoint()
        for name, value in triggering.items():
            if name not in graph.channels or triggered_by(name, value) != name[-1]:
                yield f"the channel {name} is missing, or has another form: {value!r}"
    except Exception as exc:
        # Whatever it is: channels of a graph that was just compiled are not what they were.
        yield f"the channels that trigger nodes have another form ({exc!r})"


def _changed_read_model() -> Iterator[str]:
    for name in ("storage", "writes", "blobs"):
        if name not in vars(InMemorySaver()):
            yield f"InMemorySaver.{name} is missing"
            return
    raw, thread, empty = "raw", "t", wire_log.EMPTY_TYPE
    value = _DeltaSnapshot("value")
    config: RunnableConfig = {CONF: {"thread_id": thread, CONFIG_KEY_CHECKPOINT_NS: ""}}
    versions: dict[str, Any] = {"kept": "1", "gone": "1"}
    checkpoint = Checkpoint(
        v=1,
        id="2",
        ts="",
        channel_values={},
        channel_versions=versions,
        versions_seen={},
        updated_channels=None,
    )
    stored = ((raw, checkpoint), (raw, {"step": 0}))
    write = ("task", "kept", (raw, "written"), "path")
    view = read_model(
        _AsItIs(),
        thread,
        checkpoints=defaultdict(dict, {"": {"1": (*stored, None), "2": (*stored, "1")}}),
        writes={(thread, "", i): {("task", 0): write} for i in ("1", "2")},
        values={
            (thread, "", "kept", "1"): (raw, value),
            (thread, "", "gone", "1"): (empty, "never decoded"),
        },
    )
    try:
        found = view.get_tuple(config)
        listed = list(view.list(config))
        # Not every version takes the latest checkpoint where none is named.
        latest = listed[0].config
        history = view.get_delta_channel_history(config=latest, channels=["kept"])
    except Exception as exc:
        # Whatever it is: the saver does not find what is where it was.
        yield f"InMemorySaver keeps what it stores in another form ({exc!r})"
        return
    expected = ({"kept": value}, [("task", "kept", "written")])
    shown = [found, *listed]
    if len(listed) != 2 or any(
        item is None or (item.checkpoint["channel_values"], item.pending_writes) != expected
        for item in shown
    ):
        yield f"InMemorySaver keeps what it stores in another form ({shown!r})"
    if history != {"kept": {"writes": [("task", "kept", "written")], "seed": value}}:
        yield f"InMemorySaver keeps what DeltaChannels are made of in another form ({history!r})"


def _changed_serializer() -> Iterator[str]:
    # Without numpy there are no arrays.
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "zeros"):
        _, data = JsonPlusSerializer().dumps_typed(numpy.zeros(0, object))
        if POINTERS.search(data) is None:
            yield "JsonPlusSerializer writes arrays of objects in another form"
