"""Studio: the ``http.app`` for ``langgraph.json``: every persisted thread is there when asked for.

``"http": {"app": "langgraph_temporal_exec.studio.app:app", "middleware_order": "auth_first"}``.
Who has an application of their own calls ``install(app)``.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from temporalio.service import RPCError

from ..errors import TemporalExecError
from . import page, server
from .aliases import alias_of, is_uuid
from .process import current

_THREAD = re.compile(r"^(?P<head>.*/threads/)(?P<thread>[^/]+)(?P<tail>/.*)?$")
_CREATE = re.compile(r"/threads/?$")
_RUNS = re.compile(r"^/runs(/stream|/wait)?/?$")
_CANCEL = re.compile(r"^/runs/(?P<run>[^/]+)/cancel/?$")
_COLLECTIONS = frozenset({"search", "count", "prune"})


def install(app: Starlette) -> Starlette:
    """Make an application that ``langgraph.json`` names as ``http.app`` show persisted threads,
    and the debugging page at ``/debug``.

    Args:
        app: A Starlette or FastAPI application.

    Returns:
        The same application.
    """
    theirs = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: Any) -> AsyncIterator[Any]:
        async with current().serving(), theirs(running) as state:
            yield state

    app.router.lifespan_context = lifespan
    app.router.routes.extend(page.routes())
    app.user_middleware.append(Middleware(AttachThreads))
    return app


class AttachThreads:
    """ASGI middleware: before a request on threads is served, the threads are brought up to date.

    Args:
        app: The next application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or "/threads" not in scope["path"]:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "POST" and _CREATE.search(scope["path"]):
            body, receive = await _read(receive)
            thread_id = str(body.get("thread_id") or "")
            refusal = await _attached(thread_id) if is_uuid(thread_id) else None
        # A thread's own id may contain what separates the parts of a path.
        elif match := _THREAD.match(_raw_path(scope)):
            if match["thread"] in _COLLECTIONS:
                refusal = await _attached(None)
            else:
                thread_id = unquote(match["thread"])
                tail = match["tail"] or ""
                if (alias := alias_of(thread_id)) != thread_id:
                    raw = f"{match['head']}{alias}{tail}"
                    scope = {**scope, "path": unquote(raw), "raw_path": raw.encode()}
                posts = scope["method"] == "POST"
                if posts and (cancel := _CANCEL.match(tail)):
                    send = _held(send, cancel["run"], scope)
                starts = bool(posts and _RUNS.match(tail))
                rejects = False
                if starts:
                    body, receive = await _read(receive)
                    rejects = body.get("multitask_strategy") == "reject"
                exclusive = rejects or (posts and tail.rstrip("/") == "/state")
                refusal = await _attached(thread_id, exclusive=exclusive)
        else:
            refusal = None
        await (refusal or self._app)(scope, receive, send)


def _held(send: Send, run_id: str, scope: Scope) -> Send:
    """The end of an answer to "cancel, and wait" comes when the run has ended in Temporal: the
    server itself takes a run for ended as soon as it is told to cancel it."""
    asked = QueryParams(scope["query_string"])
    if asked.get("wait", "").lower() not in {"true", "yes", "1"}:
        return send

    async def hold(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            await current().cancelled(run_id, rollback=asked.get("action") == "rollback")
        await send(message)

    return hold


def _raw_path(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.decode("ascii", "replace")


async def _attached(thread_id: str | None, *, exclusive: bool = False) -> JSONResponse | None:
    """Bring one thread, or all, up to date; what to say if the request cannot be served."""
    try:
        if thread_id is None:
            await current().mirror.all()
            return None
        info = await current().mirror.one(thread_id)
    except (TemporalExecError, RPCError) as reason:
        return JSONResponse({"detail": f"Temporal cannot tell of threads: {reason}"}, 503)
    if (
        exclusive
        and info is not None
        and info.status == "busy"
        and not server.has_runs(alias_of(info.thread_id))
    ):
        return JSONResponse(
            {
                "detail": f"Thread {info.thread_id!r} is run outside this server. Wait for that "
                "run, cancel it, or choose another multitask strategy than 'reject'."
            },
            409,
        )
    return None


async def _read(receive: Receive) -> tuple[dict[str, Any], Receive]:
    """The JSON object of a request, and a receive that gives the request again."""
    messages: list[Message] = []
    body = b""
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    again = iter(messages)

    async def replay() -> Message:
        return next(again, None) or await receive()

    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        parsed = {}
    return (parsed if isinstance(parsed, dict) else {}), replay


app = install(Starlette())
