"""Studio: LangGraph's API server (``langgraph dev``, Studio) on threads that live in Temporal.

Needs the extra ``studio``. In ``langgraph.json``::

    {
        "dependencies": ["."],
        "graphs": {"agent": "./agent.py:agent"},
        "checkpointer": {"path": "langgraph_temporal_exec.studio.checkpointer"},
        "http": {"app": "langgraph_temporal_exec.studio.app:app", "middleware_order": "auth_first"},
    }

``studio.settings`` lists the environment variables.
"""

from __future__ import annotations

from .process import checkpointer

__all__ = ["checkpointer"]
