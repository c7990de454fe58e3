"""Shared: what settings name as ``package.module:attribute``: graphs, and who makes the saver."""

from __future__ import annotations

import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from .errors import TemporalExecError, UsageError
from .saver import TemporalSaver


def load(reference: str, *, what: str) -> Any:
    """The object that is named; the current folder is searched for its module as well.

    Args:
        reference: ``package.module:attribute``; the attribute may be dotted.
        what: Where the name comes from, for errors.

    Raises:
        UsageError: It cannot be found, or its module cannot be imported.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise UsageError(
            f"{what}: {reference!r} is not of the form package.module:name, such as shop.app:agent."
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        remedy = (
            f"Name the module, not the file: {module_name.removesuffix('.py')}:{attribute}."
            if module_name.endswith(".py")
            else "Run the command where it can be imported."
        )
        raise UsageError(f"{what}: {reference!r}: no module {exc.name!r}. {remedy}") from exc
    except (Exception, SystemExit) as exc:
        raise UsageError(f"{what}: {reference!r} cannot be imported: {_told(exc)}.") from exc
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{what}: {reference!r}: {module_name} has no {attribute!r}.")
        found = getattr(found, part)
    return found


def load_saver(reference: str, *, what: str) -> AbstractAsyncContextManager[TemporalSaver]:
    """The saver that a function makes: loaded now, made when the context is entered.

    Args:
        reference: ``package.module:function``: a function without arguments, sync or async, that
            returns a ``TemporalSaver`` or an async context manager which gives one.
        what: Where the name comes from, for errors.

    Returns:
        A context that gives the saver and closes it.

    Raises:
        UsageError: There is no such function; on entering, that it failed or made something else.
    """
    make = load(reference, what=what)
    if not callable(make):
        raise UsageError(
            f"{what}: {reference!r} is a {type(make).__name__}; it must be a function that returns "
            "a TemporalSaver."
        )
    return _made(make, f"{what}: {reference!r}")


@asynccontextmanager
async def _made(make: Any, named: str) -> AsyncIterator[TemporalSaver]:
    async with AsyncExitStack() as stack:
        try:
            saver = make()
            if inspect.isawaitable(saver):
                saver = await saver
            if isinstance(saver, AbstractAsyncContextManager):
                saver = await stack.enter_async_context(saver)
        except TemporalExecError:
            raise
        except (Exception, SystemExit) as exc:
            raise UsageError(f"{named} failed: {_told(exc)}.") from exc
        if not isinstance(saver, TemporalSaver):
            more = (
                " Decorate it with contextlib.asynccontextmanager."
                if inspect.isasyncgen(saver)
                else ""
            )
            raise UsageError(
                f"{named} returned a {type(saver).__name__}; it must return a TemporalSaver, or an "
                f"async context manager that gives one.{more}"
            )
        stack.callback(saver.close)
        yield saver


def _told(exc: BaseException) -> str:
    """What code of the user's raised, and where: the rest of the traceback is of no use to them."""
    libraries = ("<", sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), __file__)
    frames = traceback.extract_tb(exc.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith(libraries)]
    where = f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""
    return f"{type(exc).__name__}: {exc}{where}"
