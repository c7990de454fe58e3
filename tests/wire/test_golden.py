"""Bytes written by this release are read by later ones: golden files are kept for ever.

A change of a message shows here first. Appending a field with a default keeps old files
readable; write a new golden file beside them with ``python -m tests.wire.test_golden``.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from temporalio.converter import default as default_converter

from langgraph_temporal_exec.protocol import messages, wire
from tests.wire.samples import SAMPLES

GOLDEN = sorted(Path(__file__).parent.glob("golden_*.json"))
NEWEST = Path(__file__).parent / "golden_1.json"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_golden_bytes_are_read(path: Path, name: str) -> None:
    data = bytes.fromhex(json.loads(path.read_text())[name])
    payload = default_converter().payload_converter.to_payload(data)
    assert payload.metadata["encoding"] == b"binary/plain"
    received = default_converter().payload_converter.from_payload(payload, bytes)
    assert wire.unpack(type(SAMPLES[name]), received) == SAMPLES[name]


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_this_release_writes_the_newest_golden_bytes(name: str) -> None:
    assert wire.pack(SAMPLES[name]).hex() == json.loads(NEWEST.read_text())[name]


def test_every_top_level_message_has_a_sample() -> None:
    sampled = {type(s) for s in SAMPLES.values()}
    parts = {"Value", "LogPage", "Applied", "TaskSpec", "ErrorInfo", "MailItem"}
    classes = {c for c in vars(messages).values() if dataclasses.is_dataclass(c)}
    assert {c.__name__ for c in classes - sampled} == parts


def test_unknown_fields_are_ignored_and_missing_ones_filled() -> None:
    full: list[Any] = msgpack.unpackb(wire.pack(messages.TaskInput(key="k")))
    assert wire.unpack(messages.TaskInput, msgpack.packb([*full, "new field"])).key == "k"
    short: list[Any] = msgpack.unpackb(wire.pack(messages.StepReply()))
    assert wire.unpack(messages.StepReply, msgpack.packb(short[:2])) == messages.StepReply()


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", msgpack.packb([2, "k"]), msgpack.packb({"key": "k"}), msgpack.packb([])]
)
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.unpack(messages.TaskInput, data)


if __name__ == "__main__":
    NEWEST.write_text(json.dumps({k: wire.pack(v).hex() for k, v in SAMPLES.items()}, indent=1))
