"""Command line: how commands find their Temporal server."""

from __future__ import annotations

from typing import Any

from temporalio.client import Client
from temporalio.envconfig import ClientConfigProfile

from ..errors import TemporalExecError


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
    try:
        return await Client.connect(**config)
    except RuntimeError as exc:
        raise TemporalExecError(
            f"Cannot connect to Temporal at {config['target_host']}: {exc}. For a local server: "
            "`temporal server start-dev`."
        ) from exc
