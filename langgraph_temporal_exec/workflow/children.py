"""Workflow side: the Child Workflows of a thread, one for each nested namespace."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from ..protocol import names
    from ..protocol.messages import ThreadStart
    from ..protocol.stored import Kept
    from ..protocol.wire import pack


def not_waited_for(child: asyncio.Task[Any]) -> None:
    """Let a child end as it may: whoever is concerned learns of it elsewhere.

    Otherwise asyncio logs an error for each one that fails ("exception was never retrieved"), in
    the middle of whatever the garbage collector has interrupted.
    """
    child.add_done_callback(lambda done: done.cancelled() or done.exception())


class Children:
    """Starts and signals the workflows of a thread's namespaces.

    Args:
        start: What the thread workflow was started with.
    """

    def __init__(self, start: ThreadStart) -> None:
        self._start = start
        self._opening: set[str] = set()

    async def open(
        self,
        namespace: str,
        graph: str = "",
        *,
        kept: Kept | None = None,
        epoch: int = 0,
        opened_at: int = 0,
    ) -> None:
        """Start the workflow of a namespace, unless it is there.

        Args:
            namespace: The namespace.
            graph: Name of its graph, such as the sub-agent's, for Temporal's UI; "" for none.
            kept: What it begins with, if it was closed.
            epoch: Of the thread.
            opened_at: Length of the thread's log.
        """
        thread = self._start
        start = ThreadStart(
            thread_id=thread.thread_id,
            namespace=namespace,
            id_prefix=thread.id_prefix,
            roll_events=thread.roll_events,
            archive_bytes=thread.archive_bytes,
            rules=thread.rules,
            graph=graph,
        )
        if kept is not None:
            start = replace(
                start,
                incarnation=kept.life,
                snapshot=kept.snapshot,
                epoch=epoch,
                opened_at=opened_at,
            )
        self._opening.add(namespace)
        try:
            child = await workflow.start_child_workflow(
                names.THREAD_WORKFLOW,
                pack(start),
                id=self._id(namespace),
                # The child is part of the store: it must survive its parent's continue-as-new.
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                task_timeout=timedelta(seconds=names.WORKFLOW_TASK_TIMEOUT_S),
                static_summary=" · ".join(filter(None, (graph, thread.thread_id, namespace)))[:200],
            )
        except WorkflowAlreadyStartedError:
            # Opened long ago, and not among the remembered ones any more.
            return
        else:
            not_waited_for(child)
        finally:
            self._opening.discard(namespace)

    async def opened(self, namespaces: tuple[str, ...]) -> None:
        """Wait for those that another Update is opening: the thread knows them already."""
        if not self._opening.isdisjoint(namespaces):
            await workflow.wait_condition(lambda: self._opening.isdisjoint(namespaces))

    async def signal(self, namespace: str, signal: str, *args: Any) -> None:
        """Tell a namespace something; one that is gone (terminated by hand) is passed over."""
        handle = workflow.get_external_workflow_handle(self._id(namespace))
        try:
            await handle.signal(signal, *args)
        except ApplicationError:
            workflow.logger.warning("namespace %s is gone", namespace)

    def _id(self, namespace: str) -> str:
        return names.thread_workflow_id(self._start.id_prefix, self._start.thread_id, namespace)
