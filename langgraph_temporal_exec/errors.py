"""Errors: every error this package raises, and who can do something about it.

TemporalExecError
|-- UsageError                    the call is wrong; retrying does not help
|   |-- MissingThreadIdError      (also a ValueError)
|   |-- NotWaitingError           (there is nothing to resume)
|   |-- UnserializableError       (also a TypeError)
|   |-- ValueTooLargeError        (also a ValueError)
|   |-- DuplicateGraphError       (also a ValueError)
|   `-- DuplicateWorkerError      (also a ValueError)
|-- UnsupportedLangGraphError     the installed LangGraph is outside the tested range
|-- NotDurableError               the hooks in LangGraph were undone by something else
|-- ServerUnavailableError        no Temporal server answers; retrying later helps
|-- NoWorkersError                no worker polls the task queue; start one, then retry
|   `-- TaskQueueError            that of the thread or its run, which is not that of the call
|-- GraphNotFoundError            workers poll, but none serves this graph
|-- NodeExitError                 code of the graph raised SystemExit or the like
|-- PlacementError                a task cannot run on another worker
|-- SubagentTimeoutError          a sub-agent took too long, and the run was to fail then
|-- ImpossibleResumeError         the graph has no such node any more; deploy one, or go elsewhere
|-- StorageError                  a large value could not be stored or read; retrying may help
|   `-- UnreadableError           whoever is to read a value has not what it was written with
|-- ThreadFullError               2,000 runs wait, or the log cannot be archived; later it goes on
|-- ThreadBusyError               another run has the thread, and the call was not to wait
|-- AttemptSupersededError        a newer attempt of the run took over (internal, benign)
|-- WorkerStoppedError            the worker in this process stopped under a run
|-- StreamLostError               the run ended, but its result did not reach this caller
|-- RunFailedError                the run ended without a result for infrastructure reasons
|-- RunNotFoundError              Temporal knows no such run (any more)
|-- RunCancelledError             somebody cancelled the run
|   `-- RunTimeoutError           it had not ended within its run_timeout
`-- RemoteError                   a node raised a class this process does not know
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version


class TemporalExecError(Exception):
    """Base class of all errors raised by this package."""


class UsageError(TemporalExecError):
    """The call cannot work as written; the message says what to change."""


class MissingThreadIdError(UsageError, ValueError):
    """A durable run was requested without ``configurable.thread_id``."""


class NotWaitingError(UsageError):
    """A thread was to be resumed, but it waits for nothing, or a run has it."""


class UnserializableError(UsageError, TypeError):
    """A value cannot be written to history. Names what, where and how to fix it."""


class ValueTooLargeError(UsageError, ValueError):
    """A value is above 64 MB serialized, or what is new in one checkpoint or task above 256 MB."""


class DuplicateGraphError(UsageError, ValueError):
    """Two graphs of one worker share a name."""


class DuplicateWorkerError(UsageError, ValueError):
    """Another live process has the name that a worker was given."""


class UnsupportedLangGraphError(TemporalExecError):
    """The installed LangGraph does not have the symbols this package hooks into."""

    @classmethod
    def of(cls, supported: Mapping[str, str], problems: Iterable[str]) -> UnsupportedLangGraphError:
        """For distributions that lack something; ``supported``: which versions have it."""
        installed = [f"{package} {_version(package)}" for package in supported]
        needed = [package + versions for package, versions in supported.items()]
        return cls(
            f"{' with '.join(installed)} is not supported: {'; '.join(problems)}. Supported "
            f"versions: {' with '.join(needed)}. Install these, or a release of "
            "langgraph-temporal-exec made for yours."
        )


class NotDurableError(TemporalExecError):
    """A graph with a ``TemporalSaver`` ran past the hooks in LangGraph: something removed them."""


class ServerUnavailableError(TemporalExecError):
    """The Temporal server does not answer."""


class NoWorkersError(TemporalExecError):
    """No worker polls the task queue, so nothing can run or be written; reading needs none."""


class TaskQueueError(NoWorkersError):
    """A thread, or the run that has it, is on another task queue, which nobody polls any more; or
    the workers of the call belong to another deployment (``id_prefix``)."""


class GraphNotFoundError(TemporalExecError):
    """The workers of the task queue do not serve the graph that was called."""


class NodeExitError(TemporalExecError):
    """Code of a graph raised what ends programs (``SystemExit``, ...); that is its ``__cause__``.

    ``KeyboardInterrupt``, ``GeneratorExit``, a ``CancelledError`` nobody asked for, and exceptions
    of the user's own that derive from ``BaseException`` come as this error too.
    """


class PlacementError(TemporalExecError):
    """A task cannot run on another worker: what it needs does not travel, or is not there."""


class SubagentTimeoutError(TemporalExecError):
    """A sub-agent took longer than it may, and its options say that the run fails."""


class ImpossibleResumeError(TemporalExecError):
    """A thread is paused in a node that the graph does not have any more."""


class StorageError(TemporalExecError):
    """A value that is kept outside the thread's log could not be stored or read."""


class UnreadableError(StorageError):
    """A call or a thread cannot be read: by the workers, or by this process; the text says by whom.

    It was written with classes, a serializer, a key or a payload codec that the reader lacks, or is
    damaged. What is recorded is unchanged, and can be read where these are.
    """


class ThreadFullError(TemporalExecError):
    """2,000 runs wait for the thread, or its log cannot be archived and its workflow is full."""


class ThreadBusyError(TemporalExecError):
    """Another run has the thread, and this one was started with the strategy "reject"."""


class AttemptSupersededError(TemporalExecError):
    """This attempt of a run was replaced by a newer one; nothing it does is recorded."""


class WorkerStoppedError(TemporalExecError):
    """The worker hosted by this process stopped while a run needed it."""


class StreamLostError(TemporalExecError):
    """The run has ended and is recorded, but its stream and result did not arrive."""


class RunFailedError(TemporalExecError):
    """The run ended without a result although no node failed."""


class RunNotFoundError(TemporalExecError):
    """Temporal knows no run of this id, or not any more."""


class RunCancelledError(TemporalExecError):
    """The run was cancelled by somebody else than the caller."""


class RunTimeoutError(RunCancelledError):
    """The run had not ended within its ``run_timeout``, and was cancelled; its thread is free."""


class RemoteError(TemporalExecError):
    """Stand-in for an exception class this process does not know.

    Args:
        message: The original message.
        type_name: Qualified name of the original class, ``module.Class``.
        remote_traceback: Traceback text from the worker, may be empty.
    """

    def __init__(self, message: str, *, type_name: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.args[0]}" if self.type_name else str(self.args[0])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
