"""Workflow side: ``LangGraphMailbox``, how a stream reaches a caller without any history."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from ..protocol import names
    from ..protocol.messages import Mail
    from ..protocol.wire import unpack

    # `from . import mailbox_sinks` would give the sandbox a copy of the module of its own.
    from .mailbox_sinks import deliver as deliver_to_sink


@workflow.defn(name=names.MAILBOX_WORKFLOW)
class MailboxWorkflow:
    """Open as long as its caller's process wants mail; holds no state."""

    @workflow.run
    async def run(self, renewed_s: float) -> None:
        """Stay open until terminated; without its process, until the run times out.

        Args:
            renewed_s: Seconds after which the next run of the workflow begins, with a timeout of
                its own: a call may last for weeks.
        """
        await workflow.sleep(renewed_s)
        workflow.continue_as_new(renewed_s)

    @workflow.query(name=names.DELIVER_QUERY)
    def deliver(self, mail: bytes) -> int:
        """Hand stream chunks to the listening stream of this process; a ``MailStatus``."""
        message = unpack(Mail, mail)
        return deliver_to_sink(message.run_id, message.items)
