"""Shared: a thread as far as this process has read it: ops folded into LangGraph's read model.

The read model is LangGraph's own ``InMemorySaver`` over values that are still serialized, so that
lookup, listing, ordering of writes and DeltaChannel history are exactly LangGraph's.

**What it models.** What this process knows of one thread: for each of its namespaces, a log of ops
and how far it was read. Ops are *folded* into tables of the form that ``InMemorySaver`` has.
Folding an op again changes nothing, so an op may come from several sources, in any number. For a
question the tables are lent to an ``InMemorySaver`` that decodes a value when it is looked at
(``ask``). What it does not have it never fetches itself: it raises, and the ``Reader`` fetches.

**Where ops come from.**

- *Pages* are what lies after a position in the log, from a worker or from history (``absorb``).
- The *head* comes with the first page: what the latest checkpoint needs of the archives. It has
  checkpoints in another form than the log has them (``_Namespace.in_head``).
- *Archives* hold what lies before the page. They are folded below what is there, from the latest
  op to the first (``absorb_older``). Until then the namespace is *partial*.
- An attempt of this process folds what it records, before that is in the log (``fold_local``).

**Position.** A log has an *incarnation* (``protocol.incarnation``), another one after a
compaction, and when it was read from history, because ops may lie in another order there. The
*cursor* is the number of the first op that was not read. Both are sent with each request, and the
page that comes back decides::

    page                                      what becomes of the namespace
    of this incarnation, joins on             its *unread* ops are folded: those after the cursor
    of this incarnation, begins later         emptied, and begun with the head of the page
    of another incarnation, the same life     emptied, and begun with the head of the page
    of another life (the thread itself)       the whole replica is emptied, and begun anew
    one that was asked for before something   nothing is folded; whoever reads asks again from
    emptied the namespace                     the position that is right now

**Recorded and not yet recorded.** While ``flush`` is set, an attempt of this process folds here.
Other readers in this process see what it has not sent yet: a program reads what it has written.
Other *writers* must not build on that: they ``flush``, and refer to nothing (see
``Store.append``). Maintenance, which drops checkpoints, reads into a replica of its own.
The cursor does not move with local ops. When the attempt has ended and nobody else has written,
``caught_up`` moves it, so that they are not read back. If the attempt is lost, the replica is
emptied: nobody can tell which of its ops the log has.

**Invariants.**

- A channel's value at a version never changes: the first that comes counts.
- Checkpoints that were dropped are hidden at once (``_visible``). They are forgotten (``_all``)
  only if no DeltaChannel of another checkpoint is rebuilt from them (langchain-ai/langgraph#7586),
  which is known when all of the namespace was read.
- An emptied namespace is another object (``life``).

**Memory.** ``Replicas`` keeps the latest used ones, up to ``REPLICA_BYTES`` and ``MAX_REPLICAS``.
An attempt holds its replica itself, so that one which is driven is never lost in between. Large
values are not here but in the ``BlobStore``.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol

from ..errors import UnreadableError
from ..protocol.incarnation import Incarnation
from ..protocol.log import EMPTY_TYPE, Log, body_of, metadata_of, parts_of
from ..protocol.messages import LogPage
from ..protocol.stored import BlobRef, Op, OpKind, Segment, Value, Version
from ..seam.private import read_model
from .blobs import BlobStore
from .resolver import Resolver, UnknownBaseError

T = TypeVar("T")

Base = tuple[bytes, bytes]
"""Digest and content of an earlier value."""

Stored = tuple[str, Value]
"""In place of LangGraph's ``(type, bytes)``: the bytes are rebuilt when they are decoded."""


class MissingBlobsError(Exception):
    """Blobs that must be fetched before the question can be answered.

    Args:
        refs: All of them, as far as the question has come.
    """

    def __init__(self, refs: set[BlobRef]) -> None:
        super().__init__(f"{len(refs)} blobs")
        self.refs = refs


class _Namespace:
    """One namespace's log as far as it was read.

    Attributes:
        incarnation: Identity of the log; "": nothing of it was read.
        cursor: Number of the first op that was not read.
        older: Archives that were not read: what lies before what was. Empty: nothing is missing.
        dropped: Checkpoints that were dropped, and not put again since.
        in_head: Checkpoints as the head has them: it leaves out ancestors that add nothing, so that
            their parents are not those of the log. The archives have the real ones.
        hidden: Those of the head that are there to rebuild DeltaChannels from, and not shown.
        puts: Checkpoints by id, without their bytes, for questions about lineage.
        tasks: Of the thread itself: by task the checkpoints it wrote to, dropped ones as well.
        latest: Last value of each channel, which the next one is stored as the difference to.
        latest_parts: The last "checkpoint" and "metadata", for the same purpose.
        sources: Channel versions of one checkpoint, the last that was put or asked about.
        resolver: Rebuilds values that are stored as differences.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self.incarnation = ""
        self.cursor = 0
        self.older: tuple[Segment, ...] = ()
        self.dropped: set[str] = set()
        self.in_head: set[str] = set()
        self.hidden: set[str] = set()
        self.puts: dict[str, Op] = {}
        self.tasks: dict[str, set[str]] = {}
        self.latest: dict[str, Value] = {}
        self.latest_parts: dict[str, Value] = {}
        self.sources: dict[str, dict[str, Version]] = {}
        self.resolver = Resolver(blobs)


class Replica:
    """One thread with all namespaces read so far. Safe to use from several threads.

    Args:
        thread_id: The thread.
        blobs: Where large values are.

    Attributes:
        known_namespaces: Those that a reply or an op has named, the latest or all of them.
        opened: Nested ones that the log, or an attempt of this process, has ever named: those that
            have ended as well.
        flush: Set while an attempt of this process folds what it has not sent yet: has it sent for
            a namespace. ``None``: all that is here is in the log.
        _spaces: What was read, by namespace.
        _visible: By namespace and id the checkpoints that are shown.
        _all: Those, and the hidden ones that others are rebuilt from.
        _writes: Pending writes by thread, namespace and checkpoint, then by task and index.
        _values: Values of channels by thread, namespace, channel and version.
        _lock: Held by each call. Reentrant: some of them use others.
    """

    def __init__(self, thread_id: str, blobs: BlobStore) -> None:
        self.thread_id = thread_id
        self.known_namespaces: set[str] = set()
        self.opened: set[str] = set()
        self.flush: Callable[[str], Awaitable[None]] | None = None
        self._blobs = blobs
        self._spaces: dict[str, _Namespace] = {}
        # As ``read_model`` takes them, with ``Stored`` in place of serialized bytes.
        self._visible: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        self._all: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        self._writes: defaultdict[tuple[str, str, str], dict[tuple[str, int], Any]] = defaultdict(
            dict
        )
        self._values: dict[tuple[str, str, str, Version], Stored] = {}
        self._lock = threading.RLock()

    # -- questions ----------------------------------------------------------------------------

    def ask(
        self,
        serde: SerializerProtocol,
        question: Callable[[BaseCheckpointSaver[str]], T],
        *,
        checkpoint_ns: str,
        hidden: bool = False,
    ) -> T:
        """Answer from the read model.

        Args:
            serde: Decodes values.
            question: Called with a saver of which only reading methods may be used.
            checkpoint_ns: The namespace asked about.
            hidden: Whether dropped checkpoints that others are rebuilt from count.

        Raises:
            MissingBlobsError: Fetch them, then ask again.
            UnknownBaseError: A namespace was read in part only; read it whole, then ask again.
            UnreadableError: The serializer does not take what is recorded.
        """
        with self._lock:
            resolver = self._space(checkpoint_ns).resolver
            # Filled while values are decoded. All that an answer lacks is fetched at once.
            resolver.missing.clear()
            view = read_model(
                _Rebuilding(serde, resolver.whole, self.thread_id),
                self.thread_id,
                checkpoints=self._all if hidden else self._visible,
                writes=self._writes,
                values=self._values,
            )
            answer = question(view)
            if resolver.missing:
                raise MissingBlobsError(set(resolver.missing))
            return answer

    def has(self, checkpoint_ns: str, checkpoint_id: str) -> bool:
        """Whether a checkpoint is known."""
        with self._lock:
            return checkpoint_id in self._visible[checkpoint_ns]

    def checkpoint_ids(self, checkpoint_ns: str) -> list[str]:
        """The known checkpoints of a namespace, oldest first."""
        with self._lock:
            return sorted(self._visible[checkpoint_ns])

    def checkpoints_of(self, task_id: str) -> frozenset[str]:
        """The checkpoints to which a task of the thread itself wrote, dropped ones as well: it ran
        from there. Empty: it has written nothing that the log still has."""
        with self._lock:
            return frozenset(self._space("").tasks.get(task_id, ()))

    def dropped(self, checkpoint_ns: str) -> frozenset[str]:
        """The checkpoints of a namespace that were dropped, as far as the log still says so."""
        with self._lock:
            return frozenset(self._space(checkpoint_ns).dropped)

    def is_partial(self, checkpoint_ns: str) -> bool:
        """Whether only the latest part of a namespace was read."""
        with self._lock:
            return bool(self._space(checkpoint_ns).older)

    def position(self, checkpoint_ns: str) -> tuple[str, int]:
        """Incarnation and cursor up to which the log of a namespace is known."""
        with self._lock:
            space = self._spaces.get(checkpoint_ns)
            return (space.incarnation, space.cursor) if space else ("", 0)

    def older(self, checkpoint_ns: str) -> tuple[Segment, ...]:
        """Archives of a namespace that were not read."""
        with self._lock:
            return self._space(checkpoint_ns).older

    @property
    def size(self) -> int:
        """Bytes held in memory, nearly."""
        with self._lock:
            entries = sum(len(s) for s in self._all.values()) + len(self._writes)
            return sum(s.resolver.size for s in self._spaces.values()) + 500 * entries

    def task_paths(self, checkpoint_ns: str, checkpoint_id: str) -> dict[str, str]:
        """Where in the graph the tasks are that wrote to a checkpoint, by their ids."""
        with self._lock:
            writes = self._writes.get((self.thread_id, checkpoint_ns, checkpoint_id), {})
            return {task_id: path for task_id, _, _, path in writes.values()}

    # -- what a writer builds on --------------------------------------------------------------

    def deltas(self, checkpoint_ns: str, checkpoint_id: str | None) -> tuple[str, ...]:
        """DeltaChannels of a checkpoint that are rebuilt from writes of its ancestors."""
        with self._lock:
            op = self._space(checkpoint_ns).puts.get(checkpoint_id or "")
            return op.deltas if op is not None else ()

    def lacks(self, checkpoint_ns: str, checkpoint_id: str | None) -> bool:
        """Whether a checkpoint (``None``: the latest) needs what lies before what was read."""
        with self._lock:
            space = self._space(checkpoint_ns)
            if not space.older:
                return False
            latest = max(self._visible[checkpoint_ns], default="")
            if checkpoint_id is None and latest < max(space.in_head - space.hidden, default=""):
                # The latest was dropped, and the one before it was not read.
                return True
            checkpoint_id = checkpoint_id or latest
            if checkpoint_id not in self._visible[checkpoint_ns]:
                return True
            sources = self.sources(checkpoint_ns, checkpoint_id)
            return sources is None or any(
                (self.thread_id, checkpoint_ns, channel, version) not in self._values
                for channel, version in sources.items()
            )

    def is_rebuildable(self, checkpoint_ns: str, checkpoint_id: str | None) -> bool:
        """Whether all that a checkpoint's DeltaChannels are rebuilt from is known."""
        with self._lock:
            space = self._space(checkpoint_ns)
            if not space.older:
                return True
            checkpoint_id = checkpoint_id or max(self._visible[checkpoint_ns], default="")
            if checkpoint_id not in space.puts:
                return False
            missing = set(space.puts[checkpoint_id].deltas)
            for op in Log(puts=space.puts).ancestors(checkpoint_id):
                missing -= {v.channel for v in op.values if v.type != EMPTY_TYPE}
                if not missing:
                    return True
                if op.checkpoint_id in space.in_head:
                    # The head is complete for what descends from its latest checkpoint, not for
                    # what branches off from an ancestor of that.
                    return op.checkpoint_id not in space.hidden
            return False

    def bases(self, checkpoint_ns: str, channel: str, parent_id: str | None) -> list[Base]:
        """Whole earlier values of a channel: the latest one, then writes to it at the parent.

        Those of which not all is in memory are left out.
        """
        with self._lock:
            space = self._space(checkpoint_ns)
            found = [space.latest.get(channel)]
            # What tasks have written is often in the new value: a message that was appended.
            if parent_id is not None:
                writes = self._writes.get((self.thread_id, checkpoint_ns, parent_id), {})
                found += [w[2][1] for w in writes.values() if w[1] == channel][-2:]
            return self._whole_bases(space, found)

    def part_bases(self, checkpoint_ns: str, part: str) -> list[Base]:
        """The latest checkpoint or metadata of a namespace."""
        with self._lock:
            space = self._space(checkpoint_ns)
            return self._whole_bases(space, [space.latest_parts.get(part)])

    def _whole_bases(self, space: _Namespace, found: Sequence[Value | None]) -> list[Base]:
        whole: list[Base] = []
        # Short values have no digest: a difference to them would save nothing.
        for value in found:
            if value is None or not value.digest:
                continue
            try:
                data = space.resolver.whole(value)
            except UnknownBaseError:
                continue
            if data is not None:
                whole.append((value.digest, data))
        # Nobody fetches for a writer: without a base a value is stored whole.
        space.resolver.missing.clear()
        return whole

    def sources(self, checkpoint_ns: str, checkpoint_id: str | None) -> dict[str, Version] | None:
        """Channel versions of a checkpoint from headers; ``None`` when not all are known."""
        with self._lock:
            space = self._space(checkpoint_ns)
            if checkpoint_id is None:
                return {}
            if checkpoint_id not in space.sources:
                found = Log(puts=space.puts).sources(checkpoint_id)
                if found is None:
                    return None
                space.sources = {checkpoint_id: found}
            return space.sources[checkpoint_id]

    # -- folding ------------------------------------------------------------------------------

    def absorb(
        self,
        checkpoint_ns: str,
        page: LogPage,
        namespaces: Iterable[str],
        head: Sequence[Op],
        first: int,
        ops: Sequence[Op],
    ) -> bool:
        """Fold a page that was read; starts over when it is of another incarnation.

        Args:
            page: The page.
            namespaces: Nested namespaces the reply named.
            head: Ops of ``page.head``.
            first: Sequence number of ``ops[0]``.
            ops: Ops of the page from this replica's cursor on (see ``unread``).

        Returns:
            Whether the page fits. If not (the replica was emptied since the page was asked for),
            nothing was folded, and reading must start from ``position`` again.
        """
        with self._lock:
            space = self._space(checkpoint_ns)
            if page.incarnation != space.incarnation or page.start > space.cursor:
                if not checkpoint_ns and _life(page) != _life(space):
                    # The thread was deleted and made again, and its nested namespaces with it.
                    for namespace in {*self._spaces, *self._all}:
                        self._clear(namespace)
                self._clear(checkpoint_ns)
                space = self._space(checkpoint_ns)
                space.incarnation, space.cursor = page.incarnation, page.start
                space.older = page.segments
                # What came with the page must reach from the head to its end: of a page that was
                # asked for from another position, some ops or the head are missing.
                if first != page.start or (page.start and page.head is None):
                    space.incarnation, space.cursor = "", 0
                    return False
                self._fold_head(checkpoint_ns, space, head)
            elif first > space.cursor:
                # Emptied and read anew since, but not as far.
                return False
            self.known_namespaces.update(namespaces)
            self.opened.update(namespaces)
            for op in ops:
                self._fold(checkpoint_ns, op)
            space.cursor = max(space.cursor, page.start + len(page.ops))
            return True

    def unread(self, checkpoint_ns: str, page: LogPage) -> tuple[int, tuple[bytes, ...]]:
        """The ops of a page that lie after what was read, and where they begin."""
        incarnation, cursor = self.position(checkpoint_ns)
        if page.incarnation != incarnation or page.start > cursor:
            return page.start, page.ops
        return max(cursor, page.start), page.ops[max(0, cursor - page.start) :]

    def absorb_older(
        self, checkpoint_ns: str, incarnation: str, segments: Sequence[Sequence[Op]]
    ) -> bool:
        """Fold archives, oldest first, below what was read; ``False``: they do not fit."""
        with self._lock:
            space = self._space(checkpoint_ns)
            # Of a log that was compacted, or read in the other way, since they were asked for.
            if space.incarnation != incarnation:
                return False
            for segment in reversed(segments):
                for op in reversed(segment):
                    self._fold(checkpoint_ns, op, older=True)
            space.older = ()
            # What DeltaChannels are rebuilt from can be told only now.
            self._drop(checkpoint_ns, space.dropped)
            return True

    def life(self, checkpoint_ns: str) -> object:
        """Another object after the namespace was emptied."""
        with self._lock:
            return self._space(checkpoint_ns)

    def caught_up(self, checkpoint_ns: str, incarnation: str, log_end: int, life: object) -> None:
        """All ops up to ``log_end`` were folded as they were written: do not read them back.

        Unless the namespace was emptied since ``life`` was asked for.
        """
        with self._lock:
            space = self._spaces.get(checkpoint_ns)
            if space is not None and space is life and space.incarnation == incarnation:
                space.cursor = max(space.cursor, log_end)

    def fold_local(self, checkpoint_ns: str, op: Op) -> None:
        """Fold an op of this process before (or without) reading it back.

        The cursor stays: reading the op later changes nothing, because folding is idempotent.
        """
        with self._lock:
            self.known_namespaces.add(checkpoint_ns)
            self.opened.add(checkpoint_ns)
            self._fold(checkpoint_ns, op)

    def forget_namespace(self, checkpoint_ns: str) -> None:
        """Drop one namespace: it is gone."""
        with self._lock:
            self._clear(checkpoint_ns)
            self.known_namespaces.discard(checkpoint_ns)

    def forget(self) -> None:
        """Drop everything: the thread is gone."""
        with self._lock:
            for namespace in {*self._spaces, *self._all}:
                self._clear(namespace)
            self._spaces.clear()
            self.known_namespaces.clear()
            self.opened.clear()

    def _fold_head(self, ns: str, space: _Namespace, head: Iterable[Op]) -> None:
        for op in head:
            if op.kind == OpKind.DROP:
                space.hidden.update(op.dropped)
                continue
            self._fold(ns, op)
            if op.kind == OpKind.PUT:
                space.in_head.add(op.checkpoint_id)
        for checkpoint_id in space.hidden:
            self._visible[ns].pop(checkpoint_id, None)

    def _space(self, ns: str) -> _Namespace:
        if ns not in self._spaces:
            self._spaces[ns] = _Namespace(self._blobs)
        return self._spaces[ns]

    def _fold(self, ns: str, op: Op, *, older: bool = False) -> None:
        space = self._space(ns)
        space.resolver.learn(parts_of(op), older=older)
        if op.kind in (OpKind.PUT, OpKind.VALUES):
            for v in op.values:
                self._values.setdefault((self.thread_id, ns, v.channel, v.key), (v.type, v))
        if op.kind == OpKind.PUT:
            self._put(ns, space, op, older=older)
        elif op.kind == OpKind.WRITES:
            if not ns:
                space.tasks.setdefault(op.task_id, set()).add(op.checkpoint_id)
            writes = self._writes[(self.thread_id, ns, op.checkpoint_id)]
            for v in reversed(op.values) if older else op.values:
                key = (op.task_id, int(v.key))
                # As InMemorySaver.put_writes: of output writes the first counts, of control writes
                # (negative index) the last. What is older comes from the latest to the first.
                if key in writes and (key[1] >= 0) != older:
                    continue
                writes[key] = (op.task_id, v.channel, (v.type, v), op.task_path)
        elif op.kind == OpKind.DROP:
            if older:
                # What was put again since is there: the log counts as it ends. The head alone does
                # not say when a checkpoint was put.
                since = space.puts.keys() - space.in_head
                space.dropped.update(set(op.dropped) - since)
            else:
                space.dropped.update(op.dropped)
                self._drop(ns, op.dropped)
        elif op.kind == OpKind.OPEN:
            self.known_namespaces.update(op.opened)
            self.opened.update(op.opened)

    def _put(self, ns: str, space: _Namespace, op: Op, *, older: bool) -> None:
        checkpoint_id = op.checkpoint_id
        # A checkpoint that was put twice counts as it was put last.
        if older and checkpoint_id in space.puts and checkpoint_id not in space.in_head:
            return
        space.in_head.discard(checkpoint_id)
        body, metadata = body_of(op), metadata_of(op)
        entry = ((body.type, body), (metadata.type, metadata), op.parent_id)
        if not older:
            space.dropped.discard(checkpoint_id)
            space.latest.update({v.channel: v for v in op.values if v.type != EMPTY_TYPE})
            space.latest_parts.update({"checkpoint": body, "metadata": metadata})
        space.puts[checkpoint_id] = _header(op)
        inherited = space.sources.get(op.parent_id or "")
        if inherited is not None and not op.complete:
            # Only the latest: a run walks down one line.
            own = {v.channel: v.key for v in op.values}
            own.update({i.channel: i.key for i in op.inherits})
            space.sources = {checkpoint_id: {**inherited, **own}}
        self._all[ns][checkpoint_id] = entry
        if checkpoint_id not in space.dropped:
            self._visible[ns][checkpoint_id] = entry

    def _drop(self, ns: str, checkpoint_ids: Iterable[str]) -> None:
        """Hide checkpoints, and forget those no DeltaChannel is rebuilt from."""
        space = self._space(ns)
        gone = set(checkpoint_ids)
        if not gone:
            return
        for checkpoint_id in gone:
            self._visible[ns].pop(checkpoint_id, None)
        if space.older:
            # What is rebuilt from them can be told only when all is read.
            return
        hidden = Log(puts=space.puts).support(self._visible[ns])
        for checkpoint_id in gone - hidden:
            self._all[ns].pop(checkpoint_id, None)
            self._writes.pop((self.thread_id, ns, checkpoint_id), None)

    def _clear(self, ns: str) -> None:
        self._spaces.pop(ns, None)
        self._visible.pop(ns, None)
        self._all.pop(ns, None)
        for writes_key in [k for k in self._writes if k[1] == ns]:
            del self._writes[writes_key]
        for value_key in [k for k in self._values if k[1] == ns]:
            del self._values[value_key]


class _Rebuilding(SerializerProtocol):
    """The serializer of the read model: decodes ``Stored`` values.

    Args:
        serde: The saver's serializer.
        whole: Rebuilds the bytes of a value; ``None`` if a blob is missing.
        thread_id: Named in errors.
    """

    def __init__(
        self, serde: SerializerProtocol, whole: Callable[[Value], bytes | None], thread_id: str
    ) -> None:
        self._serde = serde
        self._whole = whole
        self._thread_id = thread_id

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        raise AssertionError("a replica is only read")

    def loads_typed(self, data: tuple[str, Any]) -> Any:
        type_, stored = data
        whole = self._whole(stored)
        # Without its blob the value is not decoded; the answer is thrown away.
        if whole is None:
            return None
        try:
            return self._serde.loads_typed((type_, whole))
        except Exception as exc:
            # Serializers are the user's, and raise what they like.
            what = f"channel {stored.channel!r}" if stored.channel else f"the {stored.key}"
            raise UnreadableError(
                f"{what} of thread {self._thread_id!r} cannot be read here. Give the saver of this "
                "process the serializer, with its key and allow-list, that the value was written "
                "with, and let it import the classes in it. The thread is unchanged. The cause: "
                f"{type(exc).__name__}: {exc}"
            ) from exc


def _life(log: LogPage | _Namespace) -> str:
    """What stays the same in a log's incarnation until the thread is deleted."""
    return Incarnation.parse(log.incarnation).life


def _header(op: Op) -> Op:
    """The op without bytes, for questions about lineage."""
    values = tuple(replace(v, data=b"", blob=None) for v in op.values)
    return replace(op, values=values, checkpoint=b"", metadata=b"")


REPLICA_BYTES = 64_000_000
"""Bytes of threads a process keeps in memory beside those it is driving."""

MAX_REPLICAS = 1_000
"""Threads of which it keeps something, however small they are."""


class Replicas:
    """Replicas by thread id; safe to use from several threads.

    Args:
        blobs: Where large values are.

    Attributes:
        _replicas: The longest unused first.
        _sizes: Bytes of each as they were when it was last weighed, after a question; 0 before.
        _lock: Guards both. Never held while a replica's own lock is waited for.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._replicas: OrderedDict[str, Replica] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._replicas))

    def get(self, thread_id: str) -> Replica:
        """The replica of a thread, empty if it is new here."""
        with self._lock:
            replica = self._replicas.get(thread_id)
            if replica is None:
                replica = self._replicas[thread_id] = Replica(thread_id, self._blobs)
                self._sizes[thread_id] = 0
            self._replicas.move_to_end(thread_id)
            self._trim()
            return replica

    def renew(self, thread_id: str) -> Replica:
        """An empty replica in place of one that another attempt still folds into."""
        with self._lock:
            # The other one stays with whoever holds it, and is emptied when its attempt has failed.
            replica = self._replicas[thread_id] = Replica(thread_id, self._blobs)
            self._sizes[thread_id] = 0
            return replica

    def drop(self, replica: Replica) -> None:
        """Empty a replica that holds what was not recorded, and use it no more: an attempt that has
        just failed may be about to fold into it."""
        with self._lock:
            if self._replicas.get(replica.thread_id) is replica:
                del self._replicas[replica.thread_id]
                self._sizes.pop(replica.thread_id, None)
        replica.forget()

    def weigh(self, replica: Replica) -> None:
        """Take note of what a replica holds by now; the longest unused ones give way."""
        size = replica.size
        # One that has given way, or was replaced by an empty one, does not count.
        with self._lock:
            if self._replicas.get(replica.thread_id) is replica:
                self._sizes[replica.thread_id] = size
                self._trim()

    @property
    def size(self) -> int:
        """Bytes of all replicas, nearly."""
        with self._lock:
            return sum(self._sizes.values())

    def _trim(self) -> None:
        total = sum(self._sizes.values())
        while self._replicas and (total > REPLICA_BYTES or len(self._replicas) > MAX_REPLICAS):
            thread_id, _ = self._replicas.popitem(last=False)
            total -= self._sizes.pop(thread_id)
