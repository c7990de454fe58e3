"""The comparison of the parity suite: it retries for nothing but the order of chunks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.normal import only_order_differs

SEEN: list[tuple[str, Any]] = [("stream", [("a", "<id 1>"), ("b", "<id 2>")]), ("state", {"x": 1})]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (SEEN, False),
        ([("stream", [("b", "<id 1>"), ("a", "<id 2>")]), ("state", {"x": 1})], True),
        ([("stream", [("b", "<id 1>"), ("a", "<id 2>")]), ("state", {"x": 2})], False),
        ([("stream", [("a", "<id 1>")]), ("state", {"x": 1})], False),
        ([("stream raised", 1), ("state", {"x": 1})], False),
    ],
)
def test_only_order_differs(other: list[tuple[str, Any]], expected: bool) -> None:
    assert only_order_differs(other, SEEN) == expected
