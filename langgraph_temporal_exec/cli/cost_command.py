"""Command line: ``langgraph-temporal cost``: what a thread, or a run, has cost on Temporal."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from .deployment import Deployment, deployed, tell
from .tables import print_table
from .thread_commands import ThreadId, unknown_thread

if TYPE_CHECKING:
    from ..costs import Cost


@deployed
def cost(
    thread_id: ThreadId,
    at: Deployment,
    run_id: Annotated[
        str | None, typer.Option("--run", help="Only this run of the thread, and its share.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Count what a thread has cost on Temporal: actions by kind, and bytes of history."""
    at.check()

    async def run() -> None:
        async with at.open() as saver:
            if run_id is None:
                found = await saver.aget_cost(thread_id)
            else:
                found = await (await saver.aget_run(run_id)).acost()
            if found is None:
                raise unknown_thread(saver, thread_id)
            if found.thread_id != thread_id:
                raise UsageError(
                    f"Run {run_id!r} is one of thread {found.thread_id!r}, not of {thread_id!r}."
                )
        if as_json:
            typer.echo(json.dumps({**_plain(found), "unseen": found.UNSEEN}))
            return
        _print(found)
        tell(f"not counted, because histories do not show it: {', '.join(found.UNSEEN)}")
        if found.incomplete:
            tell("not counted: executions that Temporal does not keep any more")

    asyncio.run(run())


def _plain(cost: Cost) -> dict[str, object]:
    totals = {
        "actions": cost.actions,
        "total_actions": cost.total_actions,
        "active_bytes": cost.active_bytes,
        "retained_bytes": cost.retained_bytes,
    }
    return {**dataclasses.asdict(cost), **totals}


def _print(cost: Cost) -> None:
    """A row for each kind of action, a column for each part."""
    parts = cost.parts
    rows = [
        (str(kind), *(_number(part.actions.get(kind, 0)) for part in parts), _number(total))
        for kind, total in cost.actions.items()
    ]
    summed = [sum(part.actions.values()) for part in parts]
    for title, numbers in (
        ("actions", [*summed, cost.total_actions]),
        ("active bytes", [*(p.active_bytes for p in parts), cost.active_bytes]),
        ("retained bytes", [*(p.retained_bytes for p in parts), cost.retained_bytes]),
        ("executions", [*(p.executions for p in parts), sum(p.executions for p in parts)]),
    ):
        rows.append((title, *map(_number, numbers)))
    print_table(("", *(part.name for part in parts), "all"), rows)


def _number(value: int) -> str:
    return f"{value:,}" if value else ""
