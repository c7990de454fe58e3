"""What LangGraph's own in-memory saver holds after the same calls, and calls to make."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from tests.support.world import THREAD

DELTAS = {"d1": 2, "d2": 3}
"""DeltaChannels, and after how many updates each stores a snapshot."""


def text(seed: int, size: int) -> str:
    """Text that does not compress and is like no other."""
    blocks = [hashlib.sha256(f"{seed}.{i}".encode()).hexdigest() for i in range(size // 64 + 1)]
    return "".join(blocks)[:size]


DOCS = [text(1, 700) + f"version {i}" + text(2, 300) for i in range(3)]


@dataclass(frozen=True, kw_only=True)
class Put:
    """A call of ``put``."""

    ns: str
    parent: str | None
    checkpoint: dict[str, Any]
    metadata: dict[str, Any]
    versions: dict[str, str]

    @property
    def config(self) -> Any:
        return address(self.ns, self.parent)


@dataclass(frozen=True, kw_only=True)
class Writes:
    """A call of ``put_writes``."""

    ns: str
    checkpoint_id: str
    writes: tuple[tuple[str, Any], ...]
    task_id: str
    task_path: str = ""

    @property
    def config(self) -> Any:
        return address(self.ns, self.checkpoint_id)


Call = Put | Writes


def address(ns: str, checkpoint_id: str | None = None) -> Any:
    """A config."""
    configurable = {"thread_id": THREAD, "checkpoint_ns": ns}
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


@dataclass
class Model:
    """A thread in LangGraph's own saver. Nothing leaves it: dropping hides."""

    full: InMemorySaver = field(default_factory=InMemorySaver)
    dropped: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    ids: int = 1_000
    versions: int = 0

    def apply(self, call: Call) -> None:
        """The same call on LangGraph's saver."""
        if isinstance(call, Put):
            self.full.put(call.config, call.checkpoint, call.metadata, call.versions)  # type: ignore[arg-type] # dict is invariant
        else:
            self.full.put_writes(call.config, call.writes, call.task_id, call.task_path)

    def with_calls(self, calls: list[Call]) -> Model:
        """The same thread after more calls."""
        full = InMemorySaver()
        for ns, stored in self.full.storage[THREAD].items():
            full.storage[THREAD][ns] = dict(stored)
        full.writes.update({k: dict(v) for k, v in self.full.writes.items()})
        full.blobs = dict(self.full.blobs)
        other = Model(full=full, dropped=self.dropped)
        for call in calls:
            other.apply(call)
        return other

    def view(self) -> InMemorySaver:
        """The saver without what was dropped."""
        shown = InMemorySaver()
        for ns, stored in self.full.storage[THREAD].items():
            live = {k: v for k, v in stored.items() if k not in self.dropped[ns]}
            shown.storage[THREAD][ns] = live
        shown.writes = self.full.writes
        shown.blobs = self.full.blobs
        return shown

    def close(self, ns: str) -> None:
        """Nothing of a namespace is left."""
        self.full.storage[THREAD].pop(ns, None)
        self.dropped.pop(ns, None)
        for key in [k for k in self.full.writes if k[1] == ns]:
            del self.full.writes[key]

    def namespaces(self) -> list[str]:
        return sorted(self.full.storage[THREAD])

    def live(self, ns: str) -> list[str]:
        """Checkpoints that are there, oldest first."""
        return sorted(self.full.storage[THREAD].get(ns, {}).keys() - self.dropped[ns])

    def children(self, ns: str, checkpoint_id: str) -> bool:
        stored = self.full.storage[THREAD].get(ns, {})
        return any(parent == checkpoint_id for _, _, parent in stored.values())

    def rebuilt(self, ns: str, checkpoint_id: str) -> list[str]:
        """The channels of a checkpoint whose value LangGraph asks the history for."""
        found = self.full.get_tuple(address(ns, checkpoint_id))
        assert found is not None
        versions = found.checkpoint["channel_versions"]
        values = found.checkpoint["channel_values"]
        return [c for c in DELTAS if c in versions and c not in values]

    # -- new calls ----------------------------------------------------------------------------

    def next_id(self, *, skew: int = 0) -> str:
        """An id for a checkpoint. ``skew``: its writer's clock is behind."""
        self.ids += 100
        return f"{self.ids - skew:08}"

    def put(
        self, ns: str, parent: str | None, changes: Mapping[str, Any], checkpoint_id: str
    ) -> Put:
        """A checkpoint as LangGraph makes it from its parent.

        ``changes`` are new values of channels; ``None`` leaves a channel without a value.
        """
        found = self.full.get_tuple(address(ns, parent)) if parent else None
        versions: dict[str, Any] = dict(found.checkpoint["channel_versions"]) if found else {}
        held = dict(found.checkpoint["channel_values"]) if found else {}
        values = {c: v for c, v in held.items() if c not in DELTAS}
        counters: dict[str, Any] = {}
        earlier = dict(found.metadata.get("counters_since_delta_snapshot") or {}) if found else {}
        new: dict[str, str] = {}
        written = {c for _, c, _ in (found.pending_writes or ())} if found else set()
        for channel, every in DELTAS.items():
            updates, steps = earlier.get(channel, (0, 0))
            counters[channel] = (updates + (channel in written), steps + 1)
            if channel in written:
                new[channel] = self._version(versions.get(channel))
            if counters[channel][0] >= every and (channel in versions or channel in new):
                new[channel] = new.get(channel) or self._version(versions.get(channel))
                values[channel] = _DeltaSnapshot([f"up to {checkpoint_id}", text(self.ids, 250)])
                del counters[channel]
        for channel, value in changes.items():
            new[channel] = self._version(versions.get(channel))
            values.pop(channel, None)
            if value is not None:
                values[channel] = value
        return Put(
            ns=ns,
            parent=parent,
            checkpoint={
                "v": 4,
                "ts": f"2024-01-01T00:00:00.{checkpoint_id}",
                "id": checkpoint_id,
                "channel_values": values,
                "channel_versions": {**versions, **new},
                "versions_seen": {"node": versions},
                "updated_channels": sorted(new),
            },
            metadata={
                "source": "loop",
                "step": int(checkpoint_id),
                "parents": {},
                "note": text(3, 300) + checkpoint_id,
                **({"counters_since_delta_snapshot": counters} if counters else {}),
            },
            versions=new,
        )

    def _version(self, current: str | None) -> str:
        self.versions += 1
        number = 0 if current is None else int(current.split(".")[0])
        return f"{number + 1:032}.{self.versions:016}"
