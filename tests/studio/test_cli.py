"""`langgraph-temporal studio`: from nothing to an answered interrupt."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from langgraph_temporal_exec import UsageError
from langgraph_temporal_exec.cli.main import app
from langgraph_temporal_exec.cli.studio_command import APP, CHECKPOINTER, write_config
from tests.studio.dev import START_S, STOP_S, until
from tests.test_readme import RUNNABLE, SHELL, run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "how-to" / "studio.md"
ADDRESS = "http://127.0.0.1:2024"
COMMAND = [sys.executable, "-m", "langgraph_temporal_exec.cli.main", "studio"]
GRAPHS = {"flow": "tests.studio.graphs:flow"}


class Command:
    """The command as a process, in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._log = folder / "studio.log"
        environ = {k: v for k, v in os.environ.items() if not k.startswith("TEMPORAL_")}
        # Nothing may answer at the address that is tried when none is configured.
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=folder,
            env={**environ, "PYTHONPATH": str(ROOT), "LANGSMITH_TRACING": "false"},
            stdout=self._log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    async def says(self, pattern: str) -> str:
        """Wait for something in its output; the first group of it."""

        async def look() -> Any:
            assert self.process.poll() is None, self.said
            return re.search(pattern, self.said)

        found: re.Match[str] = await until(look, bool, START_S)
        return found[1]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_S)


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    started: list[Command] = []
    yield started
    for command in started:
        if command.process.poll() is None:
            command.stop()


@pytest.mark.long
async def test_from_nothing(commands: list[Command], tmp_path: Path) -> None:
    """docs/how-to/studio.md as it stands there, but for the port: Temporal is started, and the
    thread outlives the command."""
    blocks = dict(RUNNABLE.findall(DOCS.read_text()))
    (shell,) = [block for block in SHELL.findall(DOCS.read_text()) if " studio " in block]
    *_, name, target, option, database = shell.split()
    assert (name, option) == ("studio", "--database")
    (tmp_path / "agent.py").write_text(blocks["agent.py"])
    said = []
    for script in ("ask.py", "answer.py"):
        command = Command(tmp_path, target, option, database, "--port", "0")
        commands.append(command)
        url = await command.says(r"API server: (http://127\.0\.0\.1:\d+)")
        await command.says("(Ctrl-C stops)")
        output = command.said.replace("\n", "")
        assert f"https://smith.langchain.com/studio/?baseUrl={url}" in output
        assert f"kept in {database}" in output
        assert ADDRESS in blocks[script]
        (tmp_path / script).write_text(blocks[script].replace(ADDRESS, url))
        said.append(ast.literal_eval(run(script, tmp_path)))
        assert command.stop() == 0, command.said[-4000:]
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0
    plan = "three chapters on tides"
    assert said == [
        {"question": "Write it?", "plan": plan},
        {"topic": "tides", "plan": plan, "approved": "yes"},
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["graphs"], "not of the form package.module:graph"),
        (["a.b:c", "--address", "127.0.0.1:1"], "Cannot connect to Temporal at 127.0.0.1:1"),
        (["no.such_module:graph"], "The API server ended with code"),
    ],
)
def test_wrong_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["studio", *arguments, "--port", "0"], env={"COLUMNS": "500"})
    assert done.exit_code == 1, done.output
    assert said in done.output.replace("\n", " ")


def test_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["studio", "a.b:c", "--port", port])
    assert done.exit_code == 1
    assert f"Port {port} is in use" in done.output.replace("\n", " ")


def test_config_that_is_made(tmp_path: Path) -> None:
    path = write_config(tmp_path, GRAPHS)
    written = json.loads(path.read_text())
    assert written["graphs"] == GRAPHS
    assert written["checkpointer"] == {"path": CHECKPOINTER}
    assert written["http"]["app"] == APP
    # What is right stays as it is, with whatever else is in it.
    written["env"] = ".env"
    path.write_text(json.dumps(written))
    assert write_config(tmp_path, GRAPHS) == path
    assert json.loads(path.read_text()) == written


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checkpointer": {"path": "mine.factory"}}, "checkpointer must be"),
        ({"graphs": {"flow": "./other.py:flow"}}, r"graphs\.flow must be"),
        ({"http": {}}, "http must be"),
        ({"http": {"app": APP}}, "middleware_order"),
        ([], "no JSON object"),
    ],
)
def test_config_that_says_something_else(tmp_path: Path, change: Any, said: str) -> None:
    path = write_config(tmp_path, GRAPHS)
    written = json.loads(path.read_text())
    text = json.dumps({**written, **change} if isinstance(change, dict) else change)
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        write_config(tmp_path, GRAPHS)
    assert path.read_text() == text


def test_config_with_an_app_of_ones_own(tmp_path: Path) -> None:
    path = write_config(tmp_path, GRAPHS)
    written = json.loads(path.read_text())
    written["http"] = {"app": "mine.app:app"}
    path.write_text(json.dumps(written))
    assert write_config(tmp_path, GRAPHS) == path
