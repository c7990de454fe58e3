"""Benchmark of threads that grow: bytes a turn adds, bytes a cold process reads, its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, cast

from langchain_core.messages import HumanMessage
from rich import box
from rich.console import Console
from rich.table import Table
from temporalio.client import Client

from benchmarks import report
from benchmarks.cold import prefix_of, read_cold, saver_of
from benchmarks.history import ARCHIVE, ROLL, Ledger, Recorder, ledger
from benchmarks.report import Json
from benchmarks.server import LabError, flags, open_server
from benchmarks.shapes.long_thread import KINDS, Kind, text
from benchmarks.whole import whole
from langgraph_temporal_exec.storage.blobs import CACHE_BYTES
from langgraph_temporal_exec.storage.replica import REPLICA_BYTES

SHORT = 50
WINDOW = 25
"""Turns that are averaged, at the beginning and at the end: deepagents' DeltaChannels make a
snapshot every 50 updates, which is every 25 turns here, so each window has one."""

GROWTH_AT_MOST = 1.3
SHARE_AT_MOST = 0.25
"""Of a late turn against an early one, and of a short chat against whole channels."""

FEW, MANY = 10, 40
LARGE = KINDS[0]
LARGE_MESSAGES = 50
LARGE_MESSAGE = 100_000
"""Threads of 5 MB each, which one process reads one after the other."""

MEMORY_BYTES = REPLICA_BYTES + CACHE_BYTES
MEMORY_STATES = 10
"""A process that reads many threads may grow by what it keeps, and by a few states it works on."""

THREAD = "chat"
SAY_EVERY = 100

Say = Callable[[str], None]


def growth(book: Ledger) -> dict[str, Json]:
    """The first turns against the last ones; field names say what is left out."""
    windows = {"early": (1, WINDOW), "late": (book.turns - WINDOW + 1, book.turns)}
    result: dict[str, Json] = {
        f"turns_{name}": f"{first}-{last}" for name, (first, last) in windows.items()
    }
    for suffix, series in (
        ("", book.shared()),
        ("_without_runs", book.shared(runs=False)),
        ("_as_written", book.fell()),
        ("_without_runs_as_written", book.fell(runs=False)),
    ):
        means = [sum(series[first - 1 : last]) / WINDOW for first, last in windows.values()]
        for name, mean in zip(windows, means, strict=True):
            result[f"bytes_{name}{suffix}"] = round(mean)
        result[f"ratio{suffix}"] = round(means[1] / means[0], 3)
    written = book.fell()
    result["bytes_as_written_by_100"] = {
        f"{at + 1}-{at + 100}": round(sum(written[at : at + 100]) / 100)
        for at in range(0, book.turns - 99, 100)
    }
    for name, (first, last) in windows.items():
        labels = book.by_label(first, last)
        result[f"by_event_{name}"] = {label: round(size) for label, size in labels.items()}
    return result


async def measure_kind(address: str, kind: Kind, turns: int, say: Say) -> dict[str, Json]:
    """All numbers of one kind of state: a chat, one ``ainvoke`` per turn, the worker in here."""
    recorder = Recorder(prefix_of(kind), await Client.connect(address))
    saver = saver_of(kind, await Client.connect(address, interceptors=[recorder]))
    graph = kind.graph.with_config(checkpointer=saver)
    async with saver.worker(kind.graph):
        for turn in range(turns):
            recorder.turn_begins()
            await graph.ainvoke(kind.say(turn), {"configurable": {"thread_id": THREAD}})
            if (turn + 1) % SAY_EVERY == 0:
                say(f"{kind.name}: {turn + 1} turns")
        book = await ledger(recorder)
        cold = await measure_cold(address, kind, book)
        say(f"{kind.name}: read")
    return {
        "growth": growth(book),
        "made_for_many_turns": {
            cycle: {turn: {**parts} for turn, parts in book.sizes(cycle).items()}
            for cycle in (ARCHIVE, ROLL)
        },
        "short": await short(kind, book),
        "cold": cold,
        "temporal": {
            "executions": book.executions,
            "written_bytes": book.total(turns),
            "removed_bytes": book.removed,
            "history_size_bytes": book.server_bytes,
        },
    }


async def short(kind: Kind, book: Ledger) -> dict[str, Json]:
    """The first turns against the same chat with channels stored whole."""
    turns = min(SHORT, book.turns)
    baseline = await whole(kind, turns)
    total = sum(book.shared()[:turns])
    return {
        "turns": turns,
        "total_bytes": round(total),
        "total_as_written_bytes": book.total(turns),
        "whole_bytes": baseline.total,
        "total_to_whole": round(total / baseline.total, 3),
        "whole_parts": asdict(baseline),
    }


async def measure_cold(address: str, kind: Kind, book: Ledger) -> dict[str, Json]:
    """What a fresh process receives, against the state and against all that is stored."""
    try:
        head = await read_cold(address, kind, [THREAD])
        everything = await read_cold(address, kind, [THREAD], history=True)
    except LabError as exc:
        return {"error": str(exc)}
    log = book.total(book.turns, runs=False) - book.removed
    return {
        "head_received_bytes": head.received,
        "state_bytes": head.state,
        "log_bytes": log,
        "head_to_state": round(head.received / head.state, 3),
        "head_to_log": round(head.received / log, 3),
        "history_received_bytes": everything.received,
        "history_states": everything.states,
        "history_to_log": round(everything.received / log, 3),
    }


async def measure_memory(address: str, say: Say) -> dict[str, Json]:
    """One process reads the heads of few large threads, another one of many."""
    saver = saver_of(LARGE, await Client.connect(address))
    graph = LARGE.graph.with_config(checkpointer=saver)
    threads = [f"large-{number}" for number in range(MANY)]
    async with saver.worker(LARGE.graph):
        for thread in threads:
            messages = [HumanMessage(text(LARGE_MESSAGE)) for _ in range(LARGE_MESSAGES)]
            await graph.aupdate_state(
                {"configurable": {"thread_id": thread}}, {"messages": messages}, as_node="reply"
            )
        try:
            few = await read_cold(address, LARGE, threads[:FEW])
            many = await read_cold(address, LARGE, threads)
        except LabError as exc:
            return {"error": str(exc)}
        say("memory: read")
    return {
        "state_bytes": many.state,
        "replicas_limit_bytes": REPLICA_BYTES,
        "blob_cache_limit_bytes": CACHE_BYTES,
        **{
            f"{number}_threads": {
                "received_bytes": reading.received,
                "replicas_bytes": reading.replicas,
                "peak_rss_growth_bytes": reading.peak_growth,
            }
            for number, reading in ((FEW, few), (MANY, many))
        },
    }


def notices(kinds: dict[str, dict[str, Any]], memory: dict[str, Json]) -> list[str]:
    """Targets that were missed, and what could not be measured."""
    lines = []
    for name, numbers in kinds.items():
        growth, short = numbers["growth"], numbers["short"]
        for left_out in ("", "_without_runs"):
            ratio = growth[f"ratio{left_out}"]
            if ratio > GROWTH_AT_MOST:
                lines.append(
                    f"GROWS: a late turn of {name} takes {ratio:.2f}x an early one"
                    f"{left_out.replace('_', ' ')}, above {GROWTH_AT_MOST}x."
                )
        if short["total_to_whole"] > SHARE_AT_MOST:
            lines.append(
                f"LARGE: {short['turns']} turns of {name} take {short['total_to_whole']:.2f} of "
                f"what whole channels take, above {SHARE_AT_MOST}."
            )
        if error := numbers["cold"].get("error"):
            lines.append(f"NOT MEASURED TO THE END: {name}: {error}")
    many: Any = memory.get(f"{MANY}_threads")
    if many is not None:
        grown, state = many["peak_rss_growth_bytes"], cast(int, memory["state_bytes"])
        if grown > MEMORY_BYTES + MEMORY_STATES * state:
            lines.append(
                f"MEMORY: a process that read {MANY} threads of {state / 1e6:.0f} MB grew by "
                f"{grown / 1e6:.0f} MB; it is to keep {MEMORY_BYTES / 1e6:.0f} MB at most."
            )
    if error := memory.get("error"):
        lines.append(f"NOT MEASURED TO THE END: memory: {error}")
    return lines


def show(console: Console, turns: int, kinds: dict[str, dict[str, Any]]) -> None:
    """The table."""
    table = Table(
        title=f"long_thread: {turns} turns",
        caption="kB; archives are shared out over the turns they hold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,  # so that it fits 80 columns
    )
    table.add_column("state", no_wrap=True)
    headings = (
        *("early\nturn", "late\nturn", "late /\nearly", "short\n/ whole"),
        *("state", "cold\nread", "read /\nstate", "log", "history\nread"),
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, numbers in kinds.items():
        growth, cold = numbers["growth"], numbers["cold"]
        cells = [
            f"{growth['bytes_early'] / 1e3:.1f}",
            f"{growth['bytes_late'] / 1e3:.1f}",
            f"{growth['ratio']:.2f}",
            f"{numbers['short']['total_to_whole']:.2f}",
        ]
        if "error" not in cold:
            cells += [
                f"{cold['state_bytes'] / 1e3:,.0f}",
                f"{cold['head_received_bytes'] / 1e3:,.0f}",
                f"{cold['head_to_state']:.2f}",
                f"{cold['log_bytes'] / 1e3:,.0f}",
                f"{cold['history_received_bytes'] / 1e3:,.0f}",
            ]
        table.add_row(name, *cells)
    console.print(table)


async def measure(
    name: str, kinds: Sequence[Kind], turns: int, console: Console, *, server_file: bool
) -> dict[str, Json]:
    """Measure all kinds on one server, and sum up."""

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    results: dict[str, Any] = {}
    async with open_server(memory=not server_file) as server:
        version = server.version
        for kind in kinds:
            results[kind.name] = await measure_kind(server.address, kind, turns, say)
        memory = await measure_memory(server.address, say)
    show(console, turns, results)
    lines = notices(results, memory)
    for line in lines:
        console.print(line, style="bold red", markup=False, highlight=False)
    store = "file" if server_file else "memory"
    return {
        "schema": report.SCHEMA,
        "shape": name,
        "turns": turns,
        "environment": report.environment(version, store, flags("tuned", memory=not server_file)),
        "kinds": results,
        "memory": memory,
        "notices": lines,
    }
