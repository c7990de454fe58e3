"""Command line: tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

ENDLESS = 100_000
"""Columns of what is no terminal."""


def is_terminal() -> bool:
    """Whether results go to a terminal."""
    return sys.stdout.isatty()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: as wide as the terminal; elsewhere as wide as need be, a line for each row.

    Args:
        columns: Their titles. What is in the first is never cut.
        rows: Their cells.
    """
    from rich.box import HEAVY_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = is_terminal()
    table = Table(box=HEAVY_HEAD if terminal else None, pad_edge=terminal)
    # An id that is cut is of no use.
    first, *others = columns
    table.add_column(first, overflow="fold")
    for column in others:
        table.add_column(column, no_wrap=not terminal)
    for row in rows:
        # Not markup: a thread may be called "[red]".
        table.add_row(*map(Text, row))
    console = Console() if terminal else Console(width=ENDLESS, no_color=True)
    console.print(table)
