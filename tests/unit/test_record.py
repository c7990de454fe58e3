"""The record of a call, and the one that workflows write without LangGraph."""

from __future__ import annotations

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from langgraph_temporal_exec.protocol.wire import pack_record
from langgraph_temporal_exec.values.record import Call, decode, encode

pytestmark = pytest.mark.compat

PLAIN = JsonPlusSerializer()
ENCRYPTED = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")


@pytest.mark.parametrize("serde", [PLAIN, ENCRYPTED], ids=["plain", "encrypted"])
def test_a_record_of_plain_data_is_a_call(serde: JsonPlusSerializer) -> None:
    data = pack_record(
        thread_id="t",
        object_name="Command",
        fields={"resume": {"a": [1, "b"]}},
        stream_mode=["values", "updates"],
    )
    call = decode(serde, data)
    assert call.input == Command(resume={"a": [1, "b"]})
    assert call.config["configurable"] == {"thread_id": "t"}
    assert call.options == {"stream_mode": ["values", "updates"]}


def test_both_ways_to_write_a_record_are_the_same_call() -> None:
    config = {"configurable": {"thread_id": "t"}, "recursion_limit": 7}
    written = Call(
        input=Command(resume=1), config={}, options={"stream_mode": ["values", "updates"]}
    )
    by_a_caller = decode(PLAIN, encode(PLAIN, written, config, "t"))
    by_a_workflow = decode(
        PLAIN,
        pack_record(
            thread_id="t",
            object_name="Command",
            fields={"resume": 1},
            stream_mode=["values", "updates"],
        ),
    )
    assert by_a_caller.config.pop("recursion_limit") == 7
    assert by_a_workflow == by_a_caller
