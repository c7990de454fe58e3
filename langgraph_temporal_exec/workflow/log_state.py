"""Workflow side: the log of a thread as a pure state machine: what is in it, what is archived."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..protocol.messages import ArchiveReply, ArchiveRequest, LogPage, ThreadSummary
from ..protocol.stored import BlobRef, Op, OpKind, Pack, Segment
from ..protocol.wire import unpack
from .effects import Discard, Effect

PAGE_BYTES = 400_000
"""Bytes of ops in one reply; Temporal's SDK warns above 512 kB and the server refuses 2 MB."""

ARCHIVE_BYTES = 256_000
"""Size of the log at which it moves into an archive."""


@dataclass(kw_only=True)
class LogState:
    """The log of one thread or nested namespace, without runs and tasks.

    Args:
        incarnation: Identity of this life of the thread; a deleted and re-created thread has
            another one, so that readers drop what they remember.
        archive_bytes: Size of the log at which it moves into an archive.
        summary: The thread as a list shows it.
    """

    incarnation: str
    archive_bytes: int = ARCHIVE_BYTES
    summary: ThreadSummary = field(default_factory=lambda: ThreadSummary(thread_id=""))
    deleted: bool = False
    # Entry ``i`` has the sequence number ``base + i``; what comes before is in ``segments``.
    base: int = 0
    log: list[bytes] = field(default_factory=list)
    log_bytes: int = 0
    segments: tuple[Segment, ...] = ()
    head: Pack | None = None
    # Counts compactions: what was read before one cannot be gone on from.
    generation: int = 0
    garbage: bool = False
    compact: bool = False
    unthinned: int = 0
    archiving: ArchiveRequest | None = None
    discards: list[BlobRef] = field(default_factory=list)

    @property
    def attached(self) -> bool:
        """Whether an attempt may build on what the log holds."""
        raise NotImplementedError

    @property
    def end(self) -> int:
        """The sequence number of the next entry."""
        return self.base + len(self.log)

    def touch(self, now_s: float) -> None:
        """Something is about to be written."""
        self.summary = replace(self.summary, updated_s=now_s)

    def _log(self, data: bytes) -> None:
        self.log.append(data)
        self.log_bytes += len(data)
        self.unthinned += len(data)

    def archive(self, namespace: str, workflow_id: str) -> ArchiveRequest | None:
        """What to move into archives now, if anything; one at a time.

        Compaction rewrites all archives, so it waits until no attempt may build on what it drops.
        """
        if not self.wants_archive():
            return None
        self.archiving = ArchiveRequest(
            thread_id=self.summary.thread_id,
            namespace=namespace,
            workflow_id=workflow_id,
            base=self.base,
            end=self.end,
            compact=self._wants_compaction(),
            generation=self.generation,
        )
        return self.archiving

    def wants_archive(self) -> bool:
        """Whether ``archive`` has something to do."""
        # While blobs are being removed none may be written that could be one of them.
        if self.archiving is not None or self.discards or self.deleted:
            return False
        return self.log_bytes >= self.archive_bytes or self._wants_compaction()

    def _wants_compaction(self) -> bool:
        due = self.compact or self.unthinned >= self.archive_bytes
        return self.garbage and due and not self.attached

    @property
    def compacting(self) -> bool:
        """Whether archives are being rewritten."""
        return self.archiving is not None and self.archiving.compact

    def archived(self, request: ArchiveRequest, reply: ArchiveReply) -> list[Effect]:
        """Let the log begin after what is archived; a result nobody waits for is dropped."""
        if self.archiving != request or request.base != self.base:
            return []
        self.archiving = None
        del self.log[: request.end - self.base]
        self.log_bytes = sum(map(len, self.log))
        self.base = request.end
        self.segments = reply.segments
        self.head = reply.head
        if request.compact:
            self.generation += 1
            self.unthinned = self.log_bytes
            self.garbage = any(unpack(Op, d).kind == OpKind.DROP for d in self.log)
            self.compact = self.compact and self.garbage
        if reply.garbage is None:
            return []
        self.discards.append(reply.garbage)
        return [Discard(garbage=reply.garbage)]

    def not_archived(self, request: ArchiveRequest) -> None:
        """The Activity failed, or is not waited for any more: it is asked for again."""
        if self.archiving == request:
            self.archiving = None

    def discarded(self, garbage: BlobRef) -> None:
        """Blobs are gone."""
        if garbage in self.discards:
            self.discards.remove(garbage)

    @property
    def log_incarnation(self) -> str:
        """Identity of the log for readers: another one after a compaction."""
        return f"{self.incarnation}.{self.generation}"

    def _page(self, incarnation: str, cursor: int) -> LogPage:
        known = incarnation in ("", self.log_incarnation) and cursor >= self.base
        start = min(cursor, self.end) if known else self.base
        ops: list[bytes] = []
        size = 0
        for data in self.log[start - self.base :]:
            size += len(data)
            if ops and size > PAGE_BYTES:
                break
            ops.append(data)
        return LogPage(
            incarnation=self.log_incarnation,
            start=start,
            ops=tuple(ops),
            more=start + len(ops) < self.end,
            head=None if known else self.head,
            segments=() if known else self.segments,
        )
