"""Scenarios: deep agents: plans, files, sub-agents, approvals, summaries."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from pathlib import Path
from typing import Any

from deepagents import FilesystemPermission, create_deep_agent
from deepagents.backends import CompositeBackend, FilesystemBackend, StateBackend, StoreBackend
from deepagents.middleware.summarization import SummarizationMiddleware
from langchain.agents import create_agent
from langchain.agents.middleware import TodoListMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from pydantic import BaseModel

from tests.parity.scenarios.fakes import Scripted, Turn
from tests.parity.stage import LEDGER, Stage, SyncStage, effect, scenario

ALL = ["values", "updates", "messages", "custom", "tasks"]


def said(*texts: str) -> dict[str, Any]:
    """An input of human messages."""
    return {"messages": [("human", text) for text in texts]}


def lasting(name: str, delay: float = 0.0) -> BaseTool:
    """A tool that counts its calls; a delay gives parallel calls an order."""

    async def work(topic: str) -> str:
        effect(f"{name} {topic}")
        await asyncio.sleep(delay)
        return f"{name} of {topic}"

    def work_blocking(topic: str) -> str:
        effect(f"{name} {topic}")
        time.sleep(delay)
        return f"{name} of {topic}"

    return StructuredTool.from_function(
        func=work_blocking, coroutine=work, name=name, description=f"Does {name}."
    )


async def once_failing(topic: str) -> str:
    """Fails the first time."""
    await asyncio.sleep(0.5)
    if effect(f"once_failing {topic}") == 1:
        raise ConnectionError("try again", topic)
    return f"{topic} after all"


def _planning(checkpointer: Any) -> Any:
    def todos(*states: str) -> tuple[str, dict[str, Any]]:
        return (
            "write_todos",
            {"todos": [{"content": f"step {i}", "status": s} for i, s in enumerate(states)]},
        )

    script: list[Turn] = [
        ("first a plan", [todos("in_progress", "pending")]),
        [("look", {"topic": "rain"}), todos("completed", "in_progress")],
        [todos("completed", "completed")],
        "all done",
    ]
    return create_deep_agent(
        model=Scripted(scripts={"plan": script}),
        tools=[lasting("look", 0.5)],
        system_prompt="Be brief.",
        middleware=[TodoListMiddleware()],
        checkpointer=checkpointer,
    )


@scenario(_planning)
async def deep_agent_plans(s: Stage) -> None:
    await s.stream(said("plan"), stream_mode=["updates", "values", "messages"])


FILES: dict[str, list[Turn]] = {
    "write": [
        [("write_file", {"file_path": "/{thread}/a.txt", "content": "one\ntwo\nthree"})],
        [
            ("read_file", {"file_path": "/{thread}/a.txt"}),
            ("ls", {"path": "/{thread}"}),
            ("glob", {"pattern": "**/*.txt", "path": "/{thread}"}),
            ("grep", {"pattern": "two", "path": "/{thread}"}),
            ("read_file", {"file_path": "/{thread}/missing.txt"}),
        ],
        [
            (
                "edit_file",
                {"file_path": "/{thread}/a.txt", "old_string": "two", "new_string": "2"},
            )
        ],
        "written",
    ],
    "read": [[("read_file", {"file_path": "/{thread}/a.txt"})], "read"],
    "given": [[("read_file", {"file_path": "/given.txt"})], "read what was given"],
    "remember": [
        [("write_file", {"file_path": "/memories/{thread}.txt", "content": "remembered"})],
        [("write_file", {"file_path": "/disk/{thread}.txt", "content": "on the disk"})],
        [("write_file", {"file_path": "/{thread}.txt", "content": "in the state"})],
        [("ls", {"path": "/memories/"}), ("read_file", {"file_path": "/disk/{thread}.txt"})],
        "remembered",
    ],
}


def _files(checkpointer: Any, *, kind: str) -> Any:
    disk = Path(os.environ[LEDGER]) / "files"
    disk.mkdir(exist_ok=True)
    on_disk = FilesystemBackend(root_dir=disk, virtual_mode=True)
    in_store = StoreBackend(namespace=lambda runtime: ("files",))
    backends: dict[str, Any] = {
        "state": StateBackend(),
        "disk": on_disk,
        "composite": CompositeBackend(
            default=StateBackend(), routes={"/memories/": in_store, "/disk/": on_disk}
        ),
    }
    return create_deep_agent(
        model=Scripted(scripts=FILES),
        backend=backends[kind],
        store=InMemoryStore(),
        checkpointer=checkpointer,
    )


@scenario(functools.partial(_files, kind="state"))
async def deep_agent_files_in_the_state(s: Stage) -> None:
    await s.stream(said("write"), stream_mode="values")
    await s.stream(said("read"), stream_mode=["updates", "values"])
    files = {"/given.txt": {"content": "given", "encoding": "utf-8"}}
    await s.invoke({**said("given"), "files": files})


@scenario(functools.partial(_files, kind="disk"))
async def deep_agent_files_on_disk(s: Stage) -> None:
    await s.invoke(said("write"))
    await s.invoke(said("read"))


@scenario(functools.partial(_files, kind="composite"))
async def deep_agent_files_in_several_places(s: Stage) -> None:
    await s.invoke(said("remember"))
    await s.invoke(said("remember"))
    await s.invoke(said("remember"), s.config("another"))


def _parallel(checkpointer: Any) -> Any:
    calls: list[Turn] = [
        [("slow", {"topic": "a"}), ("look", {"topic": "b"}), ("look", {"topic": "c"})],
        [("once_failing", {"topic": "d"}), ("look", {"topic": "e"})],
        "looked",
    ]
    return create_deep_agent(
        model=Scripted(scripts={"all": calls}),
        tools=[lasting("look"), lasting("slow", 0.5), once_failing],
        checkpointer=checkpointer,
    )


@scenario(_parallel)
async def deep_agent_calls_tools_at_once(s: Stage) -> None:
    await s.stream(said("all"), stream_mode="values")
    await s.state()
    await s.stream(None, stream_mode="values")


def _delegating(checkpointer: Any) -> Any:
    def hand(to: str, what: str) -> tuple[str, dict[str, Any]]:
        return ("task", {"description": what, "subagent_type": to})

    research: dict[str, list[Turn]] = {
        "research": [[("look", {"topic": "rain"})], "it is wet"],
        "trouble": [[("once_failing", {"topic": "rain"})], "it is wet, after all"],
    }
    writing: dict[str, list[Turn]] = {
        "write": [
            [("slow", {"topic": "text"})],
            [("write_file", {"file_path": "/text.txt", "content": "a text"})],
            "a text",
        ],
        "count": ["three"],
    }
    main: dict[str, list[Turn]] = {
        "one": [("handing over", [hand("researcher", "research it")]), "it was wet"],
        "two": [[hand("researcher", "research it"), hand("writer", "write it")], "both are done"],
        "general": [[hand("general-purpose", "count them")], "there are three"],
        "count": ["three, by the general one"],
        "nobody": [[hand("nobody", "do it")], "there is nobody"],
        "compiled": [[hand("compiled", "count them")], "there are three"],
        "trouble": [[hand("researcher", "trouble")], "after some trouble"],
    }
    compiled = create_agent(model=Scripted(scripts=writing, label="compiled"), name="compiled")
    return create_deep_agent(
        model=Scripted(scripts=main, label="main"),
        subagents=[
            {
                "name": "researcher",
                "description": "Researches.",
                "system_prompt": "Research.",
                "model": Scripted(scripts=research, label="researcher"),
                "tools": [lasting("look"), once_failing],
            },
            {
                "name": "writer",
                "description": "Writes.",
                "system_prompt": "Write.",
                "model": Scripted(scripts=writing, label="writer"),
                "tools": [lasting("slow", 0.5)],
            },
            {"name": "compiled", "description": "Counts.", "runnable": compiled},
        ],
        checkpointer=checkpointer,
    )


@scenario(_delegating)
async def deep_agent_with_a_sub_agent(s: Stage) -> None:
    await s.stream(said("one"), stream_mode=ALL, subgraphs=True)
    await s.stream(said("one more"), s.config("outer"), stream_mode=["updates", "messages"])


@scenario(_delegating)
async def deep_agent_with_two_sub_agents_at_once(s: Stage) -> None:
    await s.stream(said("two"), stream_mode=["updates", "messages"], subgraphs=True, ordered=False)
    await s.invoke(said("two again"))


@scenario(_delegating)
async def deep_agent_with_sub_agents_of_each_kind(s: Stage) -> None:
    for word in ("general", "compiled", "nobody"):
        await s.stream(said(word), s.config(word), stream_mode="updates", subgraphs=True)


@scenario(_delegating)
async def deep_agent_resumed_after_a_failing_sub_agent(s: Stage) -> None:
    await s.stream(said("trouble"), stream_mode="updates", subgraphs=True)
    await s.state()
    await s.stream(None, stream_mode="updates", subgraphs=True)


@scenario(_delegating)
async def events_of_a_deep_agent(s: Stage) -> None:
    await s.events(said("one"), version="v2", include_types=["chat_model", "tool"])


def _approving(checkpointer: Any) -> Any:
    def hand(what: str) -> tuple[str, dict[str, Any]]:
        return ("task", {"description": what, "subagent_type": "sender"})

    sending: dict[str, list[Turn]] = {
        "send": [[("send", {"topic": "letter"}), ("look", {"topic": "stamp"})], "it is sent"],
        "parcel": [
            [("look", {"topic": "parcel"})],
            [("send", {"topic": "parcel"})],
            "the parcel is sent",
        ],
    }
    main: dict[str, list[Turn]] = {
        **sending,
        "three": [
            [("send", {"topic": topic}) for topic in ("a", "b", "c")],
            [("send", {"topic": "d"})],
            "all are sent",
        ],
        "hand": [[hand("send it")], "handed over"],
        "both": [[hand("send it"), hand("parcel")], "both handed over"],
    }
    return create_deep_agent(
        model=Scripted(scripts=main, label="main"),
        tools=[lasting("send"), lasting("look", 0.5)],
        interrupt_on={
            "send": {"allowed_decisions": ["approve", "edit", "reject", "respond"]},
            "look": False,
        },
        subagents=[
            {
                "name": "sender",
                "description": "Sends.",
                "system_prompt": "Send.",
                "model": Scripted(scripts=sending, label="sender"),
                "tools": [lasting("send"), lasting("look", 0.5)],
                "interrupt_on": {"send": True},
            }
        ],
        checkpointer=checkpointer,
    )


APPROVE = {"type": "approve"}


def decide(*decisions: Any) -> Command[Any]:
    """The answer to a request for approval."""
    return Command(resume={"decisions": list(decisions)})


@scenario(_approving)
async def deep_agent_approved_edited_rejected(s: Stage) -> None:
    decisions = {
        "approve": APPROVE,
        "edit": {"type": "edit", "edited_action": {"name": "send", "args": {"topic": "card"}}},
        "reject": {"type": "reject", "message": "not today"},
        "respond": {"type": "respond", "message": "it was sent by hand"},
        "unknown": {"type": "unknown"},
    }
    for name, decision in decisions.items():
        await s.stream(said("send"), s.config(name), stream_mode=["updates", "values"])
        await s.invoke(decide(decision), s.config(name))
    await s.invoke(decide(APPROVE), s.config("unknown"))


@scenario(_approving)
async def deep_agent_with_several_approvals(s: Stage) -> None:
    await s.invoke(said("three"))
    edited = {"type": "edit", "edited_action": {"name": "look", "args": {"topic": "b"}}}
    await s.invoke(decide(APPROVE, edited, {"type": "reject"}))
    # Another message instead of an answer, and too few answers.
    await s.invoke(said("three"), s.config("wrong"))
    await s.invoke(decide(APPROVE), s.config("wrong"))
    await s.invoke(said("send"))
    await s.invoke(decide(APPROVE))


@scenario(_approving)
async def deep_agent_with_approvals_in_a_sub_agent(s: Stage) -> None:
    await s.stream(said("hand"), stream_mode="updates", subgraphs=True)
    await s.state()
    await s.stream(decide(APPROVE), stream_mode="updates", subgraphs=True)
    await s.invoke(said("hand", "hand"), s.config("rejected"))
    await s.invoke(decide({"type": "reject"}), s.config("rejected"))


@scenario(_approving)
async def deep_agent_with_approvals_in_two_sub_agents(s: Stage) -> None:
    await s.invoke(said("both"))
    state = await s.state()
    assert state is not None
    first, second = sorted(state.interrupts, key=lambda i: str(i.value))
    await s.invoke(Command(resume={first.id: {"decisions": [APPROVE]}}))
    await s.state()
    await s.invoke(Command(resume={second.id: {"decisions": [APPROVE]}}))


def _guarded(checkpointer: Any) -> Any:
    script: list[Turn] = [
        [("write_file", {"file_path": "/secret/a.txt", "content": "a"})],
        [("write_file", {"file_path": "/asked/b.txt", "content": "b"})],
        [("write_file", {"file_path": "/free/c.txt", "content": "c"})],
        "three tries",
    ]
    rules = [
        FilesystemPermission(operations=["write"], paths=["/secret/**"], mode="deny"),
        FilesystemPermission(operations=["write"], paths=["/asked/**"], mode="interrupt"),
    ]
    return create_deep_agent(
        model=Scripted(scripts={"try": script}), permissions=rules, checkpointer=checkpointer
    )


@scenario(_guarded)
async def deep_agent_with_permissions(s: Stage) -> None:
    await s.stream(said("try"), stream_mode="updates")
    await s.stream(decide(APPROVE), stream_mode="updates")


SKILL = "---\nname: counting\ndescription: How to count.\n---\n# Counting\nOne, two, three.\n"


def _skilled(checkpointer: Any) -> Any:
    path = "/skills/counting/SKILL.md"
    script: list[Turn] = [[("read_file", {"file_path": path})], "one, two, three"]
    return create_deep_agent(
        model=Scripted(scripts={"count": script}),
        skills=["/skills/"],
        memory=["/memory/AGENTS.md"],
        checkpointer=checkpointer,
    )


@scenario(_skilled)
async def deep_agent_with_skills_and_memory(s: Stage) -> None:
    contents = {"/skills/counting/SKILL.md": SKILL, "/memory/AGENTS.md": "Be nice."}
    files = {path: {"content": text, "encoding": "utf-8"} for path, text in contents.items()}
    await s.stream({**said("count"), "files": files}, stream_mode=["updates", "values"])
    await s.invoke(said("count again"))


def _forgetting(checkpointer: Any) -> Any:
    scripts: dict[str, list[Turn]] = {
        "hello": [("", [("look", {"topic": "hello"})]), "good day"],
        "summarize": ["they said hello"],
    }
    model = Scripted(scripts=scripts)
    summarizes = SummarizationMiddleware(
        model,
        backend=StateBackend(),
        trigger=("messages", 7),
        keep=("messages", 3),
        summary_prompt="summarize {messages}",
    )
    return create_deep_agent(
        model=model, tools=[lasting("look")], middleware=[summarizes], checkpointer=checkpointer
    )


@scenario(_forgetting)
async def deep_agent_summarizes(s: Stage) -> None:
    for i in range(4):
        await s.stream(said(f"hello {i}"), stream_mode="updates")


class Answer(BaseModel):
    number: int
    reason: str = ""


def _structured(checkpointer: Any) -> Any:
    script: list[Turn] = [
        [("Answer", {"number": "many"})],
        [("Answer", {"number": 42, "reason": "it is known"})],
    ]
    return create_deep_agent(
        model=Scripted(scripts={"what": script}),
        response_format=ToolStrategy(Answer),
        checkpointer=checkpointer,
    )


@scenario(_structured)
async def deep_agent_with_structured_output(s: Stage) -> None:
    await s.stream(said("what is it"), stream_mode=["updates", "values"])


@scenario(_delegating)
async def deep_agent_forked(s: Stage) -> None:
    await s.invoke(said("one"))
    states = await s.history()
    before = next(state for state in states if state.next == ("tools",))
    await s.stream(None, before.config, stream_mode="updates", subgraphs=True)
    made = await s.update({"messages": [("human", "general")]}, states[-2].config)
    await s.stream(None, made, stream_mode="updates", subgraphs=True)


@scenario(_approving)
def deep_agent_from_sync_code(s: SyncStage) -> None:
    s.stream(said("hand"), stream_mode=["updates", "messages"], subgraphs=True)
    s.state()
    s.stream(decide(APPROVE), stream_mode=["updates", "messages"], subgraphs=True)
    s.invoke(said("send"))
    s.invoke(decide({"type": "reject", "message": "no"}))
