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
    ``TemporalSaver`` to use: for a serializer, a payload codec or other options.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client
from temporalio.envconfig import ClientConfigProfile

from ..errors import ServerUnavailableError, UsageError
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


async def make_saver(settings: Settings) -> TemporalSaver:
    """The saver that the settings describe.

    Raises:
        ServerUnavailableError: No Temporal server answers.
        UsageError: ``LANGGRAPH_TEMPORAL_SAVER`` names no function that returns a saver.
    """
    if settings.saver:
        return await _custom(settings.saver)
    profile = ClientConfigProfile.load()
    config: dict[str, Any] = dict(profile.to_client_connect_config())
    config.setdefault("target_host", "localhost:7233")
    try:
        client = await Client.connect(**config)
    except RuntimeError as exc:
        raise ServerUnavailableError(
            f"Cannot connect to Temporal at {config['target_host']}: {exc}. Set TEMPORAL_ADDRESS; "
            "for a local server: `temporal server start-dev`."
        ) from exc
    return TemporalSaver(client, task_queue=settings.task_queue, id_prefix=settings.id_prefix)


async def _custom(reference: str) -> TemporalSaver:
    module_name, _, attribute = reference.partition(":")
    try:
        make = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as exc:
        raise UsageError(f"{PREFIX}SAVER: {reference!r} cannot be imported: {exc}.") from exc
    saver = make()
    if inspect.isawaitable(saver):
        saver = await saver
    if not isinstance(saver, TemporalSaver):
        raise UsageError(
            f"{PREFIX}SAVER: {reference!r} returned a {type(saver).__name__}; it must return a "
            "TemporalSaver."
        )
    return saver
