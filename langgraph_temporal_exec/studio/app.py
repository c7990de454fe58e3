"""Studio: the ``http.app`` for ``langgraph.json``: every persisted thread is there when asked for.

``"http": {"app": "langgraph_temporal_exec.studio.app:app", "middleware_order": "auth_first"}``.
Who has an application of their own calls ``install(app)``.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
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
_TEMPORAL = re.compile(r"^/temporal(?P<states>/states)?$")
_PATIENCE = re.compile(r"(?:^|[,;\s])wait=(\d+)")
_UNREAD = b"temporal-threads-unread"
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
                refusal, unread = await _attached_all(scope)
                send = _noting(send, unread)
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
                if scope["method"] == "GET" and (asked := _TEMPORAL.match(tail)):
                    head = f"{match['head']}{alias}"
                    if refusal is None and await self._may_read(head, scope, receive, send):
                        refusal = await _told(thread_id, bool(asked["states"]), scope)
                    if refusal is None:
                        return
        else:
            refusal = None
        await (refusal or self._app)(scope, receive, send)

    async def _may_read(self, raw_path: str, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether the server lets who asks see a thread; if not, it has answered."""
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        path = {"path": unquote(raw_path), "raw_path": raw_path.encode(), "query_string": b""}
        await self._app({**scope, **path}, receive, hold)
        if held and held[0].get("status") == 200:
            return True
        for message in held:
            await send(message)
        return False


async def _told(thread_id: str, states: bool, scope: Scope) -> JSONResponse:
    """What Temporal tells of a thread and the server does not; see ``Nested``."""
    asked = QueryParams(scope["query_string"])
    checkpoint_ns = asked.get("checkpoint_ns", "")
    since, limit = asked.get("since"), asked.get("limit", "10")
    try:
        at_most, start = int(limit), datetime.fromisoformat(since) if since else None
    except ValueError as wrong:
        return JSONResponse({"detail": str(wrong)}, 422)
    process = current()
    try:
        native = await process.aliases.native(thread_id)
        told = (
            await process.nested.states(native, checkpoint_ns, at_most, asked.get("before"))
            if states
            else await process.nested.about(native, checkpoint_ns, start)
        )
    except (TemporalExecError, RPCError) as reason:
        return _silent(reason)
    return JSONResponse(told)


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


async def _attached_all(scope: Scope) -> tuple[JSONResponse | None, int]:
    """Bring all threads up to date, and say how many are not yet.

    Who sends ``Prefer: wait=SECONDS`` (RFC 7240) gets the list as far as it is known by then;
    everybody else waits until all of it is right.
    """
    prefer = b",".join(v for k, v in scope["headers"] if k == b"prefer").decode("latin-1")
    wanted = _PATIENCE.search(prefer)
    try:
        return None, await current().mirror.all(float(wanted[1]) if wanted else None)
    except (TemporalExecError, RPCError) as reason:
        return _silent(reason), 0


def _noting(send: Send, unread: int) -> Send:
    """The answer with the number of threads it may be wrong about, if there are any."""
    if not unread:
        return send

    async def note(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (_UNREAD, str(unread).encode())]
            message = {**message, "headers": headers}
        await send(message)

    return note


def _silent(reason: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"Temporal cannot tell of threads: {reason}"}, 503)


async def _attached(thread_id: str, *, exclusive: bool = False) -> JSONResponse | None:
    """Bring one thread up to date; what to say if the request cannot be served."""
    try:
        info = await current().mirror.one(thread_id)
    except (TemporalExecError, RPCError) as reason:
        return _silent(reason)
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
