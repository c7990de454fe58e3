"""A graph that pays through an API, in a worker that dies when it has paid."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

from langgraph_temporal_exec import idempotency_key

API = "PAYMENT_API"
PAID = "PAYMENT_PAID"


class Order(TypedDict, total=False):
    amount: int
    receipt: str


def _charge(amount: int, key: str) -> str:
    request = urllib.request.Request(
        os.environ[API], data=str(amount).encode(), headers={"Idempotency-Key": key}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        receipt: str = answer.read().decode()
        return receipt


def _die_once() -> None:
    paid = Path(os.environ[PAID])
    if not paid.exists():
        paid.touch()
        os.kill(os.getpid(), signal.SIGKILL)


async def pay(state: Order) -> Order:
    """Dies between the payment and what would have told of it, once."""
    receipt = await asyncio.to_thread(_charge, state["amount"], idempotency_key("charge"))
    await asyncio.to_thread(_die_once)
    return {"receipt": receipt}


def payment() -> Any:
    """One node."""
    return StateGraph(Order).add_node(pay).add_edge(START, "pay").compile(name="payment")


graph = payment()
