"""Values as differences: every value comes back exactly, and usual changes are small."""

from __future__ import annotations

import random

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_temporal_exec.protocol.delta import MAX_PARTS, PROBE, diff, digest, patch
from langgraph_temporal_exec.protocol.wire import WireError

RANDOM = random.Random(7)
MESSAGES = [{"id": f"m{i}", "content": RANDOM.randbytes(60).hex()} for i in range(200)]

# Few letters and repeated pieces: places that look alike are where a search goes wrong.
pieces = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"a" * 300, b"ab" * 200, bytes(range(256)), b"\0" * PROBE]),
)
values = st.lists(pieces, max_size=12).map(b"".join)


@st.composite
def edited(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Bases, and a value that is made of them by a few edits."""
    bases = draw(st.lists(values, min_size=1, max_size=3))
    new = draw(st.sampled_from([*bases, b"".join(bases)]))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(new)))
        until = at + draw(st.integers(0, 60))
        new = new[:at] + draw(pieces) + new[until:]
    return bases, new


@given(edited())
def test_a_value_comes_back_exactly(case: tuple[list[bytes], bytes]) -> None:
    bases, new = case
    delta = diff(bases, new)
    if delta is not None:
        assert patch(bases, delta) == new
        assert len(delta) < 0.75 * len(new)


@given(st.lists(values, max_size=3), values)
def test_values_without_likeness_are_stored_whole(bases: list[bytes], new: bytes) -> None:
    delta = diff(bases, new)
    assert delta is None or patch(bases, delta) == new


def packed(messages: list[dict[str, str]]) -> bytes:
    data: bytes = msgpack.packb(messages)
    return data


def test_a_list_that_grows_costs_what_is_new() -> None:
    delta = diff([packed(MESSAGES[:199])], packed(MESSAGES))
    assert delta is not None
    assert len(delta) < len(packed(MESSAGES[:1])) + 50


def test_a_list_that_loses_its_front_costs_next_to_nothing() -> None:
    delta = diff([packed(MESSAGES)], packed(MESSAGES[150:]))
    assert delta is not None
    assert len(delta) < 50


def test_an_edit_in_the_middle_costs_the_edit() -> None:
    edit = [*MESSAGES[:100], {"id": "m100", "content": "edited"}, *MESSAGES[101:]]
    delta = diff([packed(MESSAGES)], packed(edit))
    assert delta is not None
    assert len(delta) < 100


def test_a_list_that_is_reordered_costs_little() -> None:
    delta = diff([packed(MESSAGES)], packed([*MESSAGES[100:], *MESSAGES[:100]]))
    assert delta is not None
    assert len(delta) < 100


def test_a_dict_that_grows_costs_what_is_new() -> None:
    files = {m["id"]: m["content"] for m in MESSAGES}
    before: bytes = msgpack.packb(files)
    after: bytes = msgpack.packb({**files, "m5": "changed", "new": "file"})
    delta = diff([before], after)
    assert delta is not None
    assert len(delta) < 100


def test_parts_of_several_bases_are_used() -> None:
    left, right = RANDOM.randbytes(1_000), RANDOM.randbytes(1_000)
    delta = diff([left, right], left + right)
    assert delta is not None
    assert len(delta) < 50
    assert patch([left, right], delta) == left + right


@pytest.mark.parametrize("new", [RANDOM.randbytes(100_000), b"", b"short"])
def test_a_delta_that_saves_little_is_none(new: bytes) -> None:
    assert diff([RANDOM.randbytes(100_000)], new) is None
    assert diff([], new) is None


def test_a_value_cut_to_shreds_is_bounded() -> None:
    base = RANDOM.randbytes(100_000)
    shreds = b"".join(base[i : i + 40] for i in range(0, len(base), 50))
    delta = diff([base], shreds)
    assert delta is None or len(msgpack.unpackb(delta)) <= MAX_PARTS + 4


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        b"\xc1",
        msgpack.packb(1),
        msgpack.packb({"a": 1}),
        msgpack.packb([1, 2]),
        msgpack.packb([5, 0, 1]),
        msgpack.packb(["text", 0, 1]),
        msgpack.packb([0, None, "x"]),
        msgpack.packb([0, 2, 3]),
        msgpack.packb([0, -1, 2]),
        msgpack.packb([0, 2, -1]),
    ],
)
def test_bytes_that_are_no_delta_are_refused(delta: bytes) -> None:
    with pytest.raises(WireError):
        patch([b"base"], delta)


def test_digests_are_content_addresses() -> None:
    assert digest(b"a") == digest(b"a") != digest(b"b")
    assert len(digest(b"")) == 16
