"""Workflow side: bounds of the thread workflow."""

from __future__ import annotations

from datetime import timedelta

TASK_TIMEOUT = timedelta(days=30)
"""Start-to-close of a task; heartbeats, not this, notice a dead worker."""

STOP_TIMEOUT = timedelta(seconds=10)
"""How long a process may take to learn at once that its run was cancelled; then by heartbeat."""

MAX_ACTIVITY_TYPE = 200
"""Characters of a node's name shown as the Activity's type; Temporal allows 1,000 bytes."""

CARRY_BYTES = 1_500_000
"""Largest snapshot carried over continue-as-new (one payload, limit 2 MB). The log moves into
archives long before; only a storage that fails for long lets it grow up to here."""

UPDATES_BEFORE_ROLL = 1_000
"""Updates after which the workflow continues as new in the next gap between supersteps."""

UPDATES_BEFORE_FORCED_ROLL = 1_500
EVENTS_BEFORE_FORCED_ROLL = 8_000
BYTES_BEFORE_FORCED_ROLL = 20_000_000
"""When it does not wait for a gap: tasks under way get new Activities. A cold replay costs 0.4 ms
an event, and must end within the timeout of a workflow task."""

FORCED_ROLL_FACTOR = 3
"""The same for a workflow that was given its own number of events."""

UPDATES_FULL = 1_900
HISTORY_EVENTS_FULL = 48_000
HISTORY_BYTES_FULL = 44_000_000
"""Where a thread that cannot continue as new stops taking work."""

ARCHIVE_WAIT = timedelta(seconds=20)
"""How long an attempt waits for the archives to be rewritten before that is given up."""

STARTS_AT_ONCE = 100
"""Activities that one workflow task schedules; of a wider superstep the rest follows in the next
ones. Scheduling one costs 0.7 ms of CPU, and a workflow task that takes the SDK longer than two
seconds, on a busy machine, is broken off and done again, over and over."""

NEXT_WORKFLOW_TASK_S = 0.001
"""Any timer makes the next workflow task."""
