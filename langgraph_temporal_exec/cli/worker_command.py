"""Command line: ``langgraph-temporal worker`` runs a worker as its own process."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .deployment import Deployment, deployed, tell

if TYPE_CHECKING:
    from temporalio.worker import WorkerDeploymentConfig

    from ..options import Retention

HEARTBEAT_S = 10.0


@deployed
def worker(
    graphs: Annotated[
        list[str],
        typer.Argument(help="What to serve: package.module:graph, or name=package.module:graph."),
    ],
    at: Deployment,
    heartbeat_timeout: Annotated[
        float | None,
        typer.Option(
            help=f"Seconds of silence after which a worker counts as dead; default: {HEARTBEAT_S}."
        ),
    ] = None,
    keep_last: Annotated[
        int | None, typer.Option(help="Keep so many checkpoints of a thread; default: all.")
    ] = None,
    keep_days: Annotated[
        float | None, typer.Option(help="Keep checkpoints that are younger; default: all.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the worker, for its disk: started again under it, it is the home its "
            "threads have. Default: one that is never used again."
        ),
    ] = None,
    queue_file: Annotated[
        str | None,
        typer.Option(
            help="Instead of --name: a file on that disk in which the worker's queue is kept."
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="HOST:PORT where the worker serves Temporal's metrics to Prometheus."),
    ] = None,
    deployment_name: Annotated[
        str | None, typer.Option(help="Temporal's Worker Deployment; needs --build-id.")
    ] = None,
    build_id: Annotated[
        str | None, typer.Option(help="Version of this worker within the deployment.")
    ] = None,
) -> None:
    """Serve graphs until SIGINT or SIGTERM.

    TLS, API keys and profiles come from Temporal's own configuration file and environment
    (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, ...), or all of it, with codec,
    serializer, nodes and retention, from the saver of --saver.
    """
    at.check(
        heartbeat_timeout=heartbeat_timeout,
        keep_last=keep_last,
        keep_days=keep_days,
        metrics=metrics,
    )
    deployment = _deployment(deployment_name, build_id)
    retention = _retention(keep_last, keep_days)
    if not at.saver:
        # A mistake in it is told before the graphs are loaded, which takes a while.
        at.connect_config()
    from .output import log_to_stderr, prometheus_runtime

    runtime = None if metrics is None else prometheus_runtime(metrics)
    log_to_stderr()
    served = [_load(target) for target in graphs]
    heartbeat_s = HEARTBEAT_S if heartbeat_timeout is None else heartbeat_timeout
    options = {"heartbeat_timeout": timedelta(seconds=heartbeat_s), "retention": retention}
    hosted = {"deployment": deployment, "name": name, "worker_queue_file": queue_file}
    asyncio.run(_serve(served, at, hosted=hosted, runtime=runtime, options=options))


def _deployment(name: str | None, build_id: str | None) -> WorkerDeploymentConfig | None:
    if name is None and build_id is None:
        return None
    if not name or not build_id:
        raise UsageError("--deployment-name and --build-id go together.")
    from temporalio.common import WorkerDeploymentVersion
    from temporalio.worker import WorkerDeploymentConfig

    version = WorkerDeploymentVersion(deployment_name=name, build_id=build_id)
    return WorkerDeploymentConfig(version=version, use_worker_versioning=True)


def _retention(last: int | None, days: float | None) -> Retention | None:
    if last is None and days is None:
        return None
    from ..options import Retention

    return Retention(last=last, max_age=None if days is None else timedelta(days=days))


def _load(target: str) -> Any:
    """``[name=]module:attribute``; with a name the result is a mapping."""
    from ..references import load

    name, _, reference = target.rpartition("=")
    graph = load(reference, what="GRAPHS")
    return {name: graph} if name else graph


def _names(graphs: list[Any]) -> list[str]:
    """What callers must name: the mapping's name, else the graph's own."""
    return [name for g in graphs for name in (g if isinstance(g, dict) else [g.name])]


async def _serve(
    graphs: list[Any],
    at: Deployment,
    *,
    hosted: dict[str, Any],
    runtime: Any,
    options: dict[str, Any],
) -> None:
    async with at.open(runtime=runtime, **options) as saver:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, stop.set)
        # Graphs get an event loop of their own, which nothing that they do can end.
        with saver.worker(*graphs, **hosted):
            tell(
                f"serving task queue {saver.options.task_queue} at "
                f"{saver.client.service_client.config.target_host}: {', '.join(_names(graphs))}; "
                "Ctrl-C stops"
            )
            await stop.wait()
            tell("stopping")
