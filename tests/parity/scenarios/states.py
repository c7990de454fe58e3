"""Scenarios: schemas of states, and what values they hold."""

from __future__ import annotations

import dataclasses
import enum
import operator
import uuid
from collections import deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, NotRequired, TypedDict, TypeVar

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel, Field, field_validator

from tests.parity.stage import Stage, SyncStage, effect, scenario


def chain(schema: Any, checkpointer: Any, *nodes: Any, **options: Any) -> Any:
    """A graph of nodes one after the other."""
    builder = StateGraph(schema, **options).add_sequence(nodes)
    return builder.add_edge(START, nodes[0].__name__).compile(checkpointer=checkpointer)


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5
    near: list[Point] = dataclasses.field(default_factory=list)


class Item(BaseModel):
    name: str
    price: Decimal = Decimal("1.10")
    tags: set[str] = Field(default_factory=set)
    extra: dict[str, Any] = Field(default_factory=dict)


class Order(BaseModel):
    items: Annotated[list[Item], operator.add] = Field(default_factory=list)
    count: int = 0
    note: str | None = None

    @field_validator("count")
    @classmethod
    def small(cls, count: int) -> int:
        if count > 9:
            raise ValueError("too many")
        return count


def _pydantic(checkpointer: Any) -> Any:
    async def adds(state: Order) -> dict[str, Any]:
        effect(f"adds to {type(state).__name__} of {len(state.items)}")
        return {"items": [Item(name=f"i{state.count}", tags={"t"})], "count": state.count + 1}

    async def checks(state: Order) -> Order:
        answer = interrupt(state)
        return Order(note=f"{answer}: {state.items[-1].name}", count=state.count + 1)

    return chain(Order, checkpointer, adds, checks)


@scenario(_pydantic)
async def pydantic_state(s: Stage) -> None:
    await s.invoke(Order(items=[Item(name="in")]))
    await s.state()
    await s.invoke(Command(resume="good"))
    await s.invoke({"count": "1"})
    await s.invoke(Command(resume="good"), version="v2")
    await s.stream({"count": 3}, version="v2", stream_mode=["values", "updates"])


@scenario(_pydantic)
async def pydantic_validation_fails(s: Stage) -> None:
    await s.invoke({"count": "many"}, s.config("bad input"))
    await s.invoke({"count": 2}, s.config("bad input"))
    await s.invoke({"items": [{"name": "ok"}], "count": 9})
    await s.state()
    await s.invoke({"count": 2})
    await s.invoke(Command(resume="fine"))


@dataclasses.dataclass
class Journey:
    here: Point
    been: Annotated[list[Point], operator.add] = dataclasses.field(default_factory=list)
    label: str = "none"


def _dataclass(checkpointer: Any) -> Any:
    def moves(state: Journey) -> dict[str, Any]:
        effect(f"moves {type(state).__name__}")
        return {"here": Point(state.here.x + 1, near=[state.here]), "been": [state.here]}

    def names(state: Journey) -> Journey:
        return Journey(here=Point(9), label=f"at {state.here.x}")

    return chain(Journey, checkpointer, moves, names)


@scenario(_dataclass)
def dataclass_state_from_sync_code(s: SyncStage) -> None:
    s.invoke(Journey(here=Point(1)))
    s.stream({"label": "again"}, stream_mode=["values", "updates"])


class Question(TypedDict):
    question: str


class Answer(TypedDict):
    answer: str


class Whole(Question, Answer):
    notes: Annotated[list[str], operator.add]


class Secret(TypedDict):
    secret: NotRequired[str]


def _schemas(checkpointer: Any) -> Any:
    async def reads(state: Question) -> Secret:
        return {"secret": state["question"].upper()}

    async def thinks(state: Secret) -> dict[str, Any]:
        return {"notes": [f"keys {sorted(state)}", state["secret"]], "secret": "changed"}

    async def answers(state: Whole) -> Answer:
        return {"answer": f"{sorted(state)} {state['notes']}"}

    options = {"input_schema": Question, "output_schema": Answer}
    return chain(Whole, checkpointer, reads, thinks, answers, **options)


@scenario(_schemas)
async def private_state_and_schemas(s: Stage) -> None:
    await s.invoke({"question": "why", "notes": ["ignored"]})
    await s.stream({"question": "how"}, stream_mode=["values", "updates", "checkpoints"])
    await s.invoke({"question": "who"}, output_keys=["notes", "secret"])


def _root(checkpointer: Any) -> Any:
    async def grows(state: list[Any]) -> list[Any]:
        return [len(state), *([interrupt(state)] if len(state) > 2 else [])]

    return chain(Annotated[list[Any], operator.add], checkpointer, grows)


@scenario(_root)
async def state_that_is_one_value(s: Stage) -> None:
    await s.invoke(["a"])
    await s.invoke(["b"])
    await s.stream(Command(resume=0), stream_mode=["values", "updates"])


class Things(TypedDict, total=False):
    things: dict[str, Any]
    same: bool


def things() -> dict[str, Any]:
    """Values of many types."""
    moment = datetime(2024, 2, 29, 12, 30, 15, 250, UTC)
    return {
        "enum": [Color.RED, Level.HIGH],
        "set": {1, 2},
        "frozenset": frozenset("ab"),
        "tuple": (1, (2, [3])),
        "bytes": b"\x00\xff",
        "deque": deque([1, 2], maxlen=3),
        "moments": [moment, moment.date(), moment.timetz(), timedelta(days=1, microseconds=3)],
        "naive": datetime(2020, 1, 1),
        "date": date(1999, 12, 31),
        "decimal": Decimal("1.000"),
        "uuid": uuid.UUID(int=7),
        "path": Path("/tmp/x"),
        "large": 2**63,
        "floats": [0.1, -0.0, float("inf"), 1e300],
        "keys": {1: "int", None: "none", (1, 2): "tuple", "1": "str"},
        "text": "\u2028 \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "point": Point(1, near=[Point(2)]),
        "item": Item(name="n", tags={"t"}),
        "send": Send("node", {"arg": 1}),
        "none": None,
    }


def _things(checkpointer: Any) -> Any:
    async def gives(state: Things) -> Things:
        return {"things": {**things(), **state["things"]}}

    async def asks(state: Things) -> Things:
        interrupt({"types": {k: type(v).__name__ for k, v in state["things"].items()}})
        return {"same": state["things"] == things()}

    async def returns(state: Things) -> Things:
        return {"things": {"again": state["things"], "same": state["same"]}}

    return chain(Things, checkpointer, gives, asks, returns)


@scenario(_things, differs={"placed": "stream state history"})
async def values_of_many_types(s: Stage) -> None:
    await s.stream({"things": things()}, stream_mode=["values", "updates"])
    await s.state()
    await s.stream(Command(resume=1), stream_mode=["values", "updates", "checkpoints"])


@scenario(_things, differs={"placed": "stream state history"})
async def values_that_change_when_stored(s: Stage) -> None:
    # What the serializer makes of them shows only after they have been stored.
    odd = {
        "bytearray": bytearray(b"ab"),
        "exception": ValueError("kept", 3),
        "nested models": Item(name="n", extra={"deep": Item(name="m"), "pair": (1, 2)}),
        "deque": deque([1, 2], maxlen=3),
        "tuple in a dataclass": Point(1, near=(Point(2),)),
    }
    await s.stream({"things": odd}, stream_mode=["values", "updates"])


def _unserializable(checkpointer: Any) -> Any:
    async def gives(state: Things) -> Things:
        effect("gives")
        return {"things": {"wrong": 1 + 2j if state["same"] else 2**80}}

    return chain(Things, checkpointer, gives)


@scenario(_unserializable, differs={"embedded": "invoke", "remote": "invoke"}, placeable=False)
async def value_that_cannot_be_serialized(s: Stage) -> None:
    await s.invoke({"same": True})
    await s.state()
    await s.invoke({"same": False}, s.config("exit"), durability="exit")


class Lists(TypedDict, total=False):
    a: list[Any]
    b: dict[str, Any]


def _mutates(checkpointer: Any) -> Any:
    async def mutates(state: Lists) -> Lists:
        state["a"].append("not returned")
        state["b"]["shared"] = state["a"]
        return {"b": state["b"]}

    async def mutates_more(state: Lists) -> Lists:
        state["b"]["shared"].append("through b")
        return {"a": [*state["a"], len(state["b"]["shared"])]}

    async def asks(state: Lists) -> Lists:
        state["a"].append("before the interrupt")
        return {"a": [*state["a"], interrupt("q")]}

    return chain(Lists, checkpointer, mutates, mutates_more, asks)


# LangGraph 1.2.13 hands a checkpoint over while the next node may be changing what it holds.
@scenario(_mutates, compat=False, differs={"placed": "invoke state history"})
async def nodes_that_change_their_input(s: Stage) -> None:
    await s.invoke({"a": [1], "b": {}})
    await s.state()
    await s.invoke(Command(resume="r"))
    await s.invoke({})


def _nothing(checkpointer: Any) -> Any:
    async def silent(state: Lists) -> None:
        effect("silent")

    async def empty(state: Lists) -> Lists:
        return {}

    async def none(state: Lists) -> Lists:
        return {"a": None, "b": {}}

    async def wrong(state: Lists) -> Any:
        return 7

    async def unknown(state: Lists) -> Any:
        return {"zzz": 1}

    return chain(Lists, checkpointer, silent, empty, none, unknown, wrong)


@scenario(_nothing)
async def nodes_that_return_nothing_or_nonsense(s: Stage) -> None:
    await s.stream({"a": [1]}, stream_mode=["values", "updates"])
    await s.invoke({"unknown": 1})
    await s.invoke({})
    await s.invoke("nonsense")


def _commanded(checkpointer: Any) -> Any:
    async def asks(state: Things) -> Things:
        found = interrupt(("a tuple", {"with": (Point(1),)}))
        return {"things": {"resumed": found, **state["things"]}}

    return chain(Things, checkpointer, asks)


@scenario(_commanded)
async def tuples_and_objects_in_a_command(s: Stage) -> None:
    await s.invoke({"things": {"input": (1, (2,))}})
    resume = (1, Point(2, near=(Point(3),)), Item(name="n"), deque([4]), ((5,),))
    update = {"things": {"updated": (1, [(2,)], {"k": (3,)})}}
    await s.stream(Command(resume=resume, update=update), stream_mode=["values", "updates"])
    await s.state()


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    rows: list[T] = []


class Basket(BaseModel):
    class Line(BaseModel):
        class Kind(enum.Enum):
            GIFT = "gift"

        sku: str
        kind: Kind = Kind.GIFT

    lines: list[Line] = []
    page: Page[Line] = Page[Line]()
    seen: list[str] = []


def _baskets(checkpointer: Any) -> Any:
    async def node(state: Basket, runtime: Runtime[Basket]) -> dict[str, Any]:
        runtime.stream_writer({"lines": state.lines, "context": runtime.context})
        answer = interrupt(state.page)
        given = (state.lines[0], state.page, runtime.context, answer)
        return {
            "lines": [*state.lines, Basket.Line(sku="b")],
            "seen": [f"{type(v).__module__}.{type(v).__qualname__}" for v in given],
        }

    builder = StateGraph(Basket, context_schema=Basket).add_node("node", node)
    return builder.add_edge(START, "node").compile(checkpointer=checkpointer)


@scenario(_baskets)
async def classes_in_classes_and_generic_ones(s: Stage) -> None:
    basket = Basket(lines=[Basket.Line(sku="a")], page=Page[Basket.Line](rows=[]))
    modes = ["values", "updates", "custom"]
    await s.stream(basket, context=basket, stream_mode=modes)
    await s.invoke(Command(resume=basket.lines[0]), context=basket)
    await s.state()
