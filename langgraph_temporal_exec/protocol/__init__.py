"""Shared wire: names and messages between callers, workflows and workers."""
