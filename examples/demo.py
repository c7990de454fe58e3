"""Demo: a deep agent survives the death of its worker and the death of its caller.

Usage: make demo, or python examples/demo.py [--keep]. Offline, with a scripted model; with
ANTHROPIC_API_KEY or OPENAI_API_KEY set a real one takes its place (DEMO_MODEL chooses it).
Exits with 0 only if every step finished exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from rich.markup import escape
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus

from examples.demo_agent import FILES, LEDGER, agent, done_mark
from examples.demo_ledger import Entry, Step, read_entries, steps_of
from examples.demo_model import SCRIPTS, model_name, real_model
from examples.demo_stage import (
    Account,
    Children,
    DemoFailed,
    print_table,
    problems_of,
    until,
)
from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.local import start_server

INSIDE = "--inside"
RUN = "LangGraphRun"
THREAD_ID = "checkout-incident"
CONFIG: RunnableConfig = {"configurable": {"thread_id": THREAD_ID}}
HEARTBEAT_TIMEOUT_S = 3
FIRST = "Checkout is slow. Find out why and write a report."
SECOND = "The pool is larger now. Verify checkout."


class Story:
    """The two acts, on a running server.

    Args:
        work: Folder of the agent's files, the ledger, and the logs.
        client: Connected to the server.
        account: Where to tell it.
        children: Starts workers and callers.
    """

    def __init__(self, work: Path, client: Client, account: Account, children: Children) -> None:
        self._work = work
        self._address = client.service_client.config.target_host
        self._account = account
        self._children = children
        self.saver = TemporalSaver(client, heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT_S))
        self.durable = agent.with_config(checkpointer=self.saver)

    async def a_worker_dies(self) -> None:
        """Act 1."""
        self._account.chapter("1 · A worker dies in the middle of a sub-agent")
        pid = await self._start_worker("worker A")
        self._account.say("caller", f'await agent.ainvoke("{FIRST}")')
        run = asyncio.create_task(self.durable.ainvoke({"messages": [HumanMessage(FIRST)]}, CONFIG))
        try:
            await self._until_inside("trace_requests", run)
            self._children.kill("worker A")
            self._account.say(
                "demo",
                f"[bold red]killed[/bold red] worker A: kill -9 {pid}, inside trace_requests, the "
                "second step of the sub-agent. The caller still waits in the same ainvoke.",
            )
            done_mark(self._work, "trace_requests").touch()
            new_pid = await self._start_worker("worker B")
            first = await until(lambda: self._first_of(new_pid), "worker B works")
            self._account.say(
                "demo",
                f"[bold green]resumed[/bold green] on worker B, pid {new_pid}, with "
                f"{first.label}, in which A died",
            )
            result = await asyncio.wait_for(run, 120)
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        self._account.say("caller", f"ainvoke returned: {escape(result['messages'][-1].text)}")
        steps = [s for s in steps_of(self._entries()) if pid in s.finished]
        again = [s.label for s in steps if s.repeated]
        self._account.say(
            "demo",
            f"[bold red]repeated[/bold red]: {again}"
            if again
            else f"[bold green]not repeated[/bold green]: the {len(steps)} steps A had finished",
        )
        written = ", ".join(sorted(f"/{p.name}" for p in (self._work / FILES).iterdir()))
        self._account.say("demo", f"files the agent wrote: {written or 'none'}")

    async def a_caller_dies(self) -> None:
        """Act 2."""
        self._account.chapter("2 · A caller dies, and nobody watches")
        command = [sys.executable, "-m", "examples.demo_caller", self._address, THREAD_ID, SECOND]
        pid = self._children.start("caller", command, {})
        self._account.say(f"caller {pid}", f'await agent.ainvoke("{SECOND}")')
        await self._until_inside("load_test", None)
        self._children.kill("caller")
        self._account.say(
            "demo", f"[bold red]killed[/bold red] the caller: kill -9 {pid}, inside load_test"
        )
        state = await self.durable.aget_state(CONFIG)
        self._account.say("demo", f"get_state: the thread is at {state.next}, the run goes on")
        done_mark(self._work, "load_test").touch()
        answer = await until(self._answer, "the run of the killed caller ends", every_s=0.3)
        self._account.say("demo", "get_state: the run [bold]finished with nobody watching[/bold]")
        self._account.say("demo", f"its answer, from the thread: {escape(answer)}")

    async def _start_worker(self, name: str) -> int:
        script = str(Path(sys.executable).with_name("langgraph-temporal"))
        command = f"worker examples.demo_agent:agent --heartbeat-timeout {HEARTBEAT_TIMEOUT_S}"
        pid = self._children.start(
            name,
            [script, *command.split(), "--address", self._address],
            {"DEMO_DIR": str(self._work)},
        )
        self._account.names[pid] = name
        await self._children.wait_for_output(name, "serving task queue")
        self._account.say(f"{name} {pid}", f"langgraph-temporal {command}")
        return pid

    async def _until_inside(self, tool: str, run: asyncio.Task[Any] | None) -> None:
        """Wait until a tool has started; fail when the run ends without it."""

        async def inside() -> Entry | None:
            for e in self._entries():
                if e.kind == "tool" and e.event == "started" and e.label.startswith(tool):
                    return e
            if run is not None and run.done():
                run.result()
                raise DemoFailed(
                    f"The run ended although {tool} was never called, so there was nothing to "
                    "kill. Real models do that at times: run the demo again."
                )
            return None

        await until(inside, f"the agent calls {tool}")

    async def _first_of(self, pid: int) -> Entry | None:
        return next((e for e in self._entries() if e.pid == pid), None)

    def _entries(self) -> list[Entry]:
        return read_entries(self._work / LEDGER)

    async def _answer(self) -> str | None:
        """What the second turn answered, once the thread is at rest."""
        state = await self.durable.aget_state(CONFIG)
        messages = state.values["messages"]
        asked = sum(m.type == "human" for m in messages)
        if state.next or asked < 2 or messages[-1].type != "ai":
            return None
        text: str = messages[-1].text
        return text


async def look_around(account: Account, story: Story, client: Client, ui: str) -> None:
    """Where all of this can be seen."""
    account.chapter("4 · What to look at")
    checkpoints: dict[str, int] = {}
    async for item in story.saver.alist(CONFIG):
        where = item.config["configurable"]["checkpoint_ns"].split(":")[0]
        checkpoints[where] = checkpoints.get(where, 0) + 1
    nested = sum(n for where, n in checkpoints.items() if where)
    account.say("checkpoints", f"{checkpoints.get('', 0)} in the thread, {nested} of its sub-agent")
    with account.console.status("waiting until Temporal lists both runs as closed"):
        workflows = await _workflows(client)
    for w in workflows:
        what = "run" if w.workflow_type == RUN else "sub-agent" if w.parent_id else "thread"
        status = w.status.name.lower() if w.status else "unknown"
        account.say(what, f"{w.id}  [dim]{status if what == 'run' else 'stays open'}[/dim]")
    if ui:
        account.say("web UI", f"{ui}  [dim]Ctrl-C ends the demo[/dim]")


async def _workflows(client: Client) -> list[WorkflowExecution]:
    """All of them, once both runs have closed; Temporal's list is a moment behind."""

    async def listed() -> list[WorkflowExecution] | None:
        query = f"WorkflowType IN ('{RUN}', 'LangGraphThread')"
        found = sorted([w async for w in client.list_workflows(query)], key=lambda w: w.start_time)
        runs = [w for w in found if w.workflow_type == RUN]
        closed = [w for w in runs if w.status is not WorkflowExecutionStatus.RUNNING]
        return found if len(runs) == len(closed) == 2 else None

    return await until(listed, "both runs are closed in Temporal", every_s=0.3)


def tell_what_ran(account: Account, work: Path, second_from: int) -> list[Step]:
    """The table of all steps, from the ledger."""
    account.chapter("3 · What ran, how often, and where")
    entries = read_entries(work / LEDGER)
    steps = steps_of(entries)
    first_turn = len(steps_of(entries[:second_from]))
    print_table(
        account,
        [
            ("turn 1: worker A was killed", steps[:first_turn]),
            ("turn 2: the caller was killed", steps[first_turn:]),
        ],
    )
    return steps


def verdict(account: Account, steps: list[Step]) -> int:
    """The last line, and the exit code."""
    problems = problems_of(
        steps,
        expected=None if real_model() else _scripted_steps(),
        resumed={"task(investigator)", "trace_requests(checkout)"},
    )
    account.console.print()
    for problem in problems:
        account.console.print(f"[bold red]FAILED[/bold red]  {problem}")
    if problems:
        return 1
    twice = sum(len(s.started) > 1 for s in steps)
    once = "ran" if real_model() else "finished exactly once"
    account.console.print(
        f"[bold green]OK[/bold green]  {len(steps)} steps {once}; the {twice} killed inside "
        "started twice; no finished step ran again."
    )
    return 0


def _scripted_steps() -> int:
    """One model call per answer of the scripts, one tool call per answer that asks for it."""
    answers = [answer for turns in SCRIPTS.values() for turn in turns for answer in turn]
    return len(answers) + sum(not isinstance(answer, str) for answer in answers)


@contextlib.asynccontextmanager
async def server(work: Path, account: Account, *, ui: bool) -> AsyncIterator[tuple[Client, str]]:
    """The embedded server, and the address of its web UI."""
    port = _free_port() if ui else None
    environment = await start_server(work / "temporal.db", port=port, ui=ui)
    try:
        account.say("demo", f"Temporal dev server at {environment.address}, with a database file")
        url = f"http://127.0.0.1:{port + 1000}" if port else ""
        yield environment.client, url
    finally:
        await environment.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    # The UI takes the port 1,000 above.
    return port if port < 64_000 else port - 2_000


async def play(work: Path, *, keep: bool) -> int:
    """The whole demo in one folder; all that was started is ended again."""
    (work / FILES).mkdir()
    account = Account(work / LEDGER)
    account.console.print(
        "[bold]A deep agent on Temporal: two kills, two answers.[/bold]\n"
        f"The agent is plain LangGraph: examples/demo_agent.py. Its model: {model_name()}."
    )
    account.chapter("0 · The server")
    children = Children(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _cancel, asyncio.current_task())
    async with server(work, account, ui=keep) as (client, url):
        story = Story(work, client, account, children)
        following = asyncio.create_task(account.follow())
        try:
            await story.a_worker_dies()
            second_from = len(read_entries(work / LEDGER))
            await story.a_caller_dies()
            following.cancel()
            steps = tell_what_ran(account, work, second_from)
            await look_around(account, story, client, url)
            code = verdict(account, steps)
            if keep:
                await asyncio.Event().wait()
            return code
        except Exception as exc:
            said = "" if isinstance(exc, DemoFailed) else f"{type(exc).__name__}: "
            account.console.print(f"[bold red]FAILED[/bold red]  {escape(said + str(exc))}")
            account.console.print(escape(children.last_words()), style="dim")
            return 1
        finally:
            following.cancel()
            await asyncio.to_thread(children.stop)
            story.saver.close()


def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()


def run() -> int:
    """Run the demo; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="langgraph-temporal-demo-") as folder:
        try:
            return asyncio.run(play(Path(folder), keep="--keep" in sys.argv))
        except (KeyboardInterrupt, asyncio.CancelledError):
            print("interrupted; everything the demo started was ended")
            return 130


def main() -> int:
    """Run the demo in a session of its own, and pass Ctrl-C and SIGTERM on to it.

    A terminal sends Ctrl-C to all processes of its session. The server would end first, and
    everybody else would wait for its answers.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    command = [sys.executable, __file__, *sys.argv[1:], INSIDE]
    with subprocess.Popen(command, start_new_session=True) as demo:
        while True:
            try:
                return demo.wait()
            except KeyboardInterrupt:
                demo.terminate()


if __name__ == "__main__":
    sys.exit(run() if INSIDE in sys.argv else main())
