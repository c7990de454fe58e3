"""Options: one frozen, validated object shared by the Python API and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol, cast, get_args, runtime_checkable

from .errors import UsageError

LONGEST = timedelta(days=36_500)
"""Of all times that are given. Temporal, and seconds as a float, can hold somewhat more."""

MAX_QUEUE = 500
"""Bytes of a task queue: Temporal allows 1,000, and the names of workers and tasks are longer."""

MAX_SUMMARY = 400
"""Bytes of an Activity's summary, for which Temporal allows that."""

MAX_PREFIX = 200
"""Bytes of the first part of workflow ids, for which Temporal allows 1,000."""


def check_text(what: str, value: object, *, limit: int, empty: bool = False) -> str:
    """The value, if it is text that may be part of a name in Temporal.

    Args:
        what: What it is, for the error: "task_queue".
        value: The value.
        limit: Bytes it may have.
        empty: Whether it may be empty.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(value, str):
        raise UsageError(f"{what} is {value!r}; it must be text.")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as exc:
        raise UsageError(f"{what} is {value!r}, which is no Unicode text: {exc.reason}.") from exc
    if not value and not empty:
        raise UsageError(f"{what} is empty; it must be text of 1 to {limit} bytes.")
    if size > limit:
        raise UsageError(f"{what} has {size:,} bytes ({value[:40]!r}...); the limit is {limit}.")
    if value != value.strip() or not value.isprintable():
        raise UsageError(
            f"{what} is {value!r}; it must not begin or end with a space, and must hold no line "
            "breaks or other control characters."
        )
    return value


def check_queue(what: str, value: object, *, empty: bool = False) -> str:
    """The value, if it can be the name of a task queue.

    Raises:
        UsageError: It cannot.
    """
    queue = check_text(what, value, limit=MAX_QUEUE, empty=empty)
    if queue.startswith("/_sys/"):
        raise UsageError(f"{what} is {queue!r}; names that begin with '/_sys/' are Temporal's own.")
    return queue


def _check_longest(what: str, value: timedelta) -> None:
    if value > LONGEST:
        raise UsageError(f"{what} is {value}; the longest is {LONGEST.days:,} days, 100 years.")


def _check_positive(what: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, timedelta):
        raise UsageError(f"{what} is {value!r}; pass a timedelta, as timedelta(seconds=10).")
    if value <= timedelta(0):
        raise UsageError(f"{what} is {value}; it must be positive.")
    _check_longest(what, value)


Strategy = Literal["enqueue", "reject", "interrupt", "rollback"]
"""What a run does that finds another one on its thread, in the words of LangGraph's API server: it
waits in the thread's run queue, fails with ``ThreadBusyError``, stops the other after its
superstep, or stops it at once and undoes it."""


def check_strategy(value: object) -> Strategy:
    """The value, if it is a strategy.

    Raises:
        UsageError: It is none.
    """
    if value not in get_args(Strategy):
        raise UsageError(
            f"multitask_strategy is {value!r}; it must be one of {', '.join(get_args(Strategy))}."
        )
    return cast(Strategy, value)


Affinity = Literal["prefer", "require", "none"]
"""Where the runs of a thread are driven: by its home, the worker that ran it first, or if that does
not take them by another one, which becomes the home; by its home alone; by whichever worker comes
first."""


def check_affinity(value: object) -> Affinity:
    """The value, if it is an affinity.

    Raises:
        UsageError: It is none.
    """
    if value not in get_args(Affinity):
        raise UsageError(
            f"affinity is {value!r}; it must be one of {', '.join(get_args(Affinity))}."
        )
    return cast(Affinity, value)


def check_home_timeout(value: object) -> timedelta:
    """The value, if a thread's home may take so long.

    Raises:
        UsageError: It may not.
    """
    if isinstance(value, timedelta) and value >= timedelta(seconds=1):
        _check_longest("home_timeout", value)
        return value
    raise UsageError(f"home_timeout is {value!r}; it must be a timedelta of at least 1 second.")


def check_lost_attempts(value: object) -> int:
    """The value, if it is a number of attempts.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"max_lost_attempts is {value!r}; it must be a number of at least 1.")
    return value


def check_give_up(value: object) -> timedelta | None:
    """The value, if it is a time or none.

    Raises:
        UsageError: It is neither.
    """
    if value is None:
        return None
    if isinstance(value, timedelta) and value > timedelta(0):
        _check_longest("give_up_after", value)
        return value
    raise UsageError(f"give_up_after is {value!r}; it must be a positive timedelta or None.")


def check_run_timeout(value: object) -> timedelta | None:
    """The value, if it is a time or none.

    Raises:
        UsageError: It is neither.
    """
    if value is None:
        return None
    if isinstance(value, timedelta) and value > timedelta(0):
        _check_longest("run_timeout", value)
        return value
    raise UsageError(f"run_timeout is {value!r}; it must be a positive timedelta or None.")


def check_park_after(value: object) -> timedelta | None:
    """The value, if threads may be parked after it, or none.

    Raises:
        UsageError: They may not.
    """
    if value is None:
        return None
    if isinstance(value, timedelta) and value >= timedelta(seconds=1):
        _check_longest("park_after", value)
        return value
    raise UsageError(
        f"park_after is {value!r}; it must be a timedelta of at least 1 second, or None."
    )


def check_priority(value: object) -> int:
    """The value, if it is a priority; 0 for ``None``, which is the server's default.

    Raises:
        UsageError: It is none.
    """
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 5:
        raise UsageError(f"priority is {value!r}; it must be 1 (most urgent), 2, 3, 4 or 5.")
    return value


def check_spread(value: object) -> bool:
    """The value, if it is a choice.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(value, bool):
        raise UsageError(f"spread is {value!r}; it must be True or False.")
    return value


def check_fairness(key: object, weight: object) -> tuple[str, float]:
    """Both, if they are a fairness key and its weight; "" and 0.0 for ``None``.

    Raises:
        UsageError: They are not.
    """
    size = len(key.encode(errors="replace")) if isinstance(key, str) else 0
    if key is not None and not (isinstance(key, str) and 0 < size <= 64):
        raise UsageError(f"fairness_key is {key!r}; it must be a string of 1 to 64 bytes.")
    if key is not None:
        check_text("fairness_key", key, limit=64)
    number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if weight is not None and not (number and 0.001 <= cast(float, weight) <= 1000):
        raise UsageError(f"fairness_weight is {weight!r}; it must be from 0.001 to 1000.")
    return key or "", float(cast(float, weight or 0.0))


@runtime_checkable
class LangGraphRetry(Protocol):
    """``langgraph.types.RetryPolicy``; intervals are seconds."""

    @property
    def initial_interval(self) -> float:
        """Before the second attempt."""
        ...

    @property
    def backoff_factor(self) -> float:
        """By which it grows."""
        ...

    @property
    def max_attempts(self) -> int:
        """The first one included."""
        ...


@runtime_checkable
class TemporalRetry(Protocol):
    """``temporalio.common.RetryPolicy``."""

    @property
    def initial_interval(self) -> timedelta:
        """Before the second attempt."""
        ...

    @property
    def backoff_coefficient(self) -> float:
        """By which it grows."""
        ...

    @property
    def maximum_interval(self) -> timedelta | None:
        """The longest; ``None``: 100 times the initial one."""
        ...

    @property
    def maximum_attempts(self) -> int:
        """The first one included; 0: no bound."""
        ...

    @property
    def non_retryable_error_types(self) -> Sequence[str] | None:
        """Names of classes that are not retried."""
        ...


Retry = LangGraphRetry | Sequence[LangGraphRetry] | TemporalRetry
"""Of a node: LangGraph's policy, several of them, or Temporal's."""


def check_retry(value: object) -> None:
    """Raise unless the value is a retry policy, or several of LangGraph's.

    Raises:
        UsageError: It is none.
    """
    if isinstance(value, (LangGraphRetry, TemporalRetry)):
        return
    several = isinstance(value, Sequence) and not isinstance(value, str)
    if (
        several
        and value
        and all(isinstance(v, LangGraphRetry) for v in cast(Sequence[object], value))
    ):
        return
    raise UsageError(
        f"NodeOptions(retry={value!r}) must be a langgraph.types.RetryPolicy, several of them, or "
        "a temporalio.common.RetryPolicy."
    )


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """How the tasks of one node run; ``TemporalSaver(nodes={"name": NodeOptions(...)})``.

    Args:
        inline: Run inside the loop instead of as Activities. The result is recorded with the next
            superstep, so a crash repeats it.
        timeout: The node fails with LangGraph's ``NodeTimeoutError`` after this long, as if it had
            been added with ``timeout=``, which this replaces. Only for async nodes: a sync one runs
            in an OS thread, which cannot be stopped; what bounds it is ``run_timeout``.
        summary: Shown with each of its Activities in Temporal's UI.
        retry: LangGraph's ``RetryPolicy``, or several, as if the node had been added with
            ``retry_policy=``, which this replaces. Or Temporal's, which is translated.

        task_queue: Task queue of the workers that run it, instead of the one that drives the run:
            ordinary workers of this package on that queue, with the same ``id_prefix`` and the same
            graph. "": it runs in place. What such a worker retries, its own saver's options say.

    Raises:
        UsageError: The timeout is not positive, the policy is none, or what is inline has a task
            queue.
    """

    inline: bool = False
    timeout: timedelta | None = None
    summary: str = ""
    retry: Retry | None = None
    task_queue: str = ""

    def __post_init__(self) -> None:
        inline: object = self.inline
        if not isinstance(inline, bool):
            raise UsageError(f"NodeOptions(inline={inline!r}) must be True or False.")
        check_queue("NodeOptions.task_queue", self.task_queue, empty=True)
        check_text("NodeOptions.summary", self.summary, limit=MAX_SUMMARY, empty=True)
        if self.retry is not None:
            check_retry(self.retry)
        if self.inline and self.task_queue:
            raise UsageError(
                f"NodeOptions(inline=True, task_queue={self.task_queue!r}): what runs inside the "
                "loop cannot run on another worker. Leave one of the two out."
            )
        _check_positive("NodeOptions.timeout", self.timeout)


DEFAULT_NODE = NodeOptions()

ALL_NODES = "*"
"""Key of ``nodes``, as in LangGraph's ``interrupt_before="*"``: those that have no options of their
own."""


@dataclass(frozen=True, kw_only=True)
class SubagentOptions:
    """Where a sub-agent of deepagents runs, and for how long.

    ``TemporalSaver(subagents={"researcher": SubagentOptions(...)})``, or one for all of them. A
    sub-agent is the call of the tool ``task``, with all that the sub-agent does.

    Args:
        task_queue: As in ``NodeOptions``.
        timeout: It is cancelled after this long. Where the agent is called with ``invoke`` or
            ``stream``, only together with ``task_queue``; what it does in OS threads goes on.
        on_timeout: "tell": the model that has delegated gets a tool message with the error, and the
            run goes on. "fail": the run fails with ``SubagentTimeoutError``.

    Raises:
        UsageError: An option is out of range.
    """

    task_queue: str = ""
    timeout: timedelta | None = None
    on_timeout: Literal["tell", "fail"] = "tell"

    def __post_init__(self) -> None:
        check_queue("SubagentOptions.task_queue", self.task_queue, empty=True)
        _check_positive("SubagentOptions.timeout", self.timeout)
        if self.on_timeout not in ("tell", "fail"):
            raise UsageError(
                f"SubagentOptions(on_timeout={self.on_timeout!r}) must be 'tell' or 'fail'."
            )


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Which checkpoints of a thread are kept; applied when a run of it ends.

    The latest checkpoint of each namespace, with its pending interrupts, is always kept, and so is
    what DeltaChannels of kept checkpoints are rebuilt from. Nested namespaces (sub-agents) go with
    the checkpoint whose task ran them; those that another run may be using go when it has ended.

    Args:
        last: Keep this many, the newest ones.
        max_age: Keep those that are younger.

    With both, a checkpoint goes when it is neither among the last nor young enough.

    Raises:
        UsageError: Neither is given, or one is out of range.
    """

    last: int | None = None
    max_age: timedelta | None = None

    def __post_init__(self) -> None:
        if self.last is None and self.max_age is None:
            raise UsageError("Retention needs `last`, `max_age` or both; without one, omit it.")
        if self.last is not None and self.last < 1:
            raise UsageError(f"Retention(last={self.last}) must keep at least 1 checkpoint.")
        if self.max_age is not None and self.max_age <= timedelta(0):
            raise UsageError(f"Retention(max_age={self.max_age}) must be positive.")


def with_inline(nodes: object, inline: Iterable[str]) -> Mapping[str, NodeOptions]:
    """The options of nodes, with those that run in the loop.

    Raises:
        UsageError: They are no such options.
    """
    _check_each("nodes", nodes, NodeOptions)
    given = cast(Mapping[str, NodeOptions], nodes)
    return {**dict.fromkeys(inline, NodeOptions(inline=True)), **given}


def _check_each(what: str, given: object, kind: type) -> None:
    """Raise unless a value maps names to options of one kind."""
    if not isinstance(given, Mapping):
        raise UsageError(
            f"{what} is {given!r}; it must be a mapping from names to {kind.__name__}."
        )
    for name, value in cast(Mapping[object, object], given).items():
        if not isinstance(name, str) or not isinstance(value, kind):
            raise UsageError(
                f"{what} has {name!r}: {value!r}; it must map names to {kind.__name__}, as "
                f'{what}={{"name": {kind.__name__}(...)}}.'
            )


@dataclass(frozen=True, kw_only=True)
class Options:
    """How runs of one saver are recorded and executed.

    Args:
        task_queue: Temporal task queue of the workflows and of runs that are not bound to a
            process. Each worker process adds a queue of its own, derived from this name.
        graph: Name of the graph on the workers; ``None`` takes the graph's own ``name``.
        nodes: Options of nodes by their names; of one graph alone by "graph:node"; by "*" of those
            that have none.
        tools: Options of tools, by their names: of the task that calls one, if it calls no other.
        subagents: Options of deepagents' sub-agents, by their names, or for all of them.
        spread: Whether the tasks of a superstep run on all workers of the task queue, unless their
            options say where.
        heartbeat_timeout: A worker that is silent for this long is considered dead and the run
            moves to another one. At least one second.
        no_worker_timeout: How long a caller waits for a sign of life of any worker before it
            raises ``NoWorkersError``.
        id_prefix: First part of every workflow id; separates deployments in one namespace, each of
            which needs a task queue of its own.
        retention: Which checkpoints are kept when a run ends; ``None``: all.
        multitask_strategy: What a call does when another run has its thread.
        max_lost_attempts: How often in a row a run may lose its worker until it is given up.
        give_up_after: How long after the first of such losses a run is driven again; ``None``: for
            ever.
        affinity: Where the runs of a thread are driven.
        home_timeout: How long a thread's home may take to take a run, of which it is only
            preferred that it does.
        run_timeout: How long after its start a run is cancelled that has not ended; ``None``:
            never.
        park_after: How long after its last use a thread is parked; ``None``: never.

    Raises:
        UsageError: An option is out of range.
    """

    task_queue: str = "langgraph"
    graph: str | None = None
    nodes: Mapping[str, NodeOptions] = field(default_factory=dict)
    tools: Mapping[str, NodeOptions] = field(default_factory=dict)
    subagents: Mapping[str, SubagentOptions] | SubagentOptions = field(default_factory=dict)
    spread: bool = False
    heartbeat_timeout: timedelta = timedelta(seconds=10)
    no_worker_timeout: timedelta = timedelta(seconds=10)
    id_prefix: str = "langgraph"
    retention: Retention | None = None
    multitask_strategy: Strategy = "enqueue"
    max_lost_attempts: int = 50
    give_up_after: timedelta | None = None
    affinity: Affinity = "prefer"
    home_timeout: timedelta = timedelta(seconds=10)
    run_timeout: timedelta | None = None
    park_after: timedelta | None = None

    def __post_init__(self) -> None:
        check_affinity(self.affinity)
        check_home_timeout(self.home_timeout)
        check_strategy(self.multitask_strategy)
        check_lost_attempts(self.max_lost_attempts)
        check_give_up(self.give_up_after)
        check_run_timeout(self.run_timeout)
        check_park_after(self.park_after)
        check_spread(self.spread)
        check_queue("task_queue", self.task_queue)
        if "/" in check_text("id_prefix", self.id_prefix, limit=MAX_PREFIX):
            raise UsageError(f"id_prefix is {self.id_prefix!r}; it must not contain '/'.")
        if self.graph is not None:
            check_text("graph", self.graph, limit=MAX_QUEUE)
        _check_each("nodes", self.nodes, NodeOptions)
        _check_each("tools", self.tools, NodeOptions)
        if not isinstance(self.subagents, SubagentOptions):
            _check_each("subagents", self.subagents, SubagentOptions)
        for name in ("heartbeat_timeout", "no_worker_timeout"):
            if not isinstance(given := getattr(self, name), timedelta):
                raise UsageError(
                    f"{name} is {given!r}; pass a timedelta, for example timedelta(seconds=10)."
                )
            _check_longest(name, given)
        if self.heartbeat_timeout < timedelta(seconds=1):
            raise UsageError(
                f"heartbeat_timeout is {self.heartbeat_timeout}; the least is 1 second, "
                "because heartbeats are sent twice within it."
            )
        if self.no_worker_timeout < timedelta(seconds=1):
            raise UsageError(f"no_worker_timeout is {self.no_worker_timeout}; the least is 1 s.")

    def node(self, name: str, graph: str = "") -> NodeOptions:
        """Options of a node; those of all others, or the defaults, if it has none.

        Args:
            name: The node.
            graph: Name of its graph, for options that are for the node of this graph alone.
        """
        own = self.nodes.get(f"{graph}:{name}") if graph else None
        given = own or self.nodes.get(name)
        # Nodes that LangGraph adds, such as those of error handlers, are meant by nobody.
        every = None if name.startswith("__") else self.nodes.get(ALL_NODES)
        return given or every or DEFAULT_NODE

    def subagent(self, name: str) -> SubagentOptions | None:
        """Options of a sub-agent; ``None`` if it has none."""
        if isinstance(self.subagents, SubagentOptions):
            return self.subagents
        return self.subagents.get(name)

    @property
    def give_up_s(self) -> float:
        """``give_up_after`` in seconds; 0: for ever."""
        return self.give_up_after.total_seconds() if self.give_up_after else 0.0

    @property
    def run_timeout_s(self) -> float:
        """``run_timeout`` in seconds; 0: none."""
        return self.run_timeout.total_seconds() if self.run_timeout else 0.0

    @property
    def park_s(self) -> float:
        """``park_after`` in seconds; 0: never."""
        return self.park_after.total_seconds() if self.park_after else 0.0
