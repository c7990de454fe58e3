"""Worker side: live tasks of this process, found by key when their Activity arrives."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable

from ..protocol.messages import TaskOutput, TaskStatus
from .slots import Slot


class LiveTask:
    """One task whose Activity was, or is about to be, scheduled for this process.

    The task itself waits in LangGraph's loop. Its Activity only says "go" (``started``), and
    ends with what LangGraph committed (``done``). Both futures may be used from any thread.

    Args:
        key: Unique within the process; also the Activity's argument.
        node: Name of the node, for errors and summaries.
        give_up: Called with a reason when the attempt of the task is over.

    Attributes:
        stopped: It was cancelled from here.
        eager_by: The workflow that schedules it as an eager one; "": none does.
        error: What the node raised.
        started: Done when the Activity is there.
        done: With the Activity's result.
        slot: What it has, or waits for, to be executed; see ``slots``.
    """

    def __init__(self, key: str, node: str, give_up: Callable[[str], None]) -> None:
        self.key = key
        self.give_up = give_up
        self.stopped = False
        self.eager_by = ""
        self.node = node
        self.error = ""
        self.started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.done: concurrent.futures.Future[TaskOutput] = concurrent.futures.Future()
        self._lock = threading.Lock()
        self.slot: Slot | None = None
        self._runner: tuple[asyncio.AbstractEventLoop, asyncio.Task[object]] | None = None

    def start(self) -> bool:
        """The Activity arrived; ``False`` when nobody waits for it any more."""
        with self._lock:
            if self.started.done() or self.done.done():
                return self.started.done() and not self.done.done()
            self.started.set_result(None)
            return True

    def finish(self, output: TaskOutput) -> bool:
        """Give the Activity its result; ``False`` when it has one already."""
        with self._lock:
            if self.done.done():
                return False
            self.done.set_result(output)
            return True

    def abandon(self, exc: BaseException | None = None) -> None:
        """Nobody will run or commit this task: its attempt is over or it was cancelled."""
        self.finish(TaskOutput(status=TaskStatus.NO_WRITES))
        with self._lock:
            if not self.started.done() and exc is not None:
                self.started.set_exception(exc)
        if self.slot is not None and not self.slot.started:
            self.slot.give_back()

    @property
    def begun(self) -> bool:
        """Whether the node is executed, or was."""
        return self.started.done() and self.slot is not None and self.slot.started

    def runs_in(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[object]) -> None:
        """Remember which asyncio task executes the node, so that it can be cancelled."""
        self._runner = (loop, task)

    def cancel(self) -> None:
        """Cancel the node, if it is async and running. A thread cannot be cancelled."""
        self.stopped = True
        runner = self._runner
        if runner is not None:
            loop, task = runner
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)


class LiveTasks:
    """All live tasks of a process, by key. Safe to use from several threads."""

    def __init__(self) -> None:
        self._tasks: dict[str, LiveTask] = {}

    def add(self, task: LiveTask) -> None:
        """Register a task until its Activity has ended."""
        self._tasks[task.key] = task
        task.done.add_done_callback(lambda _: self._tasks.pop(task.key, None))

    def get(self, key: str) -> LiveTask | None:
        """The live task of a key."""
        return self._tasks.get(key)
