"""Public API: the saver's sync methods, each of them its async twin on another loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)

from .listing import ThreadInfo, ThreadStatus
from .runs import Run

T = TypeVar("T")


class SyncMethods(BaseCheckpointSaver[str]):
    """The half of ``TemporalSaver`` that waits."""

    @abstractmethod
    def _sync(self, coro: Any) -> Any:
        """Run a coroutine on a loop that is not the caller's."""

    @abstractmethod
    async def apurge_thread(self, thread_id: str) -> None:
        """See ``TemporalSaver``."""

    @abstractmethod
    def alist_threads(
        self,
        *,
        status: ThreadStatus | None = None,
        graph: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[ThreadInfo]:
        """See ``TemporalSaver``."""

    @abstractmethod
    async def aget_thread(self, thread_id: str) -> ThreadInfo | None:
        """See ``TemporalSaver``."""

    @abstractmethod
    async def astart(self, graph: Any, input: Any, config: RunnableConfig, **options: Any) -> Run:
        """See ``TemporalSaver``."""

    @abstractmethod
    async def aresume(self, thread_id: str, value: Any) -> Run:
        """See ``TemporalSaver``."""

    @abstractmethod
    async def aget_run(self, run_id: str) -> Run:
        """See ``TemporalSaver``."""

    @abstractmethod
    def alist_runs(self, thread_id: str) -> AsyncIterator[Run]:
        """See ``TemporalSaver``."""

    @abstractmethod
    def aexport_thread(self, thread_id: str) -> AsyncIterator[dict[str, Any]]:
        """See ``TemporalSaver``."""

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Sync ``aget_tuple``."""
        found: CheckpointTuple | None = self._sync(self.aget_tuple(config))
        return found

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Sync ``alist``."""
        found = self.alist(config, filter=filter, before=before, limit=limit)
        yield from self._sync(_collect(found))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Sync ``aget_delta_channel_history``."""
        history: Mapping[str, DeltaChannelHistory] = self._sync(
            self.aget_delta_channel_history(config=config, channels=channels)
        )
        return history

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Sync ``aput``."""
        stored: RunnableConfig = self._sync(self.aput(config, checkpoint, metadata, new_versions))
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Sync ``aput_writes``."""
        self._sync(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """Sync ``adelete_thread``."""
        self._sync(self.adelete_thread(thread_id))

    def purge_thread(self, thread_id: str) -> None:
        """Sync ``apurge_thread``."""
        self._sync(self.apurge_thread(thread_id))

    def start(self, graph: Any, input: Any, config: RunnableConfig, **options: Any) -> Run:
        """Sync ``astart``."""
        run: Run = self._sync(self.astart(graph, input, config, **options))
        return run

    def resume(self, thread_id: str, value: Any) -> Run:
        """Sync ``aresume``."""
        run: Run = self._sync(self.aresume(thread_id, value))
        return run

    def get_run(self, run_id: str) -> Run:
        """Sync ``aget_run``."""
        run: Run = self._sync(self.aget_run(run_id))
        return run

    def list_runs(self, thread_id: str) -> Iterator[Run]:
        """Sync ``alist_runs``."""
        yield from self._sync(_collect(self.alist_runs(thread_id)))

    def list_threads(
        self,
        *,
        status: ThreadStatus | None = None,
        graph: str | None = None,
        limit: int | None = None,
    ) -> Sequence[ThreadInfo]:
        """Sync ``alist_threads``."""
        found: Sequence[ThreadInfo] = self._sync(
            _collect(self.alist_threads(status=status, graph=graph, limit=limit))
        )
        return found

    def get_thread(self, thread_id: str) -> ThreadInfo | None:
        """Sync ``aget_thread``."""
        found: ThreadInfo | None = self._sync(self.aget_thread(thread_id))
        return found

    def export_thread(self, thread_id: str) -> Sequence[dict[str, Any]]:
        """Sync ``aexport_thread``."""
        found: Sequence[dict[str, Any]] = self._sync(_collect(self.aexport_thread(thread_id)))
        return found

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Sync ``adelete_for_runs``."""
        self._sync(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Sync ``acopy_thread``."""
        self._sync(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Sync ``aprune``."""
        self._sync(self.aprune(thread_ids, strategy=strategy))


async def _collect(items: AsyncIterator[T]) -> tuple[T, ...]:
    return tuple([item async for item in items])
