"""Answers an agent's questions whether it may: from the policy, else by a gate that a person decides, however late."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.domain import permissions
from holdfast.domain.conversation import PermissionWanted, ToolUsed
from holdfast.domain.permissions import Policy, Verdict
from holdfast.domain.plan import Approval, ApprovalKind
from holdfast.domain.step import Step
from holdfast.domain.textdiff import unified
from holdfast.domain.transitions import ApprovalStatus
from holdfast.engine import control
from holdfast.engine.agent_choice import policy_of
from holdfast.engine.runtime import Runtime, in_thread
from holdfast.engine.work import Work
from holdfast.failpoints import failpoint
from holdfast.store import approvals, plans, projects, tasks

_GATES = uuid.UUID("0d6b1d8e-6d1f-5a0c-8a3f-2f0f9a4b7c11")
SHOWN_CHARACTERS = 10_000
SHOWN_PATHS = 50


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks for the agent of one launch. A question has the same gate whoever asks it, and how often."""

    runtime: Runtime
    work: Work
    step: Step
    launch: str

    async def ask(self, wanted: PermissionWanted) -> str | None:
        """Gives the id of the option that is chosen, None where the question is not answered any more."""
        policy = await in_thread(self._policy)
        verdict = permissions.decide(policy, wanted.call, self.runtime.workspaces.path(self.work.place))
        if verdict is not Verdict.ASK:
            return permissions.option(wanted, allow=verdict is Verdict.ALLOW)
        with self.runtime.drivers.news(self.work.plan.id) as news:
            while (gate := await in_thread(self._open, wanted)) is None:
                # The stop that is on its way ends this; where it is taken back, a person is asked.
                await news.wait()
                news.clear()
            failpoint("engine.permission.asked")
            while gate.status is ApprovalStatus.OPEN:
                await news.wait()
                news.clear()
                gate = await in_thread(self._look, gate.id)
        if gate.status is ApprovalStatus.CANCELLED:
            return None
        allow = gate.status is ApprovalStatus.APPROVED
        return permissions.option(wanted, allow=allow, always=bool(gate.details.get("always")))

    def _policy(self) -> Policy:
        """Gives the policy as it is now: a person may have changed it since the step began."""
        work = self.work
        with self.runtime.database.read() as connection:
            project = projects.get(connection, work.project.id)
            plan, task = plans.get(connection, work.plan.id), tasks.get(connection, work.task.id)
        return policy_of(self.runtime.settings, project, plan, task)

    def _open(self, wanted: PermissionWanted) -> Approval | None:
        """Gives the gate of the question; None where the agent is to be stopped, so that nobody is asked in vain."""
        subject = f"{self.step.id}/{self.launch}/{wanted.request}"
        worktree = self.runtime.workspaces.path(self.work.place)
        with self.runtime.database.transaction() as connection:
            plan = plans.lock(connection, self.work.plan.id)
            if control.must_stop(connection, plan, self.work.task.id):
                return None
            gate = approvals.open(
                connection,
                id=str(uuid.uuid5(_GATES, subject)),
                plan_id=plan.id,
                kind=ApprovalKind.PERMISSION,
                subject=subject,
                title=f"T{self.work.task.number} wants to: {asked_for(wanted, worktree)}"[:200],
                phase_id=None,
                task_id=self.work.task.id,
                details=details(wanted, self.step, worktree),
                actor=self.runtime.actor,
            )
            self.runtime.engine.wake_plan(connection, plan.id, plan.run)
            return gate

    def _look(self, gate_id: str) -> Approval:
        with self.runtime.database.read() as connection:
            return approvals.get(connection, gate_id)


def asked_for(wanted: PermissionWanted, worktree: str) -> str:
    call = wanted.call
    command = permissions.command_of(call) if call.kind == "execute" else None
    title = (call.title or "").removeprefix(worktree.rstrip("/") + "/")
    return command or title or call.kind or "use a tool"


def details(wanted: PermissionWanted, step: Step, worktree: str) -> Mapping[str, Any]:
    """Gives what a person needs to decide; long texts are cut, and `cut` then says so."""
    call = wanted.call
    command = permissions.command_of(call) or ""
    paths, diff = permissions.paths_of(call, worktree), diff_of(call, worktree)
    return {
        "step": step.number,
        "tool": (call.title or "")[:SHOWN_CHARACTERS],
        "kind": call.kind or "other",
        "command": command[:SHOWN_CHARACTERS],
        "paths": list(paths[:SHOWN_PATHS]),
        "diff": diff[:SHOWN_CHARACTERS],
        "cut": max(len(command), len(diff)) > SHOWN_CHARACTERS or len(paths) > SHOWN_PATHS,
        "options": [{"id": id, "name": name, "kind": kind} for id, name, kind in wanted.options],
    }


def diff_of(call: ToolUsed, worktree: str) -> str:
    """Gives the changes that a call would make, where the agent shows them."""
    root = worktree.rstrip("/") + "/"
    return "".join(unified(diff.path.removeprefix(root), diff.old, diff.new) for diff in call.diffs or ())
