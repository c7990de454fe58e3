"""Which log positions belong to: the text that travels, and its parts."""

from __future__ import annotations

import pytest

from langgraph_temporal_exec.protocol.incarnation import Incarnation


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0198-uuid.0", Incarnation(life="0198-uuid")),
        ("0198-uuid.12", Incarnation(life="0198-uuid", generation=12)),
        ("0198-uuid+4f6e.210.3", Incarnation(life="0198-uuid", fold="4f6e.210", generation=3)),
    ],
)
def test_text(text: str, parts: Incarnation) -> None:
    assert Incarnation.parse(text) == parts
    assert str(parts) == text


def test_no_log() -> None:
    assert Incarnation.parse("") == Incarnation(life="")


@pytest.mark.parametrize("text", ["life", "life+", "life.", ".", "life.x"])
def test_whatever_a_client_sends(text: str) -> None:
    """It is compared with what is there, and equal to no log."""
    assert str(Incarnation.parse(text)) != text
