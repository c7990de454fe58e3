"""OpenTelemetry in the caller's process shows the same spans, wherever the worker is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_temporal_exec import TemporalSaver
from tests.parity.catalogue import SCENARIOS

pytest.importorskip("openinference.instrumentation.langchain", reason="not for the lowest versions")

from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Collects the spans of this process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter
    instrumentor.uninstrument()


async def _spans(exporter: InMemorySpanExporter, saver: Any) -> list[Any]:
    """Each span with its ancestors, status and what it was given."""
    exporter.clear()
    graph = SCENARIOS["traced"].graph(saver)
    with pytest.raises(ValueError, match="at the end"):
        await graph.ainvoke(
            {"messages": [("user", "hello")]}, {"configurable": {"thread_id": "traced"}}
        )
    spans = {span.context.span_id: span for span in exporter.get_finished_spans()}

    def path(span: Any) -> str:
        above = path(spans[span.parent.span_id]) if span.parent else ""
        return f"{above}/{span.name}"

    return sorted(
        (path(s), s.status.status_code.name, (s.attributes or {}).get("openinference.span.kind"))
        for s in spans.values()
    )


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_same_spans(saver: TemporalSaver, exporter: InMemorySpanExporter, mode: str) -> None:
    expected = await _spans(exporter, InMemorySaver())
    assert any(path.endswith("/think/GenericFakeChatModel") for path, *_ in expected)
    assert any(status == "ERROR" for _, status, _ in expected)
    assert await _spans(exporter, saver) == expected
