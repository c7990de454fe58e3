"""Command line: ``langgraph-temporal threads``: list, show, export, resume, delete; their runs.

Reading works with no worker running.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from .._threads import settle
from ..errors import TemporalExecError, UsageError
from ..saver import TemporalSaver, ThreadStatus
from .connection import Address, Namespace, Prefix, Profile, TaskQueue, connect, connect_config

app = typer.Typer(help="Threads in Temporal.", no_args_is_help=True)
console = Console(stderr=True, highlight=False)

ThreadId = Annotated[str, typer.Argument(help="The thread.")]

STATUSES: tuple[ThreadStatus, ...] = get_args(ThreadStatus)


@app.command("list")
def list_(
    status: Annotated[
        str | None, typer.Option(help=f"Only those of this status: {', '.join(STATUSES)}.")
    ] = None,
    graph: Annotated[str | None, typer.Option(help="Only threads of this graph.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    address: Address = None,
    namespace: Namespace = None,
    task_queue: TaskQueue = "langgraph",
    id_prefix: Prefix = "langgraph",
    profile: Profile = None,
) -> None:
    """List threads with their status."""

    async def run(saver: TemporalSaver) -> None:
        if status not in (None, *STATUSES):
            raise UsageError(f"Unknown status {status!r}; one of {', '.join(STATUSES)}.")
        wanted: Any = status
        found = [t async for t in saver.alist_threads(status=wanted, graph=graph, limit=limit)]
        if as_json:
            for info in found:
                typer.echo(_line(info))
            return
        table = Table("thread", "status", "graph", "updated", "waits for")
        for info in found:
            asked = info.problem or "; ".join(str(i.value) for i in info.interrupts)
            updated = info.updated_at.isoformat(sep=" ", timespec="seconds")
            table.add_row(info.thread_id, info.status, info.graph, updated, asked[:60])
        Console().print(table)

    _with_saver(run, connect_config(profile, address, namespace), task_queue, id_prefix)


@app.command()
def show(
    thread_id: ThreadId,
    address: Address = None,
    namespace: Namespace = None,
    task_queue: TaskQueue = "langgraph",
    id_prefix: Prefix = "langgraph",
    profile: Profile = None,
) -> None:
    """Print one thread's status as JSON."""

    async def run(saver: TemporalSaver) -> None:
        info = await saver.aget_thread(thread_id)
        if info is None:
            raise UsageError(f"There is no thread {thread_id!r}.")
        typer.echo(_line(info))

    _with_saver(run, connect_config(profile, address, namespace), task_queue, id_prefix)


@app.command()
def export(
    thread_id: ThreadId,
    address: Address = None,
    namespace: Namespace = None,
    task_queue: TaskQueue = "langgraph",
    id_prefix: Prefix = "langgraph",
    profile: Profile = None,
) -> None:
    """Print all checkpoints of a thread, oldest first, one JSON object a line."""

    async def run(saver: TemporalSaver) -> None:
        async for item in saver.aexport_thread(thread_id):
            typer.echo(json.dumps(item))

    _with_saver(run, connect_config(profile, address, namespace), task_queue, id_prefix)


@app.command()
def resume(
    thread_id: ThreadId,
    value: Annotated[
        str, typer.Option(help="The answer as JSON, or a map from interrupt ids to answers.")
    ],
    wait: Annotated[bool, typer.Option(help="Wait until the run has ended.")] = False,
    address: Address = None,
    namespace: Namespace = None,
    task_queue: TaskQueue = "langgraph",
    id_prefix: Prefix = "langgraph",
    profile: Profile = None,
) -> None:
    """Answer what a thread waits for; prints the id of the run that goes on with it."""

    async def run(saver: TemporalSaver) -> None:
        try:
            answer = json.loads(value)
        except ValueError as exc:
            raise UsageError(
                f"--value must be JSON ({exc}); a text needs quotes of its own: --value '\"yes\"'."
            ) from exc
        made = await saver.aresume(thread_id, answer)
        typer.echo(made.run_id)
        if wait:
            await made.aresult()
            console.print(await made.astatus())

    _with_saver(run, connect_config(profile, address, namespace), task_queue, id_prefix)


@app.command()
def runs(
    thread_id: ThreadId,
    address: Address = None,
    namespace: Namespace = None,
    task_queue: TaskQueue = "langgraph",
    id_prefix: Prefix = "langgraph",
    profile: Profile = None,
) -> None:
    """List the runs of a thread with their status, oldest first."""

    async def run(saver: TemporalSaver) -> None:
        async for found in saver.alist_runs(thread_id):
            try:
                status: str = await found.astatus()
                if failure := await found.afailure():
                    status += f" {failure}"
            except TemporalExecError as exc:
                status = f"{type(exc).__name__}: {exc}"
            # Whatever it says, one run a line.
            typer.echo(f"{found.run_id} {' '.join(status.split())}")

    _with_saver(run, connect_config(profile, address, namespace), task_queue, id_prefix)


@app.command()
def cancel(
    run_id: Annotated[str, typer.Argument(help="The run.")],
    address: Address = None,
    namespace: Namespace = None,
    task_queue: TaskQueue = "langgraph",
    id_prefix: Prefix = "langgraph",
    profile: Profile = None,
) -> None:
    """Cancel a run: its nodes see it, what it has recorded stays."""

    async def run(saver: TemporalSaver) -> None:
        await (await saver.aget_run(run_id)).acancel()
        console.print(f"run {run_id} is told to stop")

    _with_saver(run, connect_config(profile, address, namespace), task_queue, id_prefix)


@app.command()
def delete(
    thread_id: ThreadId,
    purge: Annotated[
        bool, typer.Option(help="Also delete the closed executions that show its content.")
    ] = False,
    address: Address = None,
    namespace: Namespace = None,
    task_queue: TaskQueue = "langgraph",
    id_prefix: Prefix = "langgraph",
    profile: Profile = None,
) -> None:
    """Delete a thread; needs a worker."""

    async def run(saver: TemporalSaver) -> None:
        await (saver.apurge_thread if purge else saver.adelete_thread)(thread_id)
        console.print(f"thread {thread_id} is deleted")

    _with_saver(run, connect_config(profile, address, namespace), task_queue, id_prefix)


def _line(info: Any) -> str:
    return json.dumps(
        {
            "thread_id": info.thread_id,
            "status": info.status,
            "graph": info.graph,
            "created_at": info.created_at.isoformat(),
            "updated_at": info.updated_at.isoformat(),
            "waiting": info.waiting,
            "error": None if info.error is None else str(info.error),
            "note": info.note,
            "interrupts": [{"id": i.id, "value": i.value} for i in info.interrupts],
            "problem": info.problem,
        },
        default=str,
    )


def _with_saver(
    run: Callable[[TemporalSaver], Awaitable[None]],
    config: dict[str, Any],
    task_queue: str,
    id_prefix: str,
) -> None:
    async def main() -> None:
        client = await connect(config)
        saver = TemporalSaver(client, task_queue=task_queue, id_prefix=id_prefix)
        try:
            await run(saver)
        finally:
            saver.close()
            await settle()

    try:
        asyncio.run(main())
    except TemporalExecError as exc:
        console.print(f"[red]error:[/red] {exc}")
        raise typer.Exit(1) from exc
