"""LangGraph seam: the shapes of stream chunks: built and taken apart here, and nowhere else.

A chunk brings a payload of a mode ("values", "updates", ...) from a namespace. What LangGraph
yields depends on the call: with ``version="v2"`` a dict that says all of it; else the payload, in
a tuple behind its mode if the call asked for a list of modes, and behind its namespace if it asked
for subgraphs. Whoever knows the call uses its ``Form``; the functions at the end do with the chunk
alone, as far as it tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.types import Interrupt

from .private import INTERRUPT

VALUES, UPDATES = "values", "updates"
"""The modes of which a result is made: whole states, and what nodes wrote or asked."""

_TYPED = "v2"
_TYPE, _NS, _DATA, _INTERRUPTS = "type", "ns", "data", "interrupts"
"""Keys of a typed chunk; the last one only beside values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What a chunk brings.

    Args:
        mode: The mode; "" if it cannot be told.
        payload: What is streamed in it.
        ns: Namespace of the graph; that of the root is empty.
        interrupts: Beside the values of a typed chunk; of other chunks none.
    """

    mode: str
    payload: Any
    ns: Any = ()
    interrupts: Sequence[Any] = ()

    @property
    def questions(self) -> tuple[Any, ...]:
        """The interrupts that a chunk of the root graph brings."""
        if self.ns or self.mode not in (UPDATES, VALUES):
            return ()
        found: Any = ()
        if isinstance(self.payload, dict):
            found = self.payload.get(INTERRUPT) or ()
        found = found or self.interrupts
        return tuple(found) if are_interrupts(found) else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """The form of the chunks that a call asked for.

    Args:
        modes: The modes it asked for.
        names_mode: Whether each chunk says of which it is.
        subgraphs: Whether each says of which namespace it is.
        typed: Whether they are dicts, which say all of it.
    """

    modes: tuple[str, ...]
    names_mode: bool = False
    subgraphs: bool = False
    typed: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any], graph: Any) -> Form:
        """Of a call of a graph: its keyword arguments of ``astream``."""
        asked = options.get("stream_mode") or graph.stream_mode
        return cls(
            modes=(asked,) if isinstance(asked, str) else tuple(asked),
            # LangGraph's rule: of a tuple of modes none is named.
            names_mode=isinstance(asked, list),
            subgraphs=bool(options.get("subgraphs")),
            typed=options.get("version") == _TYPED,
        )

    def take_apart(self, chunk: Any) -> Part:
        """What a chunk of this form brings."""
        if self.typed:
            beside = chunk.get(_INTERRUPTS) or ()
            return Part(ns=chunk[_NS], mode=chunk[_TYPE], payload=chunk[_DATA], interrupts=beside)
        ns: Any = ()
        if self.subgraphs:
            ns, *rest = chunk
            chunk = rest[0] if len(rest) == 1 else tuple(rest)
        if self.names_mode:
            return Part(ns=ns, mode=chunk[0], payload=chunk[1])
        return Part(ns=ns, mode=self._mode_of(chunk), payload=chunk)

    def _mode_of(self, payload: Any) -> str:
        """Where chunks do not name their mode; "" if it cannot be told."""
        if len(self.modes) == 1:
            return self.modes[0]
        if not isinstance(payload, dict) or not are_interrupts(payload.get(INTERRUPT)):
            return ""
        return UPDATES if payload.keys() == {INTERRUPT} else VALUES

    def build(self, part: Part) -> Any:
        """The chunk of this form that brings a part."""
        if self.typed:
            typed = {_TYPE: part.mode, _NS: part.ns, _DATA: part.payload}
            return {**typed, _INTERRUPTS: part.interrupts} if part.mode == VALUES else typed
        head = (*([part.ns] if self.subgraphs else []), *([part.mode] if self.names_mode else []))
        return (*head, part.payload) if head else part.payload


class ResultChunks:
    """Those of a stream that a call needs which wants the result alone: questions, last values.

    Args:
        form: Of the chunks.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._latest: Any = None
        self._questions: list[Any] = []

    def note(self, chunk: Any) -> None:
        """The next chunk of the stream."""
        part = self._form.take_apart(chunk)
        if part.ns:
            return
        if part.mode == VALUES or (not part.mode and VALUES in self._form.modes):
            # Also one whose mode cannot be told: of values and updates the last is of values.
            self._latest = chunk
            if part.interrupts:
                self._questions.append(chunk)
        elif part.mode == UPDATES and isinstance(part.payload, dict) and INTERRUPT in part.payload:
            self._questions.append(chunk)

    @property
    def all(self) -> list[Any]:
        """The chunks, in their order."""
        if self._latest is None or any(chunk is self._latest for chunk in self._questions):
            return self._questions
        return [*self._questions, self._latest]


def ended(values: Any, interrupts: Sequence[Interrupt]) -> list[Part]:
    """What the root graph streams at last, having come to values, and perhaps to questions."""
    asked = [Part(mode=UPDATES, payload={INTERRUPT: tuple(interrupts)})] if interrupts else []
    return [*asked, Part(mode=VALUES, payload=values)]


def invoked(values: Any, interrupts: Sequence[Interrupt]) -> Any:
    """What ``invoke`` returns of values and questions."""
    if not interrupts:
        return values
    shown = {INTERRUPT: interrupts}
    return {**values, **shown} if isinstance(values, dict) else shown


# -- without the call -----------------------------------------------------------------------------


def is_typed(chunk: Any) -> bool:
    """Whether a chunk is of ``version="v2"``."""
    return isinstance(chunk, dict) and chunk.keys() >= {_TYPE, _NS, _DATA}


def result_of(result: Iterable[Any]) -> tuple[Any, list[Any]]:
    """Values and questions of a run, from its ``ResultChunks`` in whatever form."""
    values: Any = None
    asked: list[Any] = []
    for chunk in result:
        part = of_result(chunk)
        if part.mode == VALUES:
            values = part.payload
        # Those beside typed values are often told before by themselves.
        told = part.interrupts if part.mode == VALUES else part.questions
        asked += [question for question in told if question not in asked]
    return values, asked


def of_result(chunk: Any) -> Part:
    """What one of them brings."""
    if is_typed(chunk):
        beside = chunk.get(_INTERRUPTS) or ()
        return Part(mode=chunk[_TYPE], payload=chunk[_DATA], interrupts=beside)
    if isinstance(chunk, tuple) and len(chunk) > 1 and chunk[-2] in (VALUES, UPDATES):
        return Part(mode=chunk[-2], payload=chunk[-1])
    payload = chunk[-1] if isinstance(chunk, tuple) and len(chunk) == 2 else chunk
    asks = isinstance(payload, dict) and payload.keys() == {INTERRUPT}
    return Part(mode=UPDATES if asks else VALUES, payload=payload)


def head_of(chunk: Any) -> str:
    """What chunks of one namespace and mode have in common, as far as their form tells."""
    if isinstance(chunk, dict):
        return repr((chunk.get(_NS), chunk.get(_TYPE)))
    return repr(chunk[:-1] if isinstance(chunk, tuple) else ())


def changed(chunk: Any, change: Callable[[str, Any], Any]) -> Any:
    """A chunk that names its mode in a tuple, with what ``change`` makes of mode and payload."""
    if not isinstance(chunk, tuple) or len(chunk) < 2:
        return chunk
    *rest, mode, payload = chunk
    made = change(mode, payload)
    return chunk if made is payload else (*rest, mode, made)


def are_interrupts(value: Any) -> bool:
    """Whether a value is the interrupts of a chunk, rather than something of the user's."""
    return isinstance(value, (tuple, list)) and all(isinstance(i, Interrupt) for i in value)


class ShownInterrupts:
    """Drops interrupts which an earlier attempt has shown already.

    A task that had asked before its attempt was lost asks again in the next one. ``ainvoke``
    collects interrupts from the stream, so its caller would be asked twice.
    """

    def __init__(self) -> None:
        self._attempt = 0
        self._earlier: set[str] = set()
        self._current: set[str] = set()

    def filter(self, attempt: int, chunk: Any) -> tuple[Any, ...]:
        """The chunk, without repeated interrupts, as a tuple of none or one."""
        if attempt != self._attempt:
            self._attempt = attempt
            self._earlier |= self._current
            self._current = set()
        if is_typed(chunk):
            return self._typed(chunk)
        head, payload = (chunk[:-1], chunk[-1]) if isinstance(chunk, tuple) else ((), chunk)
        if not _only_interrupts(payload):
            return (chunk,)
        interrupts = self._unseen(payload[INTERRUPT])
        # A breakpoint shows as no interrupts at all.
        if payload[INTERRUPT] and not interrupts:
            return ()
        shown = {INTERRUPT: interrupts}
        return ((*head, shown) if isinstance(chunk, tuple) else shown,)

    def _typed(self, chunk: dict[str, Any]) -> tuple[Any, ...]:
        """A chunk of ``version="v2"``, without repeated interrupts."""
        if _only_interrupts(chunk[_DATA]):
            given = chunk[_DATA][INTERRUPT]
            unseen = self._unseen(given)
            return ({**chunk, _DATA: {INTERRUPT: unseen}},) if unseen or not given else ()
        if chunk.get(_INTERRUPTS):
            # Beside values, which are worth showing again.
            return ({**chunk, _INTERRUPTS: self._unseen(chunk[_INTERRUPTS])},)
        return (chunk,)

    def _unseen(self, interrupts: Iterable[Interrupt]) -> tuple[Interrupt, ...]:
        unseen = tuple(i for i in interrupts if i.id not in self._earlier)
        self._current.update(i.id for i in unseen)
        return unseen


def _only_interrupts(payload: Any) -> bool:
    if not isinstance(payload, dict) or payload.keys() != {INTERRUPT}:
        return False
    # A custom chunk may look alike.
    given = payload[INTERRUPT]
    return isinstance(given, tuple) and all(isinstance(i, Interrupt) for i in given)
