"""An encrypted deployment, as `--saver` names it: codec, serializer and options of its own."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import temporalio.converter
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from temporalio.client import Client

from langgraph_temporal_exec import NodeOptions, Retention, TemporalSaver
from tests.storage.aes import Aes
from tests.support.graphs import parallel

KEY = b"0123456789abcdef"
ADDRESS, QUEUE = "SEALED_ADDRESS", "SEALED_QUEUE"
SUMMARY = "of the sealed deployment"

graph = parallel()


async def saver() -> TemporalSaver:
    """With a client that encrypts, and all options that the worker's saver decides."""
    converter = dataclasses.replace(temporalio.converter.default(), payload_codec=Aes(KEY))
    return TemporalSaver(
        await Client.connect(os.environ[ADDRESS], data_converter=converter),
        task_queue=os.environ[QUEUE],
        id_prefix=os.environ[QUEUE],
        serde=EncryptedSerializer.from_pycryptodome_aes(key=KEY),
        nodes=dict.fromkeys(graph.nodes, NodeOptions(summary=SUMMARY)),
        retention=Retention(last=1),
    )


@asynccontextmanager
async def managed() -> AsyncIterator[TemporalSaver]:
    """The same as a context."""
    made = await saver()
    try:
        yield made
    finally:
        print("the context has ended")


# -- mistakes ---------------------------------------------------------------------------------


def broken() -> TemporalSaver:
    return TemporalSaver({}["no key"])


def leaving() -> TemporalSaver:
    sys.exit(3)


def nothing() -> None: ...


async def undecorated() -> AsyncIterator[TemporalSaver]:
    yield await saver()


NUMBER = 5
