"""Worker side: where a task runs, and under which options: what the saver's options say of it.

What is said of the tool it calls counts before what is said of its node, and that before
``spread``. A tool's options are those of a task that calls this tool alone: LangChain's agents send
each call as a task of its own. Of one task with several calls, which a graph of the user's may
have, they count if they are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import SubagentTimeoutError
from ..options import NodeOptions, Options, SubagentOptions, check_spread
from ..seam.contract import Limits, SeamTask, ToolCall

SUBAGENT_TOOL = "task"
"""Name of the tool by which deepagents delegates."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What becomes of a task.

    Args:
        node: Its options.
        queue: Task queue of the workers that run it; "": the process that drives its run.
        named: The options name this queue, so that the task must not run elsewhere.
        subagent: Name of the sub-agent it runs, if that has options of its own.
        within: The options of that sub-agent.
    """

    node: NodeOptions
    queue: str = ""
    named: bool = False
    subagent: str = ""
    within: SubagentOptions | None = None


def placement(options: Options, task: SeamTask) -> Placement:
    """Where a task runs.

    Args:
        options: Of the saver whose worker drives the run.
        task: The task.

    Raises:
        UsageError: ``configurable["spread"]`` of the call is no choice.
    """
    node = options.node(task.name, task.graph)
    found = [_of_call(options, call) for call in task.calls]
    subagent, within = "", None
    if found and all(one == found[0] for one in found):
        said = found[0]
        if isinstance(said, SubagentOptions):
            subagent, within = task.calls[0].subagent, said
            node = replace(
                node,
                inline=node.inline and not said.task_queue,
                task_queue=said.task_queue or node.task_queue,
                timeout=said.timeout or node.timeout,
            )
        elif said is not None:
            node = replace(said, summary=said.summary or node.summary)
    queue = node.task_queue
    if queue:
        # Its own workers need not send it to each other.
        here = queue == options.task_queue
        return Placement(
            node=node,
            queue="" if here else queue,
            named=not here,
            subagent=subagent,
            within=within,
        )
    spread = options.spread if task.spread is None else check_spread(task.spread)
    spreads = spread and task.peers > 1 and not node.inline and not task.obstacle
    return Placement(
        node=node,
        queue=options.task_queue if spreads else "",
        subagent=subagent,
        within=within,
    )


def _of_call(options: Options, call: ToolCall) -> NodeOptions | SubagentOptions | None:
    if call.name == SUBAGENT_TOOL and call.subagent:
        return options.subagent(call.subagent) or options.tools.get(call.name)
    return options.tools.get(call.name)


def limits(where: Placement, calls: Sequence[ToolCall], thread_id: str) -> Limits:
    """For how long a task may run.

    Args:
        where: What becomes of it.
        calls: The tool calls it is to make.
        thread_id: The thread, for errors.
    """
    if where.within is None or where.within.timeout is None or len(calls) != 1:
        return Limits(timeout=where.node.timeout, retry=where.node.retry)
    call_id = calls[0].id
    within = where.within

    def exceeded(why: str) -> str:
        text = (
            f"The sub-agent {where.subagent!r} did not end within its timeout of {within.timeout}"
            f"{why}, and was cancelled."
        )
        if within.on_timeout == "fail":
            raise SubagentTimeoutError(
                f"{text} (Thread {thread_id!r}, tool call {call_id}.) Give it more time, "
                "`subagents={...: SubagentOptions(timeout=...)}`, or let the model that has "
                "delegated go on with an error: on_timeout='tell'."
            )
        return f"Error: {text} Nothing of what it did is known here."

    return Limits(
        timeout=within.timeout, call_id=call_id, exceeded=exceeded, retry=where.node.retry
    )
