"""Studio: the checkpointer that LangGraph's API server gets: a ``TemporalSaver`` under aliases."""

from __future__ import annotations

import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)

from ..caller.admission import Caller
from ..caller.admitted import STRATEGY_KEY
from ..errors import RunCancelledError, RunNotFoundError
from ..saver import TemporalSaver, caller_of, store_of
from ..seam import hooks
from ..seam.chunks import changed
from ..storage import maintenance
from . import server
from .aliases import Aliases, alias_of


class StudioSaver(BaseCheckpointSaver[str]):
    """Maps ids on the way in and out; everything else is the saver's.

    The server's run ids become the ids of runs in Temporal, so that a run which a restarted
    server tries again is joined and not repeated.

    Args:
        inner: The saver.
        aliases: Ids of the server by threads, and back.
        leaves: Whether the process ends: then closing a stream does not cancel its run.

    ``streaming`` are the server's runs that have a stream in this process.
    """

    def __init__(
        self,
        inner: TemporalSaver,
        aliases: Aliases,
        leaves: Callable[[], bool],
    ) -> None:
        super().__init__(serde=inner.serde)
        self.inner = inner
        self.streaming: set[str] = set()
        self.aliases = aliases
        self._leaves = leaves

    @property
    def __langgraph_temporal__(self) -> hooks.Durable:
        return _StudioCaller(caller_of(self.inner), self.aliases, self._leaves, self.streaming)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The addressed or latest checkpoint of a thread."""
        found = await self.inner.aget_tuple(await natively(self.aliases, config))
        return None if found is None else _aliased_tuple(found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first."""
        native = None if config is None else await natively(self.aliases, config)
        if before is not None and "configurable" not in before:
            # The server passes on what its client gave: a bare checkpoint.
            before = {"configurable": dict(before)}
        async for item in self.inner.alist(native, filter=filter, before=before, limit=limit):
            yield _aliased_tuple(item)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        native = await natively(self.aliases, config)
        stored = await self.inner.aput(native, checkpoint, metadata, new_versions)
        return _aliased_config(stored)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store writes pending on a checkpoint."""
        native = await natively(self.aliases, config)
        await self.inner.aput_writes(native, writes, task_id, task_path)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Writes since the last snapshot of DeltaChannels."""
        native = await natively(self.aliases, config)
        return await self.inner.aget_delta_channel_history(config=native, channels=channels)

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove a thread."""
        await self.inner.adelete_thread(await self.aliases.native(thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread."""
        native = self.aliases.native
        await self.inner.acopy_thread(
            await native(source_thread_id), await native(target_thread_id)
        )

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep only the latest checkpoint per namespace, or nothing."""
        native = [await self.aliases.native(t) for t in thread_ids]
        await self.inner.aprune(native, strategy=strategy)

    async def adelete_for_runs(self, run_ids: Iterable[str]) -> None:
        """Undo runs of the server: a rollback, or the removal of a run."""
        for server_run in map(str, run_ids):
            run_id = _temporal_id(server_run)
            if alias := server.thread_of(server_run):
                thread_id = await self.aliases.native(alias)
            else:
                try:
                    thread_id = (await self.inner.aget_run(run_id)).thread_id
                except RunNotFoundError:
                    # Cancelled before it began: there is nothing to undo.
                    continue
            if run_id and await self.inner.aget_thread(thread_id) is not None:
                await maintenance.undo_runs(store_of(self.inner), thread_id, frozenset({run_id}))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """As the saver."""
        return self.inner.get_next_version(current, channel)


class _StudioCaller:
    """``hooks.Durable`` of the server's calls."""

    session: hooks.Session | None = None

    def __init__(
        self,
        caller: Caller,
        aliases: Aliases,
        leaves: Callable[[], bool],
        streaming: set[str],
    ) -> None:
        self._caller = caller
        self._streaming = streaming
        self._aliases = aliases
        self._leaves = leaves

    async def astream(
        self,
        graph: Any,
        input: Any,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        result_only: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Run a root call durably, under the server's run id if it is a run of the server."""
        config = server.portable(await natively(self._aliases, config))
        configurable = config.get("configurable", {})
        server_run = server.run_of(configurable)
        run_id = _temporal_id(server_run)
        if not run_id:
            stream = self._caller.astream(graph, input, config, kwargs, result_only=result_only)
        else:
            if strategy := server.strategy_of(server_run):
                config = {**config, "configurable": {**configurable, STRATEGY_KEY: strategy}}
            stream = self._caller.astream_as(run_id, graph, input, config, kwargs, self._leaves)
        self._streaming.add(server_run)
        try:
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    yield changed(chunk, _aliased)
        except RunCancelledError as exc:
            raise server.stopped(str(exc)) from exc
        finally:
            self._streaming.discard(server_run)

    def stream(
        self,
        graph: Any,
        input: Any,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        result_only: bool = False,
    ) -> Generator[Any, None, None]:
        """A sync call of a node's own; the server makes none."""
        return self._caller.stream(
            graph, input, server.portable(config), kwargs, result_only=result_only
        )


def _temporal_id(run_id: str) -> str:
    """The server's run id as ours are written; "" if it is none."""
    try:
        return uuid.UUID(str(run_id)).hex
    except ValueError:
        return ""


async def natively(aliases: Aliases, config: RunnableConfig) -> RunnableConfig:
    """A config with the thread's own id."""
    configurable = config.get("configurable", {})
    if configurable.get("thread_id") is None:
        return config
    native = await aliases.native(configurable["thread_id"])
    return {**config, "configurable": {**configurable, "thread_id": native}}


# -- the way out --------------------------------------------------------------------------------


def _aliased_config(config: RunnableConfig) -> RunnableConfig:
    configurable = config.get("configurable", {})
    thread_id = configurable.get("thread_id")
    if thread_id is None:
        return config
    alias = alias_of(str(thread_id))
    return {**config, "configurable": {**configurable, "thread_id": alias}}


def _aliased_tuple(item: CheckpointTuple) -> CheckpointTuple:
    parent = item.parent_config
    return item._replace(
        config=_aliased_config(item.config),
        parent_config=None if parent is None else _aliased_config(parent),
    )


def _aliased(mode: str, payload: Any) -> Any:
    """A payload, with the ids of the checkpoints that the server tells its clients."""
    if mode == "checkpoints":
        return _aliased_checkpoint(payload)
    if mode == "debug" and isinstance(payload, dict) and payload.get("type") == "checkpoint":
        return {**payload, "payload": _aliased_checkpoint(payload["payload"])}
    return payload


def _aliased_checkpoint(payload: Any) -> Any:
    if not isinstance(payload, dict):
        return payload
    configs = {
        key: _aliased_config(payload[key])
        for key in ("config", "parent_config")
        if isinstance(payload.get(key), dict)
    }
    tasks = [
        {**task, "state": _aliased_config(task["state"])}
        if isinstance(task.get("state"), dict) and "configurable" in task["state"]
        else task
        for task in payload.get("tasks") or ()
    ]
    return {**payload, **configs, **({"tasks": tasks} if "tasks" in payload else {})}
