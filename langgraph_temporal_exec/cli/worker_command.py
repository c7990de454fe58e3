"""Command line: ``langgraph-temporal worker`` runs a worker as its own process."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .deployment import Deployment, deployed, tell

if TYPE_CHECKING:
    from temporalio.worker import (
        PollerBehaviorAutoscaling,
        WorkerDeploymentConfig,
        WorkerTuner,
    )

    from ..options import Retention

HEARTBEAT_S = 10.0
SHUTDOWN_GRACE_S = 25.0
"""As ``saver.worker``, without loading it."""


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
    park_days: Annotated[
        float | None,
        typer.Option(help="Park threads that were not used for so long; default: none."),
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
    max_concurrent_runs: Annotated[
        int | None, typer.Option(help="Runs this worker drives at once; default: 200.")
    ] = None,
    max_concurrent_tasks: Annotated[
        int | None, typer.Option(help="Nodes this worker executes at once; default: no bound.")
    ] = None,
    target_cpu: Annotated[
        float | None,
        typer.Option(
            help="Take runs while less of the CPU is used, from 0 to 1; needs --target-memory, "
            "instead of --max-concurrent-runs."
        ),
    ] = None,
    target_memory: Annotated[
        float | None, typer.Option(help="The same for memory; needs --target-cpu.")
    ] = None,
    max_cached_workflows: Annotated[
        int | None,
        typer.Option(help="Threads and runs whose workflows stay in memory; default: 1,000."),
    ] = None,
    workflow_cache_bytes: Annotated[
        int | None,
        typer.Option(help="The same as a bound of memory, at 0.5 MB for each workflow."),
    ] = None,
    autoscale_pollers: Annotated[
        bool, typer.Option("--autoscale-pollers", help="Poll as much as the server advises.")
    ] = False,
    shutdown_grace: Annotated[
        float,
        typer.Option(help="Seconds that runs under way may go on when the worker is to stop."),
    ] = SHUTDOWN_GRACE_S,
    health_port: Annotated[
        int | None, typer.Option(help="Port for HTTP GET /live and /ready; default: none.")
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
        park_days=park_days,
        metrics=metrics,
    )
    tuned = target_cpu is not None or target_memory is not None
    # Temporal's SDK is loaded later: what is wrong with the call is told at once.
    if tuned and (target_cpu is None or target_memory is None or max_concurrent_runs is not None):
        raise UsageError(
            "--target-cpu and --target-memory go together, and instead of --max-concurrent-runs."
        )
    if any(share is not None and not 0 < share <= 1 for share in (target_cpu, target_memory)):
        raise UsageError("--target-cpu and --target-memory are parts of the whole, up to 1.")
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
    options = {
        "heartbeat_timeout": timedelta(seconds=heartbeat_s),
        "retention": retention,
        "park_after": None if park_days is None else timedelta(days=park_days),
    }
    settings: dict[str, Any] = {
        "name": name,
        "worker_queue_file": queue_file,
        "max_concurrent_runs": max_concurrent_runs,
        "max_concurrent_tasks": max_concurrent_tasks,
        "max_cached_workflows": max_cached_workflows,
        "workflow_cache_bytes": workflow_cache_bytes,
        "shutdown_grace": timedelta(seconds=shutdown_grace),
        "health_port": health_port,
        "tuner": _tuner(target_cpu, target_memory),
        "pollers": _pollers(autoscale_pollers),
        "deployment": deployment,
    }
    asyncio.run(_serve(served, at, settings=settings, runtime=runtime, options=options))


def _tuner(cpu: float | None, memory: float | None) -> WorkerTuner | None:
    if cpu is None or memory is None:
        return None
    from temporalio.worker import WorkerTuner

    return WorkerTuner.create_resource_based(target_memory_usage=memory, target_cpu_usage=cpu)


def _pollers(autoscale: bool) -> PollerBehaviorAutoscaling | None:
    if not autoscale:
        return None
    from temporalio.worker import PollerBehaviorAutoscaling

    return PollerBehaviorAutoscaling()


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
    settings: dict[str, Any],
    runtime: Any,
    options: dict[str, Any],
) -> None:
    async with at.open(runtime=runtime, **options) as saver:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, stop.set)
        # Graphs get an event loop of their own, which nothing that they do can end.
        with saver.worker(*graphs, **settings):
            tell(
                f"serving task queue {saver.options.task_queue} at "
                f"{saver.client.service_client.config.target_host}: {', '.join(_names(graphs))}; "
                "Ctrl-C stops"
            )
            await stop.wait()
            grace_s = settings["shutdown_grace"].total_seconds()
            tell(f"stopping: runs under way have {grace_s:g} s to end; Ctrl-C ends at once")
            for signum in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(signum)
                signal.signal(signum, _end_at_once)


def _end_at_once(signum: int, _: object) -> None:
    """Somebody is in a hurry: as if the worker were killed, its runs go to others when its
    heartbeats are missed."""
    os._exit(128 + signum)
