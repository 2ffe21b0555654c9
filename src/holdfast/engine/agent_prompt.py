"""What an agent is told: the task at first, or that it goes on where its session was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from holdfast.agents.acp import Opening
from holdfast.domain.conversation import Conversation, Message
from holdfast.domain.prompt import (
    FORKED,
    LOST,
    TAKEN_UP,
    TRUNK,
    DependencyResult,
    Tried,
    added,
    resumed_prompt,
    task_prompt,
)
from holdfast.domain.sessions import Beginning, KeptSession, Standing, Told, beginning
from holdfast.domain.step import Step
from holdfast.domain.task import NOT_COUNTED, Task
from holdfast.domain.transitions import TaskStatus
from holdfast.engine import plan_review
from holdfast.engine.agent_record import Session
from holdfast.engine.runtime import Runtime
from holdfast.engine.work import Work
from holdfast.failpoints import failpoint
from holdfast.store import Connection, approvals, conversations, messages, plans, steps, tasks

GO_ON = (
    "You were interrupted before you had finished. The folder is as you left it. Look what is done, and go on with the "
    "task from there."
)
REJECTED = "A person rejected what you asked permission for, and said why:"
HEED = "Go on with the task in this light. If nothing is left to do, say so."
# How much is told again to a session that lost its memory, and how many failures to one that begins anew.
TOLD_AGAIN_MESSAGES = 400
TOLD_FAILURES = 3


def next_prompt(runtime: Runtime, work: Work, step: Step, opening: Opening) -> str | None:
    """Gives the prompt of the agent's turn, None once it has been told everything.

    Before that the step knows the session, and the version of the agent that holds it. There is one turn, and another
    one for what a person had to say when they rejected what the agent asked for: the answer to a question of ACP's has
    no room for words. A reviewer has more where its verdict cannot be read.
    """
    with runtime.database.transaction() as connection:
        now = steps.lock(connection, step.id)
        remarks, told_now = _objections(connection, now, opening)
        if opening.turn > 0 and not remarks:
            return plan_review.again(connection, now, opening.turn) if work.reviews else None
        details = {**replace(Session.of(now), opened=opening.session_id).within(now), "told": told_now}
        config = {**now.agent_config, **({"version": opening.version} if opening.version else {})}
        steps.set_fields(connection, step.id, claim=work.claim, details=details, agent_config=config)
        prompt = HEED if opening.turn > 0 else opening_prompt(runtime, connection, work, now, opening.carried)
        prompt = f"{prompt}\n\n{remarks}" if remarks else prompt
    failpoint("engine.agent.prompt_made")
    return prompt


def opening_prompt(runtime: Runtime, connection: Connection, work: Work, step: Step, carried: bool) -> str:
    """Gives what a session is told first: less where it knows what was said before (`carried`)."""
    begins = session_of(connection, work, step)
    of_plan = plans.get(connection, work.plan.id).context
    context = "\n\n".join(filter(None, (of_plan, conversations.start_of(connection, work.task.id).context)))
    if carried and begins.told is Told.CUT_OFF:
        return added(GO_ON, of_plan)
    if carried and begins.told is Told.TAKEN_UP:
        return added(TAKEN_UP, context)
    if carried:
        return added(f"{FORKED}\n\n{first_prompt(runtime, connection, work, step)}", context)
    if work.reviews:
        prompt = plan_review.prompt(runtime, connection, work)
    else:
        prompt = first_prompt(runtime, connection, work, step)
    told = told_before(connection, work, step, begins)
    lost = begins.told is Told.CUT_OFF
    record = f"{prompt}\n{resumed_prompt(told, why=LOST if lost else TRUNK)}" if told else prompt
    return added(record, context)


def session_of(connection: Connection, work: Work, step: Step) -> Beginning:
    """Gives the session of the agent that a step's next process is to hold."""
    task, start = work.task, conversations.start_of(connection, work.task.id).message_id
    standing = Standing(
        task_id=task.id,
        agent=str(step.agent_config.get("agent", "")),
        head=conversations.head(connection, Conversation(work.plan.id, task.id)).message_id,
        start=start,
        cut_off=next((known for each in cut_off(connection, step) if (known := Session.of(each).id)), ""),
    )
    return beginning(standing, kept_session(connection, start) if start is not None else None)


def held_in(connection: Connection, work: Work, step: Step) -> list[Step]:
    """Gives the steps in which the session was held that a step's next process goes on with, newest first."""
    begins = session_of(connection, work, step)
    if begins.how == "new":
        return []
    if begins.told is Told.CUT_OFF or begins.trunk is None:
        return cut_off(connection, step)
    last = messages.get(connection, begins.trunk).step_id
    return [steps.get_by_id(connection, last)] if last else []


def kept_session(connection: Connection, message_id: str) -> KeptSession | None:
    """Gives the session of an agent that ends exactly at a message: nothing was said in it, or goes on in it, since."""
    last = messages.get(connection, message_id)
    if last.step_id is None or last.task_id is None or not messages.is_last_of_step(connection, last):
        return None
    step = steps.get_by_id(connection, last.step_id)
    known = Session.of(step).id
    later = [each for each in steps.of_task(connection, last.task_id) if each.number > step.number]
    if not known or step.ended_at is None or any(Session.of(each).id == known for each in later):
        return None
    return KeptSession(known, last.task_id, str(step.agent_config.get("agent", "")), message_id)


def cut_off(connection: Connection, step: Step) -> list[Step]:
    """Gives the steps whose work goes on in a step, newest first: what of it was done before the present process, and
    the same attempt's steps that were stopped before their end."""
    found = [step] if Session.of(step).launch else []
    for each in reversed(steps.of_task(connection, step.task_id)):
        if each.number >= step.number:
            continue
        stopped = each.interrupted or each.failure in NOT_COUNTED
        if not (stopped and each.active and each.attempt == step.attempt):
            break
        found.append(each)
    return found


def _objections(connection: Connection, step: Step, opening: Opening) -> tuple[str, dict[str, str]]:
    """Gives what people said to what they rejected and this attempt's agent was not told, and which turns tell what.

    A turn that is prompted for again after a crash is told the same again.
    """
    turn = f"{step.id}/{Session.of(step).launch}/{opening.turn}"
    known: dict[str, str] = {}
    for each in steps.of_task(connection, step.task_id):
        if each.attempt == step.attempt:
            known |= cast("Mapping[str, str]", each.details.get("told") or {})
    gates = [gate for gate in approvals.objections(connection, step.task_id) if known.get(gate.id, turn) == turn]
    mine = cast("Mapping[str, str]", step.details.get("told") or {})
    lines = [
        f"- {gate.details.get('command') or gate.details.get('tool') or 'a tool'}: {gate.comment}" for gate in gates
    ]
    return "\n".join((REJECTED, *lines)) if lines else "", {**mine, **{gate.id: turn for gate in gates}}


def told_before(connection: Connection, work: Work, step: Step, begins: Beginning) -> list[Message]:
    """Gives what was said in the trunk and in the work that goes on, oldest first."""
    ids = {each.id for each in cut_off(connection, step)} if begins.told is Told.CUT_OFF else set[str]()
    head = conversations.head(connection, Conversation(work.plan.id, work.task.id)).message_id
    if head is None or (not ids and begins.trunk is None):
        return []
    trunk = conversations.length(connection, begins.trunk)
    newest = messages.walk_back(connection, begins.trunk if not ids and begins.trunk else head, TOLD_AGAIN_MESSAGES)
    return [each for each in reversed(newest) if each.position < trunk or each.step_id in ids]


def first_prompt(runtime: Runtime, connection: Connection, work: Work, step: Step) -> str:
    """Gives what the task's agent is told: the task, what was done before it, and what was tried."""
    task, plan = work.task, work.plan
    while task.contestant_of is not None:
        # In a race and as a fork it is told what the task that it stands for would be told.
        task = tasks.get(connection, task.contestant_of)
        plan = plans.get(connection, task.plan_id)
    results = [result_of(connection, tasks.get(connection, each)) for each in task.depends_on]
    failed = [
        each
        for each in steps.of_task(connection, work.task.id)
        if each.number < step.number and each.active and each.failure is not None and each.failure not in NOT_COUNTED
    ]
    tried = [Tried(each.attempt, each.error, last_words(connection, each)) for each in failed[-TOLD_FAILURES:]]
    may_ask = runtime.settings.agent_tools
    return task_prompt(work.task, plan, work.plan.variables, results, tried, may_ask=may_ask)


def result_of(connection: Connection, task: Task) -> DependencyResult:
    """Gives what came of a task that is done."""
    done = [each for each in steps.of_task(connection, task.id) if each.active and each.exit_code == 0]
    if task.status is not TaskStatus.COMPLETED or not done:
        return DependencyResult(task.title)
    step = done[-1]
    commit = (step.commit_after or "")[:12] if step.commit_after != step.commit_before else ""
    changed = f"{step.files_changed} files" if step.files_changed else ""
    return DependencyResult(task.title, last_words(connection, step), commit, changed)


def last_words(connection: Connection, step: Step) -> str:
    return next(iter(messages.last_words(connection, step)), "")
