"""One sample of every message, with every field set to something that is not its default."""

from __future__ import annotations

from typing import Any

from langgraph_temporal_exec.protocol import mail as ml
from langgraph_temporal_exec.protocol import messages as m
from langgraph_temporal_exec.protocol import stored as st
from langgraph_temporal_exec.protocol.standing import Place, Standing

BLOB = st.BlobRef(size=5, scope="run", pieces=(b"\x21", b"\x22"), piece=3)
VALUE = st.Value(
    channel="messages",
    key="1.5",
    type="msgpack",
    data=b"\x01\x02",
    digest=b"\x23",
    bases=(b"\x24",),
    blob=BLOB,
)
OP = st.Op(
    kind=st.OpKind.PUT,
    checkpoint_id="c2",
    parent_id="c1",
    run_id="r",
    attempt=2,
    task_id="t",
    task_path="~p",
    values=(VALUE,),
    checkpoint_type="msgpack",
    checkpoint=b"\x03",
    metadata_type="msgpack",
    metadata=b"\x04",
    dropped=("c0",),
    checkpoint_digest=b"\x25",
    checkpoint_bases=(b"\x26",),
    metadata_digest=b"\x27",
    metadata_bases=(b"\x28",),
    inherits=(st.Inherited(channel="x", key=7),),
    complete=True,
    deltas=("d",),
    opened=("ns",),
    answers=True,
    body=BLOB,
)
PACK = st.Pack(data=b"\x29", ref=BLOB, level=1)
SEGMENT = st.Segment(first=1, end=3, pack=PACK)
PAGE = m.LogPage(
    incarnation="life", start=3, ops=(b"\x05", b""), more=True, head=PACK, segments=(SEGMENT,)
)
SUMMARY = m.ThreadSummary(
    thread_id="t",
    graph="g",
    status="done",
    active_run="r",
    waiting=2,
    created_s=1.5,
    updated_s=2.5,
    asks=("node",),
)
APPLIED = m.Applied(checkpoints=1, null_writes=True, answered=("t",))
SPEC = m.TaskSpec(key="k", node="node", queue="q", summary="s", heartbeat_s=3.0, step=2)
ERROR = m.ErrorInfo(
    type_name="a.B",
    message="boom",
    args=b"\x90",
    attributes=b"\x80",
    notes=("n",),
    traceback="tb",
    exceptions=(b"\x13",),
    cause=b"\x14",
)
LISTENER = m.Listener(run_id="r", mailbox="m", stream_id="s", queue="q")
BOUNDS = m.RunBounds(heartbeat_s=2.5, max_lost_attempts=3, give_up_s=4.5)
DEADLINE = m.Deadline(interrupt_id="i", within_s=6.5, default=b"\x13", bounds=BOUNDS, at_s=7.5)
STANDING = Standing(
    top="c2",
    places={"c2": Place(asking=("t",), done=("t0",), failed=("t1",), nodes=("node",), stands=True)},
)
SAMPLES: dict[str, Any] = {
    "op": OP,
    "op_body": st.OpBody(
        values=(VALUE,),
        checkpoint_type="msgpack",
        checkpoint=b"\x2a",
        metadata_type="msgpack",
        metadata=b"\x2b",
    ),
    "op_list": st.OpList(ops=(b"\x2c",)),
    "segment_list": st.SegmentList(segments=(SEGMENT,)),
    "blob_list": st.BlobList(refs=(BLOB,)),
    "thread_start": m.ThreadStart(
        thread_id="t",
        namespace="ns",
        id_prefix="p",
        incarnation="life",
        snapshot=b"\x08",
        roll_events=9,
        archive_bytes=10,
        rules=1,
    ),
    "attach_request": m.AttachRequest(
        run_id="r",
        attempt=2,
        run_workflow_id="w",
        incarnation="life",
        cursor=4,
        evict="e",
        graph="g",
        strategy="reject",
    ),
    "attach_reply": m.AttachReply(
        status=m.AttachStatus.GRANTED,
        epoch=5,
        page=PAGE,
        namespaces=("ns",),
        applied=APPLIED,
        active_run="r",
        active_run_workflow_id="w",
        outcome=b"\x09",
        undo=("r0",),
    ),
    "step_request": m.StepRequest(
        epoch=1,
        seq=2,
        run_id="r",
        ops=(b"\x0a",),
        tasks=(SPEC,),
        open=("ns",),
        requires=("k0",),
        watch=("k1",),
        outcome=b"\x0b",
        extra=True,
    ),
    "step_reply": m.StepReply(again=True, lost=("k",), log_end=3),
    "append_request": m.AppendRequest(
        ops=(b"\x0c",),
        open=("ns",),
        incarnation="life.1",
        close=("old",),
        compact=True,
        undone=("r0",),
        base="c1",
        due=("node",),
        latest="c0",
        graph="g",
        standing=STANDING,
        status="error",
    ),
    "read_request": m.ReadRequest(
        incarnation="life", cursor=1, erasing=True, runs=True, standing=True
    ),
    "read_reply": m.ReadReply(
        page=PAGE,
        namespaces=("ns",),
        deleted=True,
        summary=SUMMARY,
        runs=("r",),
        standing=STANDING,
    ),
    "archive_request": m.ArchiveRequest(
        thread_id="t",
        namespace="ns",
        base=1,
        end=2,
        compact=True,
        generation=3,
        workflow_id="w",
    ),
    "archive_reply": m.ArchiveReply(segments=(SEGMENT,), head=PACK, garbage=BLOB),
    "discard_request": m.DiscardRequest(thread_id="t", garbage=BLOB),
    "erase_request": m.EraseRequest(thread_id="t", namespace="ns", workflow_id="w", deleted_s=3.5),
    "snapshot": m.Snapshot(
        epoch=1,
        seq=2,
        log=(b"\x2d",),
        namespaces=("ns",),
        ended=(("r0", b"\x2e"),),
        waiting=(m.Waiter(run_id="r2", run_workflow_id="w2"),),
        active=m.ActiveRun(
            run_id="r1",
            run_workflow_id="w1",
            attempt=3,
            first_epoch=4,
            checkpoints=5,
            null_writes=True,
            answered=("t",),
            namespaces=("ns",),
            alone=False,
            stop="interrupt",
            boundary=True,
        ),
        lost=("k0",),
        running=(SPEC,),
        base=6,
        segments=(SEGMENT,),
        head=PACK,
        generation=7,
        garbage=True,
        compact=True,
        unthinned=8,
        discards=(BLOB,),
        summary=SUMMARY,
        undo=("r0",),
        deadlines=(DEADLINE,),
        standing=STANDING,
    ),
    "task_input": m.TaskInput(key="k"),
    "task_output": m.TaskOutput(status=m.TaskStatus.FINISHED, op=b"\x0d", error="e"),
    "run_start": m.RunStart(
        run_id="r",
        thread_id="t",
        thread_workflow_id="w",
        graph="g",
        task_queue="q",
        record=b"\x0e",
        home_queue="h",
        heartbeat_s=3.0,
        max_lost_attempts=4,
        record_ref=BLOB,
        strategy="reject",
        give_up_s=5.5,
    ),
    "run_bounds": BOUNDS,
    "drive_request": m.DriveRequest(
        run_id="r",
        attempt=1,
        thread_id="t",
        thread_workflow_id="w",
        run_workflow_id="x",
        graph="g",
        record=b"\x0f",
        record_ref=BLOB,
        at_home=True,
        strategy="reject",
        listeners=(LISTENER,),
    ),
    "listener": LISTENER,
    "drive_reply": m.DriveReply(status=m.DriveStatus.ENDED, outcome=b"\x10", queue="q"),
    "run_status": m.RunStatusReply(state="running", attempt=2, queue="q", last_failure="f"),
    "outcome": m.Outcome(
        status="error",
        attempt=2,
        chunks=3,
        tail=(b"\x11",),
        error=ERROR,
        deadlines=(DEADLINE,),
        asks=("node",),
        refused=True,
        at="c2",
        nodes=("node",),
        asked=("i",),
    ),
    "mail": ml.Mail(
        run_id="r", items=(ml.MailItem(attempt=1, seq=2, data=b"\x12", more=True, event=True),)
    ),
}
