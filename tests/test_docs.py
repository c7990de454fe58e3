"""Code in docs/ does what it says, links lead somewhere, and what is named exists."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

import langgraph_temporal_exec
from langgraph_temporal_exec.local import find_temporal
from tests.conftest import TemporalServer
from tests.test_readme import ROOT, SHELL, execute, run, running, shown, write_blocks

DOCS = ROOT / "docs"
HOW_TO = DOCS / "how-to"
MOVE = DOCS / "migrate-from-deepagent-temporal.md"
ADDRESS = "localhost:7233"

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]


# -- examples ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        *("workers", "background-runs", "human-in-the-loop", "node-options", "threads"),
        *("other-workers", "load", "parking"),
    ],
)
def test_examples_with_a_server_of_their_own(page: str, tmp_path: Path) -> None:
    path = HOW_TO / f"{page}.md"
    write_blocks(path, tmp_path)
    needs_a_server = [p.name for p in tmp_path.glob("*.py") if ADDRESS in p.read_text()]
    ran = 0
    for example in shown(path):
        if example.command[1] not in needs_a_server:
            done = execute(example.command, tmp_path)
            assert done.returncode == 0, done.stderr
            assert done.stdout.splitlines() == example.prints
            ran += 1
    assert ran


@pytest.mark.parametrize("program", [example.command[1] for example in shown(MOVE)])
def test_examples_for_those_who_come_from_elsewhere(program: str, tmp_path: Path) -> None:
    """Each with a server of its own, in a folder where no other has been."""
    write_blocks(MOVE, tmp_path)
    if "deepagents" in (tmp_path / program).read_text():
        pytest.importorskip("deepagents")
    [example] = [e for e in shown(MOVE) if e.command[1] == program]
    done = execute(example.command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == example.prints


def worker_command(page: Path, task_queue: str, address: str) -> list[str]:
    """The command of a page that starts a worker, for a server and a task queue of the test."""
    [command] = [c for c in SHELL.findall(page.read_text(encoding="utf-8")) if " worker " in c]
    words = shlex.split(command.replace(ADDRESS, address))
    if "--task-queue" in words:
        words[words.index("--task-queue") + 1] = task_queue
    words[0] = str(Path(sys.executable).with_name(words[0]))
    return words


def rewrite(path: Path, task_queue: str, address: str) -> None:
    """Have a file use the server and the task queue of the test."""
    code = path.read_text(encoding="utf-8")
    assert ADDRESS in code
    assert 'task_queue="langgraph"' in code
    code = code.replace(ADDRESS, address)
    path.write_text(code.replace('task_queue="langgraph"', f'task_queue="{task_queue}"'))


def test_worker_command_and_caller(
    temporal_server: TemporalServer, task_queue: str, tmp_path: Path
) -> None:
    page = HOW_TO / "workers.md"
    write_blocks(page, tmp_path)
    rewrite(tmp_path / "call.py", task_queue, temporal_server.address)
    [example] = [e for e in shown(page) if e.command[1] == "call.py"]
    command = worker_command(page, task_queue, temporal_server.address)
    with running(command, tmp_path, "serving task queue"):
        assert run("call.py", tmp_path).splitlines() == example.prints


def test_encryption(temporal_server: TemporalServer, task_queue: str, tmp_path: Path) -> None:
    """The saver of the page serves the graph of another, and nothing is readable without a key."""
    fernet = pytest.importorskip("cryptography.fernet").Fernet
    page = HOW_TO / "encryption.md"
    write_blocks(HOW_TO / "workers.md", tmp_path)
    write_blocks(page, tmp_path)
    rewrite(tmp_path / "deployment.py", task_queue, temporal_server.address)
    (tmp_path / "call.py").write_text(
        textwrap.dedent(
            f"""
            import asyncio
            from temporalio.client import Client
            from my_agent import agent
            from deployment import make_saver

            async def main():
                saver = await make_saver()
                config = {{"configurable": {{"thread_id": "42"}}}}
                result = await agent.with_config(checkpointer=saver).ainvoke(
                    {{"messages": "xylophone"}}, config
                )
                print(result["messages"][-1].text)
                client = await Client.connect("{temporal_server.address}")
                seen = b""
                async for workflow in client.list_workflows(f'TaskQueue = "{task_queue}"'):
                    handle = client.get_workflow_handle(workflow.id, run_id=workflow.run_id)
                    async for event in handle.fetch_history_events():
                        seen += event.SerializeToString()
                print(b"binary/sealed" in seen, b"xylophone" in seen)

            asyncio.run(main())
            """
        )
    )
    key = fernet.generate_key().decode()
    command = worker_command(page, task_queue, temporal_server.address)
    with running(command, tmp_path, "serving task queue", STATE_KEY=key):
        said = run("call.py", tmp_path, STATE_KEY=key).splitlines()
    assert said == ["You said: xylophone", "True False"]


def test_external_storage(temporal_server: TemporalServer, task_queue: str, tmp_path: Path) -> None:
    """The saver of the page serves the graph of another, and what is large is in its folder."""
    page = HOW_TO / "external-storage.md"
    write_blocks(HOW_TO / "workers.md", tmp_path)
    write_blocks(page, tmp_path)
    rewrite(tmp_path / "deployment.py", task_queue, temporal_server.address)
    (tmp_path / "objects").mkdir()
    (tmp_path / "call.py").write_text(
        textwrap.dedent(
            f"""
            import asyncio
            from my_agent import agent
            from deployment import make_saver

            async def main():
                saver = await make_saver()
                config = {{"configurable": {{"thread_id": "{task_queue}"}}}}
                result = await agent.with_config(checkpointer=saver).ainvoke(
                    {{"messages": "xylophone" * 40_000}}, config
                )
                print(result["messages"][-1].text.count("xylophone"))
                seen = b""
                query = f'TaskQueue STARTS_WITH "{task_queue}"'
                async for workflow in saver.client.list_workflows(query):
                    handle = saver.client.get_workflow_handle(workflow.id, run_id=workflow.run_id)
                    async for event in handle.fetch_history_events():
                        seen += event.SerializeToString()
                print(b"ExternalStorageReference" in seen)
                # There is a little of it, where one version differs from another.
                print(seen.count(b"xylophone") < 100)

            asyncio.run(main())
            """
        )
    )
    command = worker_command(page, task_queue, temporal_server.address)
    with running(command, tmp_path, "serving task queue"):
        said = run("call.py", tmp_path).splitlines()
    assert said == ["40000", "True", "True"]
    assert any(b"xylophone" in file.read_bytes() for file in (tmp_path / "objects").iterdir())


def test_rate_limits_of_a_queue(temporal_server: TemporalServer, task_queue: str) -> None:
    """The command of the page is one that Temporal takes, and shows."""
    text = (HOW_TO / "load.md").read_text(encoding="utf-8")
    command = text.partition("<!-- tested: rate -->")[2].partition("```sh\n")[2].partition("\n")[0]
    words = shlex.split(command.replace("--task-queue langgraph ", f"--task-queue {task_queue} "))
    assert words[:4] == ["temporal", "task-queue", "config", "set"]
    at = ["--address", temporal_server.address, "--namespace", temporal_server.namespace]
    words[0] = find_temporal()
    subprocess.run([*words, *at], check=True, capture_output=True, timeout=60)
    get = [*words[:3], "get", *words[4:8], *at, "--output", "json"]
    told = subprocess.run(get, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "model quota" in told
    assert "per customer" in told


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_observability(temporal_server: TemporalServer, tmp_path: Path) -> None:
    """The examples in one program: a node logs with its place, and metrics are served."""
    pytest.importorskip("opentelemetry.sdk", reason="not for the lowest versions")
    text = (HOW_TO / "observability.md").read_text(encoding="utf-8")
    logs, traces, metrics = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    port = _free_port()
    connects = textwrap.indent(f"{traces}\n{metrics}", "    ")
    assert connects.count(ADDRESS) == 2
    assert connects.count("127.0.0.1:9464") == 1
    connects = connects.replace(ADDRESS, temporal_server.address)
    connects = connects.replace("127.0.0.1:9464", f"127.0.0.1:{port}")
    program = f"""
import asyncio, logging, sys, urllib.request
from langgraph.graph import START, MessagesState, StateGraph
from temporalio.client import Client
{logs}
handler.setStream(sys.stdout)

def node(state):
    logging.getLogger("mine").info("seen")

StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile().invoke({{}})

async def main():
{connects}
    assert await client.service_client.check_health()
    served = await asyncio.to_thread(urllib.request.urlopen, "http://127.0.0.1:{port}/metrics")
    print("temporal_request" in served.read().decode())

asyncio.run(main())
"""
    (tmp_path / "program.py").write_text(program)
    said = run("program.py", tmp_path).splitlines()
    assert "seen None None node 1" in said
    assert said[-1] == "True"


def test_every_example_is_run_by_a_test() -> None:
    """Those of studio.md by ``tests/studio``."""
    marked = {p.stem for p in PAGES if "<!-- runnable: " in p.read_text(encoding="utf-8")}
    assert marked == {
        *("README", "workers", "background-runs", "human-in-the-loop", "node-options"),
        *("threads", "encryption", "external-storage", "studio", "load", "other-workers"),
        "parking",
        MOVE.stem,
    }


# -- links ------------------------------------------------------------------------------------

MARKDOWN = MarkdownIt("commonmark").enable("table")


def _text(token: Token) -> str:
    """What is shown of an inline token."""
    children = token.children or ()
    return "".join(c.content for c in children if c.type in ("text", "code_inline"))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a file."""
    seen: Counter[str] = Counter()
    found = set()
    tokens = MARKDOWN.parse(path.read_text(encoding="utf-8"))
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", _text(inline).strip().lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def links(path: Path) -> Iterator[str]:
    """Targets of a file's links and images, without those that leave the repository."""
    for token in MARKDOWN.parse(path.read_text(encoding="utf-8")):
        for child in token.children or ():
            target = child.attrs.get("href") or child.attrs.get("src")
            if target and not re.match(r"[a-z]+:", str(target)):
                yield unquote(str(target))


def broken(path: Path) -> list[str]:
    """The links of a file that lead nowhere."""
    found = []
    for link in links(path):
        target, _, anchor = link.partition("#")
        to = (path.parent / target).resolve() if target else path
        missing = not to.exists() or not to.is_relative_to(ROOT.resolve())
        if missing or (anchor and (to.suffix != ".md" or anchor not in anchors(to))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# A `code` heading, twice!\n\n# A `code` heading, twice!\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[1](other.md) [2](other.md#a-code-heading-twice-1) [3](#here)\n"
        "[4](missing.md) [5](other.md#a-code-heading) [6](#there) ![7](missing.png)\n"
        "`[8](missing.md)` [9](https://example.org/missing) [10](../outside.md)\n"
    )
    (tmp_path.parent / "outside.md").touch()
    assert broken(page) == [
        *("missing.md", "other.md#a-code-heading", "#there", "missing.png", "../outside.md")
    ]


# -- names ------------------------------------------------------------------------------------


def test_named_tests_and_files_exist() -> None:
    """A promise that names its test keeps it."""
    sources = {p: p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("*.py")}
    functions = {f for text in sources.values() for f in re.findall(r"def (test_\w+)", text)}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`(test_\w+)`", text):
            assert name in functions, f"{page.name}: {name}"
        for name in re.findall(r"`((?:tests|examples)/[\w/]+(?:\.py)?)`", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_texts_name_pages_that_exist() -> None:
    """Errors and comments send people to pages and headings of docs/."""
    for folder in ("langgraph_temporal_exec", "tests", "examples", "benchmarks"):
        for source in (ROOT / folder).rglob("*.py"):
            text = source.read_text(encoding="utf-8")
            for name, anchor in re.findall(r"(docs/[\w/-]+\.(?:md|png))(?:#([\w-]+))?", text):
                assert (ROOT / name).exists(), f"{source.name}: {name}"
                assert not anchor or anchor in anchors(ROOT / name), f"{source.name}: {anchor}"


def test_the_reference_has_every_public_name() -> None:
    text = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^::: langgraph_temporal_exec\.(?:\w+\.)*(\w+)$", text, re.MULTILINE))
    errors = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    told |= set(re.findall(r"`(\w+Error)`", errors))
    assert told >= set(langgraph_temporal_exec.__all__)


def test_every_page_is_in_the_sites_navigation() -> None:
    """``make docs`` fails for a page that is not; here it does so without the site's tools."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = set(re.findall(r"[\w/-]+\.md", nav))
    ours = {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md")}
    assert {p for p in ours if not p.startswith("decisions/")} <= listed


def test_the_walk_names_modules_that_exist() -> None:
    """And is one that can be walked: at most fifteen stops."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walk = text.partition("## One call, from hook to outcome")[2].partition("\n## ")[0]
    stops = re.findall(r"^(\d+)\. ", walk, re.MULTILINE)
    assert stops == [str(n) for n in range(1, len(stops) + 1)]
    assert 10 <= len(stops) <= 15
    modules = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+)`", walk))
    assert len(modules) > 10
    for module in modules:
        assert (ROOT / "langgraph_temporal_exec" / f"{module}.py").is_file(), module
