"""Shared: the call of a run as bytes: what another process needs to execute it.

Written by the caller when the run is admitted, read by whichever worker drives it. Only named
parts of LangGraph's config travel; functions and live objects do not.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol

from ..errors import UnserializableError, ValueTooLargeError
from ..protocol.messages import CallerStream, RunPriority
from ..seam.private import chosen_limit, is_reserved
from .exact import dump_exact, load_exact
from .ops import MAX_VALUE_BYTES

CALL_OPTIONS = (
    "context",
    "stream_mode",
    "output_keys",
    "interrupt_before",
    "interrupt_after",
    "durability",
    "subgraphs",
    "debug",
    "version",
    "print_mode",
)
"""Keyword arguments of ``astream`` that travel; all but ``control``, which is a live object."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a graph, live or rebuilt from its record.

    ``callbacks`` says which handlers a caller elsewhere has (see ``callbacks``), and
    ``message_events`` whether it asked for messages as events. ``result_only``: of the stream it
    needs no more than the result is made of. ``deltas``: it can put chunks together (see
    ``MailItem``). ``known``: the chunk of the thread that it has, see ``known.py``. ``ends``: it
    takes the outcome with the stream.
    """

    input: Any
    config: RunnableConfig
    options: dict[str, Any] = field(default_factory=dict)
    sync: bool = False
    mailbox: str = ""
    callbacks: dict[str, Any] | None = None
    message_events: bool = False
    result_only: bool = False
    deltas: bool = False
    known: bytes = b""
    ends: bool = False

    def caller_stream(self, serde: SerializerProtocol) -> CallerStream:
        """Where the chunks of a call go that its record says nothing of; see ``streaming_to``."""
        callbacks = self.callbacks
        return CallerStream(
            mailbox=self.mailbox,
            callbacks=dump_exact(serde, callbacks, what="the callbacks") if callbacks else b"",
            message_events=self.message_events,
            known=self.known,
        )

    def streaming_to(self, stream: CallerStream, serde: SerializerProtocol) -> Call:
        """The call, rebuilt from its record, with what its caller has said since."""
        return replace(
            self,
            mailbox=stream.mailbox,
            callbacks=load_exact(serde, stream.callbacks) if stream.callbacks else None,
            message_events=stream.message_events,
            known=stream.known,
            deltas=True,
        )


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Which run this is, for the thread and for people.

    Args:
        run_id: The run.
        thread_id: Its thread.
        thread_workflow_id: The thread's workflow.
        run_workflow_id: The run's workflow.
        graph: Name of its graph.
        strategy: Its ``multitask_strategy``; "" for "enqueue".
        affinity: Its ``affinity``; "" for "none".
        home_timeout_s: Its ``home_timeout``, in seconds.
        priority: Before which other runs it comes; ``None``: the default.
        run_timeout_s: So long after its start it is cancelled; 0: never, or it is the run's
            workflow that looks to it.
    """

    run_id: str
    thread_id: str
    thread_workflow_id: str
    run_workflow_id: str
    graph: str
    strategy: str = ""
    affinity: str = ""
    home_timeout_s: float = 0.0
    priority: RunPriority | None = None
    run_timeout_s: float = 0.0


def encode(serde: SerializerProtocol, call: Call, full: RunnableConfig, thread_id: str) -> bytes:
    """The record of a call; ``full`` is its config merged with the graph's.

    Raises:
        UnserializableError, ValueTooLargeError: Naming the part of the call.
    """
    where = f"thread {thread_id!r}"
    configurable = {k: v for k, v in full["configurable"].items() if not is_reserved(k)}
    configurable.pop("checkpointer", None)
    parts: dict[str, Any] = {
        "input": call.input,
        "configurable": configurable,
        "metadata": dict(full.get("metadata") or {}),
        "tags": list(full.get("tags") or ()),
        "recursion_limit": chosen_limit(full),
        "max_concurrency": full.get("max_concurrency"),
        "run_name": full.get("run_name"),
        "run_id": str(full["run_id"]) if full.get("run_id") else None,
        "options": {k: call.options[k] for k in CALL_OPTIONS if call.options.get(k) is not None},
        "sync": call.sync,
        "mailbox": call.mailbox,
        "callbacks": call.callbacks,
        "message_events": call.message_events,
        "result_only": call.result_only,
        "deltas": call.deltas,
        "ends": call.ends,
        "known": call.known,
    }
    try:
        data = dump_exact(serde, parts, what=f"the input for {where}")
    except UnserializableError:
        _name_the_part(serde, parts, where)
        raise
    if len(data) > MAX_VALUE_BYTES:
        raise ValueTooLargeError(
            f"{_largest(serde, parts)} of the call on {where} makes it {len(data):,} bytes "
            f"serialized; the limit is {MAX_VALUE_BYTES:,} bytes. Nothing was sent. Keep large "
            "values in files or a store and pass a reference."
        )
    return data


def _largest(serde: SerializerProtocol, parts: dict[str, Any]) -> str:
    """The largest part of a call, by name."""
    sizes: dict[str, int] = {}
    for name, value in parts.items():
        items = value.items() if isinstance(value, Mapping) else [("", value)]
        for key, item in items:
            label = f"input channel {key!r}" if name == "input" and key else f"{name} {key}".strip()
            sizes[label] = len(dump_exact(serde, item, what=label))
    largest = max(sizes, key=sizes.__getitem__)
    return f"{largest} ({sizes[largest]:,} bytes)"


def _name_the_part(serde: SerializerProtocol, parts: dict[str, Any], where: str) -> None:
    """Raise for the part of a call that cannot be serialized, if one alone cannot."""
    for name, value in parts.items():
        for key, item in value.items() if isinstance(value, Mapping) else ():
            if name == "input":
                what = f"input channel {key!r} for {where}"
            else:
                part = f"`{key}=`" if name == "options" else f"{name}[{key!r}]"
                what = f"{part} of the call on {where}"
            dump_exact(serde, item, what=what)


def decode(serde: SerializerProtocol, data: bytes) -> Call:
    """The inverse of ``encode``."""
    parts = load_exact(serde, data)
    config: RunnableConfig = {
        "configurable": parts["configurable"],
        "metadata": parts["metadata"],
        "tags": parts["tags"],
    }
    if parts["recursion_limit"] is not None:
        config["recursion_limit"] = parts["recursion_limit"]
    if parts.get("max_concurrency") is not None:
        config["max_concurrency"] = parts["max_concurrency"]
    if parts["run_name"]:
        config["run_name"] = parts["run_name"]
    if parts["run_id"]:
        config["run_id"] = uuid.UUID(parts["run_id"])
    return Call(
        input=parts["input"],
        config=config,
        options=parts["options"],
        sync=parts["sync"],
        mailbox=parts["mailbox"],
        # Records of earlier releases and of `pack_record` lack some of these.
        callbacks=parts.get("callbacks"),
        message_events=parts.get("message_events", False),
        result_only=parts.get("result_only", False),
        deltas=parts.get("deltas", False),
        ends=parts.get("ends", False),
        known=parts.get("known", b""),
    )
