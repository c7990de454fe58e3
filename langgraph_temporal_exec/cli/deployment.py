"""Command line: which deployment a command is about, and mistakes told in a sentence.

Nothing here loads Temporal's SDK or LangGraph before a command needs it: `--help` does not.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import TemporalExecError, UsageError

if TYPE_CHECKING:
    from ..saver import TemporalSaver

SAVER_VARIABLE = "LANGGRAPH_TEMPORAL_SAVER"
SAVER = f"--saver or {SAVER_VARIABLE}"
TASK_QUEUE = ID_PREFIX = "langgraph"

PLAIN = None
"""Typer's markup of help. With the others most of the time of `--help` is the import of rich."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The options by which every command finds the deployment; see ``deployed``."""

    address: Annotated[
        str | None,
        typer.Option(help="Temporal server; default: Temporal's configuration or localhost:7233."),
    ] = None
    namespace: Annotated[str | None, typer.Option(help="Temporal namespace.")] = None
    task_queue: Annotated[
        str | None, typer.Option(help=f"Task queue of the workers; default: {TASK_QUEUE}.")
    ] = None
    id_prefix: Annotated[
        str | None, typer.Option(help=f"First part of all workflow ids; default: {ID_PREFIX}.")
    ] = None
    profile: Annotated[
        str | None, typer.Option(help="Profile of Temporal's configuration file.")
    ] = None
    saver: Annotated[
        str | None,
        typer.Option(
            envvar=SAVER_VARIABLE,
            help="Instead of all these: package.module:function, which returns the TemporalSaver "
            "to use, with its client, codec, serializer and options.",
        ),
    ] = None

    def check(self, **more: object) -> None:
        """Refuse what the saver would decide, so that nothing given has no effect.

        Args:
            more: Further options of the command, ``None`` where not given.

        Raises:
            UsageError: Naming them.
        """
        if not self.saver:
            return
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "saver"}
        given = [
            f"--{name.replace('_', '-')}" for name, v in {**own, **more}.items() if v is not None
        ]
        if given:
            raise UsageError(
                f"{', '.join(given)} cannot be given together with a saver ({SAVER} is "
                f"{self.saver!r}), which decides that itself. Leave out one of them; --saver '' "
                "passes over the variable."
            )

    def connect_config(self) -> dict[str, Any]:
        """Arguments of ``Client.connect``; see ``connection.connect_config``."""
        from ..connection import connect_config

        return connect_config(self.profile, self.address, self.namespace)

    @asynccontextmanager
    async def open(self, *, runtime: Any = None, **options: Any) -> AsyncIterator[TemporalSaver]:
        """The saver, of ``--saver`` or made here; closed at the end.

        Args:
            runtime: Runtime of the client, if it is made here.
            options: Of the saver, if it is made here.

        Raises:
            ServerUnavailableError: No Temporal server answers.
            UsageError: The configuration or ``--saver`` is wrong, or there is no such namespace.
        """
        from .._loops import settle

        try:
            async with self._given() if self.saver else self._made(runtime, options) as saver:
                yield saver
        finally:
            await settle()

    @asynccontextmanager
    async def _given(self) -> AsyncIterator[TemporalSaver]:
        from ..connection import check_namespace
        from ..references import load_saver

        async with load_saver(self.saver or "", what=SAVER) as saver:
            await check_namespace(saver.client)
            yield saver

    @asynccontextmanager
    async def _made(self, runtime: Any, options: dict[str, Any]) -> AsyncIterator[TemporalSaver]:
        from ..connection import check_namespace, connect

        config = self.connect_config()
        client = await connect(config if runtime is None else {**config, "runtime": runtime})
        await check_namespace(client)
        # Only now: what is wrong with the call was told without waiting for LangGraph.
        from ..saver import TemporalSaver

        saver = TemporalSaver(
            client,
            task_queue=self.task_queue or TASK_QUEUE,
            id_prefix=self.id_prefix or ID_PREFIX,
            **options,
        )
        try:
            yield saver
        finally:
            saver.close()


def deployed(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes the options of ``Deployment`` too, as its argument ``at``.

    What is wrong with a call is told in a sentence.
    """
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values()]
    shared = inspect.signature(Deployment, eval_str=True).parameters
    taken = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name != "at"] + [*shared.values()]

    def run(**given: Any) -> None:
        with mistakes():
            command(at=Deployment(**{name: given.pop(name) for name in shared}), **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined] # how typer sees it
    run.__annotations__ = {p.name: p.annotation for p in taken}
    return run


@contextmanager
def mistakes() -> Iterator[None]:
    """Tell what is wrong with a call, or with the server, without a traceback."""
    try:
        yield
    except TemporalExecError as exc:
        fail(str(exc), exc)
    except Exception as exc:
        refused = _refusal(exc)
        if refused is None:
            raise
        fail(refused, exc)


def fail(text: str, cause: BaseException | None = None) -> None:
    """End the command with an error."""
    typer.secho("error: ", fg="red", err=True, nl=False)
    tell(text)
    raise typer.Exit(1) from cause


def tell(text: str) -> None:
    """A line for whoever runs the command; results go to stdout."""
    typer.echo(text, err=True)


def _refusal(exc: Exception) -> str | None:
    """What the server refused; ``None`` for any other exception."""
    from temporalio.service import RPCError

    if not isinstance(exc, RPCError):
        return None
    return (
        f"Temporal refused the call: {exc.message} ({exc.status.name}). Check the address, the "
        "namespace, and what the API key or certificate is allowed to do there."
    )
