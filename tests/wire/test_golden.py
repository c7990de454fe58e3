"""Bytes written by this release are read by later ones: golden files are kept for ever.

A change of a message shows here first. Appending a field with a default keeps old files
readable; write a new golden file beside them with ``python -m tests.wire.test_golden``.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_type_hints

import msgpack
import pytest
from temporalio.converter import default as default_converter

from langgraph_temporal_exec.protocol import messages, stored, wire
from tests.wire.samples import SAMPLES

HERE = Path(__file__).parent
NEWEST = HERE / "golden_10.json"
GOLDEN: dict[str, dict[str, str]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(HERE.glob("golden_*.json"))
}


def as_of(sample: Any, raw: Any) -> Any:
    """A sample as a release knew it that wrote ``raw``: fields it did not have are defaults."""
    if dataclasses.is_dataclass(sample):
        known = zip(dataclasses.fields(sample), raw, strict=False)
        return type(sample)(**{f.name: as_of(getattr(sample, f.name), r) for f, r in known})  # type: ignore[misc] # no class is passed
    if isinstance(sample, tuple):
        return tuple(as_of(s, r) for s, r in zip(sample, raw, strict=True))
    return sample


@pytest.mark.parametrize(
    ("golden", "name"), [(golden, name) for golden, data in GOLDEN.items() for name in data]
)
def test_golden_bytes_are_read(golden: str, name: str) -> None:
    data = bytes.fromhex(GOLDEN[golden][name])
    payload = default_converter().payload_converter.to_payload(data)
    assert payload.metadata["encoding"] == b"binary/plain"
    received = default_converter().payload_converter.from_payload(payload, bytes)
    _version, *fields = msgpack.unpackb(data)
    expected = as_of(SAMPLES[name], fields)
    assert wire.unpack(type(expected), received) == expected


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_this_release_writes_the_newest_golden_bytes(name: str) -> None:
    assert wire.pack(SAMPLES[name]).hex() == json.loads(NEWEST.read_text())[name]


PARTS = {
    *(
        "ActiveRun",
        "Applied",
        "BlobRef",
        "CallerStream",
        "Closed",
        "ClosingState",
        "Deadline",
        "ErrorInfo",
        "Home",
        "Inherited",
        "Kept",
        "LogPage",
        "MailItem",
        "Pack",
        "RunPriority",
        "Standing",
    ),
    *("Segment", "Shelved", "TaskSpec", "ThreadSummary", "Value", "Waiter"),
}


def test_every_top_level_message_has_a_sample() -> None:
    sampled = {type(s) for s in SAMPLES.values()}
    defined = [*vars(messages).values(), *vars(stored).values()]
    classes = {c for c in defined if dataclasses.is_dataclass(c)}
    assert {c.__name__ for c in classes - sampled} == PARTS


def test_every_field_of_a_sample_differs_from_its_default() -> None:
    def defaults(path: str, value: Any) -> list[str]:
        if isinstance(value, tuple):
            return [d for item in value for d in defaults(path, item)]
        if not dataclasses.is_dataclass(value):
            return []
        found = []
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            name = f"{path}.{field.name}"
            found += [name] if inner == field.default else defaults(name, inner)
        return found

    assert [d for name, sample in SAMPLES.items() for d in defaults(name, sample)] == []


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


@pytest.mark.parametrize("name", SAMPLES)
def test_fields_of_another_type_are_refused(name: str) -> None:
    """Workflow code would fail with them, and be run again for ever."""
    kind = type(SAMPLES[name])
    sample = msgpack.unpackb(wire.pack(SAMPLES[name]), strict_map_key=False)
    hints = get_type_hints(kind)
    for i, field in enumerate(dataclasses.fields(kind), 1):
        if hints[field.name] is Any:
            continue
        # Nothing is a set of three texts.
        wrong = msgpack.packb([*sample[:i], msgpack.ExtType(7, b"x"), *sample[i + 1 :]])
        with pytest.raises(wire.WireError, match=kind.__name__):
            wire.unpack(kind, wrong)
        if isinstance(sample[i], list) and sample[i]:
            inner = [msgpack.ExtType(7, b"x"), *sample[i][1:]]
            with pytest.raises(wire.WireError, match=kind.__name__):
                wire.unpack(kind, msgpack.packb([*sample[:i], inner, *sample[i + 1 :]]))


def test_a_message_without_a_field_that_has_no_default_is_refused() -> None:
    with pytest.raises(wire.WireError, match="TaskInput"):
        wire.unpack(messages.TaskInput, msgpack.packb([1]))


if __name__ == "__main__":
    NEWEST.write_text(json.dumps({k: wire.pack(v).hex() for k, v in SAMPLES.items()}, indent=1))
