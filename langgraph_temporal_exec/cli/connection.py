"""Command line: how commands find their Temporal server, and the options for it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from temporalio.client import Client
from temporalio.envconfig import ClientConfigProfile

from .._native import forward_core_logs
from ..errors import TemporalExecError

Address = Annotated[
    str | None, typer.Option(help="Temporal server; default: environment or localhost:7233.")
]
Namespace = Annotated[str | None, typer.Option(help="Temporal namespace.")]
Profile = Annotated[str | None, typer.Option(help="Profile of the Temporal configuration file.")]
TaskQueue = Annotated[str, typer.Option(help="Task queue, as given to TemporalSaver.")]
Prefix = Annotated[str, typer.Option(help="First part of all workflow ids.")]


def connect_config(
    profile: str | None, address: str | None, namespace: str | None
) -> dict[str, Any]:
    """Arguments of ``Client.connect`` from Temporal's configuration, overridden by options."""
    loaded = ClientConfigProfile.load(profile) if profile else ClientConfigProfile.load()
    config: dict[str, Any] = dict(loaded.to_client_connect_config())
    config.setdefault("target_host", "localhost:7233")
    if address:
        config["target_host"] = address
    if namespace:
        config["namespace"] = namespace
    return config


async def connect(config: dict[str, Any]) -> Client:
    """A connected client.

    Raises:
        TemporalExecError: No server answers.
    """
    forward_core_logs()
    try:
        return await Client.connect(**config)
    except RuntimeError as exc:
        raise TemporalExecError(
            f"Cannot connect to Temporal at {config['target_host']}: {exc}. For a local server: "
            "`temporal server start-dev`."
        ) from exc
