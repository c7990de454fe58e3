"""Shared wire: a value as the difference to bytes that are in the log already.

Works on serialized bytes, so it serves lists and dicts that grow, values with an edit in the
middle, and any serializer, and a reader rebuilds the exact bytes without knowing what they mean.
A delta is a msgpack array: three integers copy (base, offset, length), bytes stand for themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgpack

from .wire import WireError

MIN_BYTES = 200
"""Values below this are stored whole: naming a base would cost as much."""

PROBE = 16
"""Bytes that must agree before a place in a base counts as found."""

MAX_PARTS = 400
MISSES = 48
"""Places of one stretch of new bytes that are looked for in the bases, at growing distances."""

SEARCH_BYTES = 256_000_000
"""Bytes of bases one ``diff`` may search, so that values without likeness stay cheap."""

DIGEST_BYTES = 16


def digest(data: bytes) -> bytes:
    """Content address of a value."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def diff(bases: Sequence[bytes], new: bytes) -> bytes | None:
    """``new`` in terms of ``bases``; ``None`` when that saves less than a quarter.

    Args:
        bases: Earlier values, the most similar first.
        new: The value.
    """
    parts: list[int | bytes] = []
    expected = [0] * len(bases)
    done = at = misses = literal = searched = 0
    step = 1
    while at + PROBE <= len(new) and misses < MISSES and len(parts) < MAX_PARTS:
        probe = new[at : at + PROBE]
        found = -1
        for index, base in enumerate(bases):
            offset = expected[index] + at - done
            if base[offset : offset + PROBE] == probe:
                found = offset
                break
            if searched < SEARCH_BYTES:
                found = base.find(probe, expected[index])
                searched += (found if found >= 0 else len(base)) - expected[index]
                if found < 0 and expected[index]:
                    found = base.find(probe, 0, expected[index] + PROBE)
                    searched += expected[index]
                if found >= 0:
                    break
        if found < 0:
            misses += 1
            at += step
            step = min(step * 2, 4096)
            continue
        back = _common_back(base, found, new, at, at - done)
        start, offset = at - back, found - back
        length = back + _common(base, found, new, at)
        if start > done:
            parts.append(new[done:start])
            literal += start - done
        parts += (index, offset, length)
        done = at = start + length
        expected[index] = offset + length
        misses, step = 0, 1
    if done < len(new):
        parts.append(new[done:])
        literal += len(new) - done
    if literal > 0.75 * len(new):
        return None
    packed: bytes = msgpack.packb(parts)
    return packed if len(packed) < 0.75 * len(new) else None


def patch(bases: Sequence[bytes], delta: bytes) -> bytes:
    """The inverse of ``diff``.

    Raises:
        WireError: The bytes are no delta for these bases.
    """
    try:
        parts = msgpack.unpackb(delta)
        if not isinstance(parts, list):
            raise TypeError(type(parts).__name__)
        pieces = []
        i = 0
        while i < len(parts):
            if isinstance(parts[i], bytes):
                pieces.append(parts[i])
                i += 1
            else:
                index, offset, length = parts[i : i + 3]
                if not 0 <= offset <= offset + length <= len(bases[index]):
                    raise ValueError("it copies what is not there")
                pieces.append(memoryview(bases[index])[offset : offset + length])
                i += 3
        return b"".join(pieces)
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as exc:
        raise WireError(f"Not a delta: {exc!r}") from exc


def _common(a: bytes, i: int, b: bytes, j: int) -> int:
    """Length of the common stretch from ``a[i]`` and ``b[j]`` on."""
    limit = min(len(a) - i, len(b) - j)
    length, width = 0, 64
    while length < limit:
        width = min(width, limit - length)
        if a[i + length : i + length + width] == b[j + length : j + length + width]:
            length += width
            width *= 2
        elif width == 1:
            break
        else:
            width = max(1, width // 4)
    return length


def _common_back(a: bytes, i: int, b: bytes, j: int, limit: int) -> int:
    """Length of the common stretch that ends before ``a[i]`` and ``b[j]``."""
    length = 0
    limit = min(limit, i)
    while length < limit and a[i - length - 1] == b[j - length - 1]:
        length += 1
    return length
