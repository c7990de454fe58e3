"""Workflow side: when the workflow of a thread continues as new, and when it has no more room.

Temporal ends a workflow at 2,000 Updates, 51,200 events or 50 MB of history. So the workflow of a
thread continues as new, with a snapshot of its state, and stays open for ever::

    due      a bound is passed, and the snapshot fits one payload: in the next gap between two
             supersteps
    forced   a further bound is passed: with tasks under way, which get new Activities
    full     the snapshot does not fit, because nothing could be archived for long, and the last
             bound is passed: no new work, so that how the run ends can still be recorded
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from temporalio import workflow

CARRY_BYTES = 1_500_000
"""Largest snapshot carried over continue-as-new (one payload, limit 2 MB). The log moves into
archives long before; only a storage that fails for long lets it grow up to here."""

UPDATES_BEFORE_ROLL = 1_000
"""Updates after which it is due; of events the server says when (``roll_events`` in tests)."""

UPDATES_BEFORE_FORCED_ROLL = 1_500
EVENTS_BEFORE_FORCED_ROLL = 8_000
BYTES_BEFORE_FORCED_ROLL = 20_000_000
"""When it does not wait for a gap. A cold replay costs 0.4 ms an event, and must end within the
timeout of a workflow task."""

FORCED_ROLL_FACTOR = 3
"""So many times ``roll_events``, for a workflow that was given its own number of events."""

UPDATES_FULL = 1_900
HISTORY_EVENTS_FULL = 48_000
HISTORY_BYTES_FULL = 44_000_000
"""Where a thread that cannot continue as new stops taking work."""


@dataclass
class Rollover:
    """Decides from the history of this run of the workflow.

    Args:
        roll_events: History length at which it is due; 0 leaves that to the server.
        updates: How many Updates there were in this run of the workflow.
        move_to: Task queue on which it is to go on; "": it stays.
    """

    roll_events: int = 0
    updates: int = 0
    move_to: str = ""

    def is_due(self, size: Callable[[], int]) -> bool:
        """Whether to continue as new in the next gap; asked again and again.

        Args:
            size: Tells the bytes of the state, which takes a while to count.
        """
        info = workflow.info()
        due = (
            info.is_continue_as_new_suggested()
            or self.updates >= UPDATES_BEFORE_ROLL
            or bool(self.roll_events and info.get_current_history_length() >= self.roll_events)
            or bool(self.move_to)
            # Pinned to a version of the workers that is not the current one any more.
            or info.is_target_worker_deployment_version_changed()
        )
        return due and size() <= CARRY_BYTES

    def is_forced(self) -> bool:
        """Whether not to wait for a gap."""
        info = workflow.info()
        roll = self.roll_events * FORCED_ROLL_FACTOR
        length = info.get_current_history_length()
        return (
            # Nobody serves the archives of its old queue, and maybe not its tasks.
            bool(self.move_to)
            or self.updates >= UPDATES_BEFORE_FORCED_ROLL
            or length >= EVENTS_BEFORE_FORCED_ROLL
            or info.get_current_history_size() >= BYTES_BEFORE_FORCED_ROLL
            or bool(roll and length >= roll)
        )

    def is_full(self, size: Callable[[], int]) -> bool:
        """Whether to refuse new work while there is still room to record how the run ends."""
        info = workflow.info()
        full = (
            self.updates >= UPDATES_FULL
            or info.get_current_history_size() >= HISTORY_BYTES_FULL
            or info.get_current_history_length() >= HISTORY_EVENTS_FULL
        )
        return full and size() > CARRY_BYTES
