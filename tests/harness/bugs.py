"""Seeded bugs: what the crash harness must find. Each patches the product in the child process that asks for it.

record-before-commit      the step's end is recorded before its commit is on the branch
no-reset-on-resume        a command that was lost runs again in the worktree that it left
stale-lock-left           what a killed git left in the vault stays there
log-without-position      a journal is read from its start again, whatever was stored of it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from holdfast import agents
from holdfast.agents import Record
from holdfast.domain.history import EventType
from holdfast.domain.step import Step
from holdfast.domain.task import Task
from holdfast.engine import task_command, task_run
from holdfast.engine.runtime import Runtime
from holdfast.engine.work import Outcome, Work
from holdfast.engine.workspace import AUTHOR, Place, commit_message
from holdfast.failpoints import failpoint
from holdfast.store import events, logs, steps
from holdfast.vcs import Vault


def plant(name: str) -> None:
    """Puts the bug into this process."""
    BUGS[name]()


def record_before_commit() -> None:
    unmoved: dict[str, tuple[Vault, str, str, str]] = {}
    seal = task_run.seal

    def commit_work(vault: Vault, place: Place, task: Task, step: Step, tree: str, ended_at: datetime) -> str:
        head = vault.head(place.branch)
        assert head is not None
        if vault.tree_of(head) == tree:
            return head
        message = commit_message(place.plan, task, step)
        commit = vault.write_commit(tree, (head,), message, author=AUTHOR, time=ended_at)
        unmoved[step.id] = (vault, place.branch, commit, head)
        return commit

    def seal_first(runtime: Runtime, work: Work, step_id: str, outcome: Outcome) -> None:
        seal(runtime, work, step_id, outcome)
        failpoint("bug.recorded")
        if step_id in unmoved:
            vault, branch, commit, head = unmoved.pop(step_id)
            vault.move_branch(branch, commit, head)

    task_run.commit_work = commit_work
    task_run.seal = seal_first


def no_reset_on_resume() -> None:
    def start_over(runtime: Runtime, work: Work, step: Step) -> Step:
        agents.kill_strays(step.id)
        with runtime.database.transaction() as connection:
            restarted = steps.set_fields(connection, step.id, claim=work.claim, restarts=step.restarts + 1)
            events.add(connection, EventType.STEP, "restarted", runtime.actor, plan_id=step.plan_id, step_id=step.id)
            return restarted

    task_command.start_over = start_over


def stale_lock_left() -> None:
    def recover(self: Vault, wait_seconds: float = 5.0) -> bool:
        return True

    Vault.recover = recover


def log_without_position() -> None:
    store = task_command.LogKeeper._store

    def append(connection: logs.Connection, step_id: str, lines: Sequence[logs.NewLine], **_: object) -> bool:
        rows = [{"step_id": step_id, "stream": line.stream, "at": line.at, "text": line.text} for line in lines]
        if rows:
            connection.execute(logs.logs.insert(), rows)
        return True

    def store_and_pass(self: task_command.LogKeeper, records: Sequence[Record]) -> None:
        store(self, records)
        if any(record.kind == "stdout" for record in records):
            failpoint("bug.stored")

    logs.append = append
    logs.position = lambda connection, step_id, launch: 0
    task_command.LogKeeper._store = store_and_pass


BUGS: dict[str, Callable[[], None]] = {
    "record-before-commit": record_before_commit,
    "no-reset-on-resume": no_reset_on_resume,
    "stale-lock-left": stale_lock_left,
    "log-without-position": log_without_position,
}
