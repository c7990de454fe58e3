"""All scenarios: importing this module enters them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from tests.parity.scenarios import (
    callbacks,
    channels,
    control,
    differences,
    editing,
    events,
    failures,
    functional,
    interrupts,
    policies,
    settings,
    states,
    streaming,
    subgraphs,
    subgraphs_failing,
    sync_api,
    tracing,
)
from tests.parity.stage import SCENARIOS, Scenario

__all__ = [
    "SCENARIOS",
    "Scenario",
    "callbacks",
    "channels",
    "control",
    "differences",
    "editing",
    "events",
    "failures",
    "functional",
    "interrupts",
    "policies",
    "settings",
    "states",
    "streaming",
    "subgraphs",
    "subgraphs_failing",
    "sync_api",
    "tracing",
]

if find_spec("deepagents"):
    # It refuses the lowest supported LangGraph.
    import_module("tests.parity.scenarios.deep_agents")
