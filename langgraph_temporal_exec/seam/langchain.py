"""LangGraph seam: every private name and copied literal of langchain_core, verified before use.

What LangChain and LangGraph look at in a callback handler before they call it is here as well: it
is written down nowhere else but in the code that looks.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from ..errors import UnsupportedLangGraphError

SUPPORTED = {"langchain-core": ">=1.4.7,<2"}
"""As in ``pyproject.toml``."""

try:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.callbacks import manager as _manager
    from langchain_core.callbacks.manager import ahandle_event, handle_event
    from langchain_core.messages import BaseMessage
    from langchain_core.tracers import _streaming
    from langchain_core.tracers._streaming import (
        _StreamingCallbackHandler as StreamingHandler,
    )
    from langchain_core.tracers._streaming import (
        _V2StreamingCallbackHandler as MessageEventsHandler,
    )
    from langchain_core.tracers.base import BaseTracer
except ImportError as moved:
    raise UnsupportedLangGraphError.of(SUPPORTED, [str(moved)]) from moved

__all__ = ["MessageEventsHandler", "StreamingHandler", "ahandle_event", "handle_event"]

IGNORED_BY = {
    "on_llm_start": "ignore_llm",
    "on_chat_model_start": "ignore_chat_model",
    "on_llm_new_token": "ignore_llm",
    "on_stream_event": "ignore_llm",
    "on_llm_end": "ignore_llm",
    "on_llm_error": "ignore_llm",
    "on_chain_start": "ignore_chain",
    "on_chain_end": "ignore_chain",
    "on_chain_error": "ignore_chain",
    "on_tool_start": "ignore_agent",
    "on_tool_end": "ignore_agent",
    "on_tool_error": "ignore_agent",
    "on_agent_action": "ignore_agent",
    "on_agent_finish": "ignore_agent",
    "on_retriever_start": "ignore_retriever",
    "on_retriever_end": "ignore_retriever",
    "on_retriever_error": "ignore_retriever",
    "on_retry": "ignore_retry",
    "on_custom_event": "ignore_custom_event",
    "on_text": None,
    "on_interrupt": None,
    "on_resume": None,
}
"""Every event, and the attribute with which a handler declines it: LangChain's rule, in
``langchain_core.callbacks.manager``."""

OF_GRAPHS = frozenset({"on_interrupt", "on_resume"})
"""Those among the events that are LangGraph's."""

IGNORES = tuple(sorted({name for name in IGNORED_BY.values() if name}))

PERSIST_RUN = "_persist_run"
"""What a tracer calls when its run has ended; abstract."""

_TAPS = ("tap_output_aiter", "tap_output_iter")

_OWN_MESSAGES = "langchain_core.messages."


def is_own_message(cls: type) -> bool:
    """Whether a class of messages is one of LangChain's own."""
    return cls.__module__.startswith(_OWN_MESSAGES)


def verify() -> None:
    """Check all that this module knows of langchain_core.

    Raises:
        UnsupportedLangGraphError: Naming what moved.
    """
    if problems := list(_problems()):
        raise UnsupportedLangGraphError.of(SUPPORTED, problems)


def _problems() -> Iterator[str]:
    for name in ("handle_event", "ahandle_event"):
        handle = getattr(_manager, name, None)
        parameters = () if handle is None else tuple(inspect.signature(handle).parameters)
        if parameters[:3] != ("handlers", "event_name", "ignore_condition_name"):
            yield f"langchain_core.callbacks.manager.{name} is missing, or takes other arguments"
    for name in ("_StreamingCallbackHandler", "_V2StreamingCallbackHandler"):
        if not hasattr(_streaming, name):
            yield f"langchain_core.tracers._streaming.{name} is missing"
    named: list[tuple[Any, str]] = [(StreamingHandler, name) for name in _TAPS]
    named += [(BaseTracer, PERSIST_RUN)]
    named += [(BaseCallbackHandler, name) for name in IGNORES]
    named += [(BaseCallbackHandler, name) for name in IGNORED_BY if name not in OF_GRAPHS]
    for owner, name in named:
        if not hasattr(owner, name):
            yield f"{owner.__name__}.{name} is missing"
    if not BaseMessage.__module__.startswith(_OWN_MESSAGES):
        yield f"messages are of {BaseMessage.__module__}, not of {_OWN_MESSAGES}*"
