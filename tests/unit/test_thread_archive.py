"""The thread as a pure state machine: when its log moves into archives, and what readers get."""

from __future__ import annotations

import pytest

from langgraph_temporal_exec.protocol.messages import (
    AppendRequest,
    ArchiveReply,
    ArchiveRequest,
    Outcome,
    ReadRequest,
)
from langgraph_temporal_exec.protocol.stored import Pack, Segment
from langgraph_temporal_exec.protocol.wire import pack
from langgraph_temporal_exec.workflow.core.effects import Discard
from langgraph_temporal_exec.workflow.core.thread_log import PAGE_BYTES
from langgraph_temporal_exec.workflow.core.thread_state import ThreadState
from tests.support.thread_ops import attach, drop, fresh, garbage, logged_ids, put, step

HEAD = Pack(data=b"head")
SIZE = len(put("c1"))


def append(state: ThreadState, *ops: bytes, compact: bool = False) -> None:
    state.append(AppendRequest(ops=ops, compact=compact))


def asked(state: ThreadState) -> ArchiveRequest:
    request = state.archive("", "wf")
    assert request is not None
    return request


def reply(request: ArchiveRequest, **fields: object) -> ArchiveReply:
    segment = Segment(first=request.base, end=request.end, pack=Pack(data=b"ops"))
    return ArchiveReply(segments=(segment,), head=HEAD, **fields)  # type: ignore[arg-type] # any of its fields


def archived(state: ThreadState, **fields: object) -> ArchiveReply:
    request = asked(state)
    answer = reply(request, **fields)
    state.log.archived(request, answer)
    return answer


def test_a_log_moves_into_an_archive_when_it_is_long_enough() -> None:
    state = fresh(archive_bytes=2 * SIZE)
    append(state, put("c1"))
    assert not state.wants_archive()
    assert state.archive("", "wf") is None
    append(state, put("c2"))
    assert state.wants_archive()
    assert state.archive("ns", "wf") == ArchiveRequest(
        thread_id="t", namespace="ns", workflow_id="wf", base=0, end=2
    )


def test_one_archive_at_a_time() -> None:
    state = fresh(archive_bytes=SIZE)
    append(state, put("c1"))
    request = asked(state)
    append(state, put("c2"))
    assert state.archive("", "wf") is None
    state.log.archived(request, reply(request))
    # What was appended meanwhile is still in the log, and long enough for the next one.
    assert logged_ids(state) == ["c2"]
    assert (state.log.base, state.log.end) == (1, 2)
    assert asked(state).base == 1


def test_an_archive_that_failed_is_asked_for_again() -> None:
    state = fresh(archive_bytes=SIZE)
    append(state, put("c1"))
    request = asked(state)
    state.log.not_archived(request)
    assert asked(state) == request


def test_a_result_nobody_waits_for_is_dropped() -> None:
    state = fresh(archive_bytes=SIZE)
    append(state, put("c1"))
    outdated = asked(state)
    state.log.not_archived(outdated)
    assert state.log.archived(outdated, reply(outdated, garbage=garbage("g"))) == []
    append(state, put("c2"))
    current = asked(state)
    assert state.log.archived(outdated, reply(outdated)) == []
    assert logged_ids(state) == ["c1", "c2"]
    state.log.archived(current, reply(current))
    assert (state.log.base, logged_ids(state)) == (2, [])
    # A second delivery of the same result.
    assert state.log.archived(current, reply(current)) == []


def test_a_reader_behind_the_log_gets_head_and_segments() -> None:
    state = fresh(archive_bytes=SIZE)
    append(state, put("c1"), put("c2"))
    answer = archived(state)
    append(state, put("c3"))
    for request in (
        ReadRequest(),
        ReadRequest(incarnation=state.log.incarnation, cursor=1),
        ReadRequest(incarnation="another", cursor=3),
    ):
        page = state.read(request).page
        assert (page.start, len(page.ops), page.head, page.segments) == (
            2,
            1,
            HEAD,
            answer.segments,
        )
    page = state.read(ReadRequest(incarnation=state.log.incarnation, cursor=2)).page
    assert (page.start, len(page.ops), page.head, page.segments) == (2, 1, None, ())


def test_pages_are_bounded_and_join_on() -> None:
    state = fresh(archive_bytes=10 * PAGE_BYTES)
    append(state, *(put(f"c{i}", size=PAGE_BYTES // 2) for i in range(3)))
    first = state.read(ReadRequest()).page
    assert (first.start, len(first.ops), first.more) == (0, 1, True)
    second = state.read(ReadRequest(incarnation=first.incarnation, cursor=1)).page
    assert (second.start, len(second.ops), second.more) == (1, 1, True)
    last = state.read(ReadRequest(incarnation=first.incarnation, cursor=2)).page
    assert (last.start, len(last.ops), last.more) == (2, 1, False)
    beyond = state.read(ReadRequest(incarnation=first.incarnation, cursor=99)).page
    assert (beyond.start, beyond.ops, beyond.more) == (3, (), False)


def test_an_op_larger_than_a_page_is_a_page() -> None:
    state = fresh()
    append(state, put("c1", size=2 * PAGE_BYTES), put("c2"))
    page = state.read(ReadRequest()).page
    assert (len(page.ops), page.more) == (1, True)


def test_dropping_marks_and_compaction_frees() -> None:
    state = fresh(archive_bytes=100 * SIZE)
    append(state, put("c1"), put("c2"), drop("c1"))
    # Cursors of readers stay valid, and nothing is done about so little.
    assert logged_ids(state) == ["c1", "c2", ""]
    assert (state.log.garbage, state.wants_archive()) == (True, False)
    append(state, compact=True)
    request = asked(state)
    assert (request.compact, request.generation, state.log.compacting) == (True, 0, True)
    before = state.log.incarnation
    state.log.archived(request, reply(request))
    assert (before, state.log.incarnation) == ("life.0", "life.1")
    assert (state.log.garbage, state.log.compact, state.log.uncompacted) == (False, False, 0)
    assert not state.wants_archive()


def test_nothing_dropped_means_nothing_to_compact() -> None:
    state = fresh(archive_bytes=100 * SIZE)
    append(state, put("c1"), compact=True)
    assert not state.wants_archive()
    # A request that came before there was garbage is not remembered.
    append(state, drop("c1"))
    assert not state.wants_archive()


def test_what_is_dropped_during_a_compaction_asks_for_the_next() -> None:
    state = fresh(archive_bytes=100 * SIZE)
    append(state, put("c1"), put("c2"), put("c3"), drop("c1"), compact=True)
    request = asked(state)
    append(state, drop("c2"), compact=True)
    state.log.archived(request, reply(request))
    assert (state.log.garbage, state.log.compact) == (True, True)
    assert asked(state).generation == 1


def test_garbage_is_freed_when_as_much_was_written_as_fits_an_archive() -> None:
    state = fresh(archive_bytes=4 * SIZE)
    append(state, put("c1"), put("c2"), put("c3"), put("c4"))
    archived(state)
    assert not state.wants_archive()
    # The log is short, but it has been growing since the last compaction.
    append(state, drop("c1"))
    assert asked(state).compact


def test_compaction_waits_until_no_attempt_is_attached() -> None:
    state = fresh(archive_bytes=10 * SIZE)
    append(state, put("c1"), put("c2"), drop("c1"), compact=True)
    attach(state, "r1")
    assert not state.wants_archive()
    # An attempt may build on what was dropped; moving the log does not take it away.
    append(state, *(put(f"d{i}") for i in range(10)))
    request = asked(state)
    assert not request.compact
    state.log.archived(request, reply(request))
    assert (state.log.generation, state.log.garbage, state.log.compact) == (0, True, True)
    attach(state, "r2")
    state.step(step(state, 0, outcome=pack(Outcome(status="done"))))
    # r2 has its turn, but nobody attached for it yet.
    assert asked(state).compact


def test_while_blobs_are_removed_none_are_written() -> None:
    state = fresh(archive_bytes=SIZE)
    append(state, put("c1"))
    request = asked(state)
    effects = state.log.archived(request, reply(request, garbage=garbage("g")))
    assert effects == [Discard(garbage=garbage("g"))]
    append(state, put("c2"), drop("c1"), compact=True)
    assert not state.wants_archive()
    state.log.discarded(garbage("other"))
    assert not state.wants_archive()
    state.log.discarded(garbage("g"))
    state.log.discarded(garbage("g"))
    assert asked(state).compact


def test_a_deleted_thread_archives_nothing() -> None:
    state = fresh(archive_bytes=SIZE)
    append(state, put("c1"))
    request = asked(state)
    state.delete()
    assert state.log.archived(request, reply(request)) == []
    assert not state.wants_archive()


@pytest.mark.parametrize(
    ("incarnation", "stale"), [("", False), ("life.1", False), ("life.0", True), ("x.1", True)]
)
def test_ops_that_build_on_what_was_compacted_are_stale(incarnation: str, stale: bool) -> None:
    state = fresh()
    append(state, put("c1"), drop("c1"), compact=True)
    archived(state)
    assert state.is_stale(AppendRequest(incarnation=incarnation)) is stale


def test_size_is_what_a_snapshot_carries() -> None:
    state = fresh(archive_bytes=SIZE)
    attach(state, "r1")
    state.step(step(state, 0, open=tuple(f"ns{i}" for i in range(100))))
    append(state, *(put(f"c{i}", size=1_000) for i in range(100)))
    assert len(state.snapshot()) == pytest.approx(state.size(), rel=0.1)
    archived(state)
    assert len(state.snapshot()) == pytest.approx(state.size(), rel=0.5)
    assert state.size() < 3_000
