"""The debugging page in a real browser, on a real `langgraph dev`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph.types import Command
from langgraph_sdk.client import LangGraphClient
from selenium.webdriver.remote.webelement import WebElement
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.storage import visibility
from tests.conftest import TemporalServer
from tests.studio import custom
from tests.studio.browser import Browser, chromium
from tests.studio.dev import DevServer, until
from tests.studio.graphs import LOOKUP_S, broken, counted, flow, gated, parent, researcher


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


@pytest.mark.long
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


def _row(browser: Browser, task: str) -> WebElement:
    """The timeline's newest row with a task."""
    return next(row for row in browser.all("#timeline tr") if task in row.text.split())


def _in_seconds(shown: str) -> float:
    value, unit = shown.split()
    return float(value) / {"s": 1, "ms": 1000}[unit]


def _seconds(browser: Browser, task: str) -> float:
    """What stands beside a task as its time."""
    (shown,) = [
        span.text
        for line in browser.all("#timeline .task")
        if line.find_element("css selector", "strong").text == task
        for span in line.find_elements("css selector", ".took")
    ]
    return _in_seconds(shown)


async def test_durations_and_sub_agents_of_tools(
    browser: Browser, dev_server: DevServer, script: TemporalSaver
) -> None:
    native = f"research {uuid.uuid4().hex}"
    graph = researcher.with_config(checkpointer=script)
    await graph.ainvoke({"messages": [("user", "tides")]}, _config(native))

    def look() -> None:
        browser.open(f"{dev_server.url}/debug/#{native}")
        browser.until(lambda: len(_steps(browser)) == 5)
        # Beside the task, in its own row: not in that of the one after it.
        assert _seconds(browser, "tools") >= LOOKUP_S
        cells = _row(browser, "tools").find_elements("css selector", "td")
        assert _in_seconds(cells[3].text) >= LOOKUP_S
        # The task that called it is where the sub-agent is.
        (button,) = browser.all("#timeline [data-namespace]")
        assert "tools" in button.find_element("xpath", "..").text
        button.click()
        browser.says("Sub-agent tools:", "#namespace")
        browser.until(lambda: _steps(browser) == ["2 loop", "1 loop", "0 loop", "-1 input"])
        assert _seconds(browser, "look_up") >= LOOKUP_S
        assert "wrote findings" in _row(browser, "read").text
        # With its own channels, also those that are rebuilt from writes.
        assert browser.text("#changes") == "findings\n+ notes from a book on tides"
        browser.press("Checkpoint of step 1")
        browser.says("+ a book on tides", "#changes")
        browser.press("Checkpoint of step 0")
        browser.says("+ tides", "#changes")
        # Nobody here has its graph.
        assert not browser.driver.find_element("id", "fork").is_displayed()
        browser.press("Back to the thread")
        browser.until(lambda: len(_steps(browser)) == 5)
        assert browser.driver.find_element("id", "fork").is_displayed()

    await asyncio.to_thread(look)
    assert not browser.complaints()


async def test_answer_that_the_node_cannot_take(
    browser: Browser, dev_server: DevServer, script: TemporalSaver
) -> None:
    native = f"boxes {uuid.uuid4().hex}"
    graph = counted.with_config(checkpointer=script)
    await graph.ainvoke({}, _config(native))

    def look() -> None:
        browser.open(f"{dev_server.url}/debug/#{native}")
        browser.says("how many boxes?", "#asks")
        browser.type("Answer", "a few")
        browser.press("Resume")
        browser.says("unsupported operand", "#asks form")
        assert "how many boxes?" in browser.text("#asks form")
        assert "unsupported operand" in browser.text("#asks .problem")
        # LangGraph keeps an answer that a node has taken: the question is asked anew.
        browser.press("Ask again")
        browser.until(lambda: browser.all("#asks form") and not browser.text("#asks .problem"))
        browser.type("Answer", "3")
        browser.press("Resume")
        browser.until(lambda: "idle" in browser.text("#about"))
        browser.until(lambda: not browser.all("#asks form"))

    await asyncio.to_thread(look)
    assert (await graph.aget_state(_config(native))).values == {"boxes": 4}
    assert not browser.complaints()


async def test_answer_that_the_server_refuses(
    browser: Browser, dev_server: DevServer, script: TemporalSaver
) -> None:
    """The error stands beside the question, and what was typed stays."""
    native = f"gone {uuid.uuid4().hex}"
    graph = counted.with_config(checkpointer=script)
    await graph.ainvoke({}, _config(native))
    elsewhere = gated.with_config(checkpointer=script)

    def ask() -> None:
        browser.open(f"{dev_server.url}/debug/#{native}")
        browser.says("how many boxes?", "#asks")
        browser.type("Answer", "3")

    def look() -> None:
        browser.press("Resume")
        browser.says("is run outside this server", "#asks .problem")
        assert (
            browser.driver.find_element("css selector", "#asks textarea").get_attribute("value")
            == "3"
        )

    await asyncio.to_thread(ask)
    # Somebody else starts a run of it meanwhile.
    gate = f"gone-{uuid.uuid4().hex}"
    run = await script.astart(elsewhere, {"gate": gate}, _config(native))
    await dev_server.runs_of(gate)
    await asyncio.to_thread(look)
    dev_server.open(gate)
    await run.aresult()
    # The refused request is all the console complains of.
    assert all("/runs" in line for line in browser.complaints())


async def test_first_threads_while_others_are_read(
    browser: Browser,
    temporal_server: TemporalServer,
    client: Client,
    connect: Callable[[DevServer], Awaitable[LangGraphClient]],
    tmp_path: Path,
) -> None:
    """The page shows what is known; the official client gets a list that is right."""
    server = DevServer(
        tmp_path,
        temporal_server.address,
        id_prefix="unused",
        environ={"LANGGRAPH_TEMPORAL_SAVER": "tests.studio.custom:make_held"},
    )
    held = custom.HELD
    saver = TemporalSaver(client, task_queue=custom.QUEUE, id_prefix=held)
    graph = counted.with_config(checkpointer=saver)
    free = [f"free {i}" for i in range(4)]
    slow = [f"{held} {i}" for i in range(3)]
    try:
        async with saver.worker(graph):
            for native in (*free, *slow):
                await graph.ainvoke({}, _config(native))
        await until(
            lambda: visibility.thread_ids(saver._store.transport), lambda ids: len(ids) == 7
        )
        server.start()
        sdk = await connect(server)

        def first() -> None:
            browser.open(f"{server.url}/debug/")
            browser.says("Reading 3 more threads…", "#reading")
            assert len(browser.all("#threads li")) == 7
            assert all(f"{native} interrupted" in browser.text("#threads") for native in free)

        await asyncio.to_thread(first)
        # Read already by the look that is still under way.
        await graph.ainvoke(Command(resume=2), _config(free[0]))
        searching = asyncio.create_task(sdk.threads.search(limit=100))
        counting = asyncio.create_task(sdk.threads.count())
        async with httpx.AsyncClient(base_url=server.url) as http:
            impatient = await http.post(
                "/threads/search", json={"limit": 100}, headers={"Prefer": "wait=1"}
            )
        assert impatient.headers["temporal-threads-unread"] == "3"
        assert len(impatient.json()) == 7
        assert not searching.done()
        assert not counting.done()
        server.open(held)
        found = {t["metadata"]["temporal_thread_id"]: t["status"] for t in await searching}
        assert found == {**dict.fromkeys([*free, *slow], "interrupted"), free[0]: "idle"}
        assert await counting == 7

        def rest() -> None:
            browser.until(lambda: not browser.text("#reading"))
            # What changed after the page had asked, it shows when it asks again.
            browser.press("Refresh")
            browser.says(f"{free[0]} idle", "#threads")

        await asyncio.to_thread(rest)
        assert server.stop() == 0, server.log[-6000:]
        for sign in ("BlockingError", "was never retrieved", "was never awaited"):
            assert sign not in server.log, server.log[-6000:]
    finally:
        saver.close()
        server.kill()


def test_headers(dev_server: DevServer) -> None:
    for path, kind in (("", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css")):
        reply = httpx.get(f"{dev_server.url}/debug/{path}")
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith(kind)
        assert "default-src 'none'; script-src 'self'" in reply.headers["content-security-policy"]
        assert "//" not in reply.text.replace("// ", ""), "something is loaded from elsewhere"
