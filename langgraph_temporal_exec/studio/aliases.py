"""Studio: thread ids as LangGraph's API server can have them.

The server takes UUIDs only. A thread whose id is one keeps it; any other id gets an alias, a UUID
of version 5 made of it, so that every server gives a thread the same alias without storing any.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "langgraph-temporal-exec/thread")
"""Of the aliases; changing it changes all of them."""

ALIAS_VERSION = 5


def is_uuid(text: str) -> bool:
    """Whether the server takes an id, in the form in which it gives it back."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def alias_of(thread_id: str) -> str:
    """A thread's id in the server."""
    return thread_id if is_uuid(thread_id) else str(uuid.uuid5(NAMESPACE, thread_id))


class Aliases:
    """From aliases back to threads.

    Args:
        list_threads: All thread ids; asked for an alias nobody has seen yet.
    """

    def __init__(self, list_threads: Callable[[], Awaitable[list[str]]]) -> None:
        self._list_threads = list_threads
        self._native: dict[str, str] = {}

    def see(self, thread_id: str) -> None:
        """Remember a thread that exists."""
        self._native[alias_of(thread_id)] = thread_id

    async def native(self, alias: str) -> str:
        """The thread of an alias; the alias itself if it is none."""
        alias = str(alias)
        known = self._native.get(alias)
        if known is not None:
            return known
        if not is_uuid(alias) or uuid.UUID(alias).version != ALIAS_VERSION:
            return alias
        for thread_id in await self._list_threads():
            self.see(thread_id)
        # An id of this form that the server's user chose is the thread's own.
        return self._native.get(alias, alias)
