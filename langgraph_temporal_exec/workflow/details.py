"""Workflow side: what Temporal's UI shows of a thread as its current details (Markdown)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from .core.thread_state import ThreadState

MAX_NODES = 20

T = TypeVar("T")


def current_details(state: ThreadState, graph: str = "") -> str:
    """Graph, status, run, nodes and size of a thread, one a line.

    Args:
        state: The thread, or a namespace of it.
        graph: Name of a namespace's graph; a thread knows its own.
    """
    lines = []
    if graph:
        lines.append(f"graph: **{graph}**")
    if state.root:
        lines += [
            f"graph: **{state.summary.graph or '(none yet)'}**",
            f"status: **{_status(state)}**",
        ]
    if state.active is not None:
        run = f"run: {state.active.run_id}, attempt {state.active.attempt}"
        lines.append(f"{run}, {state.active.checkpoints} checkpoints so far")
    nodes = _counted(spec.node for spec in state.running.values())
    if nodes:
        shown = [f"{name} (x{n})" if n > 1 else name for name, n in nodes[:MAX_NODES]]
        more = ", ..." if len(nodes) > MAX_NODES else ""
        lines.append(f"nodes: {', '.join(shown)}{more}")
        lines += _elsewhere(state)
        lines.append(f"step: {max(spec.step for spec in state.running.values())}")
    elif state.summary.asks and state.active is None:
        lines.append(f"waits for an answer to: {', '.join(state.summary.asks)}")
    at_s = state.next_deadline()
    if at_s is not None:
        lines.append(f"answers itself at: {_time(at_s)}")
    if state.home is not None:
        lines.append(f"home: worker {state.home.worker}, since {_time(state.home.since_s)}")
        if state.home.moved_from:
            lines.append(f"moved there from worker {state.home.moved_from}, where its files stayed")
    if state.waiting:
        lines.append(f"run queue: {len(state.waiting)}")
    lines.append(f"log: {state.log.size:,} bytes, {len(state.log.segments)} archives")
    return "\n\n".join(lines)


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(" ", "seconds")


def _elsewhere(state: ThreadState) -> list[str]:
    """Which of the nodes are for other workers: they may wait for one."""
    placed = _counted((s.node, s.queue) for s in state.running.values() if s.parcel)
    shown = [f"{node} on {queue}" for (node, queue), _ in placed[:MAX_NODES]]
    return [f"for other workers: {', '.join(shown)}"] if shown else []


def _counted(items: Iterable[T]) -> list[tuple[T, int]]:
    """What there is, and how often; the most frequent first.

    Not a ``Counter``: that asks ``isinstance``, which is slow in Temporal's sandbox, and this runs
    in every superstep.
    """
    counts: dict[T, int] = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return sorted(counts.items(), key=lambda found: -found[1])


def _status(state: ThreadState) -> str:
    if state.active is not None:
        return "busy"
    return state.status if state.status in ("interrupted", "error", "lost") else "idle"
