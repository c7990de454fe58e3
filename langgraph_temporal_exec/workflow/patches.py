"""Workflow side: names of patches: what this release does otherwise than histories that exist.

A history without a patch's marker is replayed the old way. Each says why it is there and when it
can go; until then golden histories hold both ways.
"""

from __future__ import annotations

RESULTS_FIRST = "results-before-takeover"
"""Name of a patch: a run's next attempt takes over after the results that are in history already.
Of one workflow task the SDK runs Update handlers first, and only then lets results of Activities
in: they would be dropped, and their tasks run again. To be removed when no thread that was written
to by 0.1.0 development versions has a history without it."""

STARTS_PACED = "starts-paced"
"""Name of a patch: see ``STARTS_AT_ONCE``. To be removed as ``RESULTS_FIRST``."""

STOP_AT_ONCE = "cancel-at-once"
"""Name of a patch: a cancelled run tells its thread, which tells the process that drives it.
Before, only heartbeats brought the news. To be removed when no run that was cancelled by a 0.1.0
development version is open or to be replayed."""

NAMESPACES_CLOSED = "namespaces-closed"
"""Patch: a thread closes nested namespaces that have ended (``core/closing.py``). Whether it does
is decided as a run of its workflow begins: one that is open closes them from its next
continue-as-new on. To be removed as ``RESULTS_FIRST``."""

CANCELLED_IS_CANCELLED = "cancelled-is-cancelled"
"""Patch: a cancelled run whose attempt failed by itself (its thread was deleted, and the next step
refused) ends as cancelled, not as failed. To be removed when runs begun without it have ended and
are past the namespace's retention."""

HOMES = "homes"
"""Patch, of threads: a thread has a home, and attempts on other workers are sent there; without it,
any worker is granted the thread. To be removed as ``RESULTS_FIRST``."""

IN_ORDER = "runs-in-order"
"""Patch, of threads: runs that were announced come before those that ask later; decided as a run of
its workflow begins. Without it, whichever worker asks first. To be removed as
``RESULTS_FIRST``."""

GO_HOME = "go-home"
"""Patch, of runs: an attempt that was sent to the thread's home goes there at once, not after the
pause of one that moved. To be removed when no run begun by a 0.1.0 development version is open or
to be replayed."""

STOPPED_AT_START = "stopped-at-start"
"""Patch, of runs: one that is cancelled in the workflow task that schedules its first attempt lets
the process of its caller say how it ends. To be removed as ``GO_HOME``."""

SILENT_IS_NO_LOSS = "silent-is-no-loss"
"""Patch, of runs: an attempt that a process took, of which nothing was heard (it was frozen, or had
just died), does not count as lost. To be removed as ``GO_HOME``."""

STARTS_WHEN_WOKEN = "starts-when-woken"
"""Patch, of threads: what is left of a wide superstep is scheduled with the next workflow task,
whatever has made it, and not only when a timer rings. To be removed as ``RESULTS_FIRST``."""

SENT_ON = "eager-sent-on"
"""Patch, of threads: an eager task that did not come to its process is sent to the queue of that.
A worker of a release before eager tasks, beside this one, takes it for lost, as any task that ended
so; without the marker, so is it here. To be removed as ``RESULTS_FIRST``."""

PARKS = "parks"
"""Patch, of threads: one that rests for as long as its last attempt said is parked. A worker of an
earlier release passes over what that attempt said. To be removed as ``RESULTS_FIRST``."""
