"""Mail of a stream: pieces in any order and more than once, differences, workers of before."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_temporal_exec.protocol.delta import diff
from langgraph_temporal_exec.protocol.messages import MailItem, compressed, decompressed
from langgraph_temporal_exec.protocol.wire import WireError
from langgraph_temporal_exec.storage.mail import Ordered


def _pieces(seq: int, data: bytes, size: int, *, numbered: bool, **options: int) -> list[MailItem]:
    starts = range(0, len(data), size)
    return [
        MailItem(
            attempt=1,
            seq=seq,
            data=data[start : start + size],
            more=start + size < len(data),
            piece=number if numbered else 0,
            slot=options.get("slot", 0),
            delta=bool(options.get("delta", 0)),
            whole_bytes=options.get("whole_bytes", 0),
        )
        for number, start in enumerate(starts, 1)
    ]


CHUNKS = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=6)


@given(chunks=CHUNKS, size=st.integers(1, 7), seed=st.integers(0, 2**16))
def test_any_order(chunks: list[bytes], size: int, seed: int) -> None:
    items = [i for n, data in enumerate(chunks) for i in _pieces(n, data, size, numbered=True)]
    twice = [*items, *items]
    random.Random(seed).shuffle(twice)
    order = Ordered()
    assert [data for item in twice for _, data in order.accept(item)] == chunks
    assert order.received == len(chunks)


@given(chunks=CHUNKS, size=st.integers(1, 7))
def test_a_worker_of_before_sends_in_order(chunks: list[bytes], size: int) -> None:
    items = [i for n, data in enumerate(chunks) for i in _pieces(n, data, size, numbered=False)]
    order = Ordered()
    assert [data for item in items for _, data in order.accept(item)] == chunks


def test_differences_are_to_the_chunk_kept_before() -> None:
    first = random.Random(0).randbytes(5_000)
    second = first[:2_000] + b"new" + first[2_000:]
    delta = diff([first], second)
    assert delta is not None
    items = [
        *_pieces(0, first, 1_000, numbered=True, slot=1),
        *_pieces(1, delta, 1_000, numbered=True, slot=1, delta=1),
    ]
    order = Ordered()
    # The difference arrives before what it is the difference to.
    got = [data for item in reversed(items) for _, data in order.accept(item)]
    assert got == [first, second]


def test_compressed_chunks() -> None:
    first, small = b"one text and " * 5_000, compressed(b"one text and " * 5_000)
    assert small is not None
    assert len(small) < len(first) / 50
    assert compressed(random.Random(0).randbytes(50_000)) is None
    assert compressed(b"short") is None
    items = _pieces(0, small, 100, numbered=True, whole_bytes=len(first))
    order = Ordered()
    assert [data for item in reversed(items) for _, data in order.accept(item)] == [first]


@pytest.mark.parametrize("wrong", [-1, 1, 1_000_000])
def test_no_more_is_decompressed_than_was_said(wrong: int) -> None:
    data = b"one text and " * 5_000
    small = compressed(data)
    assert small is not None
    with pytest.raises(WireError):
        decompressed(small, len(data) + wrong)
    with pytest.raises(WireError):
        decompressed(b"no such thing", 20)


@pytest.mark.parametrize("size", [-(2**62), -1, 0, 10**9, 2**62])
def test_a_size_that_none_has_bounds_nothing(size: int) -> None:
    small = compressed(b"\0" * 50_000)
    assert small is not None
    with pytest.raises(WireError, match="said to have"):
        decompressed(small, size)


def test_a_difference_to_a_chunk_that_is_not_kept_is_refused() -> None:
    base = b"what was " * 1_000
    delta = diff([base], base + b"more")
    assert delta is not None
    with pytest.raises(WireError):
        Ordered().accept(MailItem(attempt=1, seq=0, data=delta, slot=3, delta=True, piece=1))


def test_a_result_known_before_is_kept_for_every_attempt() -> None:
    known, new = b"what was " * 1_000, b"what was " * 999 + b"what is  "
    delta = diff([known], new)
    assert delta is not None
    order = Ordered(known)
    for attempt in (1, 2):
        item = MailItem(attempt=attempt, seq=0, data=delta, slot=1, delta=True, piece=1)
        assert [data for _, data in order.accept(item)] == [new]
    # Whoever does not know it sends the whole.
    whole = MailItem(attempt=3, seq=0, data=new, slot=1, piece=1)
    assert [data for _, data in order.accept(whole)] == [new]


def test_another_attempt_starts_over() -> None:
    order = Ordered()
    order.accept(MailItem(attempt=1, seq=0, data=b"half", more=True, piece=1))
    (got,) = order.accept(MailItem(attempt=2, seq=0, data=b"whole", piece=1))
    assert got[1] == b"whole"
    assert order.accept(MailItem(attempt=1, seq=0, data=b"late", piece=2)) == []
