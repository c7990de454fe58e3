"""A worker and callers as processes, set up by users' means: spans and log records go to files."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import operator
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from temporalio import activity
from temporalio.client import Client
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from langgraph_temporal_exec import RunLogFilter, TemporalSaver

READY = "observed worker serves"
FOLDER = "OBSERVED_FOLDER"
HOLD = "to be held"
FIELDS = ("thread_id", "run_id", "attempt", "node", "step")

tracer = trace.get_tracer(__name__)
logger = logging.getLogger("a.program.of.the.user")


class State(TypedDict):
    x: Annotated[list[str], operator.add]


def _at(node: str) -> State:
    """What every node does."""
    with tracer.start_as_current_span(f"node:{node}"):
        logger.info("in %s", node)
    return {"x": [node]}


async def think(state: State) -> State:
    return _at("think")


async def with_temporals_logger(state: State) -> State:
    activity.logger.info("in with_temporals_logger")
    return _at("with_temporals_logger")


def plain(state: State) -> State:
    return _at("plain")


async def hold(state: State) -> State:
    """Waits for a file, when the input asks for it."""
    if HOLD in state["x"]:
        folder = Path(os.environ[FOLDER])
        (folder / f"holding-{os.getpid()}").touch()
        while not (folder / "go").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.05)
    return _at("hold")


async def deep(state: State) -> State:
    return _at("deep")


def deep_sync(state: State) -> State:
    return _at("deep_sync")


def observed() -> Any:
    """Async and sync nodes, also in a sub-graph, and two at once."""
    inner = StateGraph(State).add_sequence([deep, deep_sync]).add_edge(START, "deep").compile()
    return (
        StateGraph(State)
        .add_sequence([think, with_temporals_logger, hold])
        .add_node("plain", plain)
        .add_node("inner", inner)
        .add_edge(START, "think")
        .add_edge("hold", "plain")
        .add_edge("hold", "inner")
        .compile(name="observed")
    )


NODES = ["think", "with_temporals_logger", "hold", "plain", "deep", "deep_sync"]


def plain_nodes() -> Any:
    """Sync nodes only, as a caller without an event loop has them."""
    inner = StateGraph(State).add_sequence([deep_sync]).add_edge(START, "deep_sync").compile()
    return (
        StateGraph(State)
        .add_node("plain", plain)
        .add_node("inner", inner)
        .add_edge(START, "plain")
        .add_edge("plain", "inner")
        .compile(name="plain_nodes")
    )


class _ToFile(SpanExporter):
    """One line of JSON per span, whole lines from all processes of a test."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._lock:
            for span in spans:
                line = {
                    "name": span.name,
                    "trace": span.context.trace_id,
                    "id": span.context.span_id,
                    "parent": span.parent.span_id if span.parent else None,
                    "pid": os.getpid(),
                }
                self._file.write(json.dumps(line) + "\n")
        return SpanExportResult.SUCCESS


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "logger": record.name,
            "level": record.levelname,
            "text": record.getMessage(),
            "pid": os.getpid(),
            **{name: getattr(record, name, "missing") for name in FIELDS},
        }
        return json.dumps(line)


def _set_up(folder: Path) -> None:
    """What a program does once for its spans and its log records."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_ToFile(folder / "spans.jsonl")))
    trace.set_tracer_provider(provider)
    handler = logging.FileHandler(folder / "records.jsonl")
    handler.setFormatter(_Json())
    handler.addFilter(RunLogFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


async def _saver(args: argparse.Namespace) -> TemporalSaver:
    options: dict[str, Any] = {}
    if args.metrics:
        metrics = PrometheusConfig(bind_address=args.metrics)
        options["runtime"] = Runtime(telemetry=TelemetryConfig(metrics=metrics))
    client = await Client.connect(
        args.address, interceptors=[TracingInterceptor()], lazy=args.lazy, **options
    )
    return TemporalSaver(
        client,
        task_queue=args.task_queue,
        id_prefix=args.task_queue,
        heartbeat_timeout=timedelta(seconds=3),
    )


async def work(args: argparse.Namespace) -> None:
    """Serve until the input ends."""
    async with (await _saver(args)).worker(observed(), plain_nodes()):
        print(READY, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def call(args: argparse.Namespace) -> None:
    """One call after the other on one thread, each in a span."""
    saver = await _saver(args)
    graph = observed().with_config(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t"}}
    given: Any = {"x": [args.input]}
    async with saver.worker() if args.host else nullcontext():
        for number in range(args.calls):
            with tracer.start_as_current_span(f"call {number}"):
                if args.how == "ainvoke":
                    await graph.ainvoke(given, config)
                else:
                    run = await saver.astart(graph, given, config)
                    await run.aresult()
    saver.close()


def call_sync(args: argparse.Namespace) -> None:
    """The same from code without an event loop."""
    saver = asyncio.run(_saver(args))
    graph = plain_nodes().with_config(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t"}}
    with saver.worker() if args.host else nullcontext():
        for number in range(args.calls):
            with tracer.start_as_current_span(f"call {number}"):
                graph.invoke({"x": [args.input]}, config)
    saver.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["work", "call"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--how", default="ainvoke")
    parser.add_argument("--input", default="in")
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--host", action="store_true")
    parser.add_argument("--lazy", action="store_true")
    parser.add_argument("--metrics")
    args = parser.parse_args()
    _set_up(Path(os.environ[FOLDER]))
    if args.how == "invoke":
        call_sync(args)
    else:
        asyncio.run({"work": work, "call": call}[args.what](args))


if __name__ == "__main__":
    main()
