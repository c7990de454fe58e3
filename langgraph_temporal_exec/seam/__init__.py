"""LangGraph seam: what this package knows of LangGraph's inside, and nobody else here does."""
