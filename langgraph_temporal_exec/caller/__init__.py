"""Caller side: starts runs and consumes their streams and results."""
