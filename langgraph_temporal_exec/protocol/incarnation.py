"""Shared wire: which log it is that positions of readers belong to.

Positions in a log are numbers of ops. They are worth nothing in another log: after a compaction,
which leaves ops out, or in a thread of the same name that was made after a deletion. So whoever
sends a position says of which log it is, as text that is compared, and taken apart only here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

_GENERATION, _FOLD = ".", "+"


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One log. Its text is ``LIFE.GENERATION``, or ``LIFE+FOLD.GENERATION``.

    Args:
        life: One life of the thread, from its making to its deletion: the id of the first run of
            its workflow.
        fold: Which reading of a history it is; "": it is the log that the workflow has. Read from
            history, ops may lie in another order, so a position in one is none in the other.
        generation: How many compactions there were.
    """

    life: str
    fold: str = ""
    generation: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of ``str``; of "", which stands for no log, all parts are empty."""
        head, _, generation = text.rpartition(_GENERATION)
        if not head or not generation.isdigit():
            head, generation = text, "0"
        life, _, fold = head.partition(_FOLD)
        return cls(life=life, fold=fold, generation=int(generation))

    def __str__(self) -> str:
        fold = f"{_FOLD}{self.fold}" if self.fold else ""
        return f"{self.life}{fold}{_GENERATION}{self.generation}"
