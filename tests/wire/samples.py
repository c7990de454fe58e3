"""One sample of every message, with every field set to something that is not its default."""

from __future__ import annotations

from typing import Any

from langgraph_temporal_exec.protocol import messages as m

VALUE = m.Value(channel="messages", key="1.5", type="msgpack", data=b"\x01\x02")
OP = m.Op(
    kind=m.OpKind.PUT,
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
)
PAGE = m.LogPage(incarnation="life", start=3, ops=(b"\x05", b""), more=True)
APPLIED = m.Applied(checkpoints=1, null_writes=True, answered=("t",))
SPEC = m.TaskSpec(key="k", node="node", queue="q", summary="s", heartbeat_s=3.0)
ERROR = m.ErrorInfo(
    type_name="a.B",
    message="boom",
    args=b"\x90",
    attributes=b"\x80",
    notes=("n",),
    traceback="tb",
)
SAMPLES: dict[str, Any] = {
    "op": OP,
    "thread_start": m.ThreadStart(
        thread_id="t",
        namespace="ns",
        id_prefix="p",
        incarnation="life",
        snapshot=b"\x08",
        roll_events=9,
    ),
    "attach_request": m.AttachRequest(
        run_id="r",
        attempt=2,
        run_workflow_id="w",
        incarnation="life",
        cursor=4,
        evict="e",
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
    "append_request": m.AppendRequest(ops=(b"\x0c",), open=("ns",)),
    "read_request": m.ReadRequest(incarnation="life", cursor=1),
    "read_reply": m.ReadReply(
        page=PAGE,
        namespaces=("ns",),
        deleted=True,
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
    ),
    "drive_request": m.DriveRequest(
        run_id="r",
        attempt=1,
        thread_id="t",
        thread_workflow_id="w",
        run_workflow_id="x",
        graph="g",
        record=b"\x0f",
    ),
    "drive_reply": m.DriveReply(status=m.DriveStatus.ENDED, outcome=b"\x10", queue="q"),
    "run_status": m.RunStatusReply(state="running", attempt=2, queue="q", last_failure="f"),
    "outcome": m.Outcome(status="error", attempt=2, chunks=3, tail=(b"\x11",), error=ERROR),
    "mail": m.Mail(run_id="r", items=(m.MailItem(attempt=1, seq=2, data=b"\x12", more=True),)),
}
