"""The debugging page in a real browser, on a real `langgraph dev`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from langgraph_temporal_exec import TemporalSaver
from tests.studio.browser import Browser, chromium
from tests.studio.dev import DevServer
from tests.studio.graphs import broken, flow, parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def _config(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


def _steps(browser: Browser) -> list[str]:
    """The timeline's first two columns."""
    return [
        " ".join(cell.text for cell in row.find_elements("css selector", "td")[:2])
        for row in browser.all("#timeline tr")
    ]


async def test_resume_and_fork(
    browser: Browser, dev_server: DevServer, sdk: LangGraphClient, script: TemporalSaver
) -> None:
    native = f"order {uuid.uuid4().hex}"
    evil = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    graph = flow.with_config(checkpointer=script)
    await graph.ainvoke({"steps": [evil]}, _config(native))
    await sdk.threads.get(native)

    def look() -> None:
        browser.open(f"{dev_server.url}/debug")
        browser.press("Refresh")
        assert "interrupted" in browser.choose(native, "#threads")
        # The timeline, newest first; the question; the task that asks it.
        browser.says("approve?", "#asks")
        assert browser.text("#name") == native
        assert native in browser.text("#threads [aria-current=true]")
        assert _steps(browser) == ["1 loop", "0 loop", "-1 input"]
        assert "asks: approve?" in browser.text("#timeline tr:first-child")
        assert "wrote steps" in browser.text("#timeline tr:nth-child(2)")
        assert browser.text("#timeline tr:first-child td:nth-child(4)").endswith("s")
        assert browser.text("#changes") == "steps\n+ streamed"
        # What threads contain is text.
        browser.press("Checkpoint of step 0")
        browser.says(evil, "#changes")
        assert browser.driver.title == "Threads in Temporal"
        assert not browser.all("#thread img, #thread script")

        browser.type("Answer", "looks good")
        browser.press("Resume")
        browser.until(lambda: "idle" in browser.text("#about"))
        browser.until(lambda: not browser.all("#asks form"))
        assert browser.text("#changes") == "steps\n+ last"
        assert _steps(browser)[:2] == ["3 loop", "2 loop"]
        browser.press("Checkpoint of step 2")
        browser.says("+ approve=looks good", "#changes")

        # A fork at the checkpoint before the question, which is then asked again.
        browser.press("Checkpoint of step 1")
        browser.type("Update", '{"steps": ["forked"]}')
        browser.press("Fork and run")
        browser.says("approve?", "#asks")
        browser.until(lambda: "2 update (fork)" in _steps(browser))
        browser.says("+ forked", "#changes")

        # What the server refuses is told.
        browser.type("Update", "{")
        browser.press("Fork")
        browser.says("The update is no JSON", "#problem")
        browser.type("Update", '{"steps": []}')
        browser.type("As node", "nobody")
        browser.press("Fork")
        browser.says("nobody", "#problem")
        assert browser.text("#problem").startswith("POST /threads/")

    await asyncio.to_thread(look)
    state = await graph.aget_state(_config(native))
    assert state.values["steps"] == [evil, "streamed", "forked"]
    assert state.next == ("ask",)
    # The refused request is all the console complains of.
    assert all("/state" in line for line in browser.complaints())


async def test_errors_and_sub_agents(
    browser: Browser, dev_server: DevServer, sdk: LangGraphClient, script: TemporalSaver
) -> None:
    failed, nested = (f"{name} {uuid.uuid4().hex}" for name in ("failed", "nested"))
    with pytest.raises(ValueError, match="no such order"):
        await broken.with_config(checkpointer=script).ainvoke({}, _config(failed))
    await parent.with_config(checkpointer=script).ainvoke({}, _config(nested))
    for native in (failed, nested):
        await sdk.threads.get(native)

    def look() -> None:
        browser.open(f"{dev_server.url}/debug/#{failed}")
        browser.says("no such order", "#timeline .error")
        assert "error" in browser.text("#about")

        browser.open(f"{dev_server.url}/debug/#{nested}")
        browser.says("inner?", "#asks")
        browser.press("Open sub-agent")
        browser.says("Sub-agent child:", "#namespace")
        browser.until(lambda: _steps(browser) == ["1 loop", "0 loop", "-1 input"])
        assert "asks: inner?" in browser.text("#timeline tr:first-child")
        assert browser.text("#changes") == "steps\n+ prepared"
        browser.press("Back to the thread")
        browser.until(lambda: _steps(browser) == ["0 loop", "-1 input"])
        browser.type("Answer", "7")
        browser.press("Resume")
        browser.until(lambda: "idle" in browser.text("#about"))
        # JSON is taken as such.
        browser.until(lambda: browser.text("#changes") == "steps\n+ after")
        assert '"inner=7"' in browser.driver.find_element("id", "values").get_attribute(
            "textContent"
        )

    await asyncio.to_thread(look)
    assert not browser.complaints()


def test_headers(dev_server: DevServer) -> None:
    for path, kind in (("", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css")):
        reply = httpx.get(f"{dev_server.url}/debug/{path}")
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith(kind)
        assert "default-src 'none'; script-src 'self'" in reply.headers["content-security-policy"]
        assert "//" not in reply.text.replace("// ", ""), "something is loaded from elsewhere"
