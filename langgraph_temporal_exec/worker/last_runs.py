"""Worker side: how this process has left threads, so that the next run need not ask.

An attempt asks the thread for its turn (``attach``), and is told what it does not know. If the last
run of the thread was driven here and nobody has touched the thread since, that is nothing: the next
run begins as if it had been granted, and asks with its first step (Update ``begin``). The thread
refuses if anything is otherwise; then the run begins once more, as runs usually do.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from ..protocol.messages import Home

MAX_THREADS = 10_000


@dataclass(frozen=True, kw_only=True)
class LastRun:
    """A thread as the end of a run has left it.

    Args:
        epoch: That of the run.
        position: Incarnation and end of the log.
        home: The thread's home.
    """

    epoch: int
    position: tuple[str, int]
    home: Home | None


class LastRuns:
    """The last runs of this process, by thread; from any OS thread.

    Attributes:
        _runs: Those that were driven here; the longest unused first. ``None``: somebody else uses
            the thread as well, so that nothing is presumed of it any more.
        _lock: Guards it.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[str, LastRun | None] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, thread_id: str, position: tuple[str, int]) -> LastRun | None:
        """How the last run has left a thread, if its log is known up to there, and no further."""
        with self._lock:
            last = self._runs.get(thread_id)
        return last if last is not None and last.position == position else None

    def knows(self, thread_id: str) -> bool:
        """Whether there is one."""
        with self._lock:
            return self._runs.get(thread_id) is not None

    def ended(self, thread_id: str, last: LastRun) -> None:
        """A run has ended."""
        with self._lock:
            if self._runs.get(thread_id, last) is not None:
                self._keep(thread_id, last)

    def forget(self, thread_id: str) -> None:
        """A run has ended so that the next one has to ask."""
        with self._lock:
            if self._runs.get(thread_id) is not None:
                del self._runs[thread_id]

    def shared(self, thread_id: str) -> None:
        """A thread was not as its last run here has left it."""
        with self._lock:
            self._keep(thread_id, None)

    def _keep(self, thread_id: str, last: LastRun | None) -> None:
        self._runs[thread_id] = last
        self._runs.move_to_end(thread_id)
        while len(self._runs) > MAX_THREADS:
            self._runs.popitem(last=False)
