"""Caller side: a run that somebody else has started: its stream from now on, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.service import RPCError

from ..errors import NoWorkersError
from ..logs import about
from ..protocol import names
from ..protocol.messages import Listener, Outcome, ReadRequest
from ..protocol.wire import WireError, pack, unpack
from ..seam.chunks import Form, ShownInterrupts, ended
from ..storage.mail import Ordered
from ..storage.rpc import is_unanswered
from ..storage.store import Store
from ..storage.thread_client import UNBOUNDED_CURSOR, Transport
from ..values.exact import load_exact
from ..workflow import mailbox_sinks
from .outcome import await_outcome, raise_failure
from .remote import Inbox, next_item

logger = logging.getLogger(__name__)


LEFT_OUT = "the stream of run %s: a chunk is left out: %s"

FIND_PAUSE_S = 0.2
"""Between two looks at which process drives the run."""


async def join_stream(
    transport: Transport,
    serde: SerializerProtocol,
    *,
    run_id: str,
    thread_id: str,
    mailbox: str,
) -> AsyncGenerator[Any, None]:
    """Chunks of a run from now on, in the form its caller asked for; ends with the run.

    Leaving it does not stop the run. What the run ended with is not part of the stream. A chunk
    that cannot be read here is left out and logged.
    """
    listener = Listener(run_id=run_id, mailbox=mailbox, stream_id=uuid.uuid4().hex, deltas=True)
    arrived, order, shown = Inbox(), Ordered(), ShownInterrupts()
    log = about(logger, thread_id=thread_id, run_id=run_id)
    mailbox_sinks.listen(listener.stream_id, arrived.put)
    outcome = asyncio.create_task(await_outcome(transport, run_id, thread_id))
    asking = asyncio.create_task(_ask(transport, listener))
    try:
        while (item := await next_item(arrived, outcome, asking)) is not None:
            # Not this reader's call: what it cannot read is no reason to end here.
            try:
                completed = order.accept(item)
            except WireError as exc:
                log.warning(LEFT_OUT, run_id, exc)
                continue
            for last, data in completed:
                if last.event:
                    continue
                try:
                    chunk = load_exact(serde, data)
                except Exception as exc:
                    # Serializers are the user's, and raise what they like.
                    log.warning(LEFT_OUT, run_id, exc)
                    continue
                for part in shown.filter(last.attempt, chunk):
                    yield part
    finally:
        mailbox_sinks.stop(listener.stream_id)
        for task in (outcome, asking):
            task.cancel()
        await asyncio.gather(outcome, asking, return_exceptions=True)


async def _ask(transport: Transport, listener: Listener) -> None:
    """Have the stream sent here too, by whichever process drives the run."""
    handle = transport.client.get_workflow_handle(transport.run_workflow_id(listener.run_id))
    # Closed in the meantime: then there is no stream any more, and the outcome is on its way.
    with contextlib.suppress(RPCError, WorkflowUpdateFailedError):
        registered = False
        while True:
            queue = await _driven_on(transport, handle)
            if registered and not queue:
                if queue is None:
                    # Whichever attempt comes next is told of the listener.
                    break
                await asyncio.sleep(FIND_PAUSE_S)
                continue
            request = pack(replace(listener, queue=queue or ""))
            taken: bool = await handle.execute_update(
                names.LISTEN_UPDATE, request, result_type=bool
            )
            registered = True
            if taken:
                break
            await asyncio.sleep(FIND_PAUSE_S)
    await asyncio.Event().wait()


async def _driven_on(transport: Transport, handle: WorkflowHandle[Any, Any]) -> str | None:
    """Queue of the process that drives a run; "": not known yet; ``None``: nobody does."""
    description: WorkflowExecutionDescription = await handle.describe()
    for pending in description.raw_description.pending_activities:
        if pending.activity_type.name != names.DRIVE_ACTIVITY:
            continue
        if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED:
            return None
        details = list(pending.heartbeat_details.payloads)
        if not details:
            return ""
        (queue,) = await transport.client.data_converter.decode(details, [str])
        return str(queue)
    return None


async def other_run(store: Store, input: Any, config: RunnableConfig) -> str:
    """The run that a call without input joins: the one that has the thread; "" if none has."""
    configurable = config.get("configurable", {})
    if input is not None or configurable.get("checkpoint_id"):
        return ""
    request = ReadRequest(cursor=UNBOUNDED_CURSOR)
    reply = await store.reader.read(str(configurable["thread_id"]), "", request)
    run_id = reply.summary.active_run if reply is not None and reply.summary is not None else ""
    # One that was terminated by hand still has the thread, until somebody asks for it.
    transport = store.transport
    if run_id and await transport.is_closed(transport.run_workflow_id(run_id)):
        return ""
    return run_id


async def joined(
    transport: Transport,
    graph: Any,
    options: Mapping[str, Any],
    *,
    run_id: str,
    thread_id: str,
) -> list[Any]:
    """Wait for a run of somebody else; what a call shows of how it ended.

    Raises:
        NoWorkersError: No worker answers; the run goes on when one starts.
        RunCancelledError, RunFailedError: How it ended without a result.
        Exception: What a node raised.
    """
    await _sign_of_life(transport, run_id, thread_id)
    outcome = unpack(Outcome, await await_outcome(transport, run_id, thread_id))
    raise_failure(outcome, run_id)
    state = await graph.aget_state({"configurable": {"thread_id": thread_id}})
    output = graph.output_channels
    values = state.values
    if isinstance(output, str):
        values = values.get(output) if isinstance(values, dict) else values
    else:
        values = {k: v for k, v in values.items() if k in output}
    form = Form.of(options, graph)
    parts = ended(values, state.interrupts)
    return [form.build(part) for part in parts if part.mode in form.modes]


async def _sign_of_life(transport: Transport, run_id: str, thread_id: str) -> None:
    handle = transport.client.get_workflow_handle(transport.run_workflow_id(run_id))
    timeout = transport.options.no_worker_timeout
    try:
        await handle.query(names.RUN_STATUS_QUERY, result_type=bytes, rpc_timeout=timeout)
    except RPCError as exc:
        if is_unanswered(exc):
            raise NoWorkersError(
                f"{transport.no_workers(f'run {run_id} of thread {thread_id!r}')} The run is under "
                "way and goes on when a worker starts; call again then."
            ) from exc
        raise transport.translate(exc) from exc
