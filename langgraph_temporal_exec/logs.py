"""Public API: which thread, run and node a log record is about.

Records of this package carry ``thread_id``, ``run_id`` and, where they are known, ``attempt`` and
``node`` as attributes; ``RunLogFilter`` gives the same to what nodes log themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from langgraph.config import get_config

from .seam import hooks, private

FIELDS = ("thread_id", "run_id", "attempt", "node", "step")
"""What ``RunLogFilter`` adds to a record."""


def about(
    logger: logging.Logger, *, thread_id: str, run_id: str, attempt: int | None = None
) -> logging.LoggerAdapter[logging.Logger]:
    """A logger whose records say which run they are about."""
    extra: dict[str, object] = {"thread_id": thread_id, "run_id": run_id}
    if attempt is not None:
        extra["attempt"] = attempt
    return logging.LoggerAdapter(logger, extra)


class RunLogFilter(logging.Filter):
    """Adds the place in a run to each log record, as attributes for formatters.

    - ``thread_id``: the thread
    - ``run_id``: the run, as ``saver.aget_run`` and Temporal's UI know it
    - ``attempt``: number of the attempt, from 1; another one follows a lost worker
    - ``node``: name of the node, in a nested graph of the inner one
    - ``step``: number of its superstep in its own graph

    What is not known is ``None``: all of it outside of nodes, run and attempt where a graph runs
    without a ``TemporalSaver``. What a record has already is kept, and one that names a run of its
    own, as records of this package do, gets nothing of another run it is logged in. It lets every
    record pass.

    Give it to a handler (``handler.addFilter(RunLogFilter())``): one that is given to a logger does
    not see the records of the loggers below it. A handler that hands records to another thread
    (``QueueHandler``) must have it itself. The place is found by context variables: code on a
    thread that a node starts by hand needs ``contextvars.copy_context().run``.
    """

    def __init__(self) -> None:
        super().__init__()

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes; always true."""
        place = _place()
        run_id = getattr(record, "run_id", None)
        if run_id is not None and run_id != place.get("run_id"):
            # About another run than the one in which it is logged.
            place = {}
        for name in FIELDS:
            if getattr(record, name, None) is None:
                setattr(record, name, place.get(name))
        return True


def _place() -> Mapping[str, Any]:
    """Where in which run the code that logs is."""
    try:
        config = get_config()
    except RuntimeError:
        return {}
    metadata = config.get("metadata") or {}
    thread_id = (config.get("configurable") or {}).get("thread_id")
    session = hooks.session_of(config)
    return {
        "thread_id": None if thread_id is None else str(thread_id),
        "run_id": None if session is None else session.run_id,
        "attempt": None if session is None else session.attempt,
        "node": metadata.get(private.NODE_KEY),
        "step": metadata.get(private.STEP_KEY),
    }
