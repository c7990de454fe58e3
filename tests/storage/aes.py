"""A payload codec that encrypts, and the search for what it should have hidden."""

from __future__ import annotations

import base64
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, SearchAttributes
from temporalio.client import Client
from temporalio.converter import PayloadCodec

MARK = "quetzal7Xmark"
"""In every secret of the tests; base64 of it is as easy to recognize."""

ENCRYPTED = b"binary/encrypted"


def secret(kind: str) -> str:
    """A text that must not be found; ``kind``, in small letters, tells where it came from."""
    return f"{MARK}-{kind}."


class Aes(PayloadCodec):
    """AES-GCM with a nonce of its own for every payload. What is not encrypted is refused."""

    def __init__(self, key: bytes) -> None:
        self._aes = AESGCM(key)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._encrypted(p) for p in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decrypted(p) for p in payloads]

    def _encrypted(self, payload: Payload) -> Payload:
        nonce = os.urandom(12)
        data = nonce + self._aes.encrypt(nonce, payload.SerializeToString(), None)
        return Payload(metadata={"encoding": ENCRYPTED}, data=data)

    def _decrypted(self, payload: Payload) -> Payload:
        assert payload.metadata["encoding"] == ENCRYPTED
        return Payload.FromString(self._aes.decrypt(payload.data[:12], payload.data[12:], None))


def found_in(database: Path) -> set[str]:
    """Kinds of secrets in the files of a database that is closed; "base64" for encoded ones.

    Cell by cell, because a value may be torn apart between pages of the file, and the files as
    they are, because of what was deleted.
    """
    files = sorted(database.parent.glob(f"{database.name}*"))
    return _kinds([file.read_bytes() for file in files]) | _kinds(_cells(database))


def _kinds(texts: Iterable[bytes]) -> set[str]:
    plain = re.compile(re.escape(MARK.encode()) + rb"-([a-z]+)\.")
    encoded = [
        # All that does not depend on what stands before and behind.
        base64.b64encode(b"\0" * shift + MARK.encode())[-(-shift * 4 // 3) : -4]
        for shift in range(3)
    ]
    kinds: set[str] = set()
    for text in texts:
        kinds.update(found.decode() for found in plain.findall(text))
        if any(code in text for code in encoded):
            kinds.add("base64")
    return kinds


def _cells(database: Path) -> Iterator[bytes]:
    connection = sqlite3.connect(database)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
        for table in tables:
            try:
                rows = connection.execute(f'SELECT * FROM "{table}"')
            except sqlite3.OperationalError:  # an index
                continue
            for row in rows:
                yield from (c if isinstance(c, bytes) else str(c).encode() for c in row)
    finally:
        connection.close()


async def payloads_of(client: Client, prefix: str) -> list[Payload]:
    """All payloads in all histories of a deployment, as they are stored."""
    found: list[Payload] = []
    async for execution in client.list_workflows(f"WorkflowId STARTS_WITH '{prefix}/'"):
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        async for event in handle.fetch_history_events():
            found += _payloads(event)
    return found


def _payloads(message: Any) -> Iterator[Payload]:
    if isinstance(message, Payload):
        yield message
    elif isinstance(message, Message):
        # Search attributes are for the server, in plain.
        if not isinstance(message, SearchAttributes):
            for _, value in message.ListFields():
                yield from _payloads(value)
    elif hasattr(message, "values") and callable(message.values):
        for value in message.values():
            yield from _payloads(value)
    elif not isinstance(message, (str, bytes)) and hasattr(message, "__iter__"):
        for value in message:
            yield from _payloads(value)
