"""Shared: temporalio's native side in a program of somebody else: where it logs, and how it ends.

**Logs.** By default temporalio's core prints its warnings to standard output, among what the
program prints itself: with a server that goes away, nobody can parse that output any more. Here
its errors go to Python's ``logging``, and its warnings nowhere. A runtime keeps the logging it was
made with, so this must come before the first client: when ``TemporalSaver`` is imported.

**The end of the interpreter.** Native threads that want to enter Python while it is being torn
down hang there for good, or abort the process when they have let go of Python inside
("PyGILState_Release"); and a runtime that is destroyed then waits for them for ever (both seen with
temporalio 1.35, in one of ten or twenty programs whose server was gone). So what core calls is
short and does not let go of Python; who has come in before the end is waited for, and who comes
later wakes none of our loops; and the clients of savers, which keep their runtime, are not
destroyed at all: the process takes them along.
"""

from __future__ import annotations

import _thread
import asyncio
import atexit
import contextlib
import ctypes
import logging
import sys
import threading
import time
import weakref
from collections import deque
from typing import Any

from temporalio.client import Client
from temporalio.runtime import LogForwardingConfig, LoggingConfig, TelemetryFilter

LOGGER = "temporalio"
"""Where the records go; without a handler, Python prints warnings to stderr."""

ENTERED_S = 0.5
"""How long the end of the interpreter waits for native threads that are in Python just then."""

SWITCH_S = 0.1
"""After how long one that is nearly through is made to let go of Python, at that time."""

_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_entered: list[int] = []
_exits = False


class _Forwarder(logging.Logger):
    """Takes records from core, and hands them to the logger from a thread of Python's."""

    def __init__(self) -> None:
        super().__init__(LOGGER)
        self._records: deque[logging.LogRecord] = deque()
        self._busy = False

    def isEnabledFor(self, level: int) -> bool:  # of logging
        """As of the logger, until the interpreter exits."""
        return not _exits and logging.getLogger(LOGGER).isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        """On a thread of core: neither writes nor waits, which would let go of Python."""
        self._records.append(record)
        if not self._busy:
            self._busy = True
            # Not `threading`: its `start` waits for the thread.
            with contextlib.suppress(RuntimeError):
                _thread.start_new_thread(self._drain, ())

    def _drain(self) -> None:
        while self._records:
            with contextlib.suppress(IndexError):
                while True:
                    logging.getLogger(LOGGER).handle(self._records.popleft())
            self._busy = False


def forward_core_logs() -> None:
    """Let the default logging of runtimes be forwarded; idempotent.

    Runtimes that exist, and those made with a ``LoggingConfig`` of the user's own, stay as they
    are. No runtime is made: ``Runtime.set_default`` remains free to the program.
    """
    default = LoggingConfig.default
    if default.forwarding is None:
        # Warnings tell of each call that is tried again. They would come by the dozen while a
        # program with a lost server ends, which is when a native thread must not enter Python.
        level = TelemetryFilter(core_level="ERROR", other_level="ERROR")
        object.__setattr__(default, "filter", level)
        # In place, although frozen: `TelemetryConfig` has this very object as its default.
        object.__setattr__(default, "forwarding", LogForwardingConfig(logger=_Forwarder()))


def outlives_python(client: Client) -> None:
    """Do not destroy a client, and with it its runtime, when the interpreter exits."""
    _clients.add(client)


def keep_out(loop: asyncio.AbstractEventLoop) -> None:
    """Let native threads wake a loop only until the interpreter exits; idempotent.

    The results of all that is awaited of core come by ``call_soon_threadsafe``, which lets go of
    Python while it writes to the loop's pipe.

    Args:
        loop: Of one of our own threads, or one on which savers are used.
    """
    wake = loop.call_soon_threadsafe
    if getattr(wake, "keeps_out", False):
        return

    def call_soon_threadsafe(*args: Any, **kwargs: Any) -> Any:
        _entered.append(1)
        try:
            # The hooks of the program that are still to come are Python's own threads.
            if _exits and _thread.get_ident() not in {t.ident for t in threading.enumerate()}:
                return None
            return wake(*args, **kwargs)
        finally:
            _entered.pop()

    call_soon_threadsafe.keeps_out = True  # type: ignore[attr-defined]
    # uvloop's loops cannot be changed.
    with contextlib.suppress(AttributeError):
        setattr(loop, "call_soon_threadsafe", call_soon_threadsafe)  # noqa: B010


@atexit.register
def _exit() -> None:
    global _exits
    _exits = True
    if _clients:
        sys.setswitchinterval(SWITCH_S)
    until = time.monotonic() + ENTERED_S
    while _entered and time.monotonic() < until:
        time.sleep(0.001)
    for client in list(_clients):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))
