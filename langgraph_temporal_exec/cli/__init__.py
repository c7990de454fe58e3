"""Command line: ``langgraph-temporal``."""
