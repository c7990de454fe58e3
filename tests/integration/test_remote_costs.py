"""What a call costs whose graph runs in another process: its result once, and what changed."""

from __future__ import annotations

import asyncio
import random
from typing import Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol.messages import MailItem, MailStatus
from langgraph_temporal_exec.worker import relay
from langgraph_temporal_exec.workflow import mailbox_sinks
from tests.support.graphs import config
from tests.support.joined import is_joined

STEPS = 6
BLOB = 2_000_000
"""More than the outcome of a run has room for."""

SMALL = 100_000


def text(size: int) -> str:
    """So many characters in which nothing repeats; compressed, they are a little more than half."""
    return random.Random(size).randbytes(size // 2).hex()


class State(TypedDict, total=False):
    n: int
    blob: str


def _counts() -> Any:
    def step(state: State) -> State:
        return {"n": state.get("n", 0) + 1}

    builder = StateGraph(State).add_node("step", step).add_edge(START, "step")
    builder.add_conditional_edges("step", lambda s: "step" if s["n"] % STEPS else END)
    return builder.compile(name="counts")


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what arrives in the mailbox of this process."""
    sizes: list[int] = []
    deliver = mailbox_sinks.deliver

    def counted(stream_id: str, items: tuple[MailItem, ...]) -> MailStatus:
        # That of the end may come when its call has returned.
        sizes.extend(len(item.data) for item in items if not item.end)
        return deliver(stream_id, items)

    monkeypatch.setattr(mailbox_sinks, "deliver", counted)
    monkeypatch.setattr("langgraph_temporal_exec.workflow.mailbox.deliver_to_sink", counted)
    return sizes


async def test_a_result_is_sent_once(client: Client, task_queue: str, delivered: list[int]) -> None:
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    other = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = _counts().with_config(checkpointer=caller)
    async with host.worker(_counts()):
        for size in (SMALL, BLOB):
            where = config(str(size))
            expected = {"n": STEPS, "blob": text(size)}
            assert await graph.ainvoke({"blob": expected["blob"]}, where) == expected
            assert 0.5 * size < sum(delivered) < 0.7 * size
            delivered.clear()
            # The next one is the difference to what this caller has.
            assert await asyncio.to_thread(graph.invoke, {"n": 0}, where) == expected
            assert sum(delivered) < 2_000
            delivered.clear()
            changed = {"n": 0, "blob": "new " + expected["blob"]}
            assert await graph.ainvoke(changed, where) == {**changed, "n": STEPS}
            assert sum(delivered) < 2_000
            delivered.clear()
            # Another caller has nothing, and changes it behind the back of the first.
            assert await _counts().with_config(checkpointer=other).ainvoke(expected, where)
            assert 0.5 * size < sum(delivered) < 0.7 * size
            delivered.clear()
            assert await graph.ainvoke({"n": 0}, where) == expected
            assert 0.5 * size < sum(delivered) < 0.7 * size
            delivered.clear()
            run = await caller.astart(_counts(), {"n": 0}, where)
            assert await run.aresult() == expected
            # From the record of the run, or the thread, not from a stream.
            assert delivered == []
    async with host.worker(_counts()):
        # Another worker has nothing either.
        assert await graph.ainvoke({"n": 0}, where) == expected
        assert 0.5 * size < sum(delivered) < 0.7 * size
    caller.close()
    other.close()


@pytest.mark.parametrize("options", [{"version": "v1"}, {"version": "v2"}], ids=["v1", "v2"])
async def test_a_stream_of_values_sends_what_changed(
    client: Client, task_queue: str, delivered: list[int], options: Any
) -> None:
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    modes: list[Any] = ["values", ["values", "updates"]]
    async with host.worker(_counts()):
        for i, mode in enumerate(modes):
            remote = _counts().with_config(checkpointer=caller)
            here = _counts().with_config(checkpointer=host)
            given: Any = {"blob": text(BLOB)}
            delivered.clear()
            stream = remote.astream(given, config(f"r{i}"), stream_mode=mode, **options)
            chunks = [chunk async for chunk in stream]
            assert 0.5 * BLOB < sum(delivered) < 0.7 * BLOB
            stream = here.astream(given, config(f"h{i}"), stream_mode=mode, **options)
            assert chunks == [chunk async for chunk in stream]
            # The values before the first step, then one after each.
            whole = [chunk for chunk in chunks if "blob" in str(chunk)[:100]]
            assert len(whole) == STEPS + 1
            # What this caller has from the last run is not sent again by the next one.
            delivered.clear()
            again = remote.astream({"n": 0}, config(f"r{i}"), stream_mode=mode, **options)
            chunks = [chunk async for chunk in again]
            assert sum(delivered) < 20_000
            stream = here.astream({"n": 0}, config(f"h{i}"), stream_mode=mode, **options)
            assert chunks == [chunk async for chunk in stream]
    caller.close()


async def test_who_joins_a_run_gets_what_changed_too(
    client: Client, task_queue: str, delivered: list[int]
) -> None:
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    go = asyncio.Event()

    async def wait(state: State) -> State:
        await go.wait()
        return {"n": 0}

    def step(state: State) -> State:
        return {"n": state["n"] + 1}

    builder = StateGraph(State).add_node("wait", wait).add_node("step", step)
    builder.add_edge(START, "wait").add_edge("wait", "step")
    builder.add_conditional_edges("step", lambda s: "step" if s["n"] % STEPS else END)
    graph = builder.compile(name="waits")
    async with host.worker(graph):
        run = await caller.astart(graph, {"blob": text(BLOB)}, config("t"))
        stream = run.astream()
        first = asyncio.ensure_future(anext(stream))
        async with asyncio.timeout(60):
            while not await is_joined(client, f"{task_queue}/run/{run.run_id}"):  # noqa: ASYNC110 # a server has no event
                await asyncio.sleep(0.05)
        go.set()
        chunks = [await first] + [chunk async for chunk in stream]
        assert chunks
        values = [payload for mode, payload in chunks if mode == "values"]
        assert values[-1] == {"n": STEPS, "blob": text(BLOB)}
        assert sum(delivered) < 0.7 * BLOB
    caller.close()


async def test_what_was_known_gives_way_to_the_first_chunk(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the next one is too large to be kept: what follows is no difference to either."""
    monkeypatch.setattr(relay, "KEPT_BYTES", 60_000)
    sizes = (40_000, 100_000, 40_100)

    def build() -> Any:
        def step(state: State) -> State:
            n = state["n"]
            return {"n": n + 1, "blob": text(sizes[n])}

        builder = StateGraph(State).add_node("step", step).add_edge(START, "step")
        builder.add_conditional_edges("step", lambda s: "step" if s["n"] < len(sizes) else END)
        return builder.compile(name="sizes")

    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = build().with_config(checkpointer=caller)
    async with host.worker(build()):
        for _ in range(2):
            stream = graph.astream({"n": 0}, config("t"), stream_mode="values")
            got = [chunk["blob"] async for chunk in stream if chunk["n"]]
            assert got == [text(size) for size in sizes]
    caller.close()
