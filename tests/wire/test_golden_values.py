"""Values that an earlier release sent to another process, or recorded as input, are read.

A new mark comes with a new file beside these: ``python -m tests.wire.test_golden_values > FILE``.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Send

from langgraph_temporal_exec.values.exact import dump_exact, load_exact
from tests.support.values import (
    Box,
    Colour,
    Item,
    Metres,
    Named,
    Numbers,
    Open,
    Order,
    Page,
    Pair,
    Right,
    form,
)

pytestmark = pytest.mark.compat

GOLDEN: dict[str, dict[str, str]] = {
    path.stem: json.loads(path.read_text())
    for path in sorted(Path(__file__).parent.glob("values_*.json"))
}

SERDE = JsonPlusSerializer()

SAMPLES: dict[str, Any] = {
    "containers": {"a": (1, [2, (3,)]), "b": bytearray(b"x")},
    "error": ValueError("no", 1),
    "command": Command(resume=(1,), goto=[Send("n", {"x": (2,)})]),
    "model": Item(n=1),
    "model with a tuple": Page(rows=[(1, 2)]),
    "message": HumanMessage("x", id="1"),
    "keys": {Colour.POINT: 1, (1, (2,)): 2},
    "a key of ours": {"__langgraph_temporal_tuple__": [1]},
    "collections": [
        *({(1, 2)}, frozenset({Colour.RED}), deque([(1,)], maxlen=2), Counter("aab")),
        *(OrderedDict(b=1, a=2), defaultdict(list, {"a": [1]})),
    ],
    "time": datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    "nested class": Order(lines=[Order.Line(sku="a")], kind=Order.Line.Kind.GIFT),
    "generic": Page[Item](rows=[Item(n=1)], more=Page[int | None](rows=[None])),
    "objects": [Numbers([(1,)]), Open(a=(1,)), Box((1,)), Pair(1, (2,)), Right.READ | Right.WRITE],
    "named": [Named("a", "b"), {Named("c"): Metres(1)}],
    "artifact": ToolMessage("x", tool_call_id="1", id="2", artifact=Item(n=1)),
}


@pytest.mark.parametrize(
    ("golden", "name"), [(golden, name) for golden, data in GOLDEN.items() for name in data]
)
def test_golden_values_are_read(golden: str, name: str) -> None:
    value = load_exact(SERDE, bytes.fromhex(GOLDEN[golden][name]))
    if name == "error":
        assert (type(value), value.args) == (ValueError, ("no", 1))
    else:
        assert form(value) == form(SAMPLES[name])


def test_the_newest_file_has_all_samples() -> None:
    assert max(GOLDEN.items())[1].keys() == SAMPLES.keys()


if __name__ == "__main__":
    written = {name: dump_exact(SERDE, v, what="it").hex() for name, v in SAMPLES.items()}
    print(json.dumps(written, indent=1))
