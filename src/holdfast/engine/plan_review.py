"""Has a plan's result reviewed: each round is a phase with a task that reads and judges, and one that makes changes.

The round is added with the move to `reviewing`, so it is there exactly if the plan is. What the reviewer says is read
from its conversation whenever it is needed; nothing else remembers it.
"""

from __future__ import annotations

from dataclasses import replace

from holdfast import clock
from holdfast.domain import review
from holdfast.domain.budget import Budget
from holdfast.domain.history import EventType
from holdfast.domain.permissions import READ_ONLY
from holdfast.domain.plan import Phase, PhaseMode, Plan
from holdfast.domain.planfile.spec import MAX_ATTEMPTS
from holdfast.domain.readiness import PlanState, current_phase, phase_tasks
from holdfast.domain.review import Review, Verdict
from holdfast.domain.step import Step
from holdfast.domain.task import Executor, FailureKind, Task
from holdfast.domain.transitions import PhaseStatus, PlanStage, TaskStatus
from holdfast.engine.driving import start_driver
from holdfast.engine.runtime import Runtime
from holdfast.engine.work import Outcome, Work
from holdfast.store import Connection, events, messages, plans, steps, tasks
from holdfast.vcs import DiffLimits, diff

# A reviewer reads the rest in the folder.
DIFF_FILES = 500
DIFF_LINES = 5000
# So many of its last messages may hold the verdict.
LOOKED_THROUGH = 50


def add_round(connection: Connection, plan: Plan, *, actor: str) -> None:
    """Adds the next round of review to a plan that comes to it."""
    phase = add_phase(connection, plan, actor)
    others = plans.tasks_of(connection, plan.id)
    number, agent = phase.review_round, plan.review_agent or agent_of_work(others)
    title = f"Review the result (round {number})"
    task = new_task(phase, others, f"review-{number}", title, "Judge the result of the plan.", agent)
    add_task(connection, phase, replace(task, read_only=True, permissions=READ_ONLY), actor)


def add_phase(connection: Connection, plan: Plan, actor: str) -> Phase:
    number = review.next_round(plans.phases_of(connection, plan.id))
    phase = Phase(
        id=clock.new_id(),
        plan_id=plan.id,
        position=0,
        title=f"Review round {number}",
        mode=PhaseMode.SEQUENTIAL,
        pause_after=False,
        when="",
        status=PhaseStatus.PENDING,
        review_round=number,
    )
    plans.add_phase(connection, phase, {"review_round": number}, actor=actor)
    return phase


def add_task(connection: Connection, phase: Phase, task: Task, actor: str) -> None:
    tasks.add(connection, [task], [{"review_round": phase.review_round}], actor=actor)


def agent_of_work(all_tasks: tuple[Task, ...]) -> str:
    """Gives the agent that did the plan's last work, empty = the default one."""
    worked = [task for task in all_tasks if task.executor is Executor.AGENT and not task.read_only]
    return worked[-1].agent if worked else ""


def new_task(phase: Phase, others: tuple[Task, ...], key: str, title: str, instructions: str, agent: str) -> Task:
    """Gives the next task of a round, under a key that is free."""
    taken = {task.key for task in others}
    keys = (key, *(f"{key}-{number}" for number in range(2, len(taken) + 3)))
    return Task(
        id=clock.new_id(),
        number=0,
        plan_id=phase.plan_id,
        phase_id=phase.id,
        key=next(each for each in keys if each not in taken),
        position=sum(task.phase_id == phase.id for task in others),
        title=title,
        instructions=instructions,
        executor=Executor.AGENT,
        command="",
        agent=agent,
        depends_on=(),
        max_attempts=MAX_ATTEMPTS,
        timeout_seconds=None,
        verify=(),
        retryable=True,
        budget=Budget(),
        status=TaskStatus.PENDING,
    )


def settle(connection: Connection, runtime: Runtime, plan: Plan, state: PlanState) -> bool:
    """Takes the verdict of a reviewer that is done; tells whether the plan went back to be implemented.

    Called under the plan's lock. A review that a person skipped or completed by hand has none and counts as approved.
    """
    phase = current_phase(state.phases)
    if plan.stage is not PlanStage.REVIEWING or phase is None or phase.status is not PhaseStatus.RUNNING:
        return False
    reviewer, *more = phase_tasks(phase, state.tasks)
    if more or reviewer.status not in (TaskStatus.COMPLETED, TaskStatus.SKIPPED):
        return False
    judged_by = steps.of_run(connection, reviewer.id, reviewer.run) if reviewer.status is TaskStatus.COMPLETED else None
    found = verdict_of(connection, judged_by)
    tell(connection, runtime, phase, reviewer, found)
    if found is None or found.verdict is Verdict.APPROVED or not review.may_change(plan, phase):
        return False
    add_changes(connection, phase, review.changes_instructions(found), actor=runtime.actor)
    plans.set_stage(connection, plan, PlanStage.IMPLEMENTING, actor=runtime.actor)
    return True


def back_from_checks(connection: Connection, runtime: Runtime, plan: Plan, error: str) -> bool:
    """Sends a plan back whose own checks failed, while it has rounds left; tells whether it did.

    Called under the plan's lock. A driver of its own goes on, so that the checks are run anew when it comes to them.
    """
    if not plan.review or review.next_round(plans.phases_of(connection, plan.id)) > plan.review_rounds:
        return False
    phase = add_phase(connection, plan, runtime.actor)
    add_changes(connection, phase, review.checks_instructions(error), actor=runtime.actor)
    plans.set_stage(connection, plan, PlanStage.IMPLEMENTING, actor=runtime.actor)
    start_driver(connection, runtime.engine, runtime.places.home, plan)
    return True


def add_changes(connection: Connection, phase: Phase, instructions: str, *, actor: str) -> None:
    """Adds the task that makes what a round has found right."""
    others = plans.tasks_of(connection, phase.plan_id)
    number = phase.review_round
    title = f"Put right what round {number} found"
    task = new_task(phase, others, f"changes-{number}", title, instructions, agent_of_work(others))
    add_task(connection, phase, task, actor)


def verdict_of(connection: Connection, step: Step | None) -> Review | None:
    """Gives what the reviewer of a step said, None if nothing of it is a verdict."""
    said = messages.last_words(connection, step, LOOKED_THROUGH) if step is not None else ()
    return next((found for text in said if (found := review.read_review(text)) is not None), None)


def tell(connection: Connection, runtime: Runtime, phase: Phase, task: Task, found: Review | None) -> None:
    plan = plans.get(connection, phase.plan_id)
    events.add(
        connection,
        EventType.PLAN,
        "reviewed",
        runtime.actor,
        project_id=plan.project_id,
        plan_id=plan.id,
        phase_id=phase.id,
        task_id=task.id,
        data={
            "round": phase.review_round,
            "verdict": found.verdict if found else None,
            "findings": found.findings if found else (),
        },
    )


# -- the reviewer's session ------------------------------------------------------------------------------------------


def prompt(runtime: Runtime, connection: Connection, work: Work) -> str:
    """Gives what the reviewer of a round is asked."""
    vault = runtime.workspaces.vault(work.project)
    limits = DiffLimits(DIFF_FILES, DIFF_LINES)
    head = vault.head(work.plan.branch) or work.plan.base_commit
    changed = diff(vault, work.plan.base_commit, head, limits).unified()
    rounds = {phase.id: phase.review_round for phase in plans.phases_of(connection, work.plan.id)}
    all_tasks = plans.tasks_of(connection, work.plan.id)
    before = [task for task in all_tasks if task.read_only and task.id != work.task.id]
    found = verdict_of(connection, steps.of_run(connection, before[-1].id, before[-1].run)) if before else None
    own = [task for task in all_tasks if not rounds[task.phase_id]]
    return review.review_prompt(work.plan, own, changed, found.findings if found else ())


def again(connection: Connection, step: Step, turn: int) -> str | None:
    """Gives what a reviewer is told after its first turn: to say it again, None if it was understood, or too often."""
    understood = verdict_of(connection, step) is not None
    return None if understood or turn > review.ASKED_AGAIN else review.again_prompt()


def judged(runtime: Runtime, work: Work, step: Step, outcome: Outcome) -> Outcome:
    """Gives the outcome of a review whose session ended well: without a verdict, or where nobody acts on it, it fails.

    Then the plan pauses with the findings, and a person decides: skip the review, retry it, complete it by hand.
    """
    with runtime.database.read() as connection:
        found = verdict_of(connection, step)
    if found is None:
        asked = 1 + review.ASKED_AGAIN
        return failed(outcome, f"the reviewer gave no verdict that can be read, although it was asked {asked} times")
    left_over = found.verdict is Verdict.CHANGES_NEEDED and not review.may_change(work.plan, work.phase)
    if left_over and not review.gate_follows(work.plan):
        rounds = work.phase.review_round
        return failed(
            outcome, f"the reviewer still wants changes after round {rounds}:\n{review.listed(found.findings)}"
        )
    return outcome


def failed(outcome: Outcome, error: str) -> Outcome:
    return {**outcome, "failure": FailureKind.REVIEW, "error": error}
