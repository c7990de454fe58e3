"""Worker side: the checkpointer of a loop that is being driven, bound to one attempt.

LangGraph's loop, and the graphs nested in it, read and write through this instead of the user's
saver: what they write goes to the session, which sends it with the next superstep, and what they
read contains it already. It also is what the task seam recognizes (``hooks.DURABLE``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from ..seam import hooks
from ..storage.store import Store, address, stored_config, with_text_id
from ..values.ops import next_version
from .retry_input import PlannedInput
from .session import Session

T = TypeVar("T")


@dataclass(frozen=True)
class _Driven:
    """``hooks.Marked`` of a bound saver: its graph is being driven, and runs in place."""

    session: Session


class BoundSaver(BaseCheckpointSaver[str]):
    """Reads and writes one thread as the attempt that has it.

    Args:
        store: The worker's.
        session: The attempt.
        plan: What of the recorded answers the attempt is to see; see ``PlannedInput``.
    """

    def __init__(self, store: Store, session: Session, plan: PlannedInput) -> None:
        self._store = store.of_attempt(session)
        self._session = session
        self._plan = plan
        super().__init__(serde=store.serde)

    @property
    def serde(self) -> SerializerProtocol:
        """The serializer; LangGraph sets another one on the copy it makes for an allow-list."""
        return self._store.serde

    @serde.setter
    def serde(self, serde: SerializerProtocol) -> None:
        self._store = self._store.with_serde(serde)

    @property
    def __langgraph_temporal__(self) -> hooks.Marked:
        return _Driven(self._session)

    # -- reading ------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The addressed or latest checkpoint, with the answers this attempt is to see."""
        found = await self._store.checkpoint(config)
        return None if found is None else self._as_planned(found, address(config)[1] or "")

    def _as_planned(self, found: CheckpointTuple, ns: str) -> CheckpointTuple:
        plan, checkpoint_id = self._plan, found.checkpoint["id"]
        drop_given = plan.drop_resume or (not ns and plan.spent == checkpoint_id)
        writes: list[PendingWrite] = []
        for task_id, channel, value in found.pending_writes or ():
            seen = value
            if channel == hooks.RESUME and task_id == hooks.NULL_TASK_ID:
                if drop_given:
                    continue
            elif channel == hooks.RESUME:
                if task_id in plan.unanswer:
                    seen = value[:-1] if isinstance(value, list) else []
                self._session.note_answers(ns, checkpoint_id, task_id, seen)
                if not seen:
                    continue
            writes.append((task_id, channel, seen))
        return found._replace(pending_writes=writes)

    def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first."""
        return self._store.checkpoints(config, filter=filter, before=before, limit=limit)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Writes since the last snapshot of DeltaChannels."""
        return await self._store.delta_history(config, channels)

    # -- writing ------------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Hand a checkpoint to the session; it is sent with the next superstep."""
        config = with_text_id(config)
        self._session.put(self.serde, config, checkpoint, metadata, new_versions)
        return stored_config(config, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Hand writes to the session."""
        self._session.put_writes(self.serde, with_text_id(config), writes, task_id, task_path)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """See ``values.ops.next_version``."""
        return next_version(current)

    # -- the same, for code that waits --------------------------------------------------------

    def _wait(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the worker's loop."""
        return self._session.loop_thread.wait(coro)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Sync ``aget_tuple``."""
        return self._wait(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Sync ``alist``."""

        async def collect() -> Sequence[CheckpointTuple]:
            found = self.alist(config, filter=filter, before=before, limit=limit)
            return [item async for item in found]

        yield from self._wait(collect())

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Sync ``aget_delta_channel_history``."""
        return self._wait(self.aget_delta_channel_history(config=config, channels=channels))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Sync ``aput``."""
        return self._wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Sync ``aput_writes``."""
        self._wait(self.aput_writes(config, writes, task_id, task_path))
