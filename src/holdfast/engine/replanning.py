"""Asks a plan's supervisor what to do when tasks have failed for good, before the plan pauses over them.

Each such stand is one operation, whose id is made of the runs that failed: so it is asked about once, and what it
suggests is stored, and carried out where the plan says `replan`, in the transaction that ends the operation. Its
questions are inquiries of the plan's conversation, with ids made of the operation's: taken up again after a kill, they
are gone on with, or have their answers already.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from holdfast import planner
from holdfast.domain import suggestions, supervision
from holdfast.domain.edits import Outline
from holdfast.domain.plan import Plan, Project, SupervisorMode
from holdfast.domain.readiness import Action, PausePlan
from holdfast.domain.suggestions import Suggestion
from holdfast.domain.task import Task
from holdfast.domain.transitions import PLAN_EXECUTING, PauseReason, PlanStage, TaskStatus
from holdfast.engine import confine, inquiries, suggesting, supervisor
from holdfast.engine.agent_choice import supervisor_of
from holdfast.engine.agent_prompt import last_words
from holdfast.engine.editing import file_of, rendered
from holdfast.engine.inquiries import SUPERVISOR, Asked, Inquiry
from holdfast.engine.runtime import Runtime, in_thread
from holdfast.errors import HoldfastError, InfraError, Unavailable, UserError
from holdfast.failpoints import failpoint
from holdfast.store import Connection, Operation, OperationStatus, edits, iterations, operations, plans, projects, steps

KIND = "replan"
_STAGES = (PlanStage.IMPLEMENTING, PlanStage.REVIEWING)
_STANDS = uuid.UUID("b3c1a7d2-5d0e-5f7b-9c64-1e8a2f6d9b35")


@dataclass(frozen=True, slots=True)
class Stand:
    """A plan that stands still because these tasks have failed; `id` is the same as long as it is the same failure."""

    id: str
    project: Project
    now: Outline
    failed: tuple[Task, ...]
    failures: str

    @property
    def plan(self) -> Plan:
        return self.now.plan


def stand_id(plan: Plan, failed: Sequence[Task]) -> str:
    runs = ",".join(sorted(f"{task.id}.{task.run}" for task in failed))
    return str(uuid.uuid5(_STANDS, f"{plan.id}/{runs}"))


def is_due(connection: Connection, limit: int, plan: Plan, tasks: Sequence[Task], actions: Sequence[Action]) -> bool:
    """Tells whether the supervisor is to be asked before these actions, which pause the plan, are taken."""
    if plan.supervisor is SupervisorMode.OFF or plan.stage not in _STAGES or not actions:
        return False
    last = actions[-1]
    if not isinstance(last, PausePlan) or last.reason is not PauseReason.TASK_FAILED:
        return False
    asked = operations.of_kind(connection, plan.id, KIND)
    this = stand_id(plan, [task for task in tasks if task.id in last.task_ids])
    known = next((each for each in asked if each.id == this), None)
    if known is not None:
        return known.status is OperationStatus.OPEN
    applied = sum(bool(each.outcome.get("applied")) for each in asked)
    return plan.supervisor is SupervisorMode.SUGGEST or applied < limit


async def consider(runtime: Runtime, plan_id: str, run: int) -> None:
    """Asks the supervisor about the failed tasks of a plan that stands still, and stores what it suggests, once.

    What keeps it from an answer is told in the history; then the plan pauses as it would have without it.
    """
    stand = await in_thread(take_up, runtime, plan_id, run)
    if stand is None:
        return
    with runtime.execution(plan_id, plan_id) as stop:
        try:
            author, sandbox = await in_thread(chosen, runtime, stand)
            drafter = Supervised(runtime, stand, author, sandbox, stop)
            file = file_of(stand.now)
            drafted = await planner.rescue_plan(
                drafter, file, stand.failures, lambda wanted: suggesting.tried(stand.now, wanted)
            )
        except InfraError:
            raise
        except HoldfastError as error:
            await in_thread(give_up, runtime, stand, error.message)
            return
    failpoint("engine.replan.answered")
    await in_thread(settle, runtime, stand, drafted)
    failpoint("engine.replan.settled")


def take_up(runtime: Runtime, plan_id: str, run: int) -> Stand | None:
    """Begins the operation, or takes it up again; None if the plan does not stand still over failed tasks any more."""
    with runtime.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        now = edits.outline(connection, plan)
        failed = tuple(task for task in now.tasks if task.status is TaskStatus.FAILED)
        if plan.run != run or plan.status not in PLAN_EXECUTING or not failed:
            return None
        stand = Stand(
            stand_id(plan, failed),
            projects.get(connection, plan.project_id),
            now,
            failed,
            "\n\n".join(_failure(connection, task) for task in failed),
        )
        intent = {"tasks": [task.id for task in failed]}
        begun = operations.begin(
            connection, id=stand.id, kind=KIND, actor=runtime.actor, intent=intent, plan_id=plan_id
        )
        return stand if begun.status is OperationStatus.OPEN else None


def _failure(connection: Connection, task: Task) -> str:
    done = [each for each in steps.of_task(connection, task.id) if each.active]
    return supervision.failure(task, last_words(connection, done[-1]) if done else "")


def chosen(runtime: Runtime, stand: Stand) -> tuple[str, str]:
    """Gives who is asked, and the sandbox for it."""
    author = supervisor_of(runtime.settings, stand.project, stand.plan)
    return author, str(confine.sandbox_of(runtime.settings, stand.project).name)


@dataclass(slots=True)
class Supervised:
    """A drafter of the planner that is the plan's supervisor: each answer is an inquiry, and is given once."""

    runtime: Runtime
    stand: Stand
    name: str
    sandbox: str
    stop: asyncio.Event
    _asked: int = 0

    async def __call__(self, prompt: str, schema: Mapping[str, Any]) -> planner.Answer:
        self._asked += 1
        question = supervision.what_now(self.stand.failed) if self._asked == 1 else prompt
        asked = Asked(question, prompt, self.name, dict(schema))
        async with supervisor.held(self.runtime, self.stand.plan.id):
            inquiry = await in_thread(self._begin, str(uuid.uuid5(_STANDS, f"{self.stand.id}/{self._asked}")), asked)
            failpoint("engine.replan.asked")
            done = await supervisor.answer(self.runtime, inquiry, tell=lambda _inquiry, _updates: None, stop=self.stop)
        if done.progress.error:
            raise Unavailable(f"{self.name} gave no answer: {done.progress.error}")
        return planner.Answer(done.progress.answer, done.progress.used)

    def _begin(self, inquiry_id: str, asked: Asked) -> Inquiry:
        with self.runtime.database.transaction() as connection:
            plan = plans.lock(connection, self.stand.plan.id)
            return inquiries.begin(connection, self.runtime, plan, inquiry_id, asked, self.sandbox)


def give_up(runtime: Runtime, stand: Stand, error: str) -> None:
    with runtime.database.transaction() as connection:
        plan = plans.lock(connection, stand.plan.id)
        _end(connection, plan, stand, {"applied": False, "error": error}, OperationStatus.FAILED)


def settle(runtime: Runtime, stand: Stand, drafted: planner.Drafted[tuple[Suggestion, ...]]) -> None:
    """Stores the suggestions as a review, and carries them out where the plan wants that and still stands so."""
    with runtime.database.transaction() as connection:
        plan = plans.lock(connection, stand.plan.id)
        if operations.get(connection, stand.id).status is not OperationStatus.OPEN:
            return
        review = iterations.add(connection, plan.id, "review", SUPERVISOR, _review(stand, drafted))
        outcome = {"review": review.number, "suggestions": len(drafted.result), "applied": False, "error": ""}
        wanted = plan.supervisor is SupervisorMode.REPLAN and plan.status in PLAN_EXECUTING
        if wanted and drafted.result and plan.stop is None and not plan.cancel_requested:
            try:
                _carry_out(connection, runtime, plan, review.number, drafted.result)
                outcome["applied"] = True
            except UserError as error:
                # Checked before anything is written: a person has changed the plan meanwhile, and goes before.
                outcome["error"] = error.message
        _end(connection, plan, stand, outcome, OperationStatus.DONE)


def _review(stand: Stand, drafted: planner.Drafted[tuple[Suggestion, ...]]) -> dict[str, object]:
    """Gives what an iteration keeps of suggestions, as `plan review` does."""
    return {
        "type": "after_failure",
        "about": ", ".join(f"T{task.number} {task.key}" for task in stand.failed),
        "plan": rendered(stand.now),
        "suggestions": [suggestions.to_plain(each) for each in drafted.result],
        "drafter": drafted.author,
        "prompt": drafted.prompt,
        "answers": drafted.answers,
        "usage": asdict(drafted.usage),
        "files": (),
        "cut": (),
    }


def _carry_out(connection: Connection, runtime: Runtime, plan: Plan, review: int, wanted: Sequence[Suggestion]) -> None:
    told = {"by": "replan", "review": review, "suggestions": list(range(1, len(wanted) + 1))}
    # The driver that does this looks again by itself.
    suggesting.carry_out(connection, plan, wanted, told, actor=SUPERVISOR, wake=lambda _connection, _plan: None)


def _end(
    connection: Connection, plan: Plan, stand: Stand, outcome: Mapping[str, object], status: OperationStatus
) -> Operation:
    ended = operations.finish(connection, stand.id, outcome=outcome, status=status)
    plans.tell(connection, plan, "replanned" if outcome["applied"] else "supervised", SUPERVISOR, outcome)
    return ended


def told(connection: Connection, plan: Plan, tasks: Sequence[Task], pause: PausePlan) -> str:
    """Gives what the message of a pause says of the supervisor; nothing where it suggests nothing."""
    this = stand_id(plan, [task for task in tasks if task.id in pause.task_ids])
    for each in operations.of_kind(connection, plan.id, KIND):
        if each.id == this and each.outcome.get("suggestions"):
            numbers = " ".join(str(number) for number in range(1, int(str(each.outcome["suggestions"])) + 1))
            review = each.outcome["review"]
            return f"; its supervisor suggests: holdfast plan apply P{plan.number} {numbers} --review {review}"
    return ""
