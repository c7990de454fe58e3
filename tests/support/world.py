"""A deployment without a server: real savers and upkeep over thread states in memory.

What is left out is Temporal itself: commands reach a ``ThreadState`` by a call, blobs are in a
dict. Everything above and below these two ports is the package's own code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from functools import cache
from typing import Any

from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.options import Options
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.blob import Upload, decompress_segments
from langgraph_temporal_exec.protocol.log import blobs_of
from langgraph_temporal_exec.protocol.messages import (
    AppendRequest,
    ArchiveReply,
    ArchiveRequest,
    DiscardRequest,
    EraseRequest,
    ReadReply,
    ReadRequest,
    ThreadSummary,
)
from langgraph_temporal_exec.protocol.stored import BlobRef
from langgraph_temporal_exec.protocol.wire import pack, unpack
from langgraph_temporal_exec.storage.blobs import BlobGoneError, BlobStore
from langgraph_temporal_exec.storage.history import HistoryReader
from langgraph_temporal_exec.storage.reader import Reader
from langgraph_temporal_exec.storage.replica import Replicas
from langgraph_temporal_exec.storage.rpc import StaleReadError
from langgraph_temporal_exec.storage.thread_client import Transport
from langgraph_temporal_exec.worker.upkeep import Upkeep
from langgraph_temporal_exec.workflow.core.effects import (
    DeleteNamespace,
    Effect,
    FenceNamespace,
    OpenNamespace,
)
from langgraph_temporal_exec.workflow.core.thread_log import ThreadLog
from langgraph_temporal_exec.workflow.core.thread_state import ThreadState

THREAD = "t"
OPTIONS = Options()


@cache
def client() -> Client:
    """A client that is never connected."""
    return asyncio.run(Client.connect("127.0.0.1:1", lazy=True))


class World:
    """The threads of a deployment, and the blobs beside them."""

    def __init__(self, *, archive_bytes: int, piece_bytes: int) -> None:
        self.archive_bytes = archive_bytes
        self.piece_bytes = piece_bytes
        self.disk: dict[str, bytes] = {}
        self.states: dict[str, ThreadState] = {}
        self.archiving: dict[str, tuple[ArchiveRequest, ArchiveReply | None]] = {}
        # Whether work of an Activity was thrown away: what it stored, only a deletion removes.
        self.wasted = False
        self._lives = 0
        self._loop = asyncio.new_event_loop()
        self.transport = _Transport(self)
        self.upkeep = _Upkeep(self)

    def close(self) -> None:
        self._loop.close()

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(coro)

    def process(self) -> TemporalSaver:
        """A saver of a new process, which knows nothing yet."""
        saver = TemporalSaver(client())
        store = saver._store
        store.transport = self.transport
        store.blobs = _Blobs(self)
        store.reader = Reader(self.transport, store.blobs, _NoHistory())
        store.replicas = Replicas(store.blobs)
        return saver

    # -- threads ------------------------------------------------------------------------------

    def workflow_id(self, thread_id: str, ns: str) -> str:
        return names.thread_workflow_id(OPTIONS.id_prefix, thread_id, ns)

    def state(self, thread_id: str, ns: str) -> ThreadState:
        """The state of a thread or namespace; started if there is none."""
        workflow_id = self.workflow_id(thread_id, ns)
        if workflow_id not in self.states:
            self._lives += 1
            self.states[workflow_id] = ThreadState(
                log=ThreadLog(life=f"life{self._lives}", archive_bytes=self.archive_bytes),
                root=not ns,
                summary=ThreadSummary(thread_id=thread_id),
            )
        return self.states[workflow_id]

    def exists(self, thread_id: str, ns: str) -> bool:
        return self.workflow_id(thread_id, ns) in self.states

    async def perform(self, thread_id: str, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, OpenNamespace):
                self.state(thread_id, effect.namespace)
            elif isinstance(effect, FenceNamespace):
                self.state(thread_id, effect.namespace).fence(effect.epoch)
            elif isinstance(effect, DeleteNamespace):
                await self.end(thread_id, effect.namespace)

    async def end(self, thread_id: str, ns: str) -> None:
        """Delete a thread or namespace, and what it keeps outside."""
        workflow_id = self.workflow_id(thread_id, ns)
        state = self.states.get(workflow_id)
        if state is None:
            return
        _, reply = self.archiving.pop(workflow_id, (None, None))
        self.wasted = self.wasted or reply is not None
        await self.perform(thread_id, state.delete())
        request = EraseRequest(
            thread_id=thread_id, namespace=ns, workflow_id=workflow_id, deleted_s=0.0
        )
        await self.upkeep.erase(pack(request))
        self.states.pop(workflow_id, None)

    # -- archives -----------------------------------------------------------------------------

    def begin_archive(self, thread_id: str, ns: str, *, at_once: bool) -> None:
        """Let the thread ask for an archive. ``at_once``: the Activity does its work now."""
        workflow_id = self.workflow_id(thread_id, ns)
        request = self.states[workflow_id].archive(ns, workflow_id)
        assert request is not None
        # One that was begun before may have been given up by the thread itself.
        _, given_up = self.archiving.get(workflow_id, (None, None))
        self.wasted = self.wasted or given_up is not None
        self.archiving[workflow_id] = (request, self._archive(request) if at_once else None)

    def finish_archive(self, thread_id: str, ns: str) -> None:
        workflow_id = self.workflow_id(thread_id, ns)
        request, reply = self.archiving.pop(workflow_id)
        reply = reply or self._archive(request)
        state = self.states[workflow_id]
        effects = state.log.archived(request, reply)
        self.wasted = self.wasted or state.log.segments != reply.segments
        self.run(self.perform(thread_id, effects))

    def give_up_archive(self, thread_id: str, ns: str) -> None:
        workflow_id = self.workflow_id(thread_id, ns)
        request, reply = self.archiving.pop(workflow_id)
        self.wasted = self.wasted or reply is not None
        self.states[workflow_id].log.not_archived(request)

    def _archive(self, request: ArchiveRequest) -> ArchiveReply:
        return unpack(ArchiveReply, self.run(self.upkeep.archive(pack(request))))

    def discard(self, thread_id: str, ns: str) -> None:
        """Remove the blobs nothing refers to any more."""
        state = self.state(thread_id, ns)
        for garbage in list(state.log.discards):
            request = DiscardRequest(thread_id=thread_id, garbage=garbage)
            self.run(self.upkeep.discard(pack(request)))
            state.log.discarded(garbage)

    def roll(self, thread_id: str, ns: str) -> None:
        """Continue as new: what only the old run of the workflow waited for is not waited for."""
        workflow_id = self.workflow_id(thread_id, ns)
        state = self.states[workflow_id]
        _, reply = self.archiving.pop(workflow_id, (None, None))
        self.wasted = self.wasted or reply is not None
        again = ThreadState.restore(state.log.life, root=state.root, snapshot=state.snapshot())
        again.log.archive_bytes = self.archive_bytes
        again.restart()
        self.states[workflow_id] = again

    # -- what is stored -----------------------------------------------------------------------

    def blobs_of(self, thread_id: str) -> set[str]:
        """Names of all pieces of blobs of a thread."""
        prefix = names.blob_workflow_prefix(OPTIONS.id_prefix, thread_id)
        return {name for name in self.disk if name.startswith(prefix)}

    def referenced(self, thread_id: str, namespaces: Iterable[str]) -> set[str]:
        """Names of those that something refers to."""
        refs = [r for ns in namespaces for r in self.run(self._refs(thread_id, ns))]
        return {
            names.blob_workflow_id(OPTIONS.id_prefix, thread_id, ref.scope, piece)
            for ref in refs
            for piece in ref.pieces
        }

    async def _refs(self, thread_id: str, ns: str) -> list[BlobRef]:
        state = self.states.get(self.workflow_id(thread_id, ns))
        if state is None:
            return []
        reader = Reader(self.transport, _Blobs(self), _NoHistory())
        ops = await reader.whole(thread_id, state.log.entries)
        ops += [op for part in await reader.segments(thread_id, state.log.segments) for op in part]
        ops += await reader.unpack(thread_id, state.log.head) if state.log.head else []
        refs = [r for op in ops for r in blobs_of(op)]
        packs = [s.pack for s in state.log.segments] + ([state.log.head] if state.log.head else [])
        while packs:
            pack_ = packs.pop()
            if pack_.ref is not None:
                refs.append(pack_.ref)
            if pack_.level:
                content = await reader.blobs.fetch(thread_id, pack_.ref)
                packs += [s.pack for s in decompress_segments(content)]
        return refs


class _Transport(Transport):
    """Commands by a call."""

    def __init__(self, world: World) -> None:
        super().__init__(client(), OPTIONS)
        self._world = world

    async def append(self, thread_id: str, checkpoint_ns: str, request: AppendRequest) -> None:
        opens = AppendRequest(open=(checkpoint_ns,))
        await self._append(thread_id, "", opens if checkpoint_ns else request)
        if checkpoint_ns:
            await self._append(thread_id, checkpoint_ns, request)

    async def _append(self, thread_id: str, ns: str, request: AppendRequest) -> None:
        state = self._world.state(thread_id, ns)
        if state.is_stale(request):
            raise StaleReadError(thread_id)
        await self._world.perform(thread_id, state.append(request))

    async def read_workflow(self, workflow_id: str, request: ReadRequest) -> ReadReply | None:
        state = self._world.states.get(workflow_id)
        reply = state.read(request) if state is not None else None
        return None if reply is None or reply.deleted else reply

    async def has_completed(self, workflow_id: str) -> bool:
        return workflow_id not in self._world.states

    async def delete(self, thread_id: str) -> None:
        await self._world.end(thread_id, "")


class _Blobs(BlobStore):
    """The memory of one process before the disk all of them share."""

    def __init__(self, world: World) -> None:
        super().__init__(client(), OPTIONS.id_prefix, OPTIONS.task_queue)
        self._world = world

    @property
    def piece_bytes(self) -> int:
        return self._world.piece_bytes

    async def _store(self, thread_id: str, upload: Upload, name: bytes, data: bytes) -> None:
        self._world.disk[self._id(thread_id, upload.ref.scope, name)] = bytes(data)

    async def _load(self, thread_id: str, scope: str, name: bytes) -> bytes:
        if name in self._cache:
            return self._cache[name]
        workflow_id = self._id(thread_id, scope, name)
        if workflow_id not in self._world.disk:
            raise BlobGoneError(workflow_id)
        self._remember(name, self._world.disk[workflow_id])
        return self._world.disk[workflow_id]

    async def sweep(self, thread_id: str, *, before: datetime) -> None:
        left = self._world.blobs_of(thread_id)
        assert self._world.wasted or not left
        await self._delete(left)

    async def _delete(self, workflow_ids: Iterable[str]) -> None:
        for workflow_id in workflow_ids:
            self._world.disk.pop(workflow_id, None)

    def _id(self, thread_id: str, scope: str, name: bytes) -> str:
        return names.blob_workflow_id(OPTIONS.id_prefix, thread_id, scope, name)


class _NoHistory(HistoryReader):
    """Workers always answer."""

    def __init__(self) -> None:
        async def is_polled() -> bool:
            return True

        super().__init__(client(), is_polled)

    async def or_worker(
        self,
        workflow_id: str,
        request: ReadRequest,
        ask: Callable[[], Coroutine[Any, Any, ReadReply | None]],
    ) -> ReadReply | None:
        return await ask()


class _Upkeep(Upkeep):
    """The Activities, in a process of their own that starts afresh every time."""

    def __init__(self, world: World) -> None:
        super().__init__(world.transport, Reader(world.transport, _Blobs(world), _NoHistory()))
        self._world = world

    async def _closed(self, thread_id: str, namespace: str) -> None:
        await self._world.end(thread_id, namespace)
