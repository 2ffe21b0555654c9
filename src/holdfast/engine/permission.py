"""Answers an agent's questions whether it may: from the policy, else by a gate that a person decides, however late."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.domain import permissions
from holdfast.domain.conversation import PermissionWanted
from holdfast.domain.permissions import Policy, Verdict
from holdfast.domain.plan import Approval, ApprovalKind
from holdfast.domain.step import Step
from holdfast.domain.transitions import ApprovalStatus
from holdfast.engine.runtime import Runtime, in_thread
from holdfast.engine.work import Work
from holdfast.failpoints import failpoint
from holdfast.store import approvals, plans

_GATES = uuid.UUID("0d6b1d8e-6d1f-5a0c-8a3f-2f0f9a4b7c11")
SHOWN_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks for the agent of one launch. A question has the same gate whoever asks it, and how often."""

    runtime: Runtime
    work: Work
    step: Step
    launch: str

    async def ask(self, wanted: PermissionWanted) -> str | None:
        """Gives the id of the option that is chosen, None where the question is not answered any more."""
        verdict = permissions.decide(self._policy(), wanted.call, self.runtime.workspaces.path(self.work.place))
        if verdict is not Verdict.ASK:
            return permissions.option(wanted, allow=verdict is Verdict.ALLOW)
        gate = await in_thread(self._open, wanted)
        failpoint("engine.permission.asked")
        with self.runtime.drivers.news(self.work.plan.id) as news:
            while gate.status is ApprovalStatus.OPEN:
                await news.wait()
                news.clear()
                gate = await in_thread(self._look, gate.id)
        if gate.status is ApprovalStatus.CANCELLED:
            return None
        return permissions.option(wanted, allow=gate.status is ApprovalStatus.APPROVED)

    def _policy(self) -> Policy:
        if self.work.task.read_only:
            return permissions.READ_ONLY
        return permissions.policy_of(self.work.project.settings.get("permissions"), self.runtime.settings.permissions)

    def _open(self, wanted: PermissionWanted) -> Approval:
        subject = f"{self.step.id}/{self.launch}/{wanted.request}"
        with self.runtime.database.transaction() as connection:
            plan = plans.lock(connection, self.work.plan.id)
            gate = approvals.open(
                connection,
                id=str(uuid.uuid5(_GATES, subject)),
                plan_id=plan.id,
                kind=ApprovalKind.PERMISSION,
                subject=subject,
                title=f"T{self.work.task.number} wants to: {asked_for(wanted)}"[:200],
                phase_id=None,
                task_id=self.work.task.id,
                details=details(wanted, self.step, self.runtime.workspaces.path(self.work.place)),
                actor=self.runtime.actor,
            )
            self.runtime.engine.wake_plan(connection, plan.id, plan.run)
            return gate

    def _look(self, gate_id: str) -> Approval:
        with self.runtime.database.read() as connection:
            return approvals.get(connection, gate_id)


def asked_for(wanted: PermissionWanted) -> str:
    call = wanted.call
    command = permissions.command_of(call) if call.kind == "execute" else ""
    return command or call.title or call.kind or "use a tool"


def details(wanted: PermissionWanted, step: Step, worktree: str) -> Mapping[str, Any]:
    """Gives what a person needs to decide."""
    call = wanted.call
    return {
        "step": step.number,
        "tool": call.title or "",
        "kind": call.kind or "other",
        "command": permissions.command_of(call)[:SHOWN_CHARACTERS] if call.kind == "execute" else "",
        "paths": list(permissions.paths_of(call, worktree))[:50],
        "options": [{"id": id, "name": name, "kind": kind} for id, name, kind in wanted.options],
    }
