"""Benchmark of cold processes: a fresh one reads a thread, and what it receives is counted.

Its way to the server leads through a proxy in this process, which counts every byte, framing
included. Run as a module, this is that process: it reads, and prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.service import GrpcCompression

from benchmarks.contender import ROOT
from benchmarks.server import LabError
from benchmarks.shapes.long_thread import KINDS, Kind
from langgraph_temporal_exec import TemporalSaver

CHUNK = 65_536
READ_S = 180


@dataclass(kw_only=True)
class Traffic:
    """Bytes that went through a proxy."""

    received: int = 0  # from the server
    sent: int = 0  # to the server


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a fresh process read. Bytes."""

    received: int  # from Temporal, with all framing and what connecting takes
    states: int
    state: int  # the latest one, serialized
    replicas: int  # held in memory at the end, as the package counts
    peak_growth: int  # most memory of the process, beyond what it had before the first read


@asynccontextmanager
async def proxy(address: str) -> AsyncIterator[tuple[str, Traffic]]:
    """A way to the server that counts; yields its address and the count."""
    host, _, port = address.rpartition(":")
    traffic = Traffic()

    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                setattr(traffic, direction, getattr(traffic, direction) + len(data))
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(host, int(port))
        await asyncio.gather(
            carry(reader, to_server, "sent"), carry(from_server, writer, "received")
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        own, own_port = server.sockets[0].getsockname()[:2]
        yield f"{own}:{own_port}", traffic
    finally:
        server.close()


async def read_cold(
    address: str, kind: Kind, threads: Sequence[str], *, history: bool = False
) -> Reading:
    """Let a fresh process read the latest state of threads, or all their states.

    Raises:
        LabError: It failed.
    """
    async with proxy(address) as (way, traffic):
        command = [sys.executable, "-m", "benchmarks.cold", "--address", way, "--kind", kind.name]
        command += ["--history"] if history else []
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        process = await asyncio.create_subprocess_exec(
            *command,
            *threads,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            async with asyncio.timeout(READ_S):
                out, err = await process.communicate()
        except TimeoutError:
            raise LabError(f"A cold process did not read within {READ_S} s.") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = " | ".join(err.decode(errors="replace").strip().splitlines()[-5:])
            raise LabError(f"A cold process exited with {process.returncode}: {said}")
        return Reading(received=traffic.received, **json.loads(out))


def prefix_of(kind: Kind) -> str:
    """Each kind has workflow ids of its own, and queues."""
    return f"long-{kind.name}"


def saver_of(kind: Kind, client: Client) -> TemporalSaver:
    """The same in all processes."""
    return TemporalSaver(client, task_queue=prefix_of(kind), id_prefix=prefix_of(kind))


# -- in the fresh process -------------------------------------------------------------------------


def _memory(field: str) -> int:
    """Memory of this process, bytes: ``VmRSS`` now, ``VmHWM`` at most since it began.

    Not ``getrusage``: on Linux its maximum begins with that of the process which started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [li for li in status.read_text().splitlines() if li.startswith(f"{field}:")]
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


async def _read(address: str, kind: Kind, threads: Sequence[str], *, history: bool) -> None:
    # By default the transport compresses, which would hide a part of what is read.
    client = await Client.connect(address, grpc_compression=GrpcCompression.NONE)
    saver = saver_of(kind, client)
    graph = kind.graph.with_config(checkpointer=saver)
    before = _memory("VmRSS")
    values: Any = None
    states = 0
    for thread in threads:
        config: Any = {"configurable": {"thread_id": thread}}
        if history:
            async for state in graph.aget_state_history(config):
                states += 1
                # The newest is listed first; the others are not kept.
                values = state.values if values is None else values
        else:
            values = (await graph.aget_state(config)).values
            states += 1
    grown = _memory("VmHWM") - before
    print(
        json.dumps(
            {
                "states": states,
                "state": len(saver.serde.dumps_typed(values)[1]),
                "replicas": saver._store.replicas.size,
                "peak_growth": grown,
            }
        ),
        flush=True,
    )
    saver.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--kind", required=True, choices=[kind.name for kind in KINDS])
    parser.add_argument("--history", action="store_true")
    parser.add_argument("threads", nargs="+")
    arguments = parser.parse_args()
    (chosen,) = [kind for kind in KINDS if kind.name == arguments.kind]
    asyncio.run(_read(arguments.address, chosen, arguments.threads, history=arguments.history))
