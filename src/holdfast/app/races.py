"""Races: the same task several times side by side, and the one result that a person picks (decision 0012).

A race is a plan of its own, with one parallel phase of contestants. Each is a fork of the task: it starts from the
commit that the task starts from, works on its own branch, and is not merged. So a race runs, is paused, killed and
resumed like any plan, and the task's own plan does not move until one is picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from holdfast import clock
from holdfast.app import plans as plan_verbs
from holdfast.app import tasks as task_verbs
from holdfast.app.plans import PlanView
from holdfast.app.tasks import TaskView, compare
from holdfast.app.wire import House
from holdfast.domain.checkpoint import CheckpointKind
from holdfast.domain.plan import Phase, PhaseMode, Plan
from holdfast.domain.step import Step, worked_seconds
from holdfast.domain.task import Executor, FailureKind, Task
from holdfast.domain.transitions import (
    PLAN_EXECUTING,
    TASK_DONE,
    PhaseStatus,
    PlanStage,
    PlanStatus,
    TaskStatus,
)
from holdfast.domain.words import slug
from holdfast.engine.ending import cancel_open
from holdfast.engine.workspace import make_checkpoint
from holdfast.errors import IllegalState, NotFound, UsageError
from holdfast.failpoints import failpoint
from holdfast.store import Connection, checkpoints, plans, steps, tasks
from holdfast.vcs import Vault, measure

MOST_CONTESTANTS = 32
RACED = frozenset({TaskStatus.PENDING, TaskStatus.FAILED})


@dataclass(frozen=True, slots=True)
class Contestant:
    """One row of a race: what came of it. `verify` is passed, failed, or empty where nothing was checked.

    `additions` and `deletions` are lines. `picked`: this one is the task's result.
    """

    number: int
    task: Task
    plan: int
    verify: str
    seconds: float
    tokens: int
    cost_usd: float
    files: int
    additions: int
    deletions: int
    commit: str
    picked: bool


@dataclass(frozen=True, slots=True)
class Race:
    """All contestants of a task, in the order in which they were entered."""

    task: Task
    contestants: tuple[Contestant, ...]


def start(house: House, task_id: str, *, agents: Sequence[str] = (), each: int = 1) -> Plan:
    """Starts a race for a task that has not begun or has failed: `each` contestants per agent (default: its own).

    Raises `IllegalState` where the task's plan runs or the task waits for others, `Unavailable` for a missing agent.
    """
    view = task_verbs.show(house, task_id)
    refuse_racing(house, view)
    if view.task.executor is Executor.COMMAND and agents:
        raise UsageError(f"T{view.task.number} runs a command: it has no agent to choose")
    names = [name for name in agents or (view.task.agent,) for _ in range(each)]
    if not 1 <= len(names) <= MOST_CONTESTANTS:
        raise UsageError(f"a race has 1 to {MOST_CONTESTANTS} contestants, not {len(names)}")
    vault = house.workspaces.vault(view.project)
    commit = start_commit(house, vault, view)
    plan, phase = race_rows(view, commit)
    contestants = [contestant(view.task, phase, place, name) for place, name in enumerate(names)]
    plan_verbs.refuse_missing_agents(house, view.project, tuple(contestants))
    with house.database.transaction() as connection:
        stored, _, _ = plans.add(connection, plan, [phase], contestants, actor=house.actor)
    failpoint("app.race.stored")
    # The commit may be one that only the vault has.
    vault.create_branch(stored.branch, commit)
    return plan_verbs.execute(house, stored.id)


def refuse_racing(house: House, view: TaskView) -> None:
    task, plan = view.task, view.plan
    if task.contestant_of is not None:
        raise IllegalState(f"T{task.number} is a contestant itself", hint="race the task that it stands for")
    if task.status not in RACED:
        raise IllegalState(f"T{task.number} is {task.status}: only a task that has not begun or has failed is raced")
    if plan.status in PLAN_EXECUTING:
        raise IllegalState(f"P{plan.number} is running", hint=f"pause it first: holdfast plan pause P{plan.number}")
    with house.database.read() as connection:
        needs = [tasks.get(connection, each) for each in task.depends_on]
    open_needs = [f"T{need.number} {need.key}" for need in needs if need.status not in TASK_DONE]
    if open_needs:
        raise IllegalState(f"T{task.number} depends on {', '.join(open_needs)}, which is not done yet")


def start_commit(house: House, vault: Vault, view: TaskView) -> str:
    """Gives the commit that the task starts from, which the vault has from here on."""
    if view.steps:
        return view.steps[0].commit_before
    head = vault.head(view.plan.branch)
    if head is None:
        return house.workspaces.bring(view.project, view.plan.base_commit)
    return head


def race_rows(view: TaskView, commit: str) -> tuple[Plan, Phase]:
    name = f"race-{view.plan.slug[:40]}-t{view.task.number}"
    plan = replace(
        view.plan,
        id=clock.new_id(),
        number=0,
        slug=name,
        title=f"Race of T{view.task.number} {view.task.title}",
        status=PlanStatus.DRAFT,
        stage=PlanStage.PENDING,
        pause_reason=None,
        stop=None,
        cancel_requested=False,
        run=0,
        branch=f"holdfast/{name}",
        spec="",
        base_commit=commit,
        gates=(),
        review=False,
        verify=(),
        created_at=clock.now(),
        started_at=None,
        ended_at=None,
        error="",
        wakes=0,
    )
    phase = Phase(
        id=clock.new_id(),
        plan_id=plan.id,
        position=0,
        title="Contestants",
        mode=PhaseMode.PARALLEL,
        pause_after=False,
        when="",
        status=PhaseStatus.PENDING,
    )
    return plan, phase


def contestant(task: Task, phase: Phase, place: int, agent: str) -> Task:
    return Task(
        id=clock.new_id(),
        number=0,
        plan_id=phase.plan_id,
        phase_id=phase.id,
        key=f"{slug(agent, ascii_only=True) or 'contestant'}-{place + 1}",
        position=place,
        title=task.title,
        instructions=task.instructions,
        executor=task.executor,
        command=task.command,
        agent=agent,
        depends_on=(),
        max_attempts=task.max_attempts,
        timeout_seconds=task.timeout_seconds,
        verify=task.verify,
        retryable=task.retryable,
        budget=task.budget,
        status=TaskStatus.PENDING,
        contestant_of=task.id,
        permissions=task.permissions,
    )


# -- looking ---------------------------------------------------------------------------------------------------------


def show(house: House, task_id: str) -> Race:
    """Gives all that raced for a task, in every race of it."""
    view = task_verbs.show(house, task_id)
    with house.database.read() as connection:
        found = tasks.contestants(connection, task_id)
        races = {each.plan_id: plans.get(connection, each.plan_id).number for each in found}
        done = {each.id: steps.of_task(connection, each.id) for each in found}
    picked = picked_of(view.steps)
    rows = (
        row(house, view, number, each, races[each.plan_id], done[each.id], each.id == picked)
        for number, each in enumerate(found, 1)
    )
    return Race(view.task, tuple(rows))


def raced(house: House, view: PlanView) -> Task | None:
    """Gives the task whose race a plan is; None for any other plan."""
    entered = {task.contestant_of for task in view.tasks if not task.fork_point}
    if len(entered) != 1 or (task_id := entered.pop()) is None:
        return None
    with house.database.read() as connection:
        return tasks.get(connection, task_id)


def picked_of(newest_first: Sequence[Step]) -> str:
    """Gives the id of the contestant that was picked last, empty if none was."""
    return next((str(step.details["contestant"]) for step in newest_first if "contestant" in step.details), "")


def row(
    house: House, view: TaskView, number: int, task: Task, plan: int, done: Sequence[Step], picked: bool
) -> Contestant:
    last = done[-1] if done else None
    commit = (last.commit_after or last.commit_before) if last else ""
    changed = compare(house, view.project, last.commit_before, commit) if last else None
    return Contestant(
        number=number,
        task=task,
        plan=plan,
        verify=verified(task, last),
        seconds=sum(worked_seconds(each, clock.now()) for each in done),
        tokens=sum(each.tokens for each in done),
        cost_usd=sum(each.cost_usd for each in done),
        files=changed.files_total if changed else 0,
        additions=changed.additions if changed else 0,
        deletions=changed.deletions if changed else 0,
        commit=commit,
        picked=picked,
    )


def verified(task: Task, step: Step | None) -> str:
    if step is None or not task.verify or step.ended_at is None:
        return ""
    if step.failure is FailureKind.VERIFY:
        return "failed"
    return "passed" if step.exit_code == 0 and step.failure is None else ""


# -- picking ---------------------------------------------------------------------------------------------------------


def pick(house: House, task_id: str, number: int) -> Step:
    """Merges contestant `number` into the plan's branch as the task's result; the others keep their branches.

    Raises `IllegalState` while either plan runs, for a contestant that is not completed, and for a conflict. Cut off in
    the middle it is carried through by picking again, the same one or another.
    """
    view = task_verbs.show(house, task_id)
    chosen, result = entered(house, view, number)
    vault = house.workspaces.vault(view.project)
    begun = begin(house, view, chosen, start_of_branch(house, vault, view))
    failpoint("app.race.begun")
    head = vault.head(view.plan.branch)
    assert head is not None
    if head != begun.commit_before:
        # Another pick was cut off after its merge.
        vault.move_branch(view.plan.branch, begun.commit_before, head)
    merge(house, vault, view, chosen, result)
    failpoint("app.race.merged")
    return settle(house, vault, view, chosen, begun)


def entered(house: House, view: TaskView, number: int) -> tuple[Task, Step]:
    """Gives the contestant, and the step that is its result."""
    with house.database.read() as connection:
        found = tasks.contestants(connection, view.task.id)
        if not 1 <= number <= len(found):
            raise NotFound(
                f"T{view.task.number} has no contestant {number}", hint=f"look: holdfast task race T{view.task.number}"
            )
        chosen = found[number - 1]
        refuse_picking(view, plans.get(connection, chosen.plan_id), chosen)
        return chosen, steps.of_task(connection, chosen.id)[-1]


def refuse_picking(view: TaskView, race: Plan, chosen: Task) -> None:
    for plan in (view.plan, race):
        if plan.status in PLAN_EXECUTING:
            raise IllegalState(f"P{plan.number} is running", hint=f"pause it first: holdfast plan pause P{plan.number}")
    if view.task.status not in RACED:
        raise IllegalState(
            f"T{view.task.number} is {view.task.status}: it takes no other result",
            hint=f"go back first: holdfast task rewind T{view.task.number} --to 1",
        )
    if chosen.status is not TaskStatus.COMPLETED:
        raise IllegalState(f"the contestant T{chosen.number} is {chosen.status}: only a completed one is picked")


def start_of_branch(house: House, vault: Vault, view: TaskView) -> str:
    """Gives the head of the plan's branch, which is made for a plan that never ran."""
    if vault.head(view.plan.branch) is None:
        vault.create_branch(view.plan.branch, start_commit(house, vault, view))
    head = vault.head(view.plan.branch)
    assert head is not None
    return head


def begin(house: House, view: TaskView, chosen: Task, head: str) -> Step:
    """Begins the step that records the pick, or gives the one that was begun and cut off."""
    with house.database.transaction() as connection:
        plan = plans.lock(connection, view.plan.id)
        task = tasks.get(connection, view.task.id)
        if task.status not in RACED or plan.status in PLAN_EXECUTING:
            raise IllegalState(f"T{task.number} is {task.status}, P{plan.number} is {plan.status} by now")
        left = steps.running(connection, task.id)
        if left is not None:
            return steps.set_fields(connection, left.id, details={**left.details, "contestant": chosen.id})
        task = tasks.set_fields(connection, task.id, run=task.run + 1)
        return steps.begin(
            connection,
            id=clock.new_id(),
            task_id=task.id,
            attempt=max(1, task.attempt),
            run=task.run,
            branch=plan.branch,
            commit_before=head,
            agent_config={"executor": "race", "agent": chosen.agent, "contestant": f"T{chosen.number}"},
            details={"contestant": chosen.id},
            claim=task.claim,
            actor=house.actor,
        )


def merge(house: House, vault: Vault, view: TaskView, chosen: Task, result: Step) -> None:
    from holdfast.engine.merge import Candidate
    from holdfast.engine.merge import merge as merge_branch

    conflicts = merge_branch(vault, view.plan, Candidate(chosen, result))
    if not conflicts:
        return
    with house.database.transaction() as connection:
        left = steps.running(connection, view.task.id)
        if left is not None:
            steps.finish(connection, left.id, actor=house.actor, interrupted=True, commit_after=left.commit_before)
    raise IllegalState(
        f"the contestant T{chosen.number} conflicts with the plan's branch in: {', '.join(conflicts[:20])}",
        hint="race the task again from the plan's present state",
        code="merge_conflict",
    )


def settle(house: House, vault: Vault, view: TaskView, chosen: Task, begun: Step) -> Step:
    """Records the pick: the step's end and checkpoint, the task completed, the race over, all or none."""
    head = vault.head(view.plan.branch)
    assert head is not None
    with house.database.read() as connection:
        number = checkpoints.next_number(connection, task_id=view.task.id)
    checkpoint = make_checkpoint(
        vault,
        number,
        plan=view.plan,
        task=view.task,
        step_id=begun.id,
        kind=CheckpointKind.STEP,
        name=f"picked T{chosen.number}",
        tree=vault.tree_of(head),
        head_commit=head,
        state={"variables": dict(view.plan.variables)},
    )
    change = measure(vault, begun.commit_before, head)
    with house.database.transaction() as connection:
        plans.lock(connection, view.plan.id)
        checkpoints.add(connection, checkpoint, actor=house.actor)
        checkpoints.set_head(connection, view.task.id, checkpoint.number)
        ended = steps.finish(
            connection,
            begun.id,
            actor=house.actor,
            exit_code=0,
            commit_after=head,
            files_changed=change.files,
            bytes_changed=change.bytes,
        )
        complete(connection, view.task.id, chosen, house.actor)
        end_race(connection, view.task.id, chosen, house.actor)
    return ended


def complete(connection: Connection, task_id: str, chosen: Task, actor: str) -> None:
    """Moves the task to completed on the way that every task goes: what has not begun is begun first."""
    task = tasks.get(connection, task_id)
    told: dict[str, object] = {"picked": f"T{chosen.number}", "agent": chosen.agent}
    if task.status is TaskStatus.PENDING:
        task = tasks.set_status(connection, task, TaskStatus.QUEUED, actor=actor, data=told, attempt=1)
        task = tasks.set_status(connection, task, TaskStatus.RUNNING, actor=actor, data=told)
    tasks.set_status(connection, task, TaskStatus.COMPLETED, actor=actor, data=told, failure=None, error="")


def end_race(connection: Connection, task_id: str, chosen: Task, actor: str) -> None:
    """Skips what was not picked and is not done, and ends the races that are still open; all branches stay.

    Forks of the task are somebody's own work: they go on.
    """
    entered = [each for each in tasks.contestants(connection, task_id) if not each.fork_point]
    for each in entered:
        if each.status in RACED and each.id != chosen.id:
            tasks.set_status(connection, each, TaskStatus.SKIPPED, actor=actor, data={"picked": f"T{chosen.number}"})
    for plan_id in dict.fromkeys(each.plan_id for each in entered):
        race = plans.lock(connection, plan_id)
        if race.status in (PlanStatus.DRAFT, PlanStatus.PAUSED, PlanStatus.FAILED):
            cancel_open(connection, race, actor=actor)
