"""Studio: the debugging page: hand-written files, served from memory beside the API it uses."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

PATH = "/debug"

_TYPES = {"index.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}

_HEADERS = {
    # What threads contain is not trusted: nothing but the page's own files may run or be loaded.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def routes() -> list[BaseRoute]:
    """The page at ``/debug/``; its files are read here, because nothing may block later."""
    folder = files(__package__) / "page"

    def route(path: str, name: str) -> Route:
        body = (folder / name).read_bytes()

        async def serve(_: Request) -> Response:
            return Response(body, media_type=_TYPES[name], headers=_HEADERS)

        return Route(path, serve, methods=["GET"], include_in_schema=False)

    async def enter(request: Request) -> Response:
        return RedirectResponse(f"{request.url.path}/")

    return [
        Route(PATH, enter, methods=["GET"], include_in_schema=False),
        route(f"{PATH}/", "index.html"),
        *(route(f"{PATH}/{name}", name) for name in _TYPES if name != "index.html"),
    ]
