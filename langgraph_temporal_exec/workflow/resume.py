"""Workflow side: a run that a thread starts itself, because somebody answered what it waits for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import Priority

with workflow.unsafe.imports_passed_through():
    from ..protocol import names
    from ..protocol.messages import Home, RunBounds, RunPriority, RunStart, ThreadStart
    from ..protocol.wire import pack, pack_record
    from .children import not_waited_for
    from .refusals import bad_answer


MAX_ANSWER_BYTES = 300_000


def record_of(value: Any, thread: ThreadStart) -> bytes:
    """The call ``Command(resume=value)``; validators call it, so that nothing else can come.

    Raises:
        ApplicationError: The value is no plain data, or too large.
    """
    try:
        data = pack_record(
            thread_id=thread.thread_id,
            object_name="Command",
            fields={"resume": value},
            stream_mode=["values", "updates"],
        )
    except (OverflowError, TypeError, ValueError) as exc:
        # UnicodeEncodeError is a ValueError, and may show the value.
        raise bad_answer(thread.thread_id, type(exc).__name__) from None
    if len(data) > MAX_ANSWER_BYTES:
        raise bad_answer(
            thread.thread_id, f"{len(data):,} bytes; the limit is {MAX_ANSWER_BYTES:,}"
        )
    return data


def run_that_answers(
    value: Any,
    thread: ThreadStart,
    *,
    graph: str,
    run_id: str,
    bounds: RunBounds,
    priority: RunPriority | None,
    task_queue: str,
    home: Home | None,
) -> RunStart:
    """The run of ``Command(resume=value)`` on a thread; it goes where the thread's last one was."""
    return RunStart(
        run_id=run_id,
        thread_id=thread.thread_id,
        thread_workflow_id=names.thread_workflow_id(thread.id_prefix, thread.thread_id),
        graph=graph,
        task_queue=task_queue,
        record=record_of(value, thread),
        heartbeat_s=bounds.heartbeat_s,
        max_lost_attempts=bounds.max_lost_attempts,
        give_up_s=bounds.give_up_s,
        affinity=home.affinity if home else "",
        home_timeout_s=home.timeout_s if home else 0.0,
        # Of one that cannot come back, whoever takes the run sees at once whether it is there.
        home_queue=home.queue if home and home.named else "",
        run_timeout_s=bounds.run_timeout_s,
        priority=priority,
    )


def priority_of(priority: RunPriority | None) -> Priority:
    """The same for Temporal."""
    if priority is None:
        return Priority.default
    return Priority(
        priority_key=priority.key or None,
        fairness_key=priority.fairness_key or None,
        fairness_weight=priority.fairness_weight or None,
    )


def run_workflow_id(thread: ThreadStart, run_id: str) -> str:
    """Workflow id of a run of a thread."""
    return names.run_workflow_id(thread.id_prefix, run_id)


async def start_run(run: RunStart, thread: ThreadStart) -> None:
    """Start the run's workflow; it lives on when the thread continues as new."""
    child = await workflow.start_child_workflow(
        names.RUN_WORKFLOW,
        pack(run),
        id=run_workflow_id(thread, run.run_id),
        task_queue=run.task_queue,
        task_timeout=timedelta(seconds=names.WORKFLOW_TASK_TIMEOUT_S),
        parent_close_policy=workflow.ParentClosePolicy.ABANDON,
        priority=priority_of(run.priority),
        memo={"thread_id": run.thread_id, "graph": run.graph},
        static_summary=f"{run.graph} · thread {run.thread_id}"[:200],
    )
    not_waited_for(child)
