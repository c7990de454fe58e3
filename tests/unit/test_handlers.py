"""Callback handlers of a caller elsewhere: stand-ins that look alike, and events that add up."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tracers.event_stream import _AstreamEventsCallbackHandler
from langchain_core.tracers.stdout import ConsoleCallbackHandler
from langgraph.callbacks import GraphCallbackHandler
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_temporal_exec.caller.handlers import Event, Handlers
from langgraph_temporal_exec.errors import AttemptSupersededError
from langgraph_temporal_exec.seam.langchain import IGNORED_BY
from langgraph_temporal_exec.values.callbacks import kind_of, kinds_of
from langgraph_temporal_exec.values.exact import dump_readable, load_exact
from langgraph_temporal_exec.worker.proxies import manager_for

pytestmark = pytest.mark.compat

SERDE = JsonPlusSerializer()


class Recorder(BaseCallbackHandler):
    """Names and run ids."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.seen.append(("start", kwargs["run_id"]))

    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.seen.append(("end", kwargs["run_id"]))

    def on_chain_error(self, error: BaseException, **kwargs: Any) -> None:
        self.seen.append((type(error).__name__, kwargs["run_id"]))

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.seen.append((token, kwargs["run_id"]))


class Deaf(AsyncCallbackHandler):
    ignore_chain = True  # type: ignore[assignment] # a property in the base class


class OfGraphs(GraphCallbackHandler):
    pass


def event(attempt: int, name: str, *args: Any, **kwargs: Any) -> Event:
    return Event(attempt=attempt, data=dump_readable(SERDE, (0, name, args, kwargs)))


def start(attempt: int, run_id: UUID, parent: UUID | None = None) -> Event:
    return event(attempt, "on_chain_start", {}, {}, run_id=run_id, parent_run_id=parent)


def told(*events: Event, end: BaseException | None = None) -> list[tuple[str, Any]]:
    recorder = Recorder()
    handlers = Handlers({"callbacks": [recorder]})
    for one in events:
        handlers.tell(SERDE, one)
    handlers.close(end)
    return recorder.seen


def test_a_run_that_goes_on_elsewhere_is_one_run() -> None:
    root, again, child, other = uuid4(), uuid4(), uuid4(), uuid4()
    seen = told(
        start(1, root),
        start(1, child, root),
        start(2, again),
        start(2, other, again),
        event(2, "on_chain_end", {}, run_id=other, parent_run_id=again),
        event(2, "on_chain_end", {}, run_id=again, parent_run_id=None),
    )
    assert seen == [
        ("start", root),
        ("start", child),
        (AttemptSupersededError.__name__, child),
        ("start", other),
        ("end", other),
        ("end", root),
    ]


def test_what_has_begun_ends_with_the_call() -> None:
    root, child = uuid4(), uuid4()
    seen = told(start(1, root), start(1, child, root), end=KeyError())
    assert seen[2:] == [("KeyError", child), ("KeyError", root)]


def test_no_other_method_can_be_called_by_name() -> None:
    assert told(event(1, "__init__"), event(1, "close"), event(1, "seen")) == []


@pytest.mark.parametrize(
    "handler",
    [Recorder(), Deaf(), OfGraphs(), ConsoleCallbackHandler(), _AstreamEventsCallbackHandler()],
    ids=lambda handler: type(handler).__name__,
)
def test_a_stand_in_is_of_the_same_kind(handler: BaseCallbackHandler) -> None:
    described = Handlers({"callbacks": [handler]}).description
    crossed = load_exact(SERDE, dump_readable(SERDE, described))
    sent: list[Any] = []
    manager = manager_for(crossed, lambda *event: sent.append(event))
    (stand_in,) = manager.handlers
    assert kind_of(stand_in, inherited=True) == kind_of(handler, inherited=True)
    assert kinds_of(crossed) == [kind_of(handler, inherited=True)]
    for name in IGNORED_BY:
        getattr(stand_in, name)(1, run_id=2)
    assert sent == [(0, name, (1,), {"run_id": 2}) for name in IGNORED_BY]


def test_every_event_of_langchain_is_known() -> None:
    handlers = (AsyncCallbackHandler, GraphCallbackHandler)
    methods = {name for cls in handlers for name in dir(cls) if name.startswith("on_")}
    assert methods == set(IGNORED_BY)


def test_values_nobody_can_serialize_are_shown() -> None:
    chunk = ChatGenerationChunk(message={"content": "x", "type": "AIMessageChunk"})  # type: ignore[arg-type] # pydantic makes the message
    lock = object()
    args = load_exact(SERDE, dump_readable(SERDE, (chunk, {"x": lock, "y": (1,)})))
    assert args == (chunk, {"x": repr(lock), "y": (1,)})
