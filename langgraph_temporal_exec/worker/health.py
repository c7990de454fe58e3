"""Worker side: what an orchestrator asks over HTTP: does this worker live, does it take work.

Two paths, nothing else, and nothing of what is served: ``/live`` and ``/ready`` answer 200 with
"ok", or 503 with the reason. They are answered on the worker's own loop: if that hangs, nobody
answers, and a probe fails as it should.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from ..errors import UsageError

REQUEST_S = 5.0
"""How long a client may take to send its request."""

MAX_REQUEST_BYTES = 8_192


class Health:
    """A server of a few lines; all of it is for the worker's loop.

    Args:
        probes: By path: why the answer is no; "": it is yes.
    """

    def __init__(self, probes: Mapping[str, Callable[[], str]]) -> None:
        self._probes = probes
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> None:
        """Listen on all interfaces.

        Raises:
            UsageError: The port is taken.
        """
        try:
            self._server = await asyncio.start_server(
                self._answer, port=port, limit=MAX_REQUEST_BYTES
            )
        except OSError as exc:
            raise UsageError(
                f"The worker cannot tell its health on port {port}: {exc.strerror or exc}. "
                "Choose another one (health_port, --health-port)."
            ) from exc

    async def stop(self) -> None:
        """Listen no more; idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever asks may be gone, send nonsense, or nothing.
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._reply(head))
                await writer.drain()
        writer.close()

    def _reply(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        probe = self._probes.get(rest.partition(" ")[0].partition("?")[0])
        if method not in ("GET", "HEAD"):
            status, text = "405 Method Not Allowed", "GET or HEAD"
        elif probe is None:
            status, text = "404 Not Found", " ".join(self._probes)
        elif why := probe():
            status, text = "503 Service Unavailable", why
        else:
            status, text = "200 OK", "ok"
        body = f"{text}\n"
        lines = [
            f"HTTP/1.1 {status}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        shown = "" if method == "HEAD" else body
        return ("\r\n".join(lines) + "\r\n\r\n" + shown).encode()
