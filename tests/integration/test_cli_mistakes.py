"""What is wrong with a call of `langgraph-temporal` is told in one sentence, with the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.conftest import TemporalServer

ROOT = Path(__file__).parents[2]
MAIN = "langgraph_temporal_exec.cli.__main__:main"
AWAY = "127.0.0.1:1"
"""Nobody listens there."""


def run(code: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, after some code."""
    module, _, name = MAIN.partition(":")
    script = f"import sys\n{code}\nfrom {module} import {name}\n{name}()"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "LANGGRAPH_"))}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT), "TEMPORAL_CONFIG_FILE": "/nowhere", **environ},
        capture_output=True,
        text=True,
        timeout=100,
    )


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The error, which is one line and all that was said."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


TLS = '[profile.default.tls]\nclient_cert_path = "{0}/none.pem"\nclient_key_path = "{0}/none.pem"\n'
CONFIGURED = {
    "toml": ("[profile.default\naddress =", [], "TOML parse error at line 1"),
    "type": ("[profile.default]\naddress = 5\n", [], "invalid type: integer `5`"),
    "profile": ("[profile.default]\n", ["--profile", "cloud"], "Profile 'cloud' not found"),
    "certificate": (TLS, [], "No such file or directory: '{0}/none.pem'"),
    "key": ("[profile.default]\napi_key = 'k'\n", [], "which an API key does turn on"),
    "garbage": (TLS.replace("_path", "_data"), [], "must be PEM"),
}
COMMANDS = {"threads": ["threads", "list"], "worker": ["worker", "tests.support.served:graph"]}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", CONFIGURED)
def test_configuration(
    temporal_server: TemporalServer, tmp_path: Path, case: str, command: str
) -> None:
    text, options, said = CONFIGURED[case]
    path = tmp_path / "temporal.toml"
    path.write_text(text.replace("{0}", str(tmp_path)))
    address = ["--address", temporal_server.address]
    environ = {"TEMPORAL_CONFIG_FILE": str(path)}
    line = told(run("", *COMMANDS[command], *address, *options, **environ))
    assert said.replace("{0}", str(tmp_path)) in line
    # What the SDK says of its own structures is no help.
    assert "tonic" not in line
    assert "TEMPORAL_" in line


@pytest.mark.parametrize("command", [*COMMANDS, "show", "resume", "delete", "studio"])
def test_no_such_namespace(temporal_server: TemporalServer, command: str) -> None:
    """Temporal lets everybody connect; afterwards nothing of it would be a thread."""
    arguments = {
        **COMMANDS,
        "show": ["threads", "show", "t"],
        "resume": ["threads", "resume", "t", "--value", "1"],
        "delete": ["threads", "delete", "t"],
        "studio": ["studio", "a.b:c", "--port", "0"],
    }[command]
    where = ["--address", temporal_server.address, "--namespace", "nowhere"]
    done = run("", *arguments, *where)
    # The studio tells first where its configuration is.
    line = done.stderr.splitlines()[-1] if command == "studio" else told(done)
    assert f"Temporal at {temporal_server.address} has no namespace 'nowhere'" in line
    assert "temporal operator namespace create nowhere" in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (AWAY, f"Cannot connect to Temporal at {AWAY}: Connection refused."),
        ("localhost:http", "'localhost:http' is no address of a Temporal server"),
    ],
)
def test_no_server(address: str, said: str) -> None:
    assert said in told(run("", "threads", "list", "--address", address))


def test_a_graph_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "bad_agent.py").write_text("import os\nKEY = os.environ['NO_SUCH_KEY_HERE']\n")
    done = run(f"sys.path.insert(0, {str(tmp_path)!r})", "worker", "bad_agent:graph")
    line = told(done)
    assert "KeyError: 'NO_SUCH_KEY_HERE'" in line
    assert f"{tmp_path}/bad_agent.py, line 2" in line


def test_without_the_extra() -> None:
    """`pip install .` installs the command without what it is made of."""
    line = told(run("sys.modules['typer'] = None", "--help"))
    assert "pip install 'langgraph-temporal-exec[cli]'" in line


def test_without_the_extra_of_a_command() -> None:
    """Brackets are shown as they are."""
    line = told(run("sys.modules['langgraph_api'] = None", "studio", "a.b:c"))
    assert "pip install 'langgraph-temporal-exec[studio]'" in line


HEAVY = ("langgraph", "langchain_core", "langchain", "deepagents", "temporalio", "rich")
SHOW_LOADED = (
    "import atexit\n"
    "def show():\n"
    f"    loaded = [m for m in {HEAVY!r} if m in sys.modules]\n"
    "    print('loaded:', *loaded)\n"
    "atexit.register(show)"
)


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (["--help"], []),
        (["--version"], []),
        (["threads", "--help"], []),
        (["threads", "list", "--help"], []),
        (["worker", "--help"], []),
        (["studio", "--help"], []),
        # What is wrong is told before LangGraph is there.
        (["threads", "list", "--address", AWAY], ["temporalio"]),
        (["threads", "list", "--profile", "none"], ["temporalio"]),
        (["threads", "resume", "t", "--value", "no JSON"], []),
    ],
)
def test_what_is_loaded(arguments: list[str], loaded: list[str]) -> None:
    done = run(SHOW_LOADED, *arguments)
    last = done.stdout.splitlines()[-1]
    assert last.removeprefix("loaded:").split() == loaded, done.stderr


def test_version() -> None:
    done = run("", "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("langgraph-temporal-exec 0.")
    assert ", langgraph 1." in done.stdout


def test_the_installed_command() -> None:
    """What pip makes the command of; an older installation of this tree has the app itself."""
    found = entry_points(group="console_scripts", name="langgraph-temporal")
    assert {e.value for e in found} <= {MAIN, "langgraph_temporal_exec.cli.main:app"}
