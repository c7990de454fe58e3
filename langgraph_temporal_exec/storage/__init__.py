"""Shared: where threads are kept: RPCs, blobs, and what a process has read of them."""
