"""Command line: ``langgraph-temporal studio`` opens persisted threads in LangGraph Studio."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ServerUnavailableError, TemporalExecError, UsageError
from .deployment import ID_PREFIX, SAVER_VARIABLE, TASK_QUEUE, Deployment, deployed, tell

CHECKPOINTER = "langgraph_temporal_exec.studio.checkpointer"
APP = "langgraph_temporal_exec.studio.app:app"
STUDIO = "https://smith.langchain.com/studio/?baseUrl={url}"
PAGE = "/debug/"
JOBS = 10
START_S = 120.0
STOP_S = 30.0


@deployed
def studio(
    graphs: Annotated[
        list[str],
        typer.Argument(help="Graphs without a checkpointer: [id=]package.module:graph."),
    ],
    at: Deployment,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", help="Folder of langgraph.json and of the server's own store; default: new."
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the API server; 0: a free one.")] = 2024,
    remote: Annotated[
        bool, typer.Option("--remote", help="Run nothing here: workers are other processes.")
    ] = False,
    database: Annotated[
        Path | None,
        typer.Option(help="File of the Temporal server that is started when none is found."),
    ] = None,
) -> None:
    """Serve the threads in Temporal to LangGraph Studio, until Ctrl-C.

    Uses the Temporal server of --address, of Temporal's configuration or of --saver; when none is
    configured and none answers at localhost:7233, starts one.
    """
    at.check(database=database)
    if importlib.util.find_spec("langgraph_api") is None:
        raise UsageError(
            "LangGraph's API server is not installed: "
            "pip install 'langgraph-temporal-exec[studio]'."
        )
    served = dict(_graph(target) for target in graphs)
    environ = {
        "LANGGRAPH_TEMPORAL_WORKER": "remote" if remote else "embedded",
        "LANGGRAPH_TEMPORAL_TASK_QUEUE": at.task_queue or TASK_QUEUE,
        "LANGGRAPH_TEMPORAL_ID_PREFIX": at.id_prefix or ID_PREFIX,
        # An empty one passes over the variable here, and there.
        SAVER_VARIABLE: at.saver or "",
    }
    asyncio.run(_serve(served, folder, _port(port), at, database=database, environ=environ))


def _graph(target: str) -> tuple[str, str]:
    """``[id=]module:attribute``; the id is the attribute if none is given."""
    graph_id, _, reference = target.rpartition("=")
    module, _, attribute = reference.partition(":")
    if not module or not attribute.isidentifier():
        raise UsageError(f"{target!r} is not of the form package.module:graph.")
    return graph_id or attribute, reference


def _port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise UsageError(f"Port {port} is in use; choose another with --port.") from exc
        free: int = probe.getsockname()[1]
        return free


@asynccontextmanager
async def _temporal(
    at: Deployment, *, database: Path | None
) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """How to name the server that is there, or one that is started, and variables that tell the
    API server about it."""
    from .. import local
    from ..connection import check_namespace, connect

    if at.saver:
        # Made in the API server; here only to tell what is wrong with it.
        async with at.open() as saver:
            namespace = saver.client.namespace
        yield f"that of {at.saver}, namespace {namespace}", {}
        return
    config = at.connect_config()
    environ = {"TEMPORAL_PROFILE": at.profile} if at.profile else {}
    try:
        client = await connect(config)
    except ServerUnavailableError:
        if "target_host" in config:
            raise
    else:
        await check_namespace(client)
        target = client.service_client.config.target_host
        environ.update(TEMPORAL_ADDRESS=target, TEMPORAL_NAMESPACE=client.namespace)
        yield f"the one at {target}, namespace {client.namespace}", environ
        return
    server = await local.start_server(database)
    kept = f"kept in {database}" if database else "in memory: its threads end with this command"
    environ.update(TEMPORAL_ADDRESS=server.address, TEMPORAL_NAMESPACE=server.client.namespace)
    try:
        yield f"started at {server.address}, {kept}", environ
    finally:
        await server.shutdown()


def write_config(folder: Path, graphs: dict[str, str]) -> Path:
    """Write ``langgraph.json``, or check and complete the one that is there.

    Args:
        folder: Where it is.
        graphs: ``module:attribute`` by graph id.

    Returns:
        The file.

    Raises:
        UsageError: The one that is there says something else, or is no JSON object.
    """
    path = folder / "langgraph.json"
    wanted: dict[str, Any] = {
        "dependencies": ["."],
        "graphs": graphs,
        "checkpointer": {"path": CHECKPOINTER},
        "http": {"app": APP, "middleware_order": "auth_first"},
    }
    if not path.exists():
        path.write_text(json.dumps(wanted, indent=2) + "\n")
        return path
    try:
        found = json.loads(path.read_text())
        there = {
            "checkpointer": found.get("checkpointer"),
            **{f"graphs.{k}": found.get("graphs", {}).get(k) for k in graphs},
        }
    except (ValueError, AttributeError) as exc:
        raise UsageError(f"{path} is no JSON object of langgraph.json's form: {exc}.") from exc
    needed = {
        "checkpointer": wanted["checkpointer"],
        **{f"graphs.{k}": v for k, v in graphs.items()},
    }
    wrong = [
        f"{key} must be {json.dumps(needed[key])}" for key in needed if there[key] != needed[key]
    ]
    http = found.get("http") or {}
    if http.get("app") == APP and http.get("middleware_order") != "auth_first":
        wrong.append('http.middleware_order must be "auth_first"')
    if not http.get("app"):
        wrong.append(f"http must be {json.dumps(wanted['http'])}")
    if wrong:
        raise UsageError(f"{path} was left as it is; in it {'; '.join(wrong)}.")
    return path


async def _serve(
    graphs: dict[str, str],
    folder: Path | None,
    port: int,
    at: Deployment,
    *,
    database: Path | None,
    environ: dict[str, str],
) -> None:
    with tempfile.TemporaryDirectory(prefix="langgraph-temporal-") as temporary:
        root = Path(temporary) if folder is None else folder
        root.mkdir(parents=True, exist_ok=True)
        path = write_config(root, graphs)
        async with _temporal(at, database=database) as (what, found):
            tell(f"Temporal: {what}")
            tell(f"configuration: {path}")
            paths = [str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
            process = await asyncio.create_subprocess_exec(
                *(_langgraph(), "dev", "--no-browser", "--no-reload", "--port", str(port)),
                *("--n-jobs-per-worker", str(JOBS)),
                cwd=root,
                env={
                    **os.environ,
                    **environ,
                    **found,
                    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
                    "LANGGRAPH_NO_VERSION_CHECK": "true",
                    "PYTHONPATH": os.pathsep.join(paths),
                },
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            await _watch(process, f"http://127.0.0.1:{port}")


def _langgraph() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "langgraph"
    return str(beside) if beside.exists() else "langgraph"


async def _watch(process: asyncio.subprocess.Process, url: str) -> None:
    """Until the server ends or somebody stops this command."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    ended = asyncio.create_task(process.wait())
    stopping = asyncio.create_task(stop.wait())
    try:
        if await _answers(url, ended, stopping):
            _tell(url)
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            raise TemporalExecError(
                f"The API server ended with code {process.returncode}; what it said is above."
            )
        tell("stopping")
    finally:
        stopping.cancel()
        await _end(process, ended)


async def _answers(url: str, *enough: asyncio.Task[Any]) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    deadline = asyncio.get_running_loop().time() + START_S
    while not any(task.done() for task in enough):
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            if asyncio.get_running_loop().time() > deadline:
                raise TemporalExecError(
                    f"The API server did not start in {START_S:.0f} s."
                ) from None
            await asyncio.sleep(0.2)
        else:
            writer.close()
            return True
    return False


def _tell(url: str) -> None:
    tell(f"API server: {url} (docs at {url}/docs)")
    tell(f"debugging page: {url}{PAGE}")
    tell(f"LangGraph Studio: {STUDIO.format(url=url)}")
    tell(
        "  Studio is a hosted page and needs a LangSmith account. It runs in your browser and "
        "calls this server from there: allow it to reach the local network when the browser asks, "
        "and allow http in Brave and Safari, or use Chrome or Firefox."
    )
    tell("Ctrl-C stops")


async def _end(process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
    """Ctrl-C for the server; what does not end by it is killed."""
    if ended.done():
        return
    os.killpg(process.pid, signal.SIGINT)
    try:
        await asyncio.wait_for(asyncio.shield(ended), STOP_S)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await ended
