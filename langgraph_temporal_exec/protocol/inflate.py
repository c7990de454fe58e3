"""Shared wire: compressed bytes from somebody else, and what they may cost."""

from __future__ import annotations

import zlib

from .wire import WireError

MAX_INFLATED_BYTES = 300_000_000
"""No compressed data has more; it bounds what damaged or hostile bytes may cost."""


def inflate(data: bytes, *, at_most: int) -> bytes:
    """The inverse of ``zlib.compress``.

    Args:
        data: What it gave.
        at_most: Bytes that it may have been given, from 1; no more are decompressed.

    Raises:
        WireError: It is more, or cut short, or no compressed data.
    """
    if not 0 < at_most <= MAX_INFLATED_BYTES:
        raise WireError(f"Compressed data said to have {at_most:,} bytes.")
    inflater = zlib.decompressobj()
    try:
        whole = inflater.decompress(data, at_most + 1)
    except zlib.error as exc:
        raise WireError(f"Not compressed data: {exc}") from exc
    if len(whole) > at_most:
        raise WireError(f"Compressed data of more than {at_most:,} bytes.")
    if not inflater.eof:
        raise WireError("Compressed data that is cut short.")
    return whole
