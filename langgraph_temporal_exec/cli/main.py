"""Command line: ``langgraph-temporal worker`` runs a worker as its own process."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import WorkerDeploymentConfig

from ..errors import TemporalExecError, UsageError
from ..options import Retention
from ..saver import TemporalSaver
from . import threads
from .connection import Address, Namespace, Prefix, Profile, TaskQueue, connect, connect_config
from .output import log_to_stderr, prometheus_runtime
from .studio import studio

app = typer.Typer(
    help="Durable LangGraph on Temporal.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.add_typer(threads.app, name="threads")
app.command()(studio)
console = Console(stderr=True, highlight=False)


@app.callback()
def main() -> None:
    """Durable LangGraph on Temporal."""


@app.command()
def worker(
    graphs: Annotated[
        list[str],
        typer.Argument(help="What to serve: package.module:graph, or name=package.module:graph."),
    ],
    address: Address = None,
    namespace: Namespace = None,
    task_queue: TaskQueue = "langgraph",
    id_prefix: Prefix = "langgraph",
    heartbeat_timeout: Annotated[
        float, typer.Option(help="Seconds of silence after which a worker counts as dead.")
    ] = 10.0,
    keep_last: Annotated[
        int | None, typer.Option(help="Keep so many checkpoints of a thread; default: all.")
    ] = None,
    keep_days: Annotated[
        float | None, typer.Option(help="Keep checkpoints that are younger; default: all.")
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
    profile: Profile = None,
) -> None:
    """Serve graphs until SIGINT or SIGTERM.

    TLS, API keys and profiles come from Temporal's own configuration file and environment
    (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, ...).
    """
    log_to_stderr()
    try:
        served = [_load(target) for target in graphs]
        config = connect_config(profile, address, namespace)
        if metrics is not None:
            config["runtime"] = prometheus_runtime(metrics)
        asyncio.run(
            _serve(
                served,
                config=config,
                deployment=_deployment(deployment_name, build_id),
                options={
                    "task_queue": task_queue,
                    "id_prefix": id_prefix,
                    "heartbeat_timeout": timedelta(seconds=heartbeat_timeout),
                    "retention": _retention(keep_last, keep_days),
                },
            )
        )
    except TemporalExecError as exc:
        console.print(f"[red]error:[/red] {exc}")
        raise typer.Exit(1) from exc


def _deployment(name: str | None, build_id: str | None) -> WorkerDeploymentConfig | None:
    if name is None and build_id is None:
        return None
    if not name or not build_id:
        raise UsageError("--deployment-name and --build-id go together.")
    version = WorkerDeploymentVersion(deployment_name=name, build_id=build_id)
    return WorkerDeploymentConfig(version=version, use_worker_versioning=True)


def _retention(last: int | None, days: float | None) -> Retention | None:
    if last is None and days is None:
        return None
    return Retention(last=last, max_age=None if days is None else timedelta(days=days))


def _load(target: str) -> Any:
    """``[name=]module:attribute``; with a name the result is a mapping."""
    name, _, reference = target.rpartition("=")
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{target!r} is not of the form package.module:graph.")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        graph: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        remedy = (
            f"Name the module, not the file: {module_name.removesuffix('.py')}:{attribute}."
            if module_name.endswith(".py")
            else "Run the command where it can be imported."
        )
        raise UsageError(f"{target!r}: no module {exc.name!r}. {remedy}") from exc
    for part in attribute.split("."):
        if not hasattr(graph, part):
            raise UsageError(f"{target!r}: {module_name} has no {attribute!r}.")
        graph = getattr(graph, part)
    return {name: graph} if name else graph


def _names(graphs: list[Any]) -> list[str]:
    """What callers must name: the mapping's name, else the graph's own."""
    return [name for g in graphs for name in (g if isinstance(g, dict) else [g.name])]


async def _serve(
    graphs: list[Any],
    *,
    deployment: WorkerDeploymentConfig | None,
    config: dict[str, Any],
    options: dict[str, Any],
) -> None:
    client = await connect(config)
    saver = TemporalSaver(client, **options)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    # Graphs get an event loop of their own, which nothing that they do can end.
    with saver.worker(*graphs, deployment=deployment):
        console.print(
            f"serving task queue [bold]{options['task_queue']}[/bold] "
            f"at {config['target_host']}: {', '.join(_names(graphs))}; Ctrl-C stops"
        )
        await stop.wait()
        console.print("stopping")


if __name__ == "__main__":
    app()
