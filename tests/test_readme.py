"""The code in README.md runs as it stands there."""

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
from pathlib import Path

import pytest

from tests.conftest import TemporalServer

README = Path(__file__).parent.parent / "README.md"
ADDRESS = "localhost:7233"
DEADLINE_S = 100.0

RUNNABLE = re.compile(r"<!-- runnable: (\S+) -->\n```python\n(.*?)```", re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def runnable() -> dict[str, str]:
    """The marked blocks of the README by file name."""
    return dict(RUNNABLE.findall(README.read_text(encoding="utf-8")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with the README's blocks as files."""
    for name, code in runnable().items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    return tmp_path


def environment() -> dict[str, str]:
    """Without model keys and without a Temporal configuration of the machine."""
    dropped = ("ANTHROPIC_", "OPENAI_", "TEMPORAL_")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)}


def run(script: str, cwd: Path) -> str:
    """What a script prints; fails with what it said on stderr."""
    done = subprocess.run(
        [sys.executable, script],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(command: list[str], cwd: Path, ready: str) -> Iterator[None]:
    """A process that has said it is ready, ended by its pid."""
    log = cwd / "worker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment(), stdout=out, stderr=subprocess.STDOUT
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


def test_the_first_example_is_short() -> None:
    first = next(iter(runnable().values()))
    assert len(first.splitlines()) <= 20


def test_quickstart_runs_and_its_thread_stays(folder: Path) -> None:
    expected = "{'topic': 'tides', 'notes': 'What is known about tides'}"
    assert run("quickstart.py", folder).splitlines()[-1] == expected

    code = (folder / "quickstart.py").read_text()
    call = next(line for line in code.splitlines() if "durable.ainvoke" in line)
    read = '        print((await durable.aget_state({"configurable": {"thread_id": "1"}})).values)'
    (folder / "again.py").write_text(code.replace(call, read))
    assert run("again.py", folder).splitlines()[-1] == expected


def test_worker_command_and_caller(
    folder: Path, temporal_server: TemporalServer, task_queue: str
) -> None:
    commands = SHELL.findall(README.read_text(encoding="utf-8"))
    # The other block is what `test_resume.py` runs.
    [command] = [command for command in commands if " worker " in command]
    words = shlex.split(command.replace(ADDRESS, temporal_server.address))
    words[words.index("--task-queue") + 1] = task_queue
    words[0] = str(Path(sys.executable).with_name(words[0]))
    caller = (folder / "call.py").read_text()
    assert ADDRESS in caller
    caller = caller.replace(ADDRESS, temporal_server.address)
    caller = caller.replace('task_queue="langgraph"', f'task_queue="{task_queue}"')
    (folder / "call.py").write_text(caller)

    with running(words, folder, "serving task queue"):
        said = run("call.py", folder)

    assert "{'answer': {'messages': [('ai', 'You said: hello')]}}" in said


def test_links_of_the_docs_lead_somewhere() -> None:
    for page in (README, *README.parent.glob("docs/*.md")):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
