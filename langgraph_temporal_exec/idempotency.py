"""Public API: a key that is the same whenever a task is executed again."""

from __future__ import annotations

import hashlib

from langgraph.config import get_config

from .errors import UsageError


def idempotency_key(*parts: str) -> str:
    """A key for what a node or a tool does outside, to be done once however often it is executed.

    A task that was under way when its worker died is executed again, from its beginning: same
    thread, same checkpoint, same task, same key. Another step of the thread, another task of the
    same step, a fork of it, have other keys. Not with ``durability="exit"``, nor in nested graphs
    compiled with ``checkpointer=False``: what is not recorded begins anew, under other ids.

    Args:
        parts: What tells several effects of one task apart, such as a tool call's id or a number.

    Returns:
        64 hexadecimal characters.

    Raises:
        UsageError: It was called outside of a node, or in a graph without a checkpointer.
    """
    try:
        configurable = get_config()["configurable"]
        # LangGraph makes a task's id of its checkpoint, its node and its triggers, and puts it into
        # the namespace, behind those of the tasks around it.
        place = (str(configurable["thread_id"]), str(configurable["checkpoint_ns"]))
    except (KeyError, RuntimeError) as exc:
        raise UsageError(
            "idempotency_key() must be called in a node, task or tool of a graph that runs on a "
            "thread."
        ) from exc
    text = "\0".join((*place, *parts))
    return hashlib.sha256(text.encode()).hexdigest()
