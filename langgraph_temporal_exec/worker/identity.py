"""Worker side: which run a worker has to do with."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ..logs import about

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Which run this is, for the thread and for people."""

    run_id: str
    thread_id: str
    thread_workflow_id: str
    run_workflow_id: str
    graph: str
    strategy: str = ""

    def log(self, attempt: int) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records say which run and attempt they are about."""
        return about(logger, thread_id=self.thread_id, run_id=self.run_id, attempt=attempt)
