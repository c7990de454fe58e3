"""What was executed how often, in files, because files survive a SIGKILL.

The same directory steers: a step that was armed is held by its first execution until it is
released, so that a kill lands inside a node; a second execution finds it disarmed and runs through.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HELD_MOST_S = 90.0
"""A held step gives up after this: by then its test has failed."""

POLL_S = 0.02


class Ran(NamedTuple):
    """How many executions of a step started and how many of them came to their end."""

    started: int
    finished: int


ONCE = Ran(1, 1)


@dataclass(frozen=True)
class Ledger:
    """The record of one test's steps; used by workers (execute) and by the test (the rest)."""

    root: Path

    # -- the worker's side --------------------------------------------------------------------

    async def execute(self, step: str) -> None:
        """One execution of an async step."""
        self._note(step, "started")
        if self._claim(step):
            deadline = time.monotonic() + HELD_MOST_S
            while self._is_held(step, deadline):  # noqa: ASYNC110 - another process's event
                await asyncio.sleep(POLL_S)
        self._note(step, "finished")

    def execute_blocking(self, step: str) -> None:
        """One execution of a sync step: a thread, which nothing can cancel."""
        self._note(step, "started")
        if self._claim(step):
            deadline = time.monotonic() + HELD_MOST_S
            while self._is_held(step, deadline):
                time.sleep(POLL_S)
        self._note(step, "finished")

    def _note(self, step: str, event: str) -> None:
        # One short O_APPEND write is atomic: parallel tools and processes share the file.
        with (self.root / "ledger").open("a") as file:
            file.write(f"{step} {event} {os.getpid()}\n")

    def _claim(self, step: str) -> bool:
        """Whether this execution is the one to be held: only one can rename the file."""
        try:
            (self.root / f"{step}.armed").rename(self.root / f"{step}.held")
        except FileNotFoundError:
            return False
        return True

    def _is_held(self, step: str, deadline: float) -> bool:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody released step {step!r} within {HELD_MOST_S} s")
        return not (self.root / f"{step}.released").exists()

    # -- the test's side ----------------------------------------------------------------------

    def arm(self, step: str) -> None:
        """Hold the next execution of a step."""
        (self.root / f"{step}.armed").touch()

    def release(self, step: str) -> None:
        """Let the held execution go on, if its process still lives."""
        (self.root / f"{step}.released").touch()

    def holder(self, step: str) -> int | None:
        """Process id of the execution that is held."""
        if not (self.root / f"{step}.held").exists():
            return None
        return self.pids(step, "started")[0]

    def pids(self, step: str, event: str) -> list[int]:
        """In which process each execution of a step started (or finished)."""
        return [pid for name, what, pid in self._lines() if (name, what) == (step, event)]

    def all_pids(self) -> set[int]:
        """All processes that executed something."""
        return {pid for _, _, pid in self._lines()}

    def ran(self) -> dict[str, Ran]:
        """All steps and how often they ran."""
        events = Counter((name, what) for name, what, _ in self._lines())
        names = sorted({name for name, _ in events})
        return {n: Ran(events[(n, "started")], events[(n, "finished")]) for n in names}

    def _lines(self) -> list[tuple[str, str, int]]:
        path = self.root / "ledger"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, what, int(pid)) for name, what, pid in map(str.split, lines)]
