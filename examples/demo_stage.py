"""Demo: what is not about agents: child processes, the account on the terminal, the verdict."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.demo_ledger import Entry, Step, read_entries

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100
POLL_S = 0.1
PATIENCE_S = 120.0
"""How long the demo waits for anything before it says that something is wrong."""

SHOW_START_AFTER_S = 0.5
"""A tool call that ends sooner gets one line instead of two."""

T = TypeVar("T")


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class Children:
    """The processes the demo started; ended by pid, whatever happens.

    They get sessions of their own, so that Ctrl-C reaches the demo alone, which then ends them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], env: dict[str, str]) -> int:
        """Start a process, its output in a log file; returns its pid."""
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **env},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._running[name].pid

    def kill(self, name: str) -> None:
        """``kill -9``, and make sure that it is dead."""
        process = self._running.pop(name)
        if process.poll() is not None:
            raise DemoFailed(f"{name} ended by itself")
        process.kill()
        process.wait(timeout=PATIENCE_S)

    async def wait_for_output(self, name: str, text: str) -> None:
        """Wait until a process has printed something."""

        async def printed() -> bool | None:
            if self._running[name].poll() is not None:
                raise DemoFailed(f"{name} ended by itself")
            return text in self._log(name).read_text(errors="replace") or None

        await until(printed, f"{name} prints {text!r}")

    def stop(self) -> None:
        """End all that still run: politely, then by force."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)
        self._running.clear()

    def last_words(self) -> str:
        """The ends of all log files, to explain a failure."""
        tails = []
        for path in sorted(self._folder.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-15:]
            tails.append("\n".join([f"-- {path.name}", *lines]))
        return "\n".join(tails)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name.replace(' ', '-')}.log"


async def until(
    check: Callable[[], Awaitable[T | None]], what: str, *, every_s: float = POLL_S
) -> T:
    """Poll until ``check`` returns something.

    Raises:
        DemoFailed: It did not happen for a long time.
    """
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        found = await check()
        if found is not None:
            return found
        await asyncio.sleep(every_s)
    raise DemoFailed(f"gave up after {PATIENCE_S:.0f} s waiting for this: {what}")


class Account:
    """The live account: one line per event, with the time and who it is about."""

    def __init__(self, ledger: Path) -> None:
        # Not a terminal: a log, or a test, which wants the same lines everywhere.
        width = min(WIDTH, Console().width) if sys.stdout.isatty() else WIDTH
        self.console = Console(width=width, highlight=False)
        self._ledger = ledger
        self._began = time.time()
        self._told = 0
        self._held: list[Entry] = []
        self.names: dict[int, str] = {}  # pid -> worker

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left", style="dim")

    def say(self, who: str, text: str) -> None:
        """One line, after all that happened before it; ``text`` may have rich markup."""
        self.tell(everything=True)
        self._line(time.time(), who, text)

    def _line(self, at: float, who: str, text: str) -> None:
        line = Table.grid(padding=(0, 2))
        line.add_column(width=6, justify="right", style="dim")
        line.add_column(width=16, no_wrap=True)
        line.add_column()
        seconds = f"{at - self._began:.1f}s"
        line.add_row(seconds, Text(who, style=_style(who)), Text.from_markup(text))
        self.console.print(line)

    async def follow(self) -> None:
        """Tell what the ledger says, for ever."""
        while True:
            self.tell()
            await asyncio.sleep(POLL_S)

    def tell(self, *, everything: bool = False) -> None:
        """Tell what is new in the ledger: the tool calls; model calls are in the final table.

        Args:
            everything: Also what started a moment ago and may end in the next one.
        """
        entries = read_entries(self._ledger)
        new, self._told = entries[self._told :], len(entries)
        for e in new:
            if e.kind == "tool" and e.event == "started":
                self._held.append(e)
            elif e.kind == "tool":
                self._held = [h for h in self._held if (h.pid, h.key) != (e.pid, e.key)]
                self._tell_starts(before=e.at)
                mark = "[green]✓[/green]" if e.event == "finished" else "[red]✗[/red]"
                self._tell_one(e, mark)
        self._tell_starts(before=time.time() - (0.0 if everything else SHOW_START_AFTER_S))

    def _tell_starts(self, *, before: float) -> None:
        for e in [h for h in self._held if h.at < before]:
            self._held.remove(e)
            self._tell_one(e, "[yellow]▸[/yellow]", " …")

    def _tell_one(self, e: Entry, mark: str, more: str = "") -> None:
        indent = "" if e.agent == "main" else "  "
        text = f"{indent}{mark} {e.label}{more}  [dim]{e.agent}[/dim]"
        self._line(e.at, f"{self.names.get(e.pid, 'process')} {e.pid}", text)


def _style(who: str) -> str:
    styles = {"worker A": "cyan", "worker B": "green", "caller": "magenta"}
    return next((style for name, style in styles.items() if who.startswith(name)), "bold")


def print_table(account: Account, chapters: Iterable[tuple[str, list[Step]]]) -> None:
    """Every step: how often it started and finished, where, and what that means."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("step")
    table.add_column("agent", style="dim")
    table.add_column("started", justify="right")
    table.add_column("finished", justify="right")
    table.add_column("on")
    table.add_column("")
    for title, steps in chapters:
        table.add_row(f"[dim italic]{title}")
        for step in steps:
            table.add_row(
                ("" if step.agent == "main" else "  ") + step.label,
                step.agent,
                str(len(step.started)),
                str(len(step.finished)),
                _places(account, step),
                _meaning(account, step),
            )
    account.console.print(table)
    legend = (
        f"{name.removeprefix('worker ')} is {name}, pid {p}" for p, name in account.names.items()
    )
    account.console.print(f"[dim]{'; '.join(legend)}. ✓ finished there, ✗ died there.")


def _letter(name: str) -> str:
    return name.removeprefix("worker ")


def _places(account: Account, step: Step) -> str:
    marks = {True: "[green]✓[/green]", False: "[red]✗[/red]"}
    return "  ".join(
        f"{_letter(account.names.get(pid, str(pid)))} {marks[pid in step.finished]}"
        for pid in step.started
    )


def _meaning(account: Account, step: Step) -> str:
    if step.repeated:
        return "[red]repeated after it had finished"
    if len(step.started) > 1:
        return "[yellow]killed inside, resumed"
    if [account.names.get(pid) for pid in step.finished] == ["worker A"]:
        return "[green]not repeated"
    return ""


def problems_of(steps: list[Step], *, expected: int | None, resumed: set[str]) -> list[str]:
    """What is not as it should be.

    Args:
        expected: How many steps there must be, each finished exactly once; ``None`` with a real
            model, of which only the tool calls are looked at: none may run after it finished.
        resumed: Labels of the steps that were running when the worker was killed, the only ones
            that may have started twice.
    """
    found = []
    for step in steps:
        name = f"{step.agent}: {step.label}"
        if step.repeated and (expected is not None or step.kind == "tool"):
            found.append(f"{name} ran again although it had finished")
        if expected is None:
            continue
        if len(step.finished) != 1:
            found.append(f"{name} finished {len(step.finished)} times instead of once")
        starts = 2 if step.label in resumed else 1
        if len(step.started) != starts:
            found.append(f"{name} started {len(step.started)} times instead of {starts}")
    if expected is not None and len(steps) != expected:
        found.append(f"{len(steps)} steps ran instead of {expected}")
    return found
