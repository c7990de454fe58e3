"""Chunks two processes know: the most recent ones, within a bound."""

from __future__ import annotations

from langgraph_temporal_exec.storage.known import KEPT_FROM_BYTES, KnownChunks

SIZE = KEPT_FROM_BYTES


def test_the_last_of_each_thread_is_kept() -> None:
    chunks = KnownChunks()
    assert chunks.get("t") == b""
    chunks.keep("t", b"a" * SIZE)
    chunks.keep("t", b"b" * SIZE)
    assert chunks.get("t") == b"b" * SIZE
    for small in (b"", b"small"):
        chunks.keep("t", small)
        assert chunks.get("t") == b"b" * SIZE


def test_the_longest_unused_go_first() -> None:
    chunks = KnownChunks(max_bytes=3 * SIZE)
    for thread in "abc":
        chunks.keep(thread, thread.encode() * SIZE)
    chunks.get("a")
    chunks.keep("d", b"d" * SIZE)
    assert [thread for thread in "abcd" if chunks.get(thread)] == ["a", "c", "d"]
    chunks.keep("e", b"e" * 4 * SIZE)
    assert [thread for thread in "abcde" if chunks.get(thread)] == ["a", "c", "d"]
