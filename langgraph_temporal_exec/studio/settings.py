"""Studio: what the environment tells the API server about Temporal.

How to reach Temporal comes from its own environment and configuration file (``TEMPORAL_ADDRESS``,
``TEMPORAL_NAMESPACE``, ``TEMPORAL_PROFILE``, TLS and keys); the rest from:

``LANGGRAPH_TEMPORAL_TASK_QUEUE``
    Task queue of the workers; default ``langgraph``.
``LANGGRAPH_TEMPORAL_ID_PREFIX``
    First part of all workflow ids; default ``langgraph``.
``LANGGRAPH_TEMPORAL_WORKER``
    ``embedded`` (default): the server process is a worker as well. ``remote``: workers are other
    processes, which serve the same graphs under the same names.
``LANGGRAPH_TEMPORAL_SAVER``
    ``package.module:function``, a function without arguments, sync or async, that returns the
    ``TemporalSaver`` to use, or an async context manager that gives it: for a serializer, a payload
    codec or other options.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..connection import connect, connect_config
from ..errors import UsageError
from ..references import load_saver
from ..saver import TemporalSaver

PREFIX = "LANGGRAPH_TEMPORAL_"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one server process; see the module for their meaning.

    Raises:
        UsageError: One is out of range.
    """

    task_queue: str = "langgraph"
    id_prefix: str = "langgraph"
    worker: str = "embedded"
    saver: str = ""

    def __post_init__(self) -> None:
        if self.worker not in ("embedded", "remote"):
            raise UsageError(
                f"{PREFIX}WORKER is {self.worker!r}; it must be 'embedded' or 'remote'."
            )
        if self.saver and not all(self.saver.partition(":")):
            raise UsageError(
                f"{PREFIX}SAVER is {self.saver!r}; it must be of the form package.module:function."
            )

    @property
    def embedded(self) -> bool:
        """Whether the server process is a worker as well."""
        return self.worker == "embedded"


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings in the environment."""
    names = {name: PREFIX + name.upper() for name in ("task_queue", "id_prefix", "worker", "saver")}
    return Settings(**{name: environ[key] for name, key in names.items() if environ.get(key)})


@asynccontextmanager
async def open_saver(settings: Settings) -> AsyncIterator[TemporalSaver]:
    """The saver that the settings describe, closed at the end.

    Raises:
        ServerUnavailableError: No Temporal server answers.
        UsageError: ``LANGGRAPH_TEMPORAL_SAVER`` names no function that makes a saver, or
            Temporal's configuration cannot be used.
    """
    if settings.saver:
        async with load_saver(settings.saver, what=f"{PREFIX}SAVER") as saver:
            yield saver
        return
    client = await connect(connect_config())
    saver = TemporalSaver(client, task_queue=settings.task_queue, id_prefix=settings.id_prefix)
    try:
        yield saver
    finally:
        saver.close()
