"""Caller side: the callback handlers of a call, told what happens on the worker that drives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.checkpoint.serde.base import SerializerProtocol

from ..errors import AttemptSupersededError
from ..seam.langchain import IGNORED_BY
from ..values.callbacks import TAP, UNTAP, Kind, Telling, Told, description, kind_of
from ..values.exact import load_exact


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event as it arrived, among the chunks of the stream."""

    attempt: int
    data: bytes


class Handlers:
    """The handlers of one call, by kind, and what they have been told.

    Args:
        config: Of the call, merged with the graph's and the surrounding one.
    """

    def __init__(self, config: RunnableConfig) -> None:
        given = config.get("callbacks")
        # Also adds those of context managers, and the console's in debug mode.
        manager = AsyncCallbackManager.configure(inheritable_callbacks=given)
        explicit = given if isinstance(given, list) else given.handlers if given else []
        self._by_kind: dict[Kind, list[BaseCallbackHandler]] = {}
        for handler in manager.handlers:
            # One that is there because of the environment: the worker has an environment too.
            if isinstance(handler, LangChainTracer) and handler not in explicit:
                continue
            kind = kind_of(handler, inherited=handler in manager.inheritable_handlers)
            self._by_kind.setdefault(kind, []).append(handler)
        self._told = Told(list(self._by_kind.values()))
        self._manager = manager
        self._attempt = 0
        self._root: UUID | None = None
        self._same: dict[UUID, UUID] = {}
        self._open: dict[tuple[int, UUID], str] = {}

    @property
    def description(self) -> dict[str, Any] | None:
        """For the record of the run; ``None`` when there are no handlers."""
        if not self._by_kind:
            return None
        return description(self._manager, list(self._by_kind))

    async def atell(self, serde: SerializerProtocol, event: Event) -> None:
        """Tell the handlers of an event; exceptions are theirs if they have ``raise_error``."""
        for told in self._events(serde, event):
            await self._told.atell(told)

    def tell(self, serde: SerializerProtocol, event: Event) -> None:
        """Sync ``atell``, in the calling OS thread."""
        for told in self._events(serde, event):
            self._told.tell(told)

    async def aclose(self, exc: BaseException | None) -> None:
        """The call is over: what handlers were told has begun must end for them."""
        for told in self._unfinished(exc, root=True):
            await self._told.atell(told)

    def close(self, exc: BaseException | None) -> None:
        """Sync ``aclose``."""
        for told in self._unfinished(exc, root=True):
            self._told.tell(told)

    # -- runs that begin and end --------------------------------------------------------------

    def _events(self, serde: SerializerProtocol, event: Event) -> Iterator[Telling]:
        """The event, after what an attempt that was lost has left open."""
        kind, name, args, kwargs = load_exact(serde, event.data)
        if name not in IGNORED_BY and name not in (TAP, UNTAP):
            return
        if event.attempt != self._attempt:
            lost = AttemptSupersededError("the worker that drove the run was lost")
            if self._attempt:
                yield from self._unfinished(lost, root=False)
            self._attempt = event.attempt
            self._told.forget_taps()
        if name == "on_chain_start" and kwargs["parent_run_id"] == self._manager.parent_run_id:
            # Every attempt of a run begins it anew; to the handlers it is one.
            self._root = self._root or kwargs["run_id"]
            self._same[kwargs["run_id"]] = self._root
        told = Telling(kind=kind, name=name, args=tuple(args), kwargs=self._as_one(kwargs))
        run_id = told.kwargs.get("run_id")
        if isinstance(run_id, UUID):
            if name.endswith("_start"):
                if (kind, run_id) in self._open:
                    return
                self._open[kind, run_id] = name.replace("chat_model", "llm")
            elif name.endswith(("_end", "_error")):
                self._open.pop((kind, run_id), None)
        yield told

    def _as_one(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        ids = ("run_id", "parent_run_id")
        return {k: self._same.get(v, v) if k in ids else v for k, v in kwargs.items()}

    def _unfinished(self, exc: BaseException | None, *, root: bool) -> Iterator[Telling]:
        error = exc or AttemptSupersededError("the end of it was not heard of")
        for (kind, run_id), started in reversed(list(self._open.items())):
            if run_id == self._root and not root:
                continue
            del self._open[kind, run_id]
            name = started.replace("_start", "_error")
            yield Telling(kind=kind, name=name, args=(error,), kwargs={"run_id": run_id})
