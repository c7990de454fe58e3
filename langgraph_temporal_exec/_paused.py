"""Shared: the nodes that a checkpoint has triggered, and that a graph may lack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ImpossibleResumeError


def check_nodes(
    thread_id: str | None, checkpoint: Mapping[str, Any], sends: Iterable[Any], nodes: set[str]
) -> None:
    """Refuse to go on from a checkpoint with nodes that the graph lacks.

    Args:
        thread_id: For the message.
        checkpoint: As stored, also with channels that the graph does not have.
        sends: ``Send``s in it that are not executed yet.
        nodes: Of the graph.

    Raises:
        ImpossibleResumeError: Naming the nodes.
    """
    due = {send.node for send in sends}
    versions = checkpoint["channel_versions"]
    newest = max(versions.values(), default=None)
    for channel, value in checkpoint["channel_values"].items():
        # Channels that the graph lacks keep their last value for ever. What the last superstep
        # wrote has the newest version; anything older triggered a node that was given up since.
        if versions.get(channel) != newest:
            continue
        # The names that StateGraph gives to the channels that trigger nodes; a join waits for
        # all it is named after.
        kind, _, rest = channel.partition(":")
        if kind == "branch" and rest.startswith("to:"):
            due.add(rest.removeprefix("to:"))
        elif kind == "join":
            awaited, _, node = rest.rpartition(":")
            if set(awaited.split("+")) == _arrived(value):
                due.add(node)
    missing = sorted(due - nodes)
    if missing:
        raise ImpossibleResumeError(
            f"Thread {thread_id!r} is paused in {', '.join(map(repr, missing))}, which the graph "
            "that is served now does not have: renamed or removed since. Nothing was resumed, and "
            "no answer was taken. Serve a graph that has the node and resume again, or go on "
            "elsewhere: Command(goto=...), or update_state(..., as_node=...)."
        )


def _arrived(value: Any) -> set[str]:
    """Who arrived at a join; that of a deferred node also holds whether it is finished."""
    return set(value[0] if isinstance(value, tuple) else value)
