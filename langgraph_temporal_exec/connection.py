"""Shared: how a process finds its Temporal server, and what to do when it does not."""

from __future__ import annotations

import re
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfigProfile
from temporalio.service import RPCError

from ._native import forward_core_logs
from .errors import ServerUnavailableError, UsageError
from .storage.rpc import is_gone, is_refused_login, is_unreachable

DEFAULT_TARGET = "localhost:7233"


def connect_config(
    profile: str | None = None, address: str | None = None, namespace: str | None = None
) -> dict[str, Any]:
    """Arguments of ``Client.connect`` from Temporal's own configuration file and environment.

    Args:
        profile: Profile of the file; default: ``TEMPORAL_PROFILE`` or "default".
        address: Overrides the configured address.
        namespace: Overrides the configured namespace.

    Returns:
        The arguments; without ``target_host`` if no address is configured.

    Raises:
        UsageError: The configuration cannot be read.
    """
    try:
        loaded = ClientConfigProfile.load(profile) if profile else ClientConfigProfile.load()
        config: dict[str, Any] = dict(loaded.to_client_connect_config())
    except (OSError, RuntimeError, ValueError) as exc:
        # An excerpt of the file, drawn over several lines, is left out.
        lines = [line.strip() for line in str(exc).splitlines() if "|" not in line]
        raise UsageError(
            f"Temporal's configuration cannot be used: {'; '.join(filter(None, lines))}. It comes "
            "from the file that TEMPORAL_CONFIG_FILE names (default: temporalio/temporal.toml in "
            "the user's folder for configuration; `temporal config list` shows it) and from "
            "variables TEMPORAL_*: correct it there, or choose another profile (--profile, "
            "TEMPORAL_PROFILE)."
        ) from exc
    if address:
        config["target_host"] = address
    if namespace:
        config["namespace"] = namespace
    return config


async def connect(config: dict[str, Any]) -> Client:
    """A connected client.

    Args:
        config: From ``connect_config``.

    Raises:
        ServerUnavailableError: No server answers, or not in the way it is spoken to.
        UsageError: The address is none.
    """
    forward_core_logs()
    target = config.get("target_host", DEFAULT_TARGET)
    try:
        return await Client.connect(**{**config, "target_host": target})
    except RuntimeError as exc:
        raise ServerUnavailableError(
            f"Cannot connect to Temporal at {target}: {_reason(str(exc), config)}"
        ) from exc
    except ValueError as exc:
        raise UsageError(
            f"{target!r} is no address of a Temporal server ({exc}): give HOST:PORT."
        ) from exc


def _reason(text: str, config: dict[str, Any]) -> str:
    """Why, and the remedy; the text of the SDK shows the structures of its implementation."""
    if "InvalidContentType" in text:
        why = "an API key does" if config.get("api_key") else "the configuration does"
        return (
            f"the server does not speak TLS, which {why} turn on. For a server without TLS set "
            "TEMPORAL_TLS=false, or `disabled = true` in the `tls` table of the profile; a server "
            "in the cloud has another address."
        )
    if "PrivateKeyParseError" in text or "CertificateParseError" in text:
        return (
            "the client's certificate or its key cannot be read. Both must be PEM: see "
            "TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH, or the `tls` table of "
            "the profile."
        )
    told = re.search(r'(?:message|error): "([^"]+)"', text)
    return (
        f"{told[1] if told else text}. Check the address (--address, TEMPORAL_ADDRESS) and TLS "
        "(TEMPORAL_TLS, TEMPORAL_API_KEY); for a local server: `temporal server start-dev`."
    )


async def check_namespace(client: Client) -> None:
    """Raise if the client's namespace does not exist; connecting does not tell.

    Raises:
        ServerUnavailableError: The server does not answer.
        UsageError: There is no such namespace, or the server does not know the client.
    """
    target = client.service_client.config.target_host
    try:
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace)
        )
    except RPCError as exc:
        if is_gone(exc):
            raise UsageError(
                f"Temporal at {target} has no namespace {client.namespace!r}. Name another "
                "(--namespace, TEMPORAL_NAMESPACE), or make it: `temporal operator namespace "
                f"create {client.namespace}`."
            ) from exc
        if is_refused_login(exc):
            raise UsageError(
                f"Temporal at {target} does not accept who asks ({exc.message}). Check the API key "
                "(TEMPORAL_API_KEY) or the client's certificate, and that they are for namespace "
                f"{client.namespace!r}."
            ) from exc
        if is_unreachable(exc):
            raise ServerUnavailableError(
                f"Temporal at {target} does not answer: {exc.message}."
            ) from exc
        # Whoever may not see the namespace may still be allowed what follows.
    except RuntimeError as exc:
        # A client that connects with its first call.
        raise ServerUnavailableError(
            f"Cannot connect to Temporal at {target}: {_reason(str(exc), {})}"
        ) from exc
