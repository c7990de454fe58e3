"""The code in README.md runs as it stands there, and prints what is written there.

Blocks after ``<!-- runnable: name.py -->`` are files; ``console`` blocks are commands and what they
print. ``test_docs.py`` does the same with the pages of docs/.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DEADLINE_S = 100.0

RUNNABLE = re.compile(r"<!-- runnable: (\S+) -->\n```python\n(.*?)```", re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)

MAX_LINES = 120
MAX_FIRST_EXAMPLE = 30


def runnable(page: Path = README) -> dict[str, str]:
    """The marked blocks of a page by file name."""
    return dict(RUNNABLE.findall(page.read_text(encoding="utf-8")))


def write_blocks(page: Path, folder: Path) -> None:
    """Make a page's blocks the files they are named as."""
    for name, code in runnable(page).items():
        (folder / name).write_text(code, encoding="utf-8")


@dataclass(frozen=True)
class Shown:
    """A command of a ``console`` block, and what it prints there."""

    command: list[str]
    prints: list[str]


def shown(page: Path = README) -> list[Shown]:
    """The commands of a page's ``console`` blocks, in order."""
    found: list[Shown] = []
    for block in CONSOLE.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Shown(shlex.split(line[2:]), []))
            else:
                found[-1].prints.append(line)
    return found


def environment() -> dict[str, str]:
    """Without model keys and without a Temporal configuration of the machine."""
    dropped = ("ANTHROPIC_", "OPENAI_", "TEMPORAL_")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)}


def execute(command: list[str], cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``python file.py ...`` in a folder, to its end."""
    assert command[0] == "python"
    return subprocess.run(
        [sys.executable, *command[1:]],
        cwd=cwd,
        env={**environment(), **environ},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def run(script: str, cwd: Path, **environ: str) -> str:
    """What a script prints; fails with what it said on stderr."""
    done = execute(["python", script], cwd, **environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(command: list[str], cwd: Path, ready: str, **environ: str) -> Iterator[None]:
    """A process that has said it is ready, ended by its pid."""
    log = cwd / "worker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**environment(), **environ},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        give_up = time.monotonic() + DEADLINE_S
        while ready not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)


def test_it_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    first = next(iter(runnable().values()))
    assert len(first.splitlines()) <= MAX_FIRST_EXAMPLE


@pytest.mark.long
def test_the_first_example_survives_its_crash(tmp_path: Path) -> None:
    """The second process ends the run of the first one, without the node that had ended."""
    write_blocks(README, tmp_path)
    crash, again = shown()
    assert crash.command == [*again.command, "crash"]
    died = execute(crash.command, tmp_path)
    assert died.returncode == 1
    assert died.stdout.splitlines() == crash.prints == ["researching", "writing"]
    done = execute(again.command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == again.prints
    assert "researching" not in again.prints
    assert again.prints[0] == "writing"
