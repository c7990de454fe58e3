"""What a log says by its headers: sources, support, heads and compacted logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from langgraph_temporal_exec.protocol.delta import digest
from langgraph_temporal_exec.protocol.log import (
    EMPTY_TYPE,
    Log,
    as_sent,
    blobs_of,
    parts_of,
    read_ops,
    self_contained,
)
from langgraph_temporal_exec.protocol.names import RESUME_CHANNEL
from langgraph_temporal_exec.protocol.stored import (
    BlobRef,
    Inherited,
    Op,
    OpKind,
    Value,
    Version,
)
from langgraph_temporal_exec.protocol.wire import pack


def value(channel: str, key: Version, *, type_: str = "msgpack", data: bytes = b"") -> Value:
    return Value(channel=channel, key=key, type=type_, data=data or f"{channel}{key}".encode())


def put(
    checkpoint_id: str,
    parent_id: str | None = None,
    values: Mapping[str, Version] | None = None,
    inherits: Mapping[str, Version] | None = None,
    **fields: object,
) -> Op:
    return Op(
        kind=OpKind.PUT,
        checkpoint_id=checkpoint_id,
        parent_id=parent_id,
        values=tuple(value(c, k) for c, k in (values or {}).items()),
        inherits=tuple(Inherited(channel=c, key=k) for c, k in (inherits or {}).items()),
        **fields,  # type: ignore[arg-type] # any of its fields
    )


def writes(checkpoint_id: str, channel: str = "w") -> Op:
    return Op(
        kind=OpKind.WRITES, checkpoint_id=checkpoint_id, task_id="t", values=(value(channel, 0),)
    )


def drop(*dropped: str) -> Op:
    return Op(kind=OpKind.DROP, dropped=dropped)


def opened(*names: str) -> Op:
    return Op(kind=OpKind.OPEN, opened=names)


def values_op(**values: Version) -> Op:
    return Op(kind=OpKind.VALUES, values=tuple(value(c, k) for c, k in values.items()))


def shape(ops: Iterable[Op]) -> list[str]:
    """The ops in short: kind and what they are about."""
    result = []
    for op in ops:
        about = op.checkpoint_id or ",".join(op.dropped or op.opened)
        held = ",".join(f"{v.channel}{v.key}" for v in op.values)
        result.append(f"{OpKind(op.kind).name} {about} {held}".strip())
    return result


LINE = [
    put("c1", None, {"a": 1, "b": 1}),
    writes("c1"),
    put("c2", "c1", {"a": 2}),
    put("c3", "c2", {"b": 3}),
    writes("c3"),
]


# -- sources ----------------------------------------------------------------------------------


def test_versions_of_channels_come_from_the_nearest_ancestor() -> None:
    log = Log.of(LINE)
    assert log.sources("c3") == {"b": 3, "a": 2}
    assert log.sources("c1") == {"a": 1, "b": 1}


def test_a_fork_names_what_is_not_its_parents() -> None:
    log = Log.of([*LINE, put("c4", "c1", {"b": 4}, {"a": 2})])
    assert log.sources("c4") == {"b": 4, "a": 2}


def test_a_complete_checkpoint_inherits_nothing_else() -> None:
    log = Log.of([*LINE, put("c4", "gone", {"b": 4}, {"a": 2}, complete=True)])
    assert log.sources("c4") == {"b": 4, "a": 2}


def test_sources_are_unknown_below_an_unknown_parent() -> None:
    log = Log.of([put("c2", "c1", {"a": 2})])
    assert log.sources("c2") is None
    assert log.sources("c9") is None


def test_parents_in_a_ring_end() -> None:
    log = Log.of([put("c1", "c2"), put("c2", "c1")])
    assert [op.checkpoint_id for op in log.ancestors("c2")] == ["c2", "c1"]
    assert log.sources("c2") is None


# -- support ----------------------------------------------------------------------------------


def test_support_reaches_back_to_the_last_snapshot() -> None:
    log = Log.of(
        [
            put("c1", None, {"d": 1}),
            put("c2", "c1", {"d": 2}),
            put("c3", "c2", deltas=("d",)),
            put("c4", "c3", deltas=("d",)),
            put("c5", "c4", {"d": 5}),
        ]
    )
    assert log.support(["c4"]) == {"c3", "c2"}
    assert log.support(["c5"]) == set()
    assert log.support(["c3", "c4"]) == {"c3", "c2"}


def test_an_empty_value_is_no_snapshot() -> None:
    first = replace(put("c1"), values=(value("d", 1, type_=EMPTY_TYPE),))
    log = Log.of([first, put("c2", "c1", deltas=("d",))])
    assert log.support(["c2"]) == {"c1"}


def test_each_channel_has_its_own_support() -> None:
    log = Log.of(
        [
            put("c1", None, {"d": 1}),
            put("c2", "c1", {"e": 2}, deltas=("d",)),
            put("c3", "c2", deltas=("d", "e")),
        ]
    )
    assert log.support(["c3"]) == {"c2", "c1"}


# -- heads ------------------------------------------------------------------------------------


def test_a_head_is_the_latest_checkpoint_with_all_its_values() -> None:
    head = Log.of(LINE).head()
    assert shape(head) == ["VALUES  a2", "PUT c3 b3", "WRITES c3 w0"]
    assert (head[1].parent_id, head[1].complete) == ("c2", True)
    assert Log.of(head).sources("c3") == Log.of(LINE).sources("c3")


def test_the_latest_checkpoint_is_the_one_with_the_greatest_id() -> None:
    head = Log.of([*LINE, put("c1b", "c1", {"a": 9})]).head()
    assert shape(head)[1] == "PUT c3 b3"


def test_a_head_skips_what_was_dropped() -> None:
    head = Log.of([*LINE, drop("c3")]).head()
    assert shape(head) == ["VALUES  b1", "PUT c2 a2"]


def test_a_head_brings_what_its_delta_channels_are_rebuilt_from() -> None:
    head = Log.of(
        [
            put("c1", None, {"d": 1, "x": 1}),
            writes("c1", "d"),
            put("c2", "c1", deltas=("d",)),
            writes("c2", "x"),
            put("c3", "c2", deltas=("d",)),
            writes("c3", "d"),
            put("c4", "c3", {"y": 4}, deltas=("d",)),
            writes("c4", "d"),
        ]
    ).head()
    # c2 adds nothing to d.
    assert shape(head) == [
        "PUT c1 d1,x1",
        "WRITES c1 d0",
        "PUT c3",
        "WRITES c3 d0",
        "PUT c4 y4",
        "WRITES c4 d0",
        "DROP c1,c3",
    ]
    assert [op.parent_id for op in head if op.kind == OpKind.PUT] == [None, "c1", "c3"]
    assert Log.of(head).sources("c4") == {"y": 4, "d": 1, "x": 1}


def test_writes_whose_checkpoint_is_yet_to_come_are_in_the_head() -> None:
    assert "WRITES c9 w0" in shape(Log.of([*LINE, writes("c9")]).head())


def test_they_are_in_the_head_of_a_thread_without_checkpoints_too() -> None:
    assert shape(Log.of([opened("ns"), writes("c1")]).head()) == ["WRITES c1 w0", "OPEN ns"]


def test_a_head_names_all_namespaces() -> None:
    ops = [opened("b"), *LINE, opened("a"), opened("b")]
    assert shape(Log.of(ops).head())[-1] == "OPEN b,a"
    assert shape(Log.of([opened("b"), opened("a")]).head()) == ["OPEN b,a"]


def test_a_head_of_a_head_is_the_same() -> None:
    head = Log.of([opened("ns"), *LINE, writes("c9")]).head()
    assert Log.of(head).head() == head


# -- compaction -------------------------------------------------------------------------------


def test_compaction_without_drops_changes_nothing() -> None:
    assert Log.of(LINE).compacted() == LINE


def test_compaction_keeps_values_that_others_refer_to() -> None:
    compacted = Log.of([*LINE, drop("c1", "c2")]).compacted()
    assert shape(compacted) == ["VALUES  a2", "PUT c3 b3", "WRITES c3 w0"]
    assert Log.of(compacted).sources("c3") == {"b": 3, "a": 2}


def test_compaction_twice_changes_nothing_more() -> None:
    ops = [opened("ns"), *LINE, put("c4", "c3", {"b": 4}), writes("c9"), drop("c2", "c3")]
    once = Log.of(ops).compacted()
    assert Log.of(once).compacted() == once


def test_compaction_keeps_dropped_ancestors_that_delta_channels_need() -> None:
    compacted = Log.of(
        [
            put("c1", None, {"d": 1}),
            put("c2", "c1", deltas=("d",)),
            writes("c2", "d"),
            put("c3", "c2", deltas=("d",)),
            put("c4", "c3", {"d": 4}),
            drop("c1", "c2", "c4"),
        ]
    ).compacted()
    assert shape(compacted) == ["PUT c1 d1", "PUT c2", "WRITES c2 d0", "PUT c3", "DROP c1,c2"]
    assert Log.of(compacted).live == ["c3"]


def test_writes_go_with_their_checkpoint_and_stay_when_it_is_yet_to_come() -> None:
    compacted = Log.of([*LINE, writes("c9"), drop("c1"), writes("c1")]).compacted()
    assert [s for s in shape(compacted) if s.startswith("WRITES")] == [
        "WRITES c3 w0",
        "WRITES c9 w0",
    ]


def test_a_checkpoint_that_was_put_again_is_live() -> None:
    log = Log.of([*LINE, drop("c3"), put("c3", "c2", {"b": 3})])
    assert log.live == ["c1", "c2", "c3"]


def test_values_that_were_saved_from_dropped_checkpoints_stay() -> None:
    ops = [values_op(a=2, z=1), put("c3", "c2", {"b": 3}, {"a": 2}, complete=True)]
    assert shape(Log.of([*ops, put("c4", "c3", {"b": 4}), drop("c3")]).compacted()) == [
        "VALUES  a2",
        "PUT c4 b4",
    ]


# -- self-contained ops -----------------------------------------------------------------------


def large(channel: str, data: bytes, *bases: bytes) -> Value:
    return Value(
        channel=channel,
        key="1",
        type="msgpack",
        data=b"delta" if bases else data,
        digest=digest(data),
        bases=tuple(digest(b) for b in bases),
    )


def whole(*ops: Op) -> list[Op]:
    """Ops made to stand for themselves; the whole bytes of a value are its channel's name."""

    def place(value: Value, data: bytes) -> Value:
        return replace(value, data=data, bases=())

    return read_ops(self_contained(ops, lambda v: f"whole {v.channel}".encode(), place))


def test_bases_among_the_ops_stay_and_others_are_replaced() -> None:
    first = Op(kind=OpKind.PUT, checkpoint_id="c1", values=(large("a", b"A"),))
    second = Op(kind=OpKind.PUT, checkpoint_id="c2", values=(large("b", b"B", b"A"),))
    third = Op(kind=OpKind.PUT, checkpoint_id="c3", values=(large("c", b"C", b"B", b"X"),))
    fourth = Op(kind=OpKind.PUT, checkpoint_id="c4", values=(large("d", b"D", b"C"),))
    assert whole(first, second, fourth)[:2] == [first, second]
    result = whole(second, third, fourth)
    assert [(op.values[0].data, op.values[0].bases) for op in result] == [
        (b"whole b", ()),
        (b"whole c", ()),
        (b"delta", (digest(b"C"),)),
    ]


def test_checkpoints_and_metadata_are_values_too() -> None:
    op = put(
        "c2",
        "c1",
        checkpoint=b"delta",
        checkpoint_digest=digest(b"cp"),
        checkpoint_bases=(digest(b"earlier"),),
        metadata=b"m",
        metadata_digest=digest(b"m"),
    )
    (result,) = whole(op)
    assert (result.checkpoint, result.checkpoint_bases) == (b"whole ", ())
    assert result.checkpoint_digest == digest(b"cp")
    assert (result.metadata, result.metadata_digest) == (b"m", digest(b"m"))


BODY = BlobRef(size=1, scope="run", pieces=(b"p",), piece=1)


def test_an_op_whose_values_are_outside_keeps_them_there() -> None:
    op = replace(put("c1", None, {"a": 1}), body=BODY)
    assert whole(op) == [as_sent(op)]
    changed = replace(op, values=(large("b", b"B", b"X"),))
    (result,) = whole(changed)
    assert (result.body, result.values[0].data) == (None, b"whole b")


def test_an_op_as_sent_says_what_is_needed_of_its_values() -> None:
    answer = Op(
        kind=OpKind.WRITES, checkpoint_id="c1", values=(value(RESUME_CHANNEL, -4),), body=BODY
    )
    sent = as_sent(answer)
    assert (sent.values, sent.answers, sent.body) == ((), True, BODY)
    assert not as_sent(replace(answer, values=(value("x", 0),))).answers
    inline = replace(answer, body=None)
    assert as_sent(inline) is inline


def test_parts_and_blobs_of_an_op() -> None:
    op = replace(put("c1", None, {"a": 1}), body=BODY)
    assert [v.key for v in parts_of(op)] == [1, "checkpoint", "metadata"]
    assert [v.key for v in parts_of(writes("c1"))] == [0]
    other = BlobRef(size=2, scope="run", pieces=(b"q",), piece=2)
    op = replace(op, values=(replace(op.values[0], blob=other),))
    assert list(blobs_of(op)) == [BODY, other]


@pytest.mark.parametrize("op", [*LINE, drop("c1"), opened("ns"), values_op(a=1)])
def test_blank_entries_of_earlier_releases_are_skipped(op: Op) -> None:
    assert read_ops([b"", pack(op), b""]) == [op]
