"""Verbs and views of plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast import clock
from holdfast.app import projects
from holdfast.app.tasks import compare
from holdfast.app.wire import House
from holdfast.domain import dependencies, readiness
from holdfast.domain.budget import Budget, Usage
from holdfast.domain.conversation import TokenUsage
from holdfast.domain.plan import Approval, PauseMode, Phase, Plan, Project
from holdfast.domain.planfile import PlanFile, from_domain, parse, render, to_domain
from holdfast.domain.step import Step
from holdfast.domain.task import Executor, Task
from holdfast.domain.transitions import PLAN_EXECUTING, TASK_ENDED, ApprovalStatus, PlanStatus
from holdfast.domain.usage import Spent, spent, unseen
from holdfast.engine import confine, editing, restoring
from holdfast.engine.agent_choice import agent_of, default_policy
from holdfast.engine.driving import start_driver
from holdfast.engine.ending import cancel_open
from holdfast.engine.handover import MERGE, Handover, hand_over
from holdfast.engine.inquiries import answers_used, keep_exchange, usage_of_plan
from holdfast.errors import IllegalState, InfraError, UsageError
from holdfast.store import Metric, Page, approvals, iterations, metrics, plans, steps
from holdfast.store import projects as project_rows
from holdfast.vcs import Diff, Written, check_branch, may_export


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan with all that belongs to it, as of one moment."""

    plan: Plan
    project: Project
    phases: tuple[Phase, ...]
    tasks: tuple[Task, ...]
    gates: tuple[Approval, ...]
    steps: tuple[Step, ...]
    usage: Usage
    spent: Spent
    warnings: tuple[str, ...]
    critical_path: tuple[str, ...]
    groups: tuple[tuple[tuple[str, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class Drafting:
    """How a planner came to a plan: what it was asked and what it answered, and what an iteration keeps of it."""

    request: str
    answer: str
    used: TokenUsage
    told: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a plan file would become: nothing of it is stored. `groups` holds the ids of tasks that may run together."""

    plan: Plan
    phases: tuple[Phase, ...]
    tasks: tuple[Task, ...]
    critical_path: tuple[str, ...]
    groups: tuple[tuple[tuple[str, ...], ...], ...]
    speed_up: float


def read_file(house: House, path: Path) -> PlanFile:
    """Gives the plan file at `path`; raises one `UsageError` that lists every mistake with its line and column."""
    return read_plan_file(path, house.settings.plan_file_max_bytes)


def read_plan_file(path: Path, limit: int) -> PlanFile:
    """Does what `read_file` does without a house: nothing is stored to look at a file of at most `limit` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise UsageError(f"there is no plan file {path}", hint="name an existing YAML file") from error
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(
            f"the plan file {path} cannot be read: {error.strerror}", hint="name a YAML file that you may read"
        ) from error
    except OSError as error:
        raise InfraError(
            f"the plan file {path} cannot be read: {error.strerror}", hint="look after the disk, then try again"
        ) from error
    if len(data) > limit:
        raise UsageError(
            f"the plan file {path} is larger than {limit} bytes",
            hint="make it smaller, or set HOLDFAST_PLAN_FILE_MAX_BYTES",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the plan file {path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from error
    return parse(text, source=str(path))


def create(
    house: House,
    project: Project,
    file: PlanFile,
    *,
    base: str = "",
    variables: Mapping[str, str] | None = None,
    to_run: bool = False,
    drafted: Drafting | None = None,
) -> Plan:
    """Stores a plan as a draft; its base commit is fixed now, its branch is made when it runs.

    With `to_run` it is refused, and nothing stored, if it cannot be executed as it is. `drafted` tells how the planner
    came to it; it becomes the plan's first iteration, and the beginning of its conversation.
    """
    plan, phases, new_tasks = _rows(house, project, file, base, variables or {})
    if to_run:
        refuse_missing_agents(house, project, new_tasks)
        confine.sandbox_of(house.settings, project)
    with house.database.transaction() as connection:
        stored, _, _ = plans.add(connection, plan, phases, new_tasks, actor=house.actor)
        if drafted is not None:
            iterations.add(connection, stored.id, "generate", house.actor, drafted.told)
            keep_exchange(connection, house, stored, drafted.request, drafted.answer, drafted.used)
    return stored


def _rows(
    house: House, project: Project, file: PlanFile, base: str, variables: Mapping[str, str]
) -> tuple[Plan, tuple[Phase, ...], tuple[Task, ...]]:
    unknown = sorted(set(variables) - set(file.variables))
    if unknown:
        known = ", ".join(sorted(file.variables)) or "none"
        raise UsageError(f"the plan has no variable {unknown[0]!r}", hint=f"its variables: {known}")
    file = replace(file, variables={**file.variables, **variables})
    commit = projects.start_commit(house, project, base or file.base)
    plan, phases, new_tasks = to_domain(file, ids=clock.new_id, project_id=project.id, created_at=clock.now())
    return replace(plan, base_commit=commit), tuple(phases), tuple(new_tasks)


def preview(
    house: House, project: Project, file: PlanFile, *, base: str = "", variables: Mapping[str, str] | None = None
) -> Preview:
    """Gives what `create` would store and how it would run; raises what `create` and `execute` would.

    The critical path and the speed-up are those of tasks that take equally long: nothing is known of them yet.
    """
    plan, phases, new_tasks = _rows(house, project, file, base, variables or {})
    refuse_missing_agents(house, project, new_tasks)
    equal = {task.id: 1.0 for task in new_tasks}
    return Preview(
        plan=plan,
        phases=phases,
        tasks=new_tasks,
        critical_path=dependencies.critical_path(phases, new_tasks, equal),
        groups=dependencies.parallel_groups(phases, new_tasks),
        speed_up=dependencies.speedup(phases, new_tasks, equal, house.settings.max_parallel),
    )


def execute(house: House, plan_id: str) -> Plan:
    """Starts a draft: its state and its durable driver are written in one transaction."""
    with house.database.read() as connection:
        project = project_rows.get(connection, plans.get(connection, plan_id).project_id)
        refuse_missing_agents(house, project, plans.tasks_of(connection, plan_id))
    return _start(house, plan_id, (PlanStatus.DRAFT,), "executed", "it has been started already: holdfast resume")


def resume(house: House, plan_id: str) -> Plan:
    """Lets a paused or failed plan go on where it is; one that runs is left alone."""
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
        project = project_rows.get(connection, plan.project_id)
        refuse_missing_agents(house, project, plans.tasks_of(connection, plan_id))
    if plan.status in PLAN_EXECUTING:
        plan = _take_back_stop(house, plan_id)
        if plan.status in PLAN_EXECUTING:
            return plan
    return _start(house, plan_id, (PlanStatus.PAUSED, PlanStatus.FAILED), "resumed", "start it: holdfast plan execute")


def _start(house: House, plan_id: str, sources: tuple[PlanStatus, ...], subtype: str, hint: str) -> Plan:
    engine = house.engine
    with house.database.read() as connection:
        project = project_rows.get(connection, plans.get(connection, plan_id).project_id)
    refuse_foreign(house, project)
    confine.sandbox_of(house.settings, project)
    restoring.finish_open(house, plan_id)
    with house.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        restoring.refuse_restoring(connection, plan)
        if plan.status not in sources:
            over = plan.status in (PlanStatus.COMPLETED, PlanStatus.CANCELLED)
            hint = f"run it anew: holdfast plan clone P{plan.number}" if over else hint
            raise IllegalState(f"P{plan.number} is {plan.status}", hint=hint)
        plan = plans.set_status(connection, plan, PlanStatus.RUNNING, actor=house.actor, data={"by": subtype})
        return start_driver(connection, engine, house.places.home, plan, stop=None, error="")


def _take_back_stop(house: House, plan_id: str) -> Plan:
    with house.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        if plan.stop is None:
            return plan
        house.engine.wake_plan(connection, plan.id, plan.run)
        plans.tell(connection, plan, "pause_withdrawn", house.actor, {"mode": plan.stop})
        return plans.set_fields(connection, plan.id, stop=None)


def pause(house: House, plan_id: str, mode: PauseMode) -> Plan:
    """Asks a plan to stop: `drain` lets running tasks finish, `interrupt` stops them; it is paused when they have."""
    with house.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        if plan.status is PlanStatus.PAUSED:
            return plan
        if plan.status not in PLAN_EXECUTING:
            raise IllegalState(
                f"P{plan.number} is {plan.status}: there is nothing to pause",
                hint=f"look: holdfast status P{plan.number}",
            )
        house.engine.wake_plan(connection, plan.id, plan.run)
        if plan.stop is PauseMode.INTERRUPT:
            return plan
        plans.tell(connection, plan, "pause_requested", house.actor, {"mode": mode})
        return plans.set_fields(connection, plan.id, stop=mode)


def cancel(house: House, plan_id: str) -> Plan:
    """Ends a plan for good; what runs is stopped first, its work stays in its checkpoints."""
    with house.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        _refuse_completed(plan)
        if plan.status is PlanStatus.CANCELLED:
            return plan
        if plan.status in PLAN_EXECUTING:
            house.engine.wake_plan(connection, plan.id, plan.run)
            plans.tell(connection, plan, "cancel_requested", house.actor, {})
            return plans.set_fields(connection, plan.id, cancel_requested=True)
        if any(task.status in readiness.BUSY for task in plans.tasks_of(connection, plan_id)):
            # It failed while some of it still ran: a driver stops that and ends the plan.
            plan = plans.set_status(connection, plan, PlanStatus.RUNNING, actor=house.actor, data={"by": "cancelled"})
            return start_driver(connection, house.engine, house.places.home, plan, cancel_requested=True)
        return cancel_open(connection, plan, actor=house.actor)


def may_cancel(house: House, plan_id: str) -> None:
    """Raises `IllegalState` for a plan that is completed."""
    with house.database.read() as connection:
        _refuse_completed(plans.get(connection, plan_id))


def _refuse_completed(plan: Plan) -> None:
    if plan.status is PlanStatus.COMPLETED:
        hint = f"put it into the trash: holdfast plan delete P{plan.number}"
        raise IllegalState(f"P{plan.number} is completed: there is nothing to cancel", hint=hint)


def set_budget(house: House, plan_id: str, budget: Budget, *, task_id: str | None = None) -> Plan:
    """Gives a plan, or one of its tasks, another budget in place of the one it has; it goes on at `resume`.

    It is an edit, also of a task that has begun, and can be taken back like one.
    """
    with house.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        return editing.write_budget(connection, plan, budget, task_id, actor=house.actor, wake=house.wake).plan


def refuse_missing_agents(house: House, project: Project, all_tasks: tuple[Task, ...]) -> None:
    """Raises `Unavailable` if a task that is still to run needs an agent that is not there.

    `UsageError` if what agents may do by default cannot be understood.
    """
    for task in all_tasks:
        if task.executor is Executor.AGENT and task.status not in TASK_ENDED:
            agent_of(house.settings, project, task)
            default_policy(house.settings)


def refuse_foreign(house: House, project: Project) -> None:
    if project.home != house.places.home:
        raise IllegalState(
            f"the project {project.slug} lives in another data folder ({project.home})",
            hint="use the machine and HOLDFAST_DATA where it was registered",
            code="foreign_home",
        )


def show(house: House, plan_id: str) -> PlanView:
    """Gives a plan with its phases, tasks, open gates and steps, all of one moment."""
    with house.database.read(snapshot=True) as connection:
        plan = plans.get(connection, plan_id)
        phases = tuple(plans.phases_of(connection, plan_id))
        all_tasks = tuple(plans.tasks_of(connection, plan_id))
        all_steps = tuple(steps.of_plan(connection, plan_id))
        asked = answers_used(connection, plan_id)
        return PlanView(
            plan=plan,
            project=project_rows.get(connection, plan.project_id),
            phases=phases,
            tasks=all_tasks,
            gates=tuple(approvals.list_(connection, plan_id=plan_id, status=ApprovalStatus.OPEN).items),
            steps=all_steps,
            usage=usage_of_plan(connection, plan_id),
            spent=spent(all_steps, asked),
            warnings=tuple(unseen(plan, all_tasks, all_steps, asked)),
            critical_path=dependencies.critical_path(phases, all_tasks, {}),
            groups=dependencies.parallel_groups(phases, all_tasks),
        )


def find(house: House, reference: str, *, deleted: bool = False) -> str:
    """Gives the id of the plan that `reference` names, also in the trash if `deleted`; without one, of the newest."""
    with house.database.read() as connection:
        if reference:
            return plans.find(connection, reference, deleted=deleted)
        newest = plans.list_(connection, limit=1).items
    if not newest:
        raise UsageError("there is no plan yet", hint="run one: holdfast run plan.yaml")
    return newest[0].id


def list_(
    house: House, *, status: PlanStatus | None = None, project_id: str | None = None, limit: int = 50, cursor: str = ""
) -> Page[Plan]:
    with house.database.read() as connection:
        return plans.list_(connection, status=status, project_id=project_id, limit=limit, cursor=cursor or None)


def unfinished(house: House) -> tuple[Plan, ...]:
    """Gives the plans that run, wait or are paused."""
    states = (PlanStatus.RUNNING, PlanStatus.WAITING, PlanStatus.PAUSED)
    with house.database.read() as connection:
        found = [plan for state in states for plan in plans.list_(connection, status=state, limit=1000).items]
    return tuple(sorted(found, key=lambda plan: plan.number))


def export(house: House, plan_id: str) -> str:
    """Gives the plan as a plan file, as it is now (with edits made since it was read)."""
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
        phases = [phase for phase in plans.phases_of(connection, plan_id) if not phase.review_round]
        return render(from_domain(plan, phases, plans.tasks_of(connection, plan_id)))


def measurements(house: House, plan_id: str) -> tuple[Metric, ...]:
    """Gives what was measured while the plan ran, per plan and per step."""
    with house.database.read() as connection:
        return metrics.of_plan(connection, plan_id)


def changes(house: House, plan_id: str) -> Diff:
    """Gives what the plan has changed so far: its branch against the commit that it started from."""
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
        project = project_rows.get(connection, plan.project_id)
    head = house.workspaces.vault(project).head(plan.branch) if plan.run else None
    return compare(house, project, plan.base_commit, head or plan.base_commit)


def merge(house: House, plan_id: str, *, branch: str = "", dry_run: bool = False) -> str:
    """Writes the plan's branch into the user's repository as `branch` (default: the same name); gives the name.

    The checkout, the index and the branch that is checked out are not touched; a branch of that name that is anywhere
    else is never overwritten. With `dry_run` it raises what would keep it from that, and writes nothing.
    """
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
        project = project_rows.get(connection, plan.project_id)
        all_tasks = plans.tasks_of(connection, plan_id)
    refuse_foreign(house, project)
    if not project.git:
        told = f"{project.path} has no branches: it is no git repository"
        raise IllegalState(told, hint="look at what would be written: holdfast plan merge --dry-run")
    if plan.run == 0:
        raise IllegalState(f"P{plan.number} has not run yet: it has no branch", hint="holdfast plan execute")
    name = branch or plan.branch
    check_branch(name)
    if not dry_run:
        restoring.finish_open(house, plan_id)
    vault, repository = house.workspaces.vault(project), Path(project.path)
    commit = vault.head(plan.branch)
    if forked := fork_of(house, plan, project, all_tasks):
        raise IllegalState(
            f"P{plan.number} is a fork: what it did is on the branch of T{forked.number} alone",
            hint=f"make it a branch of yours: holdfast task branch T{forked.number} --at latest NAME",
        )
    if commit is None:
        raise IllegalState(f"P{plan.number} has not begun yet: it has no branch", hint="let it run: holdfast worker")
    there = may_export(repository, name, commit)
    if dry_run:
        return name
    if there:
        # That is no deed that could be undone.
        with house.database.transaction() as connection:
            plans.tell(connection, plan, "merged", house.actor, {"branch": name})
    else:
        hand_over(house, plan, Handover(False, commit, branch=name), kind=MERGE)
    return name


def fork_of(house: House, plan: Plan, project: Project, all_tasks: Sequence[Task]) -> Task | None:
    """Gives the fork whose own branch alone has what a plan did, None for a plan whose branch has it."""
    found = next((task for task in all_tasks if task.fork_point), None)
    if found is None or house.workspaces.vault(project).head(plan.branch) not in (None, plan.base_commit):
        return None
    return found


def merge_files(
    house: House, plan_id: str, *, back: bool = False, dry_run: bool = False, undoing: tuple[str, str] | None = None
) -> tuple[Written, ...]:
    """Writes what a plan changed into the project's folder, which has no git; gives the files, also for `dry_run`.

    With `back` it takes all that it has so written back. A snapshot of the folder is kept first. Raises `IllegalState`,
    and writes nothing, if one of those files was changed by hand meanwhile. `undoing` are the kind and the name of the
    deed that it takes back.
    """
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
        project = project_rows.get(connection, plan.project_id)
    refuse_foreign(house, project)
    head = house.workspaces.vault(project).head(plan.branch)
    if project.git or head is None:
        told = "is of a git repository" if project.git else "has not run yet"
        raise IllegalState(f"P{plan.number} {told}: there are no files to write", hint="holdfast plan merge")
    wanted = _files_to_write(house, plan, project, head, back)
    if dry_run:
        return wanted
    # What was cut off may have been this very merge.
    restoring.finish_open(house, plan_id)
    left = _files_to_write(house, plan, project, head, back) if wanted else ()
    if left:
        kind, undoes = undoing or ("merge_back" if back else MERGE, "")
        hand_over(house, plan, Handover(back, head, files=len(left), undoes=undoes), kind=kind)
    return wanted


def _files_to_write(house: House, plan: Plan, project: Project, head: str, back: bool) -> tuple[Written, ...]:
    with house.workspaces.folder(project) as folder:
        if back:
            return folder.take_back(plan.id, plan.base_commit, clock.now(), dry_run=True)
        return folder.merge(plan.id, plan.base_commit, head, clock.now(), dry_run=True)
