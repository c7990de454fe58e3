"""Workflow side: the workers of this process, for Queries to their workflows.

``LangGraphWorker`` runs in a sandbox and knows nothing of the process it runs in; by this table its
Query tells of it. This module is passed through Temporal's sandbox, so both see the same table.
"""

from __future__ import annotations

from collections.abc import Callable

_cards: dict[str, Callable[[], bytes]] = {}


def enter(queue: str, tell: Callable[[], bytes]) -> None:
    """A worker polls a queue from now on.

    Args:
        queue: Task queue of its process.
        tell: Gives its ``WorkerCard``, packed; called on any thread.
    """
    _cards[queue] = tell


def leave(queue: str) -> None:
    """It polls no more."""
    _cards.pop(queue, None)


def card(queue: str) -> bytes:
    """What the worker of a queue tells of itself; b"": it does not poll any more."""
    tell = _cards.get(queue)
    return b"" if tell is None else tell()
