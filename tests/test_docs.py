"""Code in docs/ that no other test runs does what it says."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk", reason="not for the lowest versions")

from tests.conftest import TemporalServer
from tests.studio.dev import free_port
from tests.test_readme import run

DOCS = Path(__file__).parents[1] / "docs"


def test_observability(temporal_server: TemporalServer, tmp_path: Path) -> None:
    """The examples in one program: a node logs with its place, and metrics are served."""
    text = (DOCS / "observability.md").read_text(encoding="utf-8")
    logs, traces, metrics = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    port = free_port()
    connects = textwrap.indent(f"{traces}\n{metrics}", "    ")
    assert connects.count("localhost:7233") == 2
    assert connects.count("127.0.0.1:9464") == 1
    connects = connects.replace("localhost:7233", temporal_server.address)
    connects = connects.replace("127.0.0.1:9464", f"127.0.0.1:{port}")
    program = f"""
import asyncio, logging, sys, urllib.request
from langgraph.graph import START, MessagesState, StateGraph
from temporalio.client import Client
{logs}
handler.setStream(sys.stdout)

def node(state):
    logging.getLogger("mine").info("seen")

StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile().invoke({{}})

async def main():
{connects}
    assert await client.service_client.check_health()
    served = await asyncio.to_thread(urllib.request.urlopen, "http://127.0.0.1:{port}/metrics")
    print("temporal_request" in served.read().decode())

asyncio.run(main())
"""
    (tmp_path / "program.py").write_text(program)
    said = run("program.py", tmp_path).splitlines()
    assert "seen None None node 1" in said
    assert said[-1] == "True"
