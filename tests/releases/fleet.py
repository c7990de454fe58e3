"""Workers and callers of several releases of the package as processes on one task queue."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer

from langgraph_temporal_exec.workflow.run import RunWorkflow
from langgraph_temporal_exec.workflow.thread import ThreadWorkflow
from tests.faults.lab import HEARTBEAT_S, ROOT, Lab, Process
from tests.releases.caller import read_lines
from tests.support.warm import WARM, warm_with

PRESENT = "present"
ARCHIVES = Path(__file__).parent / "archives"
REFUSED = "TMPRL1100"
"""What the SDK calls a history that a worker's code cannot have written."""

GRAPH = "tests.releases.conversation:graph"


def unpacked(commit: str, folder: Path) -> Path:
    """The package as it was at a commit, in a folder that can be on the path of a process.

    It is kept here, made by ``git archive COMMIT langgraph_temporal_exec | xz -9e``: not every copy
    of the repository has its history.
    """
    target = folder / commit
    with tarfile.open(ARCHIVES / f"{commit}.tar.xz") as archive:
        archive.extractall(target, filter="data")
    return target


class Talker(Process):
    """A caller process that obeys (``caller.py``)."""

    def __init__(self, name: str, command: list[str], folder: Path, **env: str) -> None:
        self._commands, self._out = folder / f"{name}.commands", folder / f"{name}.out"
        self._commands.touch()
        self._out.touch()
        self._sent = 0
        files = ["--commands", str(self._commands), "--out", str(self._out)]
        super().__init__(name, [*command, *files], folder, **env)

    def tell(self, **command: Any) -> int:
        """Write a command; its id."""
        self._sent += 1
        with self._commands.open("a") as file:
            file.write(json.dumps({**command, "id": self._sent}) + "\n")
        return self._sent

    def done(self, number: int) -> dict[str, Any] | None:
        """What came of a command; ``None``: nothing yet."""
        return next((done for done in read_lines(self._out) if done["id"] == number), None)


@dataclass
class Fleet(Lab):
    """One test's processes, of several releases.

    Args:
        releases: Where the earlier ones are unpacked, by commit.
    """

    releases: dict[str, Path]

    # -- processes ----------------------------------------------------------------------------

    def _env(self, release: str) -> dict[str, str]:
        where = ROOT if release == PRESENT else self.releases[release]
        return {
            # The tests are the present ones for every release.
            "PYTHONPATH": os.pathsep.join([str(where), str(ROOT)]),
            "FAULTS_DIR": str(self.folder),
            "RELEASE": str(where),
        }

    def _python(self, release: str) -> str:
        return WARM if release == PRESENT else warm_with(self.releases[release])

    async def workers_of(self, *releases: str, options: Sequence[str] = ()) -> list[Process]:
        """Start workers and wait until all of them poll."""
        started = []
        for release in releases:
            command = [self._python(release), "-m", "tests.releases.worker", "worker", GRAPH]
            command += ["--address", self.address, "--task-queue", self.task_queue]
            command += ["--heartbeat-timeout", str(HEARTBEAT_S), "--shutdown-grace", "10"]
            name = f"worker-{len(self.processes)}-{release}"
            process = Process(name, [*command, *options], self.folder, **self._env(release))
            started.append(self._add(process))
        for process in started:
            await self.until(
                lambda p=process: "serving task queue" in p.output,  # type: ignore[misc]
                f"{process.name} serves",
            )
        return started

    async def callers_of(self, *releases: str, hosting: bool = False) -> list[Talker]:
        """Start callers and wait until they obey."""
        started = []
        for release in releases:
            command = [self._python(release), "-m", "tests.releases.caller"]
            command += ["--address", self.address, "--task-queue", self.task_queue]
            command += ["--heartbeat-timeout", str(HEARTBEAT_S)]
            command += ["--host-worker"] if hosting else []
            name = f"caller-{len(self.processes)}-{release}"
            caller = Talker(name, command, self.folder, **self._env(release))
            self._add(caller)
            started.append(caller)
        for caller in started:
            await self.until(
                lambda c=caller: "calling" in c.output,  # type: ignore[misc]
                f"{caller.name} is ready",
            )
        return started

    # -- calls --------------------------------------------------------------------------------

    def thread(self, name: str) -> str:
        """The id of one of this test's threads."""
        return f"{self.thread_id}-{name}"

    def begin(self, caller: Talker, thread: str, turn: str, answer: str | None = None) -> int:
        """Have a caller begin a turn, or answer what the turn asked."""
        return caller.tell(thread=self.thread(thread), turn=turn, answer=answer)

    async def came_of(self, caller: Talker, number: int) -> dict[str, Any]:
        """What the caller's call returned or raised."""
        what = f"call {number} of {caller.name} returns"
        await self.until(lambda: caller.done(number) is not None, what)
        done = caller.done(number)
        assert done is not None
        return done

    async def ended_call(self, caller: Talker, number: int) -> dict[str, Any]:
        """What it returned."""
        done = await self.came_of(caller, number)
        assert "error" not in done, f"{done}\n{self.report()}"
        return done

    async def call(  # type: ignore[override] # the calls of these tests
        self, caller: Talker, thread: str, turn: str, answer: str | None = None
    ) -> dict[str, Any]:
        """The same, and what it returned."""
        return await self.ended_call(caller, self.begin(caller, thread, turn, answer))

    # -- what Temporal has ---------------------------------------------------------------------

    async def histories(self) -> list[WorkflowHistory]:
        """Of all threads, namespaces and runs of this test."""
        client = await Client.connect(self.address)
        async with self.bounded("histories are read"):
            listed = client.list_workflows(f"TaskQueue = '{self.task_queue}'")
            return [
                await client.get_workflow_handle(w.id, run_id=w.run_id).fetch_history()
                async for w in listed
                if w.workflow_type in ("LangGraphThread", "LangGraphRun")
            ]

    async def hopped(self, pids: set[int]) -> bool:
        """Whether workflow tasks of one and the same thread were done by all these processes."""
        done = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
        for history in await self.histories():
            identities = {
                event.workflow_task_completed_event_attributes.identity.partition("@")[0]
                for event in history.events
                if event.event_type == done
            }
            if identities >= {str(pid) for pid in pids}:
                return True
        return False

    async def check_histories(self, *, refused: bool = False) -> None:
        """The present release, which is what a deploy leaves, can go on with all of them.

        A worker that has a workflow in its cache would not notice.

        Args:
            refused: A worker may have been given a history that it cannot replay.
        """
        said = [line for p in self.processes for line in p.output.splitlines() if REFUSED in line]
        assert refused or not said, "\n".join(said)
        replayer = Replayer(workflows=[ThreadWorkflow, RunWorkflow])
        for history in await self.histories():
            replayed = await replayer.replay_workflow(history, raise_on_replay_failure=False)
            assert replayed.replay_failure is None, (
                f"{history.workflow_id}: {replayed.replay_failure}\n{self.report()}"
            )
