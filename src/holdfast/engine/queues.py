"""Names of the queues and workflows, and how anyone starts or wakes one inside a transaction of ours.

A plan runs where its project's vault and worktrees are, so each data folder (home) has queues of its own.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, error

from holdfast.store import Connection, Database, plans

# One name for all versions of the code: a worker of a newer version takes up what an older one left.
APPLICATION_VERSION = "1"
WAKE = "wake"
RUN_PLAN = "run_plan"
RUN_TASK = "run_task"
SERIALIZER = DBOSPortableJSONSerializer()


# How soon the driver of a plan starts, and how soon goes on what a dead worker left: in a worker that starts, which
# waits for its first look too, and in one that is there.
FIRST_POLL_SECONDS = 0.02
POLL_SECONDS = 0.3


def plans_queue(home: str) -> str:
    return f"plans@{home}"


def application(home: str) -> str:
    """Gives DBOS's name for the workers of a data folder: what they started, only they recover."""
    return f"holdfast-{home}"


def plan_workflow_id(plan_id: str, run: int) -> str:
    return f"plan-{plan_id}-{run}"


def task_workflow_id(task_id: str, run: int) -> str:
    return f"task-{task_id}-{run}"


class Engine:
    """Starts and wakes workflows from any process; what it writes commits with the caller's transaction."""

    def __init__(self, database: Database) -> None:
        if not database.has_table("workflow_status", schema="dbos"):
            DBOS.migrate(f"sqlite:///{database.path}" if database.is_sqlite else database.url)
        self._client = DBOSClient(
            system_database_engine=database.workflow_engine,
            serializer=SERIALIZER,
            use_listen_notify=False,
        )

    def register_queue(self, home: str, poll_seconds: float) -> str:
        """Makes the queue of a data folder and names it; to be done first, as workers look for new ones once a second.

        It has no limit: what a dead worker left comes here too, and a plan that held a place would wait for its tasks.
        Done again it changes how often workers look; each takes that up at its next look.
        """
        named = {"polling_interval_sec": poll_seconds, "application_name": application(home)}
        return self._client.register_queue(plans_queue(home), **named).name

    def start_plan(self, connection: Connection, home: str, plan_id: str, run: int) -> None:
        """Enqueues the driver of a plan; doing it twice starts it once."""
        self._enqueue(connection, RUN_PLAN, plans_queue(home), plan_workflow_id(plan_id, run), plan_id, run)

    def start_task(self, connection: Connection, home: str, plan_id: str, task_id: str, run: int) -> None:
        """Enqueues the workflow of a queued task that nobody started; doing it twice starts it once."""
        workflow_id = task_workflow_id(task_id, run)
        self._enqueue(connection, RUN_TASK, plans_queue(home), workflow_id, plan_id, task_id, run)

    def wake_plan(self, connection: Connection, plan_id: str, run: int) -> None:
        """Lets the driver of a plan look at the tables again, once the transaction has committed.

        It may wait in its workflow (the message reaches it) or in its worker (which sees the count of wakes). One that
        is gone needs no waking: `recovery.reconcile` starts another, which looks by itself.
        """
        plans.add_wake(connection, plan_id)
        with suppress(error.DBOSNonExistentWorkflowError), connection.begin_nested():
            self._client.send_in_transaction(connection, plan_workflow_id(plan_id, run), "look", WAKE)

    def live(self, workflow_ids: list[str]) -> set[str]:
        """Tells which of these workflows are enqueued or running."""
        found = self._client.list_workflows(
            workflow_ids=workflow_ids, status=["PENDING", "ENQUEUED", "DELAYED"], load_input=False, load_output=False
        )
        return {workflow.workflow_id for workflow in found}

    def hand_back(self, worker_id: str, home: str) -> None:
        """Hands the workflows of a dead worker of a data folder back to its queue.

        The one use of private names of DBOS 3.4: its own recovery (no public call either) hands those that came of no
        queue to one that is looked at once a second. Idempotent: it touches only what is PENDING under that executor.
        """
        system = self._client._sys_db  # pyright: ignore[reportPrivateUsage]
        for workflow in system.get_pending_workflows(worker_id, APPLICATION_VERSION):
            system.reenqueue_for_recovery(workflow.workflow_id, [worker_id], plans_queue(home))

    def forget(self, before: datetime) -> int:
        """Deletes up to 1,000 workflows that ended before that time and gives their number: our tables need none."""
        ended = self._client.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED"],
            completed_before=before.isoformat(),
            limit=1000,
            load_input=False,
            load_output=False,
        )
        if ended:
            self._client.delete_workflows([workflow.workflow_id for workflow in ended])
        return len(ended)

    def close(self) -> None:
        self._client.destroy()

    def _enqueue(self, connection: Connection, name: str, queue: str, workflow_id: str, *arguments: Any) -> None:
        self._client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": name,
                "queue_name": queue,
                "workflow_id": workflow_id,
                "app_version": APPLICATION_VERSION,
            },
            *arguments,
        )
