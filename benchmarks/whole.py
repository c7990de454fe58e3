"""Benchmark baseline: what the same chat takes when channels are stored whole, as plain savers do.

Counted on LangGraph's own ``InMemorySaver``, which keeps serialized bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.shapes.long_thread import Kind

THREAD = "1"


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Bytes of one chat, serialized by ``JsonPlusSerializer``."""

    checkpoints: int
    bodies: int  # checkpoints without channels, and their metadata
    channels: int  # values that are new in a checkpoint; a DeltaChannel as any other
    plain: int  # bodies, and channels as the saver keeps them: a DeltaChannel as snapshots
    writes: int  # of tasks, which savers keep as well

    @property
    def total(self) -> int:
        """Checkpoints only: what a task wrote is in the next of them."""
        return self.bodies + self.channels


async def whole(kind: Kind, turns: int) -> Whole:
    """Have the chat on ``InMemorySaver`` and count."""
    saver = InMemorySaver()
    graph = kind.builder.compile(checkpointer=saver)
    config: RunnableConfig = {"configurable": {"thread_id": THREAD}}
    for turn in range(turns):
        await graph.ainvoke(kind.say(turn), config)
    bodies = channels = plain = 0
    stored = {key: len(data) for key, (_, data) in saver.blobs.items()}
    plain += sum(stored.values())
    channels += plain
    seen: set[tuple[str, str]] = set()
    states = [state async for state in graph.aget_state_history(config)]
    checkpoints = saver.storage[THREAD][""]
    for state in reversed(states):
        body, metadata, _ = checkpoints[state.config["configurable"]["checkpoint_id"]]
        bodies += len(body[1]) + len(metadata[1])
        versions = saver.serde.loads_typed(body)["channel_versions"]
        for channel, version in versions.items():
            if (channel, str(version)) in seen:
                continue
            seen.add((channel, str(version)))
            # A DeltaChannel has a version here, and its value elsewhere.
            if not stored.get((THREAD, "", channel, version)) and channel in state.values:
                channels += len(saver.serde.dumps_typed(state.values[channel])[1])
    writes = sum(
        len(data) for by_task in saver.writes.values() for *_, (_, data), _ in by_task.values()
    )
    return Whole(
        checkpoints=len(states),
        bodies=bodies,
        channels=channels,
        plain=plain + bodies,
        writes=writes,
    )
