"""Shared: every RPC to a workflow, with Temporal's errors turned into ours.

Used by callers (reads, appends, starting runs) and by attempts (attach, step).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
import uuid
import weakref
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self, TypeVar

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, PendingActivityState, TaskQueueType
from temporalio.api.failure.v1 import Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    GetWorkflowExecutionHistoryReverseRequest,
    ResetStickyTaskQueueRequest,
)
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode, ServiceClient

from ..errors import (
    NotWaitingError,
    NoWorkersError,
    ServerUnavailableError,
    TaskQueueError,
    TemporalExecError,
    ThreadFullError,
    UnreadableError,
    UsageError,
)
from ..options import Options
from ..protocol import names
from ..protocol.messages import (
    RULES,
    Announcement,
    AppendRequest,
    AttachReply,
    AttachRequest,
    BeginRequest,
    ReadReply,
    ReadRequest,
    RunBounds,
    StepReply,
    StepRequest,
    ThreadStart,
)
from ..protocol.wire import pack, unpack
from .rpc import (
    SERVER_AWAY_S,
    NotAsLeftError,
    StaleReadError,
    failure_text,
    has_type,
    is_gone,
    is_unanswered,
    send_update,
    translate,
    unavailable,
)

T = TypeVar("T")


class UnreachedError(UnreadableError):
    """The workflow of a thread cannot be read by the workers of its queue, so that it answers
    nothing. Nothing more must be sent to it: what it is sent, whoever can read it may not."""


def check_thread_id(thread_id: str) -> None:
    """Raise for an id that Temporal could not store beside what it names."""
    try:
        thread_id.encode()
    except UnicodeEncodeError as exc:
        raise UsageError(
            f"The thread_id {thread_id[:40]!r} is no Unicode text: {exc.reason}. Nothing was run."
        ) from exc
    if len(thread_id.encode()) > MAX_THREAD_ID:
        raise UsageError(
            f"The thread_id is {len(thread_id.encode()):,} bytes long ({thread_id[:40]!r}...); the "
            f"limit is {MAX_THREAD_ID:,} bytes. Nothing was run."
        )


MAX_THREAD_ID = 10_000
"""Bytes of a thread id."""

QUERY_TIMEOUT = timedelta(seconds=8)
"""One try of a Query; a live worker answers in milliseconds."""

QUIET_S = 1.0
STEP_QUIET_S = 5.0
"""How long an Update may take before it is looked which task queue it is for."""

LOOK_AGAIN_S = 120.0
"""The longest pause until somebody looks again whether another queue still has workers."""

ALIVE_QUERY = "__temporal_workflow_metadata"
"""Answered for every workflow by whatever worker there is."""

POLLED_S = 70.0
"""A poll waits at the server for a minute: what was last polled longer ago has no worker."""

UNTAKEN_EVENTS = 2
"""Events of a run no worker has taken: started, and its first workflow task scheduled."""

UNTAKEN_S = 2.0
"""After so long that says something about the workers."""

UNBOUNDED_CURSOR = 1 << 62
"""A cursor after which there is nothing to read: a Query that only asks for a sign of life."""

DELETED_S = 60.0
"""How long a new call waits for a deleted thread of the same name to be gone."""

ERASE_WAIT_S = 300.0

OPEN_TRIES = 10
OPEN_PAUSE_S = 0.3
"""How often a namespace is opened again that is closed before it can be written to."""

STUCK_EVENTS = 20
"""Latest events of a workflow that are looked through for why its task failed."""

_BETWEEN_TASKS = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
    # What arrives meanwhile.
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
    EventType.EVENT_TYPE_TIMER_FIRED,
)

_STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
_SCHEDULED = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED

_OPEN = (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW)


class Mover(Protocol):
    """The worker of this process, which takes over threads of task queues nobody serves."""

    async def move(self, workflow_id: str, queue: str, within_s: float) -> bool:
        """Have a thread or namespace leave its queue; whether it has, in the given time."""
        ...

    async def left(self, queue: str) -> None:
        """Return when this process does not poll a queue that is not its own any more."""
        ...


class Transport:
    """RPCs to the workflows of one deployment.

    Args:
        client: The user's client; its data converter encodes all payloads.
        options: Names the task queue and the id prefix.
        roll_events: History length at which thread workflows continue as new by themselves;
            0 leaves it to the server's suggestion.
        archive_bytes: Size of the log at which it moves into archives; 0: the default.
    """

    def __init__(
        self,
        client: Client,
        options: Options,
        *,
        roll_events: int = 0,
        archive_bytes: int = 0,
    ) -> None:
        self.client = client
        self.options = options
        self.roll_events = roll_events
        self.archive_bytes = archive_bytes
        # Set while this process hosts a worker.
        self.mover: Mover | None = None
        self._guest = False
        # They live as long as whoever works with them.
        self._twins: weakref.WeakSet[Client] = weakref.WeakSet()

    def as_guest(self) -> Self:
        """A copy for work on threads that others drive, and whose task queue is not this one.

        It waits for their workers as long as it is let, and never has a thread moved: whoever
        drives a run sees to its thread.
        """
        twin = copy.copy(self)
        twin.mover, twin._guest = None, True
        return twin

    def thread_workflow_id(self, thread_id: str, checkpoint_ns: str = "") -> str:
        """Workflow id of a thread or of a namespace of it."""
        return names.thread_workflow_id(self.options.id_prefix, thread_id, checkpoint_ns)

    def run_workflow_id(self, run_id: str) -> str:
        """Workflow id of a run."""
        return names.run_workflow_id(self.options.id_prefix, run_id)

    # -- thread workflow ----------------------------------------------------------------------

    async def attach(self, thread_id: str, request: AttachRequest) -> AttachReply:
        """Update ``attach``; Update-with-start, which costs twice as much, if the thread may not be
        there yet.

        Raises:
            TaskQueueError: The thread is on a task queue nobody serves, and could not be moved.
        """
        data = pack(request)
        handle = self.client.get_workflow_handle(self.thread_workflow_id(thread_id))
        exists = bool(request.incarnation)

        async def send() -> bytes:
            nonlocal exists
            if exists:
                try:
                    reply: bytes = await handle.execute_update(
                        names.ATTACH_UPDATE, data, result_type=bytes
                    )
                    return reply
                except RPCError as exc:
                    if exc.status is not RPCStatusCode.NOT_FOUND:
                        raise
                    exists = False
            with self._start_thread(thread_id) as start:
                result: bytes = await self.client.execute_update_with_start_workflow(
                    names.ATTACH_UPDATE, data, start_workflow_operation=start, result_type=bytes
                )
            return result

        if request.attempt > 1:
            # Results of the attempt before it count, for whoever replays the thread as well.
            await self._set_apart(handle)
        # A deleted thread is closing: its successor takes the Update in a moment.
        update = send_update(self.client, send, patience_s=SERVER_AWAY_S, deleted_s=DELETED_S)
        workflow_id = self.thread_workflow_id(thread_id)
        return unpack(AttachReply, await self._bounded(workflow_id, update, here=True))

    async def announce(self, thread_id: str, graph: str, run_id: str) -> None:
        """Have a thread show a run that was recorded: it is made, if need be, without any worker.

        Raises:
            RPCError: Its workflow takes no more Signals.
            ServerUnavailableError: Temporal does not answer.
        """
        run = Announcement(
            run_id=run_id,
            run_workflow_id=self.run_workflow_id(run_id),
            graph=graph,
            task_queue=self.options.task_queue,
        )
        options = self._thread_options(thread_id)

        async def send() -> None:
            await self.client.start_workflow(
                **options, start_signal=names.ANNOUNCE_SIGNAL, start_signal_args=[pack(run)]
            )

        await send_update(self.client, send, patience_s=SERVER_AWAY_S)

    async def step(self, workflow_id: str, request: StepRequest) -> StepReply:
        """Update ``step``; returns when it is applied, or says what to send instead."""
        return await self._bounded_step(workflow_id, names.STEP_UPDATE, pack(request))

    async def stay(self, workflow_id: str, request: StepRequest) -> StepReply:
        """Update ``step`` that is answered when the attempt is over, however long that takes.

        Raises:
            RPCError, WorkflowUpdateFailedError: There is no answer, or it was refused.
        """
        return unpack(
            StepReply, await self._send_step(workflow_id, names.STEP_UPDATE, pack(request))
        )

    async def begin(self, workflow_id: str, request: BeginRequest) -> StepReply:
        """Update ``begin``, answered as its step is.

        Raises:
            NotAsLeftError: It was refused, or the thread, or its release, knows no such Update.
        """
        name, data = names.BEGIN_UPDATE, pack(request)
        try:
            if request.step.stays:
                return unpack(StepReply, await self._send_step(workflow_id, name, data))
            return await self._bounded_step(workflow_id, name, data)
        except (WorkflowUpdateFailedError, ThreadFullError) as exc:
            raise NotAsLeftError(f"{workflow_id!r} is not as it was left") from exc
        except RPCError as exc:
            if is_gone(exc):
                raise NotAsLeftError(f"{workflow_id!r} is not there any more") from exc
            raise

    async def _send_step(self, workflow_id: str, name: str, data: bytes) -> bytes:
        handle = self.client.get_workflow_handle(workflow_id)
        reply: bytes = await handle.execute_update(name, data, result_type=bytes)
        return reply

    async def _bounded_step(self, workflow_id: str, name: str, data: bytes) -> StepReply:
        update = send_update(
            self.client,
            lambda: self._send_step(workflow_id, name, data),
            patience_s=SERVER_AWAY_S,
        )
        reply = await self._bounded(workflow_id, update, here=True, quiet_s=STEP_QUIET_S)
        return unpack(StepReply, reply)

    async def open(self, thread_id: str, request: AppendRequest) -> None:
        """Open nested namespaces for an attempt that has the thread, which must be there.

        Raises:
            RPCError: There is no such thread any more.
        """
        workflow_id = self.thread_workflow_id(thread_id)
        handle = self.client.get_workflow_handle(workflow_id)

        async def send() -> None:
            await handle.execute_update(names.APPEND_UPDATE, pack(request))

        while True:
            update = send_update(self.client, send, patience_s=SERVER_AWAY_S)
            try:
                return await self._bounded(workflow_id, update, here=True, quiet_s=STEP_QUIET_S)
            except StaleReadError:
                # The thread is about to continue as new; nothing of this builds on what it holds.
                await asyncio.sleep(OPEN_PAUSE_S)

    async def append(self, thread_id: str, checkpoint_ns: str, request: AppendRequest) -> None:
        """Append from outside a run; starts the thread, and opens the namespace, if needed.

        Raises:
            StaleReadError: The ops build on a log that was compacted since.
        """
        check_thread_id(thread_id)
        root = not checkpoint_ns
        data = pack(request if root else AppendRequest(open=(checkpoint_ns,)))

        async def send_root() -> None:
            with self._start_thread(thread_id) as start:
                await self.client.execute_update_with_start_workflow(
                    names.APPEND_UPDATE, data, start_workflow_operation=start
                )

        workflow_id = self.thread_workflow_id(thread_id)
        child = self._handle(thread_id, checkpoint_ns)

        async def send_child() -> None:
            await child.execute_update(names.APPEND_UPDATE, pack(request))

        async def send_to_root() -> None:
            update = send_update(self.client, send_root, deleted_s=DELETED_S)
            await self._bounded(workflow_id, update)

        if root:
            await send_to_root()
            return
        for left in reversed(range(OPEN_TRIES)):
            try:
                await send_to_root()
            except StaleReadError:
                # It is about to continue as new; nothing of this builds on what it holds.
                if not left:
                    raise
                await asyncio.sleep(OPEN_PAUSE_S)
                continue
            try:
                await self._bounded(child.id, send_update(self.client, send_child))
            except RPCError as exc:
                # Closed again before this came.
                if not is_gone(exc) or not left:
                    raise
            else:
                return

    async def delete(self, thread_id: str) -> None:
        """End the thread's workflows; a thread that does not exist is no error."""
        handle = self._handle(thread_id)

        async def send() -> str:
            life: str = await handle.execute_update(names.DELETE_UPDATE, result_type=str)
            return life

        await self._set_apart(handle)
        try:
            await self._gone(
                thread_id, await self._bounded(handle.id, send_update(self.client, send))
            )
        except RPCError as exc:
            if not is_gone(exc):
                raise
        except WorkflowUpdateFailedError as exc:
            if not has_type(exc, names.THREAD_DELETED):
                raise

    async def _set_apart(self, handle: WorkflowHandle[Any, Any]) -> None:
        """Put an event between what a workflow has been told and an Update that depends on it.

        A worker that does not have the workflow in its cache takes workflow tasks that led to no
        command together with the one that it is given, and runs the Update of that before results
        that came earlier. Whoever replays the history later runs it after them, and may come to
        other commands (temporalio/sdk-python#1591): the workflow could not go on any more. A signal
        keeps them apart; this one, without a task queue, moves nothing.
        """
        # Whether it is there, and the server too, the Update tells.
        with contextlib.suppress(RPCError):
            await handle.signal(names.MOVE_SIGNAL)

    async def free_from_cache(self, workflow_id: str) -> None:
        """Let any worker have the next task of a workflow, not first the one that had the last:
        that may be gone, and the task would wait for it."""
        request = ResetStickyTaskQueueRequest(
            namespace=self.client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
        )
        # Without it the task waits for a moment.
        with contextlib.suppress(RPCError):
            await self.client.workflow_service.reset_sticky_task_queue(request)

    async def is_closed(self, workflow_id: str) -> bool:
        """Whether a workflow has ended, or is not known any more."""
        try:
            description = await self.client.get_workflow_handle(workflow_id).describe()
        except RPCError as exc:
            if is_gone(exc):
                return True
            raise
        return description.status not in _OPEN

    async def has_completed(self, workflow_id: str) -> bool:
        """Whether a workflow has ended by itself, or is not known any more."""
        try:
            description = await self.client.get_workflow_handle(workflow_id).describe()
        except RPCError as exc:
            if is_gone(exc):
                return True
            raise
        return description.status is WorkflowExecutionStatus.COMPLETED

    async def resume(self, thread_id: str, value: Any) -> str:
        """Answer what a thread waits for; the id of the run that goes on.

        Temporal does not take an Update back: sent without a worker, it may be applied by the next
        one, after the caller was told that it failed. So it is sent only when a worker answers.

        Raises:
            NotWaitingError: There is nothing to answer.
            UsageError: The answer cannot be passed on, or nobody knows to which graph.
            NoWorkersError: No worker answers; the message says whether the answer was sent.
            ServerUnavailableError: The server does not answer; the message says the same.
        """
        try:
            found = await self._read_or_move(thread_id)
        except (NoWorkersError, ServerUnavailableError) as exc:
            raise type(exc)(f"{exc} The answer was not sent; give it again then.") from exc
        if found is None:
            raise NotWaitingError(f"There is no thread {thread_id!r}.")
        handle = self._handle(thread_id)
        bounds = pack(self.bounds())
        # Tried again after a broken connection, it is the same one.
        update_id = uuid.uuid4().hex

        async def send() -> str:
            run_id: str = await handle.execute_update(
                names.RESUME_UPDATE, args=[value, bounds], id=update_id, result_type=str
            )
            return run_id

        try:
            return await self._bounded(handle.id, send_update(self.client, send))
        except (NoWorkersError, ServerUnavailableError) as exc:
            raise type(exc)(
                f"{exc} So it is not known whether the answer is taken: before you give it again, "
                f"see whether thread {thread_id!r} still waits (`langgraph-temporal threads show`, "
                "or aget_thread)."
            ) from exc
        except RPCError as exc:
            if not is_gone(exc):
                raise
            raise NotWaitingError(f"There is no thread {thread_id!r}.") from exc
        except WorkflowUpdateFailedError as exc:
            if has_type(exc, names.BAD_ANSWER) or has_type(exc, names.NO_GRAPH):
                raise UsageError(failure_text(exc.cause)) from exc
            if not has_type(exc, names.NOT_WAITING) and not has_type(exc, names.THREAD_DELETED):
                raise
            raise NotWaitingError(failure_text(exc.cause)) from exc

    async def _read_or_move(self, thread_id: str) -> ReadReply | None:
        """What a worker says of a thread, which is moved here if nobody serves its task queue.

        Raises:
            NoWorkersError: No worker answers on the task queue of the call.
            TaskQueueError: No worker answers on that of the thread, and it could not be moved.
        """
        request = ReadRequest(cursor=UNBOUNDED_CURSOR)
        try:
            return await self.read(thread_id, "", request)
        except NoWorkersError:
            workflow_id = self.thread_workflow_id(thread_id)
            queue = await self.queue_of(workflow_id)
            if queue in ("", self.options.task_queue):
                raise
            within_s = self.options.no_worker_timeout.total_seconds()
            if self.mover is None or not await self.mover.move(workflow_id, queue, within_s):
                raise self._elsewhere(workflow_id, queue) from None
        return await self.read(thread_id, "", request)

    def bounds(self) -> RunBounds:
        """Bounds of a run that a thread starts itself."""
        return RunBounds(
            heartbeat_s=self.options.heartbeat_timeout.total_seconds(),
            max_lost_attempts=self.options.max_lost_attempts,
            give_up_s=self.options.give_up_s,
            run_timeout_s=self.options.run_timeout_s,
        )

    async def _gone(self, thread_id: str, run_id: str) -> None:
        """Wait until a deleted thread has removed what it kept outside, and has ended."""
        handle = self.client.get_workflow_handle(self.thread_workflow_id(thread_id), run_id=run_id)
        try:
            async with asyncio.timeout(ERASE_WAIT_S):
                await handle.result(follow_runs=False)
        except WorkflowFailureError:
            return
        except TimeoutError as exc:
            raise TemporalExecError(
                f"Thread {thread_id!r} is deleted and cannot be read, but removing its archives "
                f"and large values takes more than {ERASE_WAIT_S:.0f} s; it goes on in the "
                "background (see the Activity langgraph:erase in Temporal's UI)."
            ) from exc

    async def read(
        self, thread_id: str, checkpoint_ns: str, request: ReadRequest
    ) -> ReadReply | None:
        """One page of a log; ``None`` when there is no such thread or namespace."""
        return await self.read_workflow(self.thread_workflow_id(thread_id, checkpoint_ns), request)

    async def read_workflow(self, workflow_id: str, request: ReadRequest) -> ReadReply | None:
        """One page of the log that a workflow has; ``None`` when there is none."""
        handle = self.client.get_workflow_handle(workflow_id)

        async def query() -> bytes:
            result: bytes = await handle.query(
                names.READ_QUERY, pack(request), result_type=bytes, rpc_timeout=QUERY_TIMEOUT
            )
            return result

        try:
            reply = unpack(ReadReply, await self.answered(query, what=f"{workflow_id!r}"))
        except RPCError as exc:
            if is_gone(exc):
                return None
            raise
        return None if reply.deleted else reply

    def _handle(self, thread_id: str, checkpoint_ns: str = "") -> WorkflowHandle[object, object]:
        return self.client.get_workflow_handle(self.thread_workflow_id(thread_id, checkpoint_ns))

    @contextlib.contextmanager
    def _start_thread(self, thread_id: str) -> Iterator[WithStartWorkflowOperation[object, object]]:
        """The start of a thread's workflow, if there is none, together with one Update."""
        operation = WithStartWorkflowOperation[object, object](**self._thread_options(thread_id))
        try:
            yield operation
        except GeneratorExit:
            # Closed, maybe where no loop runs any more.
            raise
        except BaseException:
            # The SDK keeps the error for who asks for the workflow's handle as well; unasked for,
            # asyncio would log it some day.
            asked = asyncio.ensure_future(operation.workflow_handle())
            asked.add_done_callback(lambda task: task.cancelled() or task.exception())
            asyncio.get_running_loop().call_later(0, asked.cancel)
            raise

    def _thread_options(self, thread_id: str) -> dict[str, Any]:
        """A thread's workflow as it is started when there is none."""
        start = ThreadStart(
            thread_id=thread_id,
            id_prefix=self.options.id_prefix,
            roll_events=self.roll_events,
            archive_bytes=self.archive_bytes,
            rules=RULES,
        )
        return {
            "workflow": names.THREAD_WORKFLOW,
            "arg": pack(start),
            "id": self.thread_workflow_id(thread_id),
            "task_queue": self.options.task_queue,
            "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
            "task_timeout": timedelta(seconds=names.WORKFLOW_TASK_TIMEOUT_S),
            "memo": {"thread_id": thread_id},
            "static_summary": f"thread {thread_id}"[:200],
        }

    async def worker_client(self) -> Client:
        """A client that workers accept: the user's, or a connected twin of a lazy one.

        Raises:
            ServerUnavailableError: The server does not answer.
        """
        return await self.twin() if self.client.service_client.config.lazy else self.client

    async def twin(self) -> Client:
        """A connection of its own: of one client only one worker may serve a task queue.

        Raises:
            ServerUnavailableError: The server does not answer.
        """
        config = self.client.service_client.config
        try:
            connected = await ServiceClient.connect(replace(config, lazy=False))
        except RuntimeError as exc:
            raise unavailable(self.client, str(exc)) from exc
        settings: dict[str, Any] = {**self.client.config(), "service_client": connected}
        twin = Client(**settings)
        self._twins.add(twin)
        return twin

    def renew_twins(self) -> None:
        """Give the twins of the client the credentials that the user has given it since."""
        client = self.client
        for twin in list(self._twins):
            if twin.api_key != client.api_key:
                twin.api_key = client.api_key
            if twin.rpc_metadata != client.rpc_metadata:
                twin.rpc_metadata = client.rpc_metadata

    # -- errors -------------------------------------------------------------------------------

    async def answered(self, query: Callable[[], Awaitable[T]], *, what: str) -> T:
        """Run a Query; a worker that does not answer becomes ``NoWorkersError``."""
        try:
            return await query()
        except WorkflowQueryFailedError as exc:
            raise TemporalExecError(f"{what} cannot be read: {exc}") from exc
        except RPCError as exc:
            if is_unanswered(exc):
                raise self.no_workers(what) from exc
            raise self.translate(exc) from exc
        except RuntimeError as exc:
            raise self.translate(exc) from exc

    def no_workers(self, what: str) -> NoWorkersError:
        """The error for a queue that nobody polls, with the remedy."""
        queue = self.options.task_queue
        return NoWorkersError(
            f"No worker answers on task queue {queue!r} (namespace {self.client.namespace!r}), "
            f"so {what} cannot be reached. Start one: `langgraph-temporal worker "
            f"your_module:agent --task-queue {queue}`, or host one in this process: "
            "`async with saver.worker(agent): ...`."
        )

    def translate(self, exc: RPCError | RuntimeError) -> Exception:
        """See ``rpc.translate``."""
        return translate(self.client, exc)

    # -- workers ------------------------------------------------------------------------------

    async def queue_of(self, workflow_id: str) -> str:
        """The task queue of an open workflow; "" when there is none."""
        try:
            description = await self.client.get_workflow_handle(workflow_id).describe()
        except RPCError as exc:
            if is_gone(exc):
                return ""
            raise
        return description.task_queue if description.status in _OPEN else ""

    async def has_left(self, queue: str) -> bool:
        """Whether the worker of a process queue has left, or was killed a day ago or longer.

        Of one that was killed since it is not known.
        """
        workflow_id = names.worker_workflow_id(self.options.id_prefix, queue)
        try:
            found = await self.client.get_workflow_handle(workflow_id).describe()
        except RPCError as exc:
            if is_gone(exc):
                return True
            raise self.translate(exc) from exc
        return found.status not in _OPEN

    async def open_run(self, run_workflow_id: str) -> WorkflowExecutionDescription | None:
        """A run as the server describes it; ``None``: it has ended, or is not known any more."""
        try:
            run = await self.client.get_workflow_handle(run_workflow_id).describe()
        except RPCError as exc:
            if is_gone(exc):
                return None
            raise self.translate(exc) from exc
        return run if run.status in _OPEN else None

    async def stuck(self, workflow_id: str) -> str:
        """Why the workers that poll cannot take a workflow on; "" if they can, as far as is known.

        They lack its payload codec, or it is of another release. Nothing of ours runs there then,
        so Temporal alone can tell.
        """
        handle = self.client.get_workflow_handle(workflow_id)
        with contextlib.suppress(RPCError, RuntimeError):
            pending = (await handle.describe()).raw_description.pending_workflow_task
            # Temporal records the first failure of a row, and counts the others.
            if pending.attempt <= 1:
                return ""
            request = GetWorkflowExecutionHistoryReverseRequest(
                namespace=self.client.namespace,
                execution=WorkflowExecution(workflow_id=workflow_id),
                maximum_page_size=STUCK_EVENTS,
            )
            service = self.client.workflow_service
            reply = await service.get_workflow_execution_history_reverse(request)
            for event in reply.history.events:
                if event.event_type in _BETWEEN_TASKS:
                    continue
                if event.event_type != EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                    return ""
                return await self._why(event.workflow_task_failed_event_attributes.failure)
        return ""

    async def _why(self, failure: Failure) -> str:
        try:
            exc: BaseException | None = await self.client.data_converter.decode_failure(failure)
        except Exception as problem:
            # Codecs are the user's, and raise what they like.
            return f"{failure.message} ({type(problem).__name__}: {problem})"
        texts = []
        while exc is not None:
            named = exc.type if isinstance(exc, ApplicationError) and exc.type else ""
            texts.append(": ".join(filter(None, [named, failure_text(exc)])))
            exc = exc.__cause__
        return ": ".join(filter(None, texts)) or "no reason is known"

    def unreadable(self, what: str, why: str) -> UnreachedError:
        """The error for what the workers of the queue cannot take on, with the remedy."""
        return UnreachedError(
            f"The workers on task queue {self.options.task_queue!r} cannot read {what}: {why}. "
            "Their client must have the payload codec, with its key, and a release of "
            "langgraph-temporal-exec of whoever wrote it."
        )

    async def is_served(self, run: WorkflowExecutionDescription) -> bool:
        """Whether an open run is driven, or there is a worker that may come to drive it.

        As far as the server knows: of a worker that was killed it knows after a minute, unless it
        has something for it to do.
        """
        if self.is_driven(run):
            return True
        started_s, now_s = run.start_time.timestamp(), time.time()
        if run.history_length <= UNTAKEN_EVENTS and now_s - started_s > UNTAKEN_S:
            kind = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
            # Whoever polled when it began, and still does, would have got it.
            return await self._is_polled(run.task_queue, kind, started_s)
        # Workflow tasks are also polled for by who moves threads away.
        kind = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
        return await self._is_polled(run.task_queue, kind, now_s - POLLED_S)

    @staticmethod
    def is_driven(run: WorkflowExecutionDescription) -> bool:
        """Whether a worker has the run; of one that was killed until its heartbeat timeout."""
        return any(a.state == _STARTED for a in run.raw_description.pending_activities)

    async def untaken_tasks(self, thread_id: str) -> list[tuple[str, str, datetime]]:
        """Tasks of a thread that wait for a worker: node, task queue, and since when."""
        handle = self.client.get_workflow_handle(self.thread_workflow_id(thread_id))
        try:
            description = await handle.describe()
        except RPCError:
            return []
        return [
            (
                task.activity_type.name,
                task.activity_options.task_queue.name,
                task.scheduled_time.ToDatetime(UTC),
            )
            for task in description.raw_description.pending_activities
            if task.state == _SCHEDULED
        ]

    async def is_polled(self, queue: str) -> bool:
        """Whether somebody takes Activities from a task queue, or that is not known."""
        kind = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
        return await self._is_polled(queue, kind, time.time() - POLLED_S)

    async def has_workflow_worker(self) -> bool:
        """Whether somebody takes workflow tasks of the saver's task queue, or that is not known."""
        kind = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
        return await self._is_polled(self.options.task_queue, kind, time.time() - POLLED_S)

    async def _is_polled(self, queue: str, kind: TaskQueueType.ValueType, since_s: float) -> bool:
        request = DescribeTaskQueueRequest(
            namespace=self.client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=kind,
        )
        try:
            reply = await self.client.workflow_service.describe_task_queue(request)
        except (RPCError, RuntimeError):
            # Not known, so not denied.
            return True
        return any(p.last_access_time.ToNanoseconds() / 1e9 >= since_s for p in reply.pollers)

    async def check_driven(self, run_workflow_id: str, thread_id: str) -> None:
        """Raise when a run that has a thread is one of another task queue, which nobody serves.

        Raises:
            TaskQueueError: Nobody drives it, and nobody will.
        """
        run = await self.open_run(run_workflow_id)
        if run is None or run.task_queue == self.options.task_queue:
            return
        queue = run.task_queue
        if self.is_driven(run):
            return
        if self.mover is not None:
            # Or this process answers for a worker of that queue.
            await self.mover.left(queue)
        timeout_s = self.options.no_worker_timeout.total_seconds()
        if await self.is_served(run) and await self._is_alive(run_workflow_id, timeout_s * 0.3):
            return
        raise TaskQueueError(
            f"Run {run_workflow_id!r} has thread {thread_id!r} and is on task queue {queue!r}, "
            f"which no worker polls; this call is one of task queue {self.options.task_queue!r}. "
            f"Nothing of it was done. Start a worker: `langgraph-temporal worker your_module:agent "
            f"--task-queue {queue}`, or terminate that run in Temporal: the thread keeps what it "
            "recorded."
        )

    async def _is_alive(self, workflow_id: str, within_s: float) -> bool:
        """Whether a worker answers for a workflow; a server that is away is no worker's fault."""
        handle = self.client.get_workflow_handle(workflow_id)
        try:
            await handle.query(ALIVE_QUERY, rpc_timeout=timedelta(seconds=within_s))
        except RPCError as exc:
            return not is_unanswered(exc)
        except (WorkflowQueryFailedError, RuntimeError):
            return True
        return True

    async def _bounded(
        self, workflow_id: str, call: Awaitable[T], *, here: bool = False, quiet_s: float = QUIET_S
    ) -> T:
        """Await an Update, but not for ever when no worker is there to accept it.

        Args:
            workflow_id: The thread or namespace it is for.
            call: Sends it.
            here: This process serves the task queue, so that of its threads will be answered.
            quiet_s: How long nothing else is done.

        Raises:
            NoWorkersError: No worker answers on the task queue of the call.
            TaskQueueError: No worker answers on that of the thread, and it could not be moved.
        """
        if self._guest:
            return await call
        task = asyncio.ensure_future(call)
        timeout_s = self.options.no_worker_timeout.total_seconds()
        own = self.options.task_queue
        pause_s = timeout_s
        try:
            # A fifth, a third and a half of the time: for the Update, for a Query, for the move.
            await asyncio.wait([task], timeout=min(quiet_s, timeout_s / 2))
            while not task.done():
                queue = own
                with contextlib.suppress(RPCError, RuntimeError):
                    queue = await self.queue_of(workflow_id) or own
                if queue == own:
                    await self._while_readable(workflow_id, task, here=here)
                if task.done() or await self._is_alive(workflow_id, timeout_s * 0.3):
                    # Slow, not absent: nodes may take hours.
                    await asyncio.wait([task], timeout=pause_s)
                    pause_s = min(2 * pause_s, LOOK_AGAIN_S)
                elif queue == own:
                    raise NoWorkersError(
                        f"{self.no_workers(repr(workflow_id))} What was sent is not taken back: "
                        "the next worker may carry it out."
                    )
                elif self.mover is None or not await self.mover.move(
                    workflow_id, queue, timeout_s * 0.5
                ):
                    raise self._elsewhere(workflow_id, queue)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(
                    asyncio.CancelledError, WorkflowUpdateRPCTimeoutOrCancelledError
                ):
                    await task

    async def _while_readable(
        self, workflow_id: str, task: asyncio.Future[T], *, here: bool
    ) -> None:
        """Await what a worker of this queue is to answer: ``here``, for as long as it takes.

        Raises:
            UnreadableError: The workers have tried all this time and cannot read the workflow.
        """
        timeout_s = self.options.no_worker_timeout.total_seconds()
        while True:
            await asyncio.wait([task], timeout=timeout_s * (1 if here else 0.4))
            if not task.done() and (why := await self.stuck(workflow_id)):
                raise self.unreadable(repr(workflow_id), f"{why}. The thread is unchanged")
            if task.done() or not here:
                return

    def _elsewhere(self, workflow_id: str, queue: str) -> TaskQueueError:
        return TaskQueueError(
            f"{workflow_id!r} is on task queue {queue!r}, on which no worker answers; this call is "
            f"one of task queue {self.options.task_queue!r}. Start a worker there: "
            f"`langgraph-temporal worker your_module:agent --task-queue {queue}`, or have the "
            "thread moved: any run on it that a worker of this task queue drives does that "
            "(docs/how-to/deploys.md)."
        )
