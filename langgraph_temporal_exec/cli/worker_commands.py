"""Command line: ``langgraph-temporal workers``: which there are."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Annotated

import typer

from .deployment import PLAIN, Deployment, deployed
from .tables import print_table

app = typer.Typer(help="Workers of a deployment.", no_args_is_help=True, rich_markup_mode=PLAIN)


@app.callback()
def workers() -> None:
    """Workers of a deployment."""


@app.command("list")
@deployed
def list_(
    at: Deployment,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List workers: which answer, where they run, their graphs and runs."""

    at.check()

    async def run() -> None:
        async with at.open() as saver:
            found = [worker async for worker in saver.alist_workers()]
        if as_json:
            for worker in found:
                fields = {**dataclasses.asdict(worker), "since": worker.since.isoformat()}
                typer.echo(json.dumps(fields))
            return
        print_table(
            ("worker", "answers", "task queue", "host", "pid", "since", "runs", "graphs"),
            [
                (
                    worker.name,
                    "yes" if worker.answers else "no",
                    worker.task_queue,
                    worker.host,
                    str(worker.pid),
                    worker.since.isoformat(" ", "seconds"),
                    str(len(worker.runs)) if worker.answers else "",
                    ", ".join(worker.graphs),
                )
                for worker in found
            ],
        )

    asyncio.run(run())
