"""Workflow side: the thread as a pure state machine: commands in, effects out."""
