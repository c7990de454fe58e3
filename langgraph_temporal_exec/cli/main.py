"""Command line: the commands of ``langgraph-temporal``."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from . import thread_commands, worker_commands
from .cost_command import cost
from .deployment import PLAIN
from .studio_command import studio
from .worker_command import worker

app = typer.Typer(
    help="Durable LangGraph on Temporal.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=PLAIN,
)
app.command()(worker)
app.add_typer(thread_commands.app, name="threads")
app.add_typer(worker_commands.app, name="workers")
app.command()(cost)
app.command()(studio)

PACKAGES = ("langgraph-temporal-exec", "langgraph", "temporalio")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(", ".join(f"{package} {version(package)}" for package in PACKAGES))
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Durable LangGraph on Temporal."""


if __name__ == "__main__":
    app()
