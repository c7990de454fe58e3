"""What the log tells of a task that another worker has run, and what comes of its mail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt

from langgraph_temporal_exec.errors import RemoteError
from langgraph_temporal_exec.protocol.messages import MailItem, MailStatus
from langgraph_temporal_exec.seam import parcel
from langgraph_temporal_exec.values.exact import dump_exact
from langgraph_temporal_exec.worker.away import ENDED, GONE, STARTED, AwayTask, recorded

ASKED = (Interrupt(value="really?", id="i"),)
SERDE = JsonPlusSerializer()


def test_nothing_in_the_log_is_no_result() -> None:
    assert recorded([]) is None


@pytest.mark.parametrize(
    ("writes", "left", "kept"),
    [
        ([("x", 1), ("y", 2)], None, ["x", "y"]),
        ([("__no_writes__", None)], None, []),
        ([("__interrupt__", ASKED)], (parcel.INTERRUPTED, ASKED), []),
        ([("__interrupt__", ASKED), ("__resume__", ["yes"]), ("x", 1)], None, ["__resume__", "x"]),
        (
            [("__interrupt__", ASKED), ("__resume__", ["yes"])],
            (parcel.INTERRUPTED, ASKED),
            ["__resume__"],
        ),
    ],
)
def test_what_the_log_tells(writes: list[Any], left: Any, kept: list[str]) -> None:
    result = recorded(writes)
    assert result is not None
    assert [channel for channel, _ in result["writes"]] == kept
    assert result.get("left") == left
    assert "error" not in result


def test_an_error_in_the_log() -> None:
    result = recorded([("__error__", "ValueError('no')"), ("__error_source_node__", "work")])
    assert result is not None
    assert isinstance(result["error"], RemoteError)
    assert result["writes"] == []


def _task() -> AwayTask:
    return AwayTask("key", "work", lambda why: None, SERDE)


def _mail(kind: str, value: Any, *, seq: int, round: int) -> MailItem:
    data = dump_exact(SERDE, (kind, value), what="")
    return MailItem(attempt=round, seq=seq, data=data, piece=1)


async def test_mail_of_an_earlier_round_is_not_heard_any_more() -> None:
    task = _task()
    assert task.put((_mail(STARTED, "a", seq=0, round=1),)) == MailStatus.TAKEN
    assert await task.anext(5) == (STARTED, "a")
    assert task.put((_mail(STARTED, "b", seq=0, round=2),)) == MailStatus.TAKEN
    assert task.put((_mail(ENDED, "of a", seq=1, round=1),)) == MailStatus.TAKEN
    assert task.put((_mail(ENDED, "of b", seq=1, round=2),)) == MailStatus.TAKEN
    assert await task.anext(5) == (STARTED, "b")
    assert await task.anext(5) == (ENDED, "of b")
    assert await task.anext(0) is None


async def test_who_waits_hears_that_the_attempt_is_over() -> None:
    task = _task()
    waiting = asyncio.ensure_future(task.anext(60))
    await asyncio.sleep(0)
    error = ValueError("superseded")
    task.abandon(error)
    assert await waiting == (GONE, error)
    assert _task().next(0) is None
