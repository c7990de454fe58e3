"""Worker side: tasks of runs that are driven here, and that another worker runs.

**What it models.** A task that is *placed* elsewhere is a live task like others: it has a key, its
Activity gives its result to the log, and LangGraph waits for it here. But its node does not run
here. ``parcel`` makes what travels, the Activity (``worker.placed``) is on the task queue of the
other workers, and what the task does arrives at the mailbox of this process, in the order in which
it happened::

    STARTED   a worker has it
    CUSTOM, NESTED, HANDLED, and events   what it streams (``seam.parcel``)
    ALIVE     the worker still has it
    LEFT      the worker gives it up in order: somebody else is to have it
    ENDED     its result, before the Activity reports it

Whoever waits takes one after the other (``AwayTask.next``) where LangGraph waits, so that handlers
and streams find the context they would find if the node ran here.

**When nothing arrives.** Mail is lost with a mailbox that does not answer for some seconds. So who
waits asks the thread after a silence: a task that is lost is scheduled again; of one that is over
the log has the result (``recorded``). The pauses grow as long as no worker has begun: there may be
none on that task queue for hours, which is no error, and is logged (``nobody``).
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from ..errors import PlacementError, RemoteError, UnserializableError
from ..options import DEFAULT_NODE, NodeOptions, Options, SubagentOptions
from ..protocol.blob import Upload, plan
from ..protocol.messages import MailItem, MailStatus
from ..protocol.stored import Op
from ..protocol.wire import WireError
from ..seam import parcel
from ..seam.contract import SeamTask
from ..seam.private import ERROR, ERROR_SOURCE_NODE, INTERRUPT, NO_WRITES, RESUME
from ..storage.mail import Ordered
from ..values.callbacks import Telling, description, kind_of
from ..values.exact import dump_exact, load_exact
from .live import LiveTask
from .placement import Placement

STARTED, ALIVE, LEFT, ENDED = "started", "alive", "left", "ended"
OVER, GONE = "over", "gone"
"""Of this process itself: the thread says that the task is over; nobody waits for it any more."""

FAILED = "failed"
"""How a task ended that raised an error; others: ``seam.parcel``."""

BODY_AT = 8_000
"""Bytes at which what travels with a task becomes a blob: thousands of specs are in a thread's
workflow at once."""

MAX_BODY_BYTES = 4_000_000

_ADDED = (ERROR, ERROR_SOURCE_NODE, INTERRUPT, NO_WRITES)
"""Channels of what LangGraph adds to the writes of a task when it commits it."""

LEFT_PAUSE_S = 1.0
"""Pause before the thread is asked for a task that its worker has given up."""

MAX_SILENCE_S = 300.0
"""The longest pause between two questions for a task that no worker has begun."""


class AwayTask(LiveTask):
    """A live task whose node another worker runs.

    Args:
        key: As of ``LiveTask``, and name of the stream on which mail for it comes.
        node: Its node.
        give_up: As of ``LiveTask``.
        serde: Reads what comes.

    Attributes:
        op: Its writes as they are recorded, packed; b"": there are none, or they did not come.
        whole: The same, with what is kept outside.
        serde: See above.
        logged: They were read from the log.
        began: A worker has it.
    """

    def __init__(
        self, key: str, node: str, give_up: Callable[[str], None], serde: SerializerProtocol
    ) -> None:
        super().__init__(key, node, give_up)
        self.op = b""
        self.whole: Op | None = None
        self.logged = False
        self.began = False
        self.serde = serde
        self._arrived: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._order = Ordered()
        self._ordering = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._filled: asyncio.Event | None = None

    # -- what comes in, from any thread -------------------------------------------------------

    def put(self, items: tuple[MailItem, ...]) -> MailStatus:
        """Take mail; of a worker whose task another one has since, nothing is left."""
        with self._ordering:
            for item in items:
                try:
                    for last, data in self._order.accept(item):
                        self._put("event" if last.event else "mail", data)
                except WireError:
                    return MailStatus.GONE
        return MailStatus.TAKEN

    def tell(self, kind: str, value: Any = None) -> None:
        """Something this process itself has learned."""
        self._put(kind, value)

    def abandon(self, exc: BaseException | None = None) -> None:
        """Nobody waits for it any more."""
        super().abandon(exc)
        if exc is not None:
            self._put(GONE, exc)

    def _put(self, kind: str, value: Any) -> None:
        self._arrived.put((kind, value))
        if self._loop is not None and self._filled is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._filled.set)

    # -- where LangGraph waits ----------------------------------------------------------------

    async def anext(self, patience_s: float) -> tuple[str, Any] | Telling | None:
        """What has come next; ``None``: nothing for so long."""
        if self._filled is None:
            self._loop, self._filled = asyncio.get_running_loop(), asyncio.Event()
        until = self._loop.time() + patience_s if self._loop else 0.0
        while True:
            self._filled.clear()
            try:
                return self._read(*self._arrived.get_nowait())
            except queue.Empty:
                pass
            left = until - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._filled.wait(), max(0.0, left))
            except TimeoutError:
                return None

    def next(self, patience_s: float) -> tuple[str, Any] | Telling | None:
        """Sync ``anext``."""
        try:
            return self._read(*self._arrived.get(timeout=patience_s))
        except queue.Empty:
            return None

    def _read(self, kind: str, value: Any) -> tuple[str, Any] | Telling:
        if kind == "event":
            number, name, args, kwargs = load_exact(self.serde, value)
            return Telling(kind=number, name=name, args=tuple(args), kwargs=kwargs)
        if kind != "mail":
            return kind, value
        came, parts = load_exact(self.serde, value)
        self.began = True
        return came, parts


# -- what travels ---------------------------------------------------------------------------------


def body_of(
    serde: SerializerProtocol,
    away: parcel.Away,
    where: Placement,
    task: SeamTask,
    options: Options,
    plan_of_answers: Mapping[str, Any],
    *,
    thread_id: str,
) -> bytes:
    """What a task takes along that its checkpoint does not hold.

    Args:
        serde: Writes it.
        away: The task.
        where: Where it goes.
        task: The same, as the seam shows it.
        options: Those of the saver that decides, also of what runs inside the task.
        plan_of_answers: Of ``PlannedInput`` what concerns nested graphs.
        thread_id: The thread, for errors.

    Raises:
        PlacementError: Something of it cannot travel.
    """
    manager = away.manager
    kinds = [
        kind_of(handler, inherited=handler in manager.inheritable_handlers)
        for handler in away.handlers
    ]
    parts = away.parts()
    whole = {
        "parts": parts,
        "callbacks": description(manager, kinds),
        "answers": dict(plan_of_answers),
        "options": options_as_data(options),
        "where": {
            "timeout": where.node.timeout,
            "subagent": where.subagent,
            "within": None if where.within is None else vars(where.within),
        },
        "calls": [(call.name, call.id, call.subagent) for call in task.calls],
    }
    said = f"Node {task.name!r} of thread {thread_id!r} is to run on task queue {where.queue!r}"
    try:
        data = dump_exact(serde, whole, what="the task")
    except UnserializableError as exc:
        what = _culprit(serde, parts) or str(exc)
        raise PlacementError(
            f"{said}, and {what} cannot travel there: it is a live object. Give it to the graph "
            "that the other workers serve (its store, a module's attribute), pass plain data, or "
            "run the node in place. Nothing of the task was run."
        ) from exc
    if len(data) > MAX_BODY_BYTES:
        raise PlacementError(
            f"{said}, and what it takes along beside the state is {len(data):,} bytes; the limit "
            f"is {MAX_BODY_BYTES:,}. Keep large values out of `context=` and `configurable`. "
            "Nothing of the task was run."
        )
    return data


def _plain(options: Mapping[str, NodeOptions]) -> dict[str, dict[str, Any]]:
    """What of them travels: a retry policy may hold functions."""
    return {name: vars(replace(one, retry=None)) for name, one in options.items()}


def with_retries(
    options: Mapping[str, NodeOptions], own: Mapping[str, NodeOptions]
) -> dict[str, NodeOptions]:
    """The options that came, with the retry policies of the worker they came to."""
    return {
        name: replace(one, retry=own.get(name, DEFAULT_NODE).retry)
        for name, one in {**dict.fromkeys(own, DEFAULT_NODE), **options}.items()
    }


def options_as_data(options: Options) -> dict[str, Any]:
    """What of the options decides where tasks run, as data: allow-lists know no class of ours."""
    of_all = isinstance(options.subagents, SubagentOptions)
    subagents = {"": options.subagents} if of_all else options.subagents
    return {
        "nodes": _plain(options.nodes),
        "tools": _plain(options.tools),
        "subagents": {name: vars(given) for name, given in dict(subagents).items()},  # type: ignore[arg-type] # mypy does not follow `of_all`
        "of_all": of_all,
    }


def options_from_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``options_as_data``: arguments of ``Options``."""
    subagents = {name: SubagentOptions(**given) for name, given in data["subagents"].items()}
    return {
        "nodes": {name: NodeOptions(**given) for name, given in data["nodes"].items()},
        "tools": {name: NodeOptions(**given) for name, given in data["tools"].items()},
        "subagents": subagents[""] if data["of_all"] else subagents,
    }


def where_from_data(data: Mapping[str, Any]) -> Placement:
    """Of a placement what its worker must know."""
    within = None if data["within"] is None else SubagentOptions(**data["within"])
    return Placement(
        node=NodeOptions(timeout=data["timeout"]), subagent=data["subagent"], within=within
    )


def _culprit(serde: SerializerProtocol, parts: Mapping[str, Any]) -> str:
    """Which part of a call cannot be written."""
    named = {"context": "`context=` of the call", "resume_map": "an answer of the call"}
    for part, value in parts.items():
        items = value.items() if part in ("configurable", "metadata") else [("", value)]
        for key, item in items:
            try:
                dump_exact(serde, item, what="")
            except UnserializableError:
                return f"{part}[{key!r}] of the call" if key else named.get(part, f"its {part}")
    return ""


def upload_of(body: bytes, what: str, piece_bytes: int) -> Upload:
    """The blob of a large body."""
    return plan(body, scope=uuid.uuid4().hex[:16], what=what, piece_bytes=piece_bytes)


def recorded(writes: Sequence[tuple[str, Any]]) -> dict[str, Any] | None:
    """The result of a task, as ``ENDED`` brings it, from what the log has of it; ``None``: nothing.

    Of an error the log has no more than its text.
    """
    if not writes:
        return None
    by_channel = dict(writes)
    result: dict[str, Any] = {"writes": [w for w in writes if w[0] not in _ADDED]}
    # What a task has asked before it ended is still there.
    if any(channel not in (ERROR, ERROR_SOURCE_NODE, INTERRUPT, RESUME) for channel in by_channel):
        return result
    if ERROR not in by_channel and INTERRUPT in by_channel:
        asked = by_channel[INTERRUPT]
        asked = tuple(asked) if isinstance(asked, (list, tuple)) else (asked,)
        result["left"] = (parcel.INTERRUPTED, asked)
    elif ERROR in by_channel:
        error = by_channel[ERROR]
        known = isinstance(error, BaseException)
        result["error"] = error if known else RemoteError(str(error))
    return result
