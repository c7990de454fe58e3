"""LangGraph seam: the nodes that a checkpoint has triggered, and that a graph may lack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .private import triggered_by


def missing_nodes(
    checkpoint: Mapping[str, Any], sends: Iterable[Any], nodes: set[str]
) -> list[str]:
    """Nodes that a checkpoint has triggered and a graph lacks, for people to read.

    Args:
        checkpoint: As stored, also with channels that the graph does not have.
        sends: ``Send``s in it that are not executed yet.
        nodes: Of the graph.

    Returns:
        Their names as far as channels tell them: those of a ``StateGraph`` do.
    """
    due = {send.node for send in sends}
    versions = checkpoint["channel_versions"]
    newest = max(versions.values(), default=None)
    for channel, value in checkpoint["channel_values"].items():
        # Channels that the graph lacks keep their last value for ever. What the last superstep
        # wrote has the newest version; anything older triggered a node that was given up since.
        if versions.get(channel) != newest:
            continue
        if (node := triggered_by(channel, value)) is not None:
            due.add(node)
    return sorted(due - nodes)
