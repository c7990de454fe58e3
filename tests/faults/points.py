"""Named fault points: every RPC, Activity and Update handler of a process, before and after.

They are interceptors of Temporal's SDK, so that nothing in the package knows of them. A process
writes down each point it passes, and kills itself at the one it was told. What is not in ``NAMES``
gets a name all the same: a new step of the protocol shows up in the recording, and in no table.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from temporalio import activity, client, worker, workflow
from temporalio.client import WorkflowHistoryEventAsyncIterator

from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import StepRequest
from langgraph_temporal_exec.protocol.wire import unpack

T = TypeVar("T")

NAMES = {
    f"start:{names.RUN_WORKFLOW}": "start-run",
    f"start:{names.MAILBOX_WORKFLOW}": "open-mailbox",
    f"update:{names.ATTACH_UPDATE}": "attach",
    f"update:{names.STEP_UPDATE}": "step",
    f"query:{names.DELIVER_QUERY}": "deliver",
    f"update:{names.REPORT_UPDATE}": "report",
    "history": "outcome",
    f"start:{names.THREAD_WORKFLOW}": "announce",
    f"activity:{names.DRIVE_ACTIVITY}": "drive",
    f"run:{names.RUN_WORKFLOW}": "run-begins",
    f"handle:{names.ATTACH_UPDATE}": "attach-handled",
    f"handle:{names.STEP_UPDATE}": "step-handled",
    f"handle:{names.REPORT_UPDATE}": "report-handled",
}

BY_TIME = {
    # Asked after 1.5 s without a sign of life.
    f"query:{names.RUN_STATUS_QUERY}",
    # By whom a thread is served, asked when it has not answered for a while.
    "describe",
    # Ops that did not get into the step of the next superstep because the process was slow.
    "step-ops",
    "step-handled-ops",
}
"""Points that a run passes or not, depending on how fast the machine is."""

_STEPS = {
    "fresh": ("first", "ask", "end"),
    "answer": ("ask", "last", "end"),
}


_REPORTS = ("report", "report-handled")


def _table(given: str) -> dict[str, frozenset[str]]:
    steps = _STEPS[given]
    nodes = steps[:-1]
    # The others come with the results of tasks.
    alone = steps[:1]
    rpcs = {"attach", *(f"step-{s}" for s in alone)}
    handlers = {"run-begins", "attach-handled", *(f"step-handled-{s}" for s in alone)}
    tasks = {f"task-{n}" for n in nodes}
    # "close" is that of the saver, with its mailbox.
    program = {"returned", "close"}
    # A process has one mailbox: that of its first call serves the answer, too.
    mailbox = {"open-mailbox"} if given == "fresh" else set()
    return {
        # It asks for the outcome when it stops: its runs are to be closed by then.
        "embedded": frozenset(
            {"start-run", *_REPORTS, "outcome", "chunk", *program, *rpcs, *handlers, *tasks}
        ),
        "worker": frozenset({"deliver", "drive", *rpcs, *handlers, *tasks}),
        "caller": frozenset({"start-run", "outcome", "chunk", *mailbox, *program}),
        "background": frozenset({"start-run", "announce", *program}),
    }


POINTS: dict[tuple[str, str], frozenset[str]] = {
    (mode, given): points for given in _STEPS for mode, points in _table(given).items()
}
"""By which process it is and what it was given: what an undisturbed one passes."""

BY_THEMSELVES: dict[str, frozenset[str]] = {
    given: frozenset(f"{point}-{s}" for point in ("step", "step-handled") for s in steps[1:])
    for given, steps in _STEPS.items()
}
"""By what it was given: what a process passes in addition if results carry no steps."""

IF_DRIVEN = frozenset({"drive"})
"""What a process that calls and drives passes, if a run takes long."""

UNLESS_DRIVEN = frozenset(_REPORTS)
"""What it passes otherwise."""

LARGE_POINTS = {
    "embedded": frozenset({"blob-input", "blob-log"}),
    "worker": frozenset({"blob-log"}),
    "caller": frozenset({"blob-input"}),
}
"""What is passed in addition with an input that does not fit into one payload."""

END_BY_TIME = frozenset({"step-end", "step-handled-end"})
"""What is passed, or not, although results carry steps: none does while blobs are being stored, or
when something else was sent just before."""

ONE_SIDED = {"chunk": "after", "returned": "after", "outcome": "before", "run-begins": "before"}
"""The program's own points have one side. Of what lasts as long as the run, the waiting for its
outcome and its workflow, only the beginning is a point."""


def log_into(folder: Path) -> None:
    """Let a file of the case have all that this process prints."""
    with (folder / "victim.log").open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)


def sides(point: str) -> tuple[str, ...]:
    """On which sides of a point a process can be killed."""
    return (ONE_SIDED[point],) if point in ONE_SIDED else ("before", "after")


@dataclass(frozen=True, kw_only=True)
class Points:
    """The points of one process.

    Args:
        folder: Of the case. Points count from when it has a file ``armed``.
        kill: The point at which to die, as "before start-run"; "": none.
    """

    folder: Path
    kill: str = ""

    def arm(self) -> None:
        """From now on points count."""
        (self.folder / "armed").touch()

    def at(self, side: str, point: str) -> None:
        """The process is at a point."""
        if not (self.folder / "armed").exists():
            return
        # One short O_APPEND write is atomic: points are passed by several threads.
        with (self.folder / "points").open("a") as file:
            file.write(f"{side} {point}\n")
        if f"{side} {point}" == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)

    async def around(self, point: str, call: Awaitable[T]) -> T:
        """Make a call that is a point."""
        self.at("before", point)
        result = await call
        self.at("after", point)
        return result

    def starts(self, workflow_id: str) -> None:
        """The process is about to start a run: the test asks the server for it by its id."""
        if (self.folder / "armed").exists():
            (self.folder / "run").write_text(workflow_id)

    def run(self) -> str:
        """Workflow id of the run, from the moment its start is about to be sent; "" before."""
        path = self.folder / "run"
        return path.read_text() if path.exists() else ""

    def passed(self) -> set[str]:
        """Names of all points that were passed, but for those that depend on time."""
        path = self.folder / "points"
        lines = path.read_text().splitlines() if path.exists() else []
        return {line.split(" ", 1)[1] for line in lines} - BY_TIME


def name_of(kind: str, args: Sequence[Any] = ()) -> str:
    """The name of a point; a step is named after the tasks it schedules."""
    named = NAMES.get(kind, kind)
    if named in ("step", "step-handled"):
        request = unpack(StepRequest, args[0])
        nodes = sorted(task.node for task in request.tasks)
        end = ["end"] if request.outcome else []
        return "-".join([named, *(nodes + end or ["ops"])])
    return named


class Interceptor(client.Interceptor, worker.Interceptor):
    """Puts the points around all that a client sends and its workers execute."""

    def __init__(self, points: Points) -> None:
        self._points = points

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        return _Outbound(next, self._points)

    def intercept_activity(
        self, next: worker.ActivityInboundInterceptor
    ) -> worker.ActivityInboundInterceptor:
        return _Activity(next, self._points)

    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        points = self._points

        class Workflow(_Workflow):
            _points = points

        return Workflow


class _Outbound(client.OutboundInterceptor):
    def __init__(self, next: client.OutboundInterceptor, points: Points) -> None:
        super().__init__(next)
        self._points = points

    async def start_workflow(self, input: client.StartWorkflowInput) -> Any:
        if input.workflow == names.RUN_WORKFLOW:
            self._points.starts(input.id)
        point = name_of(f"start:{input.workflow}")
        if input.workflow == names.BLOB_WORKFLOW:
            # What a call is given is stored under the id of its run.
            of_input = len(input.id.split("/")[-2]) == len("0" * 32)
            point = "blob-input" if of_input else "blob-log"
        return await self._points.around(point, self.next.start_workflow(input))

    async def start_update_with_start_workflow(
        self, input: client.StartWorkflowUpdateWithStartInput
    ) -> Any:
        update = input.update_workflow_input
        point = name_of(f"update:{update.update}", update.args)
        return await self._points.around(point, self.next.start_update_with_start_workflow(input))

    async def start_workflow_update(self, input: client.StartWorkflowUpdateInput) -> Any:
        point = name_of(f"update:{input.update}", input.args)
        return await self._points.around(point, self.next.start_workflow_update(input))

    async def query_workflow(self, input: client.QueryWorkflowInput) -> Any:
        point = name_of(f"query:{input.query}")
        return await self._points.around(point, self.next.query_workflow(input))

    async def signal_workflow(self, input: client.SignalWorkflowInput) -> None:
        point = name_of(f"signal:{input.signal}")
        await self._points.around(point, self.next.signal_workflow(input))

    async def cancel_workflow(self, input: client.CancelWorkflowInput) -> None:
        await self._points.around("cancel", self.next.cancel_workflow(input))

    async def terminate_workflow(self, input: client.TerminateWorkflowInput) -> None:
        if "/worker/" in input.id:
            # Of the worker's own entry as it leaves, when all is over.
            return await self.next.terminate_workflow(input)
        await self._points.around(name_of("terminate"), self.next.terminate_workflow(input))

    async def describe_workflow(self, input: client.DescribeWorkflowInput) -> Any:
        return await self._points.around("describe", self.next.describe_workflow(input))

    def fetch_workflow_history_events(
        self, input: client.FetchWorkflowHistoryEventsInput
    ) -> WorkflowHistoryEventAsyncIterator:
        self._points.at("before", name_of("history"))
        return self.next.fetch_workflow_history_events(input)


class _Activity(worker.ActivityInboundInterceptor):
    def __init__(self, next: worker.ActivityInboundInterceptor, points: Points) -> None:
        super().__init__(next)
        self._points = points

    async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:
        kind = activity.info().activity_type
        # Activities of the package have a prefix; all others are named after their node.
        point = name_of(f"activity:{kind}") if ":" in kind else f"task-{kind}"
        return await self._points.around(point, self.next.execute_activity(input))


class _Workflow(worker.WorkflowInboundInterceptor):
    """Inside a workflow task: killed there, the process takes the task with it."""

    _points: Points

    async def execute_workflow(self, input: worker.ExecuteWorkflowInput) -> Any:
        kind = workflow.info().workflow_type
        if kind == names.RUN_WORKFLOW:
            self._at("before", name_of(f"run:{kind}"))
        return await self.next.execute_workflow(input)

    async def handle_update_handler(self, input: worker.HandleUpdateInput) -> Any:
        point = name_of(f"handle:{input.update}", input.args)
        self._at("before", point)
        result = await self.next.handle_update_handler(input)
        self._at("after", point)
        return result

    def _at(self, side: str, point: str) -> None:
        # Replays pass again what a process has passed: none happens before it dies.
        with workflow.unsafe.sandbox_unrestricted():
            self._points.at(side, point)
