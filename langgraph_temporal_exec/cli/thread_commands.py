"""Command line: ``langgraph-temporal threads``: list, show, export, resume, delete; their runs.

Reading works with no worker running.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ..errors import TemporalExecError, UsageError
from .deployment import PLAIN, Deployment, deployed, tell
from .tables import is_terminal, print_table

if TYPE_CHECKING:
    from ..saver import TemporalSaver
    from ..threads import ThreadInfo

app = typer.Typer(help="Threads in Temporal.", no_args_is_help=True, rich_markup_mode=PLAIN)

ThreadId = Annotated[str, typer.Argument(help="The thread.")]

ASKED_CHARACTERS = 60
"""Of what a thread waits for, in a table on a terminal."""


@app.command("list")
@deployed
def list_(
    at: Deployment,
    status: Annotated[
        str | None, typer.Option(help="Only those of this status, such as interrupted.")
    ] = None,
    graph: Annotated[str | None, typer.Option(help="Only threads of this graph.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List threads with their status."""

    async def run(saver: TemporalSaver) -> None:
        from ..saver import ThreadStatus

        known = get_args(ThreadStatus)
        if status not in (None, *known):
            raise UsageError(f"Unknown status {status!r}; one of {', '.join(known)}.")
        wanted: Any = status
        found = [t async for t in saver.alist_threads(status=wanted, graph=graph, limit=limit + 1)]
        if as_json:
            for info in found[:limit]:
                typer.echo(_line(info))
        else:
            _print_table(found[:limit])
        if len(found) > limit:
            tell(f"there are more than these {limit}: --limit {2 * limit} shows more")

    _with_saver(run, at)


@app.command()
@deployed
def show(thread_id: ThreadId, at: Deployment) -> None:
    """Print one thread's status as JSON."""

    async def run(saver: TemporalSaver) -> None:
        info = await saver.aget_thread(thread_id)
        if info is None:
            raise unknown_thread(saver, thread_id)
        typer.echo(_line(info))

    _with_saver(run, at)


@app.command()
@deployed
def export(thread_id: ThreadId, at: Deployment) -> None:
    """Print all checkpoints of a thread, oldest first, one JSON object a line."""

    async def run(saver: TemporalSaver) -> None:
        await _check_known(saver, thread_id)
        async for item in saver.aexport_thread(thread_id):
            typer.echo(json.dumps(item))

    _with_saver(run, at)


@app.command()
@deployed
def resume(
    thread_id: ThreadId,
    at: Deployment,
    value: Annotated[
        str, typer.Option(help="The answer as JSON, or a map from interrupt ids to answers.")
    ],
    wait: Annotated[bool, typer.Option(help="Wait until the run has ended.")] = False,
) -> None:
    """Answer what a thread waits for; prints the id of the run that goes on with it.

    Needs a worker; without one the answer is not sent.
    """
    try:
        answer = json.loads(value)
    except ValueError as exc:
        raise UsageError(
            f"--value must be JSON ({exc}); a text needs quotes of its own: --value '\"yes\"'."
        ) from exc

    async def run(saver: TemporalSaver) -> None:
        made = await saver.aresume(thread_id, answer)
        typer.echo(made.run_id)
        if wait:
            await made.aresult()
            tell(await made.astatus())

    _with_saver(run, at)


@app.command()
@deployed
def runs(thread_id: ThreadId, at: Deployment) -> None:
    """List the runs of a thread with their status, oldest first."""

    async def run(saver: TemporalSaver) -> None:
        await _check_known(saver, thread_id)
        async for found in saver.alist_runs(thread_id):
            try:
                status: str = await found.astatus()
                if failure := await found.afailure():
                    status += f" {failure}"
            except TemporalExecError as exc:
                status = f"{type(exc).__name__}: {exc}"
            # Whatever it says, one run a line.
            typer.echo(f"{found.run_id} {' '.join(status.split())}")

    _with_saver(run, at)


@app.command()
@deployed
def cancel(run_id: Annotated[str, typer.Argument(help="The run.")], at: Deployment) -> None:
    """Cancel a run: its nodes see it, what it has recorded stays."""

    async def run(saver: TemporalSaver) -> None:
        await (await saver.aget_run(run_id)).acancel()
        tell(f"run {run_id} is told to stop")

    _with_saver(run, at)


@app.command()
@deployed
def delete(
    thread_id: ThreadId,
    at: Deployment,
    purge: Annotated[
        bool, typer.Option(help="Also delete the closed executions that show its content.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a thread, after asking; needs a worker."""

    async def run(saver: TemporalSaver) -> None:
        await _check_known(saver, thread_id, deleted=purge)
        if not yes:
            _confirm(saver, thread_id)
        await (saver.apurge_thread if purge else saver.adelete_thread)(thread_id)
        tell(f"thread {thread_id} is deleted")

    _with_saver(run, at)


def _confirm(saver: TemporalSaver, thread_id: str) -> None:
    where = saver.client.service_client.config.target_host
    question = (
        f"Delete thread {thread_id!r} of namespace {saver.client.namespace!r} at {where}, with all "
        "its checkpoints?"
    )
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        # Nobody is there to answer.
        tell("")
        raise UsageError(
            "Nothing was deleted, because nobody answered: --yes deletes without asking."
        ) from None
    if not agreed:
        raise UsageError("Nothing was deleted.")


async def _check_known(saver: TemporalSaver, thread_id: str, *, deleted: bool = False) -> None:
    """Raise for a thread that does not exist. Asks the server, so it needs no worker.

    Args:
        saver: The saver.
        thread_id: The thread.
        deleted: One that was deleted will do, as long as Temporal keeps something of it.
    """
    from temporalio.client import WorkflowExecutionStatus
    from temporalio.service import RPCError

    from ..saver import store_of
    from ..storage.rpc import is_gone

    workflow_id = store_of(saver).transport.thread_workflow_id(thread_id)
    try:
        found = await saver.client.get_workflow_handle(workflow_id).describe()
    except RPCError as exc:
        if not is_gone(exc):
            raise
        raise unknown_thread(saver, thread_id) from exc
    if found.status is not WorkflowExecutionStatus.RUNNING and not deleted:
        raise unknown_thread(saver, thread_id)


def unknown_thread(saver: TemporalSaver, thread_id: str) -> UsageError:
    """The error for a thread that does not exist."""
    options, client = saver.options, saver.client
    return UsageError(
        f"There is no thread {thread_id!r} in namespace {client.namespace!r} at "
        f"{client.service_client.config.target_host}, under the id prefix {options.id_prefix!r}."
    )


def _line(info: ThreadInfo) -> str:
    shown = {f.name: getattr(info, f.name) for f in dataclasses.fields(info)}
    shown["interrupts"] = [{"id": i.id, "value": i.value} for i in info.interrupts]
    return json.dumps(shown, default=_plain)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _print_table(found: list[ThreadInfo]) -> None:
    rows = []
    for info in found:
        # What it waits for, or why this process cannot tell.
        told = info.problem or "; ".join(str(i.value) for i in info.interrupts)
        asked = " ".join(told.split())
        updated = info.updated_at.isoformat(sep=" ", timespec="seconds")
        shown = asked[:ASKED_CHARACTERS] if is_terminal() else asked
        rows.append((info.thread_id, info.status, info.graph, updated, shown))
    print_table(("thread", "status", "graph", "updated", "waits for"), rows)


def _with_saver(run: Callable[[TemporalSaver], Awaitable[None]], at: Deployment) -> None:
    at.check()

    async def main() -> None:
        async with at.open() as saver:
            await run(saver)

    asyncio.run(main())
