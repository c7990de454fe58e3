"""Workflow side: deterministic code that runs in Temporal's default sandbox."""
