"""Values as deltas and blobs come back whole, however long the way is."""

from __future__ import annotations

import itertools

import pytest

from langgraph_temporal_exec.protocol.blob import plan
from langgraph_temporal_exec.protocol.delta import diff, digest
from langgraph_temporal_exec.protocol.stored import BlobRef, Value
from langgraph_temporal_exec.storage.resolver import MEMO_BYTES, Resolver, UnknownBaseError

STEM = bytes(range(256)) * 2


class InMemory:
    """The reading half of a ``BlobStore``: what this process has in memory."""

    def __init__(self) -> None:
        self.blobs: dict[BlobRef, bytes] = {}

    def local(self, ref: BlobRef) -> bytes | None:
        return self.blobs.get(ref)


def stored(data: bytes, *bases: bytes) -> Value:
    """A value as the log holds it: a delta against ``bases``, or whole."""
    delta = diff(bases, data) if bases else None
    assert bases == () or delta is not None
    return Value(
        channel="c",
        key="1",
        type="msgpack",
        data=data if delta is None else delta,
        digest=digest(data),
        bases=tuple(map(digest, bases)),
    )


def in_blob(value: Value, blobs: InMemory) -> Value:
    ref = plan(value.data, scope="s", what="w", piece_bytes=0).ref
    blobs.blobs[ref] = value.data
    return Value(
        channel="c",
        key="1",
        type="msgpack",
        data=b"",
        digest=value.digest,
        bases=value.bases,
        blob=ref,
    )


def resolver(*values: Value, blobs: InMemory | None = None) -> Resolver:
    made = Resolver(blobs or InMemory())  # type: ignore[arg-type] # has what it uses
    made.learn(values)
    return made


def chain(length: int) -> tuple[list[bytes], list[Value]]:
    """Values each of which is a delta against the one before."""
    whole = [STEM + i.to_bytes(4, "big") for i in range(length)]
    pairs = itertools.pairwise(whole)
    return whole, [stored(whole[0]), *(stored(new, old) for old, new in pairs)]


def test_a_plain_value_is_what_it_is() -> None:
    short = Value(channel="c", key="1", type="msgpack", data=b"x")
    assert resolver().whole(short) == b"x"


def test_a_long_chain_is_followed_without_recursion() -> None:
    whole, values = chain(5_000)
    assert resolver(*values).whole(values[-1]) == whole[-1]


def test_every_link_of_a_chain_can_be_asked_for() -> None:
    whole, values = chain(300)
    made = resolver(*values)
    assert [made.whole(v) for v in reversed(values)] == whole[::-1]
    assert [made.whole(v) for v in values] == whole


def test_a_value_may_have_several_bases() -> None:
    left, right = STEM + b"left", STEM[::-1] + b"right"
    both = left + right
    value = stored(both, left, right)
    assert resolver(stored(left), stored(right)).whole(value) == both


def test_bases_that_share_a_base_are_rebuilt() -> None:
    root = STEM * 4
    left, right = root + b"left" * 10, b"right" * 10 + root
    values = [stored(root), stored(left, root), stored(right, root)]
    assert resolver(*values).whole(stored(left + right, left, right)) == left + right


def test_a_value_on_an_unknown_base_is_reported() -> None:
    _, values = chain(3)
    with pytest.raises(UnknownBaseError):
        resolver(*values[1:]).whole(values[-1])


def test_blobs_that_must_be_fetched_are_named() -> None:
    blobs = InMemory()
    whole, values = chain(4)
    outside = [in_blob(v, blobs) for v in values]
    known, blobs.blobs = blobs.blobs, {}
    made = resolver(*outside, blobs=blobs)
    while (data := made.whole(outside[-1])) is None:
        assert made.missing
        for ref in made.missing:
            blobs.blobs[ref] = known[ref]
        made.missing.clear()
    assert data == whole[-1]
    assert not made.missing


def test_a_value_rebuilt_to_other_bytes_is_an_error() -> None:
    (old, new), (first, second) = chain(2)
    wrong = Value(
        channel="c",
        key="1",
        type="msgpack",
        data=second.data,
        digest=digest(old + new),
        bases=second.bases,
    )
    with pytest.raises(RuntimeError, match="channel 'c' was rebuilt to other bytes"):
        resolver(first).whole(wrong)


def test_values_that_go_back_and_forth_are_rebuilt_in_any_order_of_learning() -> None:
    """A reader of the latest part learns what is old last: it must not build A on B on A."""
    a, b = STEM + b"a", STEM + b"b"
    log = [stored(a), stored(b, a), stored(a, b)]
    for order in (log, log[::-1]):
        made = resolver(*order)
        assert [made.whole(v) for v in log] == [a, b, a]


def test_what_was_rebuilt_is_kept_up_to_a_bound() -> None:
    large = [bytes([i]) + STEM * (MEMO_BYTES // len(STEM) // 4) for i in range(8)]
    values = [stored(large[0]), *(stored(new, large[0]) for new in large[1:])]
    made = resolver(*values)
    assert [made.whole(v) for v in values] == large
    assert [made.whole(v) for v in values] == large
    assert made._memo_bytes <= MEMO_BYTES


def test_a_value_that_equals_its_base_needs_the_blob_of_the_base() -> None:
    """The output of a node and the channel it becomes are the same bytes: stored once."""
    data = STEM * 1_000
    blobs = InMemory()
    base, same = in_blob(stored(data), blobs), stored(data, data)
    there, blobs.blobs = blobs.blobs, {}
    made = Resolver(blobs)  # type: ignore[arg-type] # has what it uses
    made.learn([base, same])
    assert made.whole(same) is None
    assert made.missing == set(there)
    blobs.blobs = there
    assert made.whole(same) == data


@pytest.mark.timeout(20)
def test_values_that_build_on_each_other_are_reported() -> None:
    """A reader of the latest part knows A and B only as they came back, one upon the other."""
    a, b = STEM + b"a", STEM + b"b"
    made = resolver(stored(b, a), stored(a, b))
    for value in (stored(b, a), stored(a, b)):
        with pytest.raises(UnknownBaseError):
            made.whole(value)


@pytest.mark.timeout(20)
def test_a_value_that_was_written_twice_builds_on_the_first() -> None:
    first, again = stored(STEM), stored(STEM, STEM)
    for order in ((first, again), (again, first)):
        made = resolver(*order)
        assert [made.whole(first), made.whole(again)] == [STEM, STEM]
    with pytest.raises(UnknownBaseError):
        resolver(again).whole(again)
