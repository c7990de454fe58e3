"""Worker side: a worker's name, which one live process has at a time.

A name makes a worker the same one after a restart: by it threads know their home
(``ThreadState.home``), and the task queue for their runs is derived from it. Two processes that
poll one such queue would each get half of what belongs on one disk. So the name is claimed by a
workflow whose id is made of it (``workflow/presence.py``), before anything is polled:

- There is none: it is started, and with that the name is taken. Of two processes that try at once
  Temporal lets one.
- There is one, whose process answers: the name is refused.
- There is one whose process is dead: it was of this machine and is gone, or it does not answer for
  the heartbeat timeout. Then it is terminated, and all begins anew.

A process that was only slow to answer loses its name that way. It learns of it, because it waits
for the end of its workflow all the time (``_keep``), and stops. What it does until then is refused
by the epochs of threads, as of any attempt that was taken over.

A worker that was given no name has one that nobody else can have. It is entered in the same way, so
that whoever asks whether it is still there finds that it has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from ..errors import DuplicateWorkerError, ServerUnavailableError, UsageError
from ..protocol import names
from ..protocol.messages import WorkerCard
from ..protocol.wire import pack, unpack
from ..storage.process_workflows import process_key, start_workflow_of_process
from ..storage.rpc import is_gone, is_unanswered
from ..storage.thread_client import Transport
from ..workflow import workers_here
from .hosting import check_name

logger = logging.getLogger(__name__)

LEAVE_S = 2.0
"""How long a worker that stops waits for the end of its workflow."""

AGAIN_S = 2.0
"""Pause before a server that is away is asked again."""


_here: set[str] = set()
"""Unique names of the workers of this process."""


class Claim:
    """See the module. All of it is used on the worker's loop.

    Args:
        transport: RPCs.
        name: The name; "": the process gets one of its own.
        alone: No other process can reach this server with the name; whoever had it is gone.
        tell: Gives the names of the graphs that are served, and the ids of the runs.
        lost: Called when another process has taken the name.

    Attributes:
        card: What the worker tells of itself; of graphs and runs, see ``tell``.
        process_queue: Task queue of this process, by which its workflow reaches it.
        _handle: The workflow; ``None`` before it is there.
        _keeping: Waits for its end; ``None`` before the start.
    """

    def __init__(
        self,
        transport: Transport,
        name: str,
        *,
        alone: bool,
        tell: Callable[[], tuple[list[str], list[str]]],
        lost: Callable[[Exception], None],
    ) -> None:
        process = process_key()
        self.card = WorkerCard(
            worker=name or process,
            queue=names.home_queue(transport.options.task_queue, name or process),
            process=process,
            host=socket.gethostname(),
            pid=os.getpid(),
            space=_space(),
            since_s=time.time(),
            named=bool(name),
        )
        self.process_queue = names.process_queue(transport.options.task_queue, process)
        self._transport = transport
        self._alone = alone
        self._tell = tell
        self._lost = lost
        self._handle: WorkflowHandle[Any, Any] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Take the name, before the queue is polled.

        Raises:
            DuplicateWorkerError: Another live process has it.
            ServerUnavailableError: Temporal does not answer.
        """
        workers_here.enter(self.process_queue, self._packed)
        _here.add(self.card.process)
        try:
            await self._start()
        except BaseException:
            self._forget()
            raise
        self._keeping = asyncio.create_task(self._keep())

    async def leave(self, *, polls: bool) -> None:
        """Give the name up.

        Args:
            polls: Whether the queue is still polled, so that the workflow can end in order.
        """
        if self._handle is None:
            return
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        # A server that is away learns of it when the workflow's time is over.
        with contextlib.suppress(RPCError, WorkflowFailureError):
            # Nobody else can have the name of the others, so that nothing is to be waited for.
            if polls and self.card.named:
                with contextlib.suppress(TimeoutError, RPCError):
                    await self._handle.signal(names.LEAVE_SIGNAL)
                    await asyncio.wait_for(self._handle.result(), LEAVE_S)
                    return
            await self._handle.terminate(reason="the worker has stopped")

    def forget(self) -> None:
        """The queue is polled no more."""
        if self._handle is not None:
            self._forget()

    def _forget(self) -> None:
        workers_here.leave(self.process_queue)
        _here.discard(self.card.process)

    def _packed(self) -> bytes:
        graphs, runs = self._tell()
        return pack(replace(self.card, graphs=tuple(graphs), runs=tuple(runs)))

    async def _start(self) -> None:
        card, transport = self.card, self._transport
        workflow_id = names.worker_workflow_id(transport.options.id_prefix, card.queue)
        while True:
            try:
                started = await start_workflow_of_process(
                    transport.client,
                    names.WORKER_WORKFLOW,
                    workflow_id=workflow_id,
                    task_queue=self.process_queue,
                    summary=f"worker {card.worker}"[:200],
                    memo={
                        "worker": card.worker,
                        "queue": card.queue,
                        "process": card.process,
                        "host": card.host,
                        "pid": card.pid,
                        "space": card.space,
                        "since_s": card.since_s,
                        "named": card.named,
                    },
                )
                break
            except WorkflowAlreadyStartedError:
                await self._replace(transport.client.get_workflow_handle(workflow_id))
            except (RPCError, RuntimeError) as exc:
                raise transport.translate(exc) from exc
        # Bound to the chain of runs that this has begun, and no other.
        self._handle = started

    async def _replace(self, handle: WorkflowHandle[object, object]) -> None:
        """End what a dead process has left under this name.

        Raises:
            DuplicateWorkerError: It is not dead.
        """
        try:
            found = await handle.describe()
            if found.status is not WorkflowExecutionStatus.RUNNING:
                return
            if not self._alone:
                await self._check_gone(handle, found)
            logger.info("worker %s was here before; this process goes on", self.card.worker)
            of_run = self._transport.client.get_workflow_handle(handle.id, run_id=found.run_id)
            await of_run.terminate(reason="its process is gone; another one takes its name")
        except RPCError as exc:
            if not is_gone(exc):
                raise self._transport.translate(exc) from exc

    async def _check_gone(
        self, handle: WorkflowHandle[object, object], found: WorkflowExecutionDescription
    ) -> None:
        memo = await found.memo()
        where = f"process {memo.get('pid')} on {memo.get('host')}"
        if self.card.space and memo.get("space") == self.card.space:
            pid = memo.get("pid")
            # Its id may be that of another process by now. Then it is asked for.
            mine = pid == os.getpid() and memo.get("process") not in _here
            if mine or not _is_running(pid):
                return
        try:
            answer = await handle.query(
                names.WHO_QUERY,
                result_type=bytes,
                rpc_timeout=self._transport.options.heartbeat_timeout,
            )
        except RPCError as exc:
            if is_unanswered(exc):
                return
            raise
        except WorkflowQueryFailedError as exc:
            # It polls, and is of another release.
            raise self._taken(where, str(exc)) from exc
        if answer and unpack(WorkerCard, answer).process != self.card.process:
            raise self._taken(where, "")

    def _taken(self, by: str, why: str) -> DuplicateWorkerError:
        return DuplicateWorkerError(
            f"Worker {self.card.worker!r} of task queue "
            f"{self._transport.options.task_queue!r} is there already: {by}"
            f"{why and f' ({why})'}. A name stands for one process at a time, and for the disk it "
            "has. Stop that one, or give this one another name (name=, --name, or another file of "
            "worker_queue_file=, --queue-file)."
        )

    async def _keep(self) -> None:
        """Learn of it when the name is lost."""
        while True:
            assert self._handle is not None
            try:
                with contextlib.suppress(WorkflowFailureError):
                    await self._handle.result()
            except RPCError as exc:
                if not is_gone(exc):
                    await asyncio.sleep(AGAIN_S)
                    continue
            # Somebody has ended it, or there was no server for as long as it lives.
            try:
                await self._start()
            except DuplicateWorkerError as exc:
                self._lost(exc)
                return
            except (ServerUnavailableError, RPCError, RuntimeError) as exc:
                logger.warning("worker %s cannot renew its entry yet: %s", self.card.worker, exc)
                await asyncio.sleep(AGAIN_S)


def kept_name(path: str | Path, task_queue: str) -> str:
    """The name of the worker whose queue is kept in a file; it is made, with a new one, if need be.

    Args:
        path: The file, on the disk for which the name stands.
        task_queue: Of the worker.

    Raises:
        UsageError: The file cannot be read or made, or holds something else.
    """
    mine = names.home_queue(task_queue, f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}")
    file = Path(path)
    try:
        file = file.expanduser()
        # Its folder is not made: it may be a disk that is not mounted.
        # Written aside, and linked: another process sees all of it, or nothing.
        aside = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        aside.write_text(f"{mine}\n")
        try:
            with contextlib.suppress(FileExistsError):
                os.link(aside, file)
        finally:
            aside.unlink()
        queue = file.read_text().strip()
    except (OSError, ValueError, RuntimeError) as exc:
        raise UsageError(f"worker_queue_file {str(file)!r} cannot be used: {exc}") from exc
    if not queue.startswith(names.home_queue(task_queue, "")):
        raise UsageError(
            f"worker_queue_file {str(file)!r} holds {queue[:100]!r}, which is no queue of a worker "
            f"of task queue {task_queue!r}. Each task queue needs a file of its own."
        )
    name = names.worker_of(queue)
    if names.home_queue(task_queue, name) != queue:
        name = ""
    check_name(name)
    return name


def _space() -> str:
    """What the process ids of this machine belong to; "": that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_running(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # It is somebody else's.
        return True
    return True
