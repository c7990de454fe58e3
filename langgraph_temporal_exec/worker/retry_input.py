"""Worker side: what a retried attempt passes to LangGraph, from what the log shows was applied.

"Continue with None" alone would be wrong: it drops input that was never recorded, walks past
breakpoints and gives a consumed answer twice. See docs/decisions/0003.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from ..protocol.messages import Applied
from ..seam.private import is_interrupt_id, lowered_limit


@dataclass(frozen=True, kw_only=True)
class PlannedInput:
    """Input and config for LangGraph's loop.

    ``keeps_breakpoints``: the input is empty only because it was applied before.
    ``drop_resume``: the resume value in the log answered an interrupt already, or the input has
    other answers. ``spent``: the checkpoint whose resume value did so in whatever run; LangGraph
    itself would give it to the next interrupt.
    ``unanswer``: tasks whose latest recorded answer comes again with the input, so it must not be
    loaded as well.
    """

    input: Any
    config: RunnableConfig
    keeps_breakpoints: bool = False
    drop_resume: bool = False
    unanswer: frozenset[str] = frozenset()
    spent: str = ""


def plan_input(input: Any, config: RunnableConfig, applied: Applied, limit: int) -> PlannedInput:
    """Decide by kind of input and by what is in the log.

    ``limit`` is the recursion limit in force, in supersteps.

    - Nothing of the run is in the log: the input as given.
    - A checkpoint of the run, its null writes (how a ``Command`` is recorded), or an answer are in
      the log: the input was applied, continue with ``None``. A resume map lives only in the config,
      so it is passed again, and the answers recorded from it are hidden: one of the two would
      answer the task's next interrupt. An explicit ``checkpoint_id`` chose where to start; the run
      is past it. The recursion budget goes on where it was.
    """
    if not applied.checkpoints and not applied.null_writes and not applied.answered:
        given = _resume_map(input) is not None
        return PlannedInput(input=input, config=config, drop_resume=given, spent=applied.spent)
    configurable = {k: v for k, v in config.get("configurable", {}).items() if k != "checkpoint_id"}
    rest: RunnableConfig = {**config, "configurable": configurable}
    rest["recursion_limit"] = lowered_limit(limit, applied.checkpoints)
    resume_map = _resume_map(input)
    return PlannedInput(
        input=Command(resume=resume_map) if resume_map else None,
        config=rest,
        keeps_breakpoints=True,
        drop_resume=bool(applied.answered or resume_map),
        unanswer=frozenset(applied.answered) if resume_map else frozenset(),
        spent=applied.spent,
    )


def _resume_map(input: Any) -> Mapping[str, Any] | None:
    resume = input.resume if isinstance(input, Command) else None
    if isinstance(resume, dict) and resume and all(is_interrupt_id(k) for k in resume):
        return resume
    return None
