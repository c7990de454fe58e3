"""The picture in docs/how-to/studio.md, from a real run.

``python -m tests.studio.screenshot FILE``
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.local import start_server
from tests.studio.browser import Browser, chromium
from tests.studio.dev import DevServer
from tests.studio.graphs import broken, chat, flow, gated, parent


def _config(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


async def _threads(saver: TemporalSaver, server: DevServer) -> None:
    await chat.with_config(checkpointer=saver).ainvoke(
        {"messages": ["where is my order?"]}, _config("customer 7")
    )
    with contextlib.suppress(ValueError):
        await broken.with_config(checkpointer=saver).ainvoke({}, _config("refund-1003"))
    await parent.with_config(checkpointer=saver).ainvoke({}, _config("trip to Tromsø"))
    await saver.astart(
        gated.with_config(checkpointer=saver), {"gate": "nightly"}, _config("nightly report")
    )
    await server.runs_of("nightly")
    order = flow.with_config(checkpointer=saver)
    await order.ainvoke({"steps": ["3 boxes of tea"]}, _config("order-42"))
    past = [s async for s in order.aget_state_history(_config("order-42"))]
    await order.aupdate_state(past[0].config, {"steps": ["express delivery"]}, as_node="first")
    await order.ainvoke(None, _config("order-42"))


def _shoot(browser: Browser, url: str, file: Path) -> None:
    browser.driver.set_window_size(1180, 900)
    browser.open(f"{url}/debug/#order-42")
    browser.says("express delivery", "#changes")
    browser.until(lambda: len(browser.all("#threads li")) == 5)
    browser.driver.save_screenshot(str(file))


async def main(file: Path) -> None:
    temporal = await start_server()
    with tempfile.TemporaryDirectory() as folder:
        server = DevServer(Path(folder), temporal.address, id_prefix="shot")
        saver = TemporalSaver(temporal.client, task_queue="shot", id_prefix="shot")
        try:
            server.start()
            await _threads(saver, server)
            with chromium() as browser:
                await asyncio.to_thread(_shoot, browser, server.url, file)
        finally:
            saver.close()
            server.kill()
            await temporal.shutdown()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
