"""A worker in a process of its own that cannot read all that its callers write, or can."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
from datetime import timedelta
from typing import Any, TypedDict

import temporalio.converter
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.storage.aes import Aes

READY = "the worker serves"
KEYS = {"ours": b"0123456789abcdef", "other": b"fedcba9876543210"}


class State(TypedDict, total=False):
    text: str
    answer: Any


def ask(state: State, runtime: Runtime[Any]) -> State:
    return {"answer": interrupt("sure?")} if state["text"] == "ask" else {"answer": "none"}


def build() -> Any:
    graph = StateGraph(State, context_schema=Any).add_node("ask", ask)
    return graph.add_edge(START, "ask").compile(name="unread")


async def saver_with(address: str, queue: str, serde: str = "", codec: str = "") -> TemporalSaver:
    """A saver with a serializer, and a client with a codec, of these keys; ``""``: without."""
    converter = temporalio.converter.default()
    if codec:
        converter = dataclasses.replace(converter, payload_codec=Aes(KEYS[codec]))
    return TemporalSaver(
        await Client.connect(address, data_converter=converter),
        task_queue=queue,
        id_prefix=queue,
        serde=EncryptedSerializer.from_pycryptodome_aes(key=KEYS[serde]) if serde else None,
        no_worker_timeout=timedelta(seconds=5),
    )


async def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("address", "queue", "serde", "codec"):
        parser.add_argument(f"--{name}", default="")
    saver = await saver_with(**vars(parser.parse_args()))
    async with saver.worker(build()):
        print(READY, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
