"""The benchmarks measure what they say; how fast anything is, no test judges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("langgraph.checkpoint.sqlite")

from rich.console import Console

from benchmarks import report, table
from benchmarks.field import CONTENDERS, Spec
from benchmarks.series import SERIES, measure

CONSOLE = Console(stderr=True)
HERE = ["floor_activity", "embedded"]
"""Need no environment of their own."""


@pytest.mark.long
async def test_contenders_are_measured_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTENDERS, "broken", Spec(module="nothing", variant="", what="fails"))
    sequential = replace(SERIES["sequential"], parameters={"supersteps": 2})
    results, version = await measure("default", [sequential], [*HERE, "broken"], CONSOLE, rounds=1)
    assert version
    entries = results["sequential"]
    for name in HERE:
        assert entries[name].error is None
        [numbers] = entries[name].rounds
        assert numbers.keys() == {
            *("start_ms", "superstep_ms", "end_ms", "server_cpu_ms", "caller_cpu_ms")
        }
        assert all(value >= 0 for value in numbers.values())
    assert entries["broken"].rounds == []
    assert "No module named" in (entries["broken"].error or "")
    text = table.section({"default": results}, report.environment(version, "file", ()))
    assert "| superstep: embedded / floor_activity | " in text
    assert "`broken`, `sequential`, default server: set-up failed" in text


@pytest.mark.long
async def test_actions_are_counted_in_a_namespace_of_each() -> None:
    results, _ = await measure(
        "tuned", [replace(SERIES["turn"], warm_up=False)], [*HERE, "inmemory"], CONSOLE, rounds=1
    )
    counted = {name: entry.rounds[0]["actions"] for name, entry in results["turn"].items()}
    # A workflow is started, and five Activities are scheduled.
    assert counted["floor_activity"] == 6
    assert counted["inmemory"] == 0
    assert counted["embedded"] > 0


def test_a_section_is_written_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write("new", page)
    table.write("newer", page)
    assert page.read_text() == f"before\n{table.BEGIN}\n\nnewer\n\n{table.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no marks"):
        table.write("new", page)


def test_the_page_names_all_shapes_and_contenders() -> None:
    text = table.README.read_text()
    for name, what in {n: c.what for n, c in CONTENDERS.items()}.items():
        assert f"| `{name}` | {what} |" in text
    for name, series in SERIES.items():
        assert f"| `{name}` | {series.what} |" in text
    assert table.BEGIN in text
    assert table.END in text
