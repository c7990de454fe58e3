"""Shared: values of LangGraph and its users as bytes, and back."""
