"""Python processes that start in a tenth of a second: forks of one that has imported everything.

``create_subprocess_exec(WARM, "-m", "package.module", ...)`` is a process like any other: a child
of this one, with its own pid, environment, folder and pipes, which runs the module as ``__main__``
and is ended, or killed, as usual. Only its imports have been done before, once for all of them:
they are nine tenths of what a short process costs, and tests start hundreds.

Not for tests of the start itself, of what is imported, or of variables that a library reads when it
is imported: they say ``sys.executable``. Nor where two processes must not hash alike: forks do.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import pickle
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

IMPORTED = (
    "langgraph_temporal_exec.cli.thread_commands",
    "langgraph_temporal_exec.cli.worker_command",
    "langgraph_temporal_exec.worker.service",
    "langgraph_temporal_exec.worker.upkeep",
    "langgraph.checkpoint.memory",
    "langgraph.checkpoint.serde.encrypted",
    "langgraph.func",
    "langgraph.prebuilt",
    "temporalio.contrib.opentelemetry",
    "opentelemetry.sdk.trace.export",
    "langchain.agents.middleware",
    "deepagents.backends",
)
"""What the programs of tests import and what is imported for it; those that are installed."""

_SIZE = struct.Struct("!I")
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


class _Warm(str):
    """The path of this Python, marked."""

    before: Path | None = None
    """What comes first on the path of modules."""


WARM = _Warm(sys.executable)
"""In the place of ``sys.executable``, before ``"-m"``."""


def warm_with(folder: Path) -> str:
    """The same, of another process that has imported it all: with the modules in this folder, an
    earlier release for example, instead of those here."""
    python = _Warm(sys.executable)
    python.before = folder
    return python


# -- the process that is forked ---------------------------------------------------------------


def _import() -> None:
    for name in IMPORTED:
        try:
            import_module(name)
        except ModuleNotFoundError:
            # Of others only those parts are installed that something needs.
            if name.startswith("langgraph_temporal_exec"):
                raise
    # Nothing of it is garbage; untouched, its memory stays shared with the forks.
    gc.collect()
    gc.freeze()


def serve(requests: socket.socket) -> None:
    """Fork for each request; returns in a fork only, set up as it was asked for."""
    _import()
    # A terminal sends it to everybody; it is for the tests to say who ends when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        received, fds, _, _ = socket.recv_fds(requests, _SIZE.size, 3)
        if not received:
            sys.exit()
        (size,) = _SIZE.unpack(received)
        arguments, cwd, environ = pickle.loads(requests.recv(size, socket.MSG_WAITALL))
        # Of threads a fork has none, but their locks, held for ever.
        assert os.listdir("/proc/self/task") == [str(os.getpid())]
        told, tell = os.pipe()
        between = os.fork()
        if not between:
            # Its own fork becomes a child of the tests' process, when it ends.
            pid = os.fork()
            if pid:
                os.write(tell, _SIZE.pack(pid))
                os._exit(0)
            requests.close()
            os.close(told)
            os.close(tell)
            _become(arguments, cwd, environ, fds)
            return
        os.waitpid(between, 0)
        requests.sendall(os.read(told, _SIZE.size))
        for fd in (told, tell, *fds):
            os.close(fd)


def _become(arguments: list[str], cwd: str, environ: dict[str, str], fds: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    for variable in os.environ.keys() - environ.keys():
        del os.environ[variable]
    os.environ.update(environ)
    os.chdir(cwd)
    for path in ["", *environ.get("PYTHONPATH", "").split(os.pathsep)]:
        full = os.path.abspath(path)
        if full not in sys.path:
            sys.path.insert(0, full)
    for stream in (sys.stdout, sys.stderr):
        unbuffered = bool(environ.get("PYTHONUNBUFFERED"))
        lines = stream is sys.stderr or os.isatty(1)
        stream.reconfigure(line_buffering=lines, write_through=unbuffered)  # type: ignore[union-attr] # text files
    sys.argv = arguments


# -- the process of the tests -----------------------------------------------------------------


class _Forks:
    """The process that is forked, from here; it ends with this one."""

    def __init__(self, before: Path | None) -> None:
        self._lock = threading.Lock()
        self._requests, theirs = socket.socketpair()
        path = os.pathsep.join(str(folder) for folder in (before, ROOT) if folder is not None)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                # Safe: without the folder that it begins in, which would come first.
                env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._libc = ctypes.CDLL(None, use_errno=True)
        atexit.register(self._end)

    def start(self, arguments: list[str], cwd: Any, environ: Any, fds: list[int]) -> int:
        """The pid of a new child of this process."""
        environ = dict(os.environ if environ is None else environ)
        content = pickle.dumps((arguments, os.fspath(cwd or os.getcwd()), environ))
        with self._lock, self._adopting():
            socket.send_fds(self._requests, [_SIZE.pack(len(content))], fds)
            self._requests.sendall(content)
            (pid,) = _SIZE.unpack(self._requests.recv(_SIZE.size, socket.MSG_WAITALL))
        assert isinstance(pid, int)
        return pid

    @contextlib.contextmanager
    def _adopting(self) -> Any:
        """This process becomes the parent of what is orphaned below it."""
        assert not self._libc.prctl(_SUBREAPER, 1, 0, 0, 0)
        try:
            yield
        finally:
            assert not self._libc.prctl(_SUBREAPER, 0, 0, 0, 0)

    def _end(self) -> None:
        self._requests.close()
        self._process.wait(60)


_forks: dict[Path | None, _Forks] = {}


def prepare(python: str = WARM) -> _Forks:
    """Begin with the imports, which go on beside what this process does; only once."""
    before = python.before if isinstance(python, _Warm) else None
    if before not in _forks:
        _forks[before] = _Forks(before)
    return _forks[before]


_Popen: Any = subprocess.Popen


class _WarmPopen(_Popen):  # type: ignore[misc] # chosen above, to be replaced below
    """``subprocess.Popen`` that knows ``WARM``. All else of it is about pids and pipes."""

    def _execute_child(self, *given: Any) -> None:
        args, executable, preexec_fn, _close_fds, pass_fds, cwd, env = given[:7]
        if isinstance(args, (str, bytes)) or not args or not isinstance(args[0], _Warm):
            super()._execute_child(*given)
            return
        assert args[1] == "-m", args
        assert not preexec_fn
        assert not pass_fds
        assert executable in (None, args[0])
        pipes = given[10:16]
        theirs = (pipes[0], pipes[3], pipes[5])
        fds = [number if fd == -1 else fd for number, fd in enumerate(theirs)]
        self.pid = prepare(args[0]).start([str(a) for a in args[2:]], cwd, env, fds)
        self._child_created = True
        self._close_pipe_fds(*pipes)


def install() -> None:
    """Make this process know ``WARM``, asyncio's subprocesses included.

    Where it is not installed, and on systems other than Linux, ``WARM`` is a Python like any other.
    """
    if sys.platform == "linux":
        subprocess.Popen = _WarmPopen  # type: ignore[misc] # a subclass that does more


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy._run_module_as_main(sys.argv[0])  # type: ignore[attr-defined] # what `python -m` does
