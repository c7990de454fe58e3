"""Blobs: pieces that add up, names that depend on content alone, packs that are bounded."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_temporal_exec.protocol import blob
from langgraph_temporal_exec.protocol.delta import digest
from langgraph_temporal_exec.protocol.stored import Pack, Segment
from langgraph_temporal_exec.protocol.wire import WireError


@given(st.binary(max_size=300), st.integers(0, 120))
def test_pieces_add_up(data: bytes, piece_bytes: int) -> None:
    upload = blob.plan(data, scope="s", what="w", piece_bytes=piece_bytes)
    pieces = list(upload.pieces())
    assert b"".join(content for _, content in pieces) == data
    assert tuple(name for name, _ in pieces) == upload.ref.pieces
    assert all(name == digest(content) for name, content in pieces)
    assert upload.ref.size == len(data)
    if piece_bytes:
        assert all(len(content) <= piece_bytes for _, content in pieces)
    else:
        assert len(pieces) == 1


def test_what_grows_shares_its_pieces() -> None:
    parts = [bytes([i]) * 100 for i in range(5)]
    refs = [
        blob.plan(b"".join(parts[:n]), scope="s", what="w", piece_bytes=100).ref for n in (4, 5)
    ]
    assert refs[1].pieces[:4] == refs[0].pieces


@given(st.lists(st.binary(max_size=50)))
def test_packs_come_back(ops: list[bytes]) -> None:
    assert blob.decompress(blob.compress(ops)) == tuple(ops)


def test_packs_of_segments_come_back() -> None:
    ref = blob.plan(b"x", scope="s", what="w", piece_bytes=0).ref
    segments = (
        Segment(first=0, end=2, pack=Pack(data=b"\0")),
        Segment(first=2, end=9, pack=Pack(ref=ref, level=3)),
    )
    assert blob.decompress_segments(blob.compress_segments(segments)) == segments


@pytest.mark.parametrize("data", [b"", b"no pack", zlib.compress(b"no message")])
def test_damaged_packs_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        blob.decompress(data)


def test_a_pack_cut_short_is_refused() -> None:
    data = blob.compress([bytes(range(256)) * 4])
    with pytest.raises(WireError):
        blob.decompress(data[:-20])


def test_a_pack_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob, "MAX_INFLATED_BYTES", 10_000)
    assert blob.decompress(blob.compress([b"\0" * 5_000])) == (b"\0" * 5_000,)
    with pytest.raises(WireError, match="more than 10,000 bytes"):
        blob.decompress(blob.compress([b"\0" * 20_000]))


def test_a_closed_namespace_is_found_by_its_key() -> None:
    keys = [blob.shelf_key(f"a:{n}") for n in range(50)]
    assert {len(key) for key in keys} == {blob.SHELF_KEY_BYTES}
    listed = b"".join(keys[:40])
    assert [blob.is_on(listed, key) for key in keys] == [True] * 40 + [False] * 10
    # What lies across two keys is none.
    assert not blob.is_on(listed, listed[3 : 3 + blob.SHELF_KEY_BYTES])
    across = listed[3 : 3 + blob.SHELF_KEY_BYTES]
    assert blob.is_on(listed + across, across)
    assert not blob.is_on(b"", keys[0])
