"""Shared: nested namespaces of a thread that are closed, as its shelves hold them.

See ``workflow/core/closing.py``. A thread names one pack, which lists all shelves; each shelf is a
blob with many namespaces. So to read one of them takes two blobs.
"""

from __future__ import annotations

from ..protocol.blob import decompress_shelf, decompress_shelves, is_on, shelf_key
from ..protocol.messages import ReadReply, ReadRequest
from ..protocol.stored import BlobRef, Kept, Pack, Shelved
from ..workflow.core.thread_state import ThreadState
from .blobs import BlobStore


async def listed(blobs: BlobStore, thread_id: str, shelves: Pack | None) -> tuple[Shelved, ...]:
    """All shelves of a thread, oldest first.

    Raises:
        BlobGoneError: They were replaced since ``shelves`` was read.
    """
    if shelves is None:
        return ()
    data = shelves.data if shelves.ref is None else await blobs.fetch(thread_id, shelves.ref)
    return decompress_shelves(data).shelves


async def content(blobs: BlobStore, thread_id: str, ref: BlobRef) -> tuple[Kept, ...]:
    """The namespaces on one shelf.

    Raises:
        BlobGoneError: It was replaced since it was listed.
    """
    return decompress_shelf(await blobs.fetch(thread_id, ref)).kept


async def find(
    blobs: BlobStore, thread_id: str, shelves: Pack | None, namespace: str
) -> Kept | None:
    """A closed namespace; ``None``: it is on no shelf.

    Raises:
        BlobGoneError: Shelves were replaced since ``shelves`` was read.
    """
    key = shelf_key(namespace)
    for shelved in reversed(await listed(blobs, thread_id, shelves)):
        if not is_on(shelved.keys, key):
            continue
        for kept in await content(blobs, thread_id, shelved.ref):
            if kept.namespace == namespace:
                return kept
    return None


def read(kept: Kept, request: ReadRequest) -> ReadReply:
    """What the workflow of a closed namespace would answer, if it were open."""
    return ThreadState.restore(kept.life, root=False, snapshot=kept.snapshot).read(request)
