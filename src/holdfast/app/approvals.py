"""Gates: the places where a person decides, and the questions of agents. All of them are one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from holdfast import clock
from holdfast.app.wire import House
from holdfast.domain import permissions
from holdfast.domain.permissions import Rule
from holdfast.domain.plan import Approval, ApprovalKind, Plan
from holdfast.domain.transitions import PLAN_EXECUTING, ApprovalStatus, TaskStatus
from holdfast.errors import IllegalState, NotFound, UsageError
from holdfast.store import Connection, approvals, plans, tasks

QUESTION_CHARACTERS = 4000
TITLE_CHARACTERS = 200


def list_(house: House, *, open_only: bool = True, limit: int = 100) -> tuple[Approval, ...]:
    status = ApprovalStatus.OPEN if open_only else None
    with house.database.read() as connection:
        return tuple(approvals.list_(connection, status=status, limit=limit).items)


def show(house: House, approval_id: str) -> Approval:
    """Gives one gate; raises `NotFound`."""
    with house.database.read() as connection:
        return approvals.get(connection, approval_id)


def find(house: House, reference: str) -> str:
    """Gives the id of the open gate that `reference` names: "A3", its id, or the plan or task it belongs to."""
    with house.database.read() as connection:
        try:
            return approvals.find(connection, reference)
        except NotFound:
            return _of_owner(connection, reference)


def _of_owner(connection: Connection, reference: str) -> str:
    for approval in approvals.list_(connection, status=ApprovalStatus.OPEN, limit=1000).items:
        plan = plans.get(connection, approval.plan_id)
        names = {f"P{plan.number}", plan.slug, plan.id}
        if approval.task_id is not None:
            task = tasks.get(connection, approval.task_id)
            names = {f"T{task.number}", task.key, task.id}
        if reference in names or reference.upper() in names:
            return approval.id
    raise NotFound(f"no open gate is named {reference!r}", hint="list them: holdfast approvals")


def decide(
    house: House,
    approval_id: str,
    *,
    approve: bool,
    comment: str = "",
    always: bool = False,
    remember: bool = False,
) -> Approval:
    """Records a person's decision and lets the plan's driver act on it; a decided gate cannot be decided again.

    Rejecting a task leaves it out; rejecting a plan or a result sends it back a stage and pauses it. The comment on a
    question is its answer; rejecting one refuses to answer. Two things hold for permissions only: `always` tells the
    agent that it need not ask again for what it calls the same, if it has such an answer; `remember` writes a rule that
    allows exactly this into the policy of the plan, or of the task if it has one of its own. What the agent was refused
    with a comment, it is told in its next prompt.
    """
    engine = house.engine
    with house.database.transaction() as connection:
        approval = approvals.get(connection, approval_id)
        plan = plans.lock(connection, approval.plan_id)
        status = ApprovalStatus.APPROVED if approve else ApprovalStatus.REJECTED
        if approval.status is not ApprovalStatus.OPEN:
            raise _decided(approval)
        if approve and approval.kind is ApprovalKind.QUESTION and not comment.strip():
            raise UsageError(
                f"A{approval.number} is a question: it needs an answer",
                hint=f'holdfast answer A{approval.number} "…"',
            )
        rules = _rules(approval, approve=approve, always=always, remember=remember)
        decided = approvals.decide(connection, approval, status, actor=house.actor, comment=comment, always=always)
        if rules:
            _remember(connection, plan, approval, rules, actor=house.actor)
        if approval.kind is ApprovalKind.TASK and approval.task_id is not None:
            task = tasks.get(connection, approval.task_id)
            if approve:
                tasks.set_fields(connection, task.id, approved=True)
            else:
                tasks.set_status(connection, task, TaskStatus.SKIPPED, actor=house.actor, data={"comment": comment})
        engine.wake_plan(connection, plan.id, plan.run)
        return decided


def _decided(approval: Approval) -> IllegalState:
    if approval.kind is ApprovalKind.PERMISSION and approval.status is ApprovalStatus.CANCELLED:
        return IllegalState(
            f"A{approval.number} is cancelled: the agent that asked is gone",
            hint="what it asks when it goes on is another gate: holdfast approvals",
            code="gate_cancelled",
        )
    return IllegalState(f"A{approval.number} was {approval.status} already by {approval.decided_by}")


def _rules(approval: Approval, *, approve: bool, always: bool, remember: bool) -> tuple[Rule, ...]:
    """Gives the rules to be remembered; raises `UsageError` where the gate cannot be decided like this."""
    if not always and not remember:
        return ()
    name = f"A{approval.number}"
    if approval.kind is not ApprovalKind.PERMISSION or not approve:
        raise UsageError(f"only the approval of a permission is for more than once; {name} is a {approval.kind} gate")
    asked = approval.details
    offered = cast("Sequence[Mapping[str, object]]", asked.get("options", ()))
    if always and not any(each.get("kind") == "allow_always" for each in offered):
        raise UsageError(f"the agent offers no `always` for {name}", hint="let Holdfast remember it: --remember")
    if not remember:
        return ()
    paths = cast("Sequence[str]", asked.get("paths", ()))
    command = str(asked.get("command", ""))
    rules = permissions.allowing(str(asked.get("kind", "")), command, paths)
    text = "".join((command, *paths))
    if not rules or asked.get("cut") or not text.replace("\n", "").replace("\t", "").isprintable():
        hint = "approve it once, and write the rule that you want: holdfast plan edit"
        raise UsageError(f"what {name} asks for cannot be written as a rule", hint=hint)
    return rules


def _remember(connection: Connection, plan: Plan, approval: Approval, rules: tuple[Rule, ...], *, actor: str) -> None:
    """Puts rules before those of the task's own policy, else of the plan's."""
    told: dict[str, object] = {"gate": approval.number, "rules": permissions.plain(permissions.Policy(rules))}
    task = tasks.get(connection, approval.task_id) if approval.task_id is not None else None
    if task is not None and task.permissions is not None:
        policy = permissions.with_rules(task.permissions, rules)
        tasks.set_fields(connection, task.id, permissions=policy)
        told["task"] = task.key
    else:
        plans.set_fields(connection, plan.id, permissions=permissions.with_rules(plan.permissions, rules))
    plans.tell(connection, plan, "permissions", actor, told)


def ask(
    house: House, plan_id: str, task_id: str | None, question: str, *, key: str = "", options: Sequence[str] = ()
) -> Approval:
    """Gives the gate of an agent's question, opened now unless it was asked before under the same `key`.

    It is durable on return, and the same for whoever asks again, however late: open, or with its answer. One that was
    closed because its task had ended is opened anew. Without a key the question is its own.
    """
    _refuse_long(question)
    subject = key or question
    with house.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        known = approvals.question(connection, plan_id=plan_id, task_id=task_id, key=subject)
        if known is not None and known.details.get("question") != question:
            raise UsageError(f"the key {key!r} is that of another question", hint="take another key", code="key_taken")
        if known is not None and known.status is not ApprovalStatus.CANCELLED:
            return known
        who = f"T{tasks.get(connection, task_id).number}" if task_id is not None else f"P{plan.number}"
        gate = approvals.open(
            connection,
            id=clock.new_id(),
            plan_id=plan_id,
            kind=ApprovalKind.QUESTION,
            title=f"{who} asks: {question}"[:TITLE_CHARACTERS],
            task_id=task_id,
            subject=subject,
            details={"question": question, "options": list(options)},
            actor=house.actor,
        )
        if plan.status in PLAN_EXECUTING:
            house.engine.wake_plan(connection, plan.id, plan.run)
        return gate


def _refuse_long(question: str) -> None:
    if not question.strip():
        raise UsageError("there is no question", hint="say what a person shall answer")
    if len(question) > QUESTION_CHARACTERS:
        raise UsageError(f"a question has at most {QUESTION_CHARACTERS} characters", hint="put the rest into a file")


def get(house: House, approval_id: str) -> Approval:
    with house.database.read() as connection:
        return approvals.get(connection, approval_id)
