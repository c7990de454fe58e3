"""Workflow side: ``LangGraphWorker``, which stands for one worker process as long as it is there.

Its task queue is that of the process, which nobody else polls. So whoever answers its Query is that
process, and if nobody answers, the process is gone: that takes no heartbeats, and no clock. Its id
is made of the worker's name, so that of two processes with one name the second finds the first
(``worker/claim.py``).
"""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from ..protocol import names

    # `from . import workers_here` would give the sandbox a copy of the module of its own.
    from .workers_here import card


@workflow.defn(name=names.WORKER_WORKFLOW)
class WorkerWorkflow:
    """Open from the start of a worker to its end; holds no state but that.

    Attributes:
        _left: The worker stops, in order.
    """

    def __init__(self) -> None:
        self._left = False

    @workflow.run
    async def run(self, renewed_s: float) -> None:
        """Stay open until the worker leaves; without its process, until the run times out.

        Args:
            renewed_s: Seconds after which the next run of the workflow begins, with a timeout of
                its own: a worker may be there for months.
        """
        try:
            await workflow.wait_condition(lambda: self._left, timeout=renewed_s)
        except TimeoutError:
            workflow.continue_as_new(renewed_s)

    @workflow.signal(name=names.LEAVE_SIGNAL)
    def leave(self) -> None:
        """The worker stops."""
        self._left = True

    @workflow.query(name=names.WHO_QUERY)
    def who(self) -> bytes:
        """A ``WorkerCard`` of the process that answers."""
        return card(workflow.info().task_queue)
