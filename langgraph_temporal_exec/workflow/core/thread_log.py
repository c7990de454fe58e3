"""Workflow side: the log of a thread as a pure state machine: what is in it, what is archived.

Everything a thread holds is a sequence of ops (``protocol/stored.py``), numbered from 0. They
are in two places, oldest first::

    segments                                        entries
    archives, 256 kB of ops each; 64 of a level     ops ``base`` ... ``end - 1``, in the workflow
    become one of the next

The *head* repeats what the latest checkpoint needs of the segments, so that a cold reader can do
without them.

An op is appended to the entries, and moves outwards with others; it is never changed.
Compaction is the one exception: it writes head and segments anew without what DROP ops have
made unreachable.

Invariants:

- Ops are in exactly one place, and in order: ``base`` is the number of ops before the entries.
- At most one archive is being written (``archiving``), of entries that exist. They leave the
  entries when it is there, not before; should the Activity fail, nothing has happened.
- A compaction runs only while no attempt is attached to the thread, and is given up when
  something is appended meanwhile that may build on what it drops. ``generation`` counts those
  that took place: positions of readers are worth nothing after one (``incarnation``).
- While blobs are being removed (``discards``) no archive is written: it could be one of them,
  because a blob's name is made of its content.

A log that is *parked* has all its ops in archives, and its head in a blob. What is appended later
makes it an ordinary one; nothing has to be fetched back for that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...protocol.incarnation import Incarnation
from ...protocol.messages import ArchiveReply, ArchiveRequest, LogPage
from ...protocol.stored import BlobRef, Op, OpKind, Pack, Segment
from ...protocol.wire import unpack
from .effects import Discard, Effect

PAGE_BYTES = 400_000
"""Bytes of ops in one reply; Temporal's SDK warns above 512 kB and the server refuses 2 MB."""

ARCHIVE_BYTES = 256_000
"""Size of the log at which it moves into an archive."""


@dataclass(kw_only=True)
class ThreadLog:
    """The log of one thread or nested namespace, without runs and tasks.

    Args:
        life: See ``Incarnation.life``; a deleted and re-created thread has another one, so that
            readers drop what they remember.
        fold: See ``Incarnation.fold``; "" in a workflow.
        archive_bytes: Size of the entries at which they move into an archive.
        base: Number of the first entry.
        entries: Ops that are in no archive yet.
        size: Their bytes.
        segments: Archives, oldest first.
        head: What the latest checkpoint needs of the segments; ``None``: there are none.
        generation: How many compactions there were.
        garbage: Whether a compaction would find something to leave out.
        compact: Whether one is asked for as soon as it is possible.
        uncompacted: Bytes appended since the last one; when they are an archive's, the next is due.
        archiving: What is being archived; ``None``: nothing is.
        discards: Blobs that are being removed, because nothing refers to them any more.
    """

    life: str
    fold: str = ""
    archive_bytes: int = ARCHIVE_BYTES
    base: int = 0
    entries: list[bytes] = field(default_factory=list)
    size: int = 0
    segments: tuple[Segment, ...] = ()
    head: Pack | None = None
    generation: int = 0
    garbage: bool = False
    compact: bool = False
    uncompacted: int = 0
    archiving: ArchiveRequest | None = None
    discards: list[BlobRef] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The sequence number of the next entry."""
        return self.base + len(self.entries)

    def append(self, data: bytes) -> None:
        """Add an op at the end."""
        self.entries.append(data)
        self.size += len(data)
        self.uncompacted += len(data)

    def archive(
        self,
        *,
        thread_id: str,
        namespace: str,
        workflow_id: str,
        attached: bool,
        parking: bool = False,
    ) -> ArchiveRequest | None:
        """What to move into archives now, if anything; one at a time.

        Args:
            thread_id: The thread.
            namespace: Its nested namespace; "" for the thread itself.
            workflow_id: The workflow that holds the log.
            attached: Whether an attempt may build on what the log holds: then nothing is compacted,
                which rewrites all archives.
            parking: Whether all of it is to go into archives, however small it is.
        """
        if not self.wants_archive(attached=attached, parking=parking):
            return None
        self.archiving = ArchiveRequest(
            thread_id=thread_id,
            namespace=namespace,
            workflow_id=workflow_id,
            base=self.base,
            end=self.end,
            compact=self._wants_compaction(attached=attached, parking=parking),
            generation=self.generation,
            park=parking,
        )
        return self.archiving

    def wants_archive(self, *, attached: bool, parking: bool = False) -> bool:
        """Whether ``archive`` has something to do."""
        # While blobs are being removed none may be written that could be one of them.
        if self.archiving is not None or self.discards:
            return False
        due = self.size >= self.archive_bytes or parking
        return due or self._wants_compaction(attached=attached, parking=parking)

    def _wants_compaction(self, *, attached: bool, parking: bool) -> bool:
        due = self.compact or self.uncompacted >= self.archive_bytes or parking
        return self.garbage and due and not attached

    @property
    def compacting(self) -> bool:
        """Whether archives are being rewritten."""
        return self.archiving is not None and self.archiving.compact

    def archived(self, request: ArchiveRequest, reply: ArchiveReply) -> list[Effect]:
        """Let the log begin after what is archived; a result nobody waits for is dropped."""
        if self.archiving != request or request.base != self.base:
            return []
        self.archiving = None
        del self.entries[: request.end - self.base]
        self.size = sum(map(len, self.entries))
        self.base = request.end
        self.segments = reply.segments
        self.head = reply.head
        if request.compact:
            self.generation += 1
            self.uncompacted = self.size
            self.garbage = any(unpack(Op, d).kind == OpKind.DROP for d in self.entries)
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
    def incarnation(self) -> str:
        """Which log it is, for readers: another one after a compaction."""
        return str(Incarnation(life=self.life, fold=self.fold, generation=self.generation))

    def page(self, incarnation: str, cursor: int) -> LogPage:
        """Ops after a reader's position; all there are, if the position is of another log."""
        known = incarnation in ("", self.incarnation) and cursor >= self.base
        start = min(cursor, self.end) if known else self.base
        ops: list[bytes] = []
        taken = 0
        for data in self.entries[start - self.base :]:
            taken += len(data)
            if ops and taken > PAGE_BYTES:
                break
            ops.append(data)
        return LogPage(
            incarnation=self.incarnation,
            start=start,
            ops=tuple(ops),
            more=start + len(ops) < self.end,
            head=None if known else self.head,
            segments=() if known else self.segments,
        )
