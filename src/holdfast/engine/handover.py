"""Hands a plan's result to the user, as a branch of the repository or as files of the folder, and takes it back.

The intent is written first: what was cut off is carried through by the next command on the plan, or by the next worker,
and can be undone then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from holdfast import clock
from holdfast.domain.plan import Plan, Project
from holdfast.engine.parts import Parts
from holdfast.errors import Corruption, IllegalState, StepError, UserError
from holdfast.failpoints import failpoint
from holdfast.store import Operation, OperationStatus, operations, plans, projects
from holdfast.vcs import locked

# The key of an intent under which it stands what is handed over.
MERGE = "merge"
# So long is waited for another process that hands over a result of the same project.
WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Handover:
    """What is written, or with `back` taken back: `branch` at `commit`, or without one the `files` of `commit`.

    `undoes` names the deed that it takes back.
    """

    back: bool
    commit: str
    branch: str = ""
    files: int = 0
    undoes: str = ""


def handover_of(operation: Operation) -> Handover | None:
    """Gives what an operation hands over or takes back, None for one that does neither."""
    found = cast("Mapping[str, Any] | None", operation.intent.get(MERGE))
    return Handover(**found) if found else None


def hand_over(parts: Parts, plan: Plan, handover: Handover, *, kind: str) -> Operation:
    """Does it, as an operation; gives that, ended. Raises what made it impossible."""
    with parts.database.transaction() as connection:
        begun = operations.begin(
            connection,
            id=clock.new_id(),
            kind=kind,
            actor=parts.actor,
            intent={MERGE: asdict(handover)},
            plan_id=plan.id,
        )
    failpoint("engine.handover.begun")
    return finish(parts, begun.id)


def finish(parts: Parts, operation_id: str) -> Operation:
    """Carries one through and gives it ended; one that has ended is given back as it is."""
    with parts.database.read() as connection:
        operation = operations.get(connection, operation_id)
        plan = plans.get(connection, operation.plan_id or "")
        project = projects.get(connection, plan.project_id)
    with locked(parts.places.project(project.id) / "handover.lock", Path(project.path), WAIT_SECONDS):
        with parts.database.read() as connection:
            operation = operations.get(connection, operation_id)
        if operation.status is not OperationStatus.OPEN:
            return operation
        handover = handover_of(operation)
        assert handover is not None
        try:
            _write(parts, plan, project, handover)
        except (UserError, StepError, Corruption) as error:
            with parts.database.transaction() as connection:
                failed = OperationStatus.FAILED
                operations.finish(connection, operation.id, status=failed, outcome={"error": str(error)})
            raise
        failpoint("engine.handover.written")
        return _record(parts, plan, project, operation, handover)


def _write(parts: Parts, plan: Plan, project: Project, handover: Handover) -> None:
    """Writes or takes back; what is so already stays."""
    if handover.branch:
        vault, repository = parts.workspaces.vault(project), Path(project.path)
        if handover.back:
            vault.take_back_branch(repository, handover.branch, handover.commit)
        else:
            vault.export_branch(repository, plan.branch, handover.branch, commit=handover.commit)
        return
    with parts.workspaces.folder(project) as folder:
        if not handover.back:
            folder.merge(plan.id, plan.base_commit, handover.commit, clock.now())
            return
        try:
            folder.take_back(plan.id, plan.base_commit, clock.now())
        except IllegalState as error:
            if error.code != "not_merged":  # it was there when this was begun: a call that was cut off took it back
                raise


def _record(parts: Parts, plan: Plan, project: Project, operation: Operation, handover: Handover) -> Operation:
    what: dict[str, object] = {"branch": handover.branch} if handover.branch else {"files": handover.files}
    told = what if handover.branch else {**what, "folder": project.path, "commit": handover.commit}
    undoes = {"undoes": handover.undoes} if handover.undoes else {}
    with parts.database.transaction() as connection:
        plans.tell(connection, plan, "taken_back" if handover.back else "merged", operation.actor, told)
        return operations.finish(connection, operation.id, outcome={"plan": f"P{plan.number}", **what, **undoes})
